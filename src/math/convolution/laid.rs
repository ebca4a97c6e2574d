//! Passes over images of which some lie in blocks, with weights as they lie.
//!
//! Weights that are learned change in each iteration: they are put in order, or transformed, in each pass.

use super::blocked;
use super::prepared::order;
use super::{Convolution, Extents, narrow, outer};
use crate::math::Real;
use crate::math::gemm::Ending;
use crate::math::gemm::pack::Matrix;
use crate::math::layout::{Layout, Layouts, to_blocks, to_planes};
use crate::math::scratch::scratch;
use crate::math::simd::{self, Kernels};

const PLANES: Layouts = Layouts { bottom: Layout::Planes, other: Layout::Planes, top: Layout::Planes };

/// Calls `f` with a batch of so many channels and pixels in blocks.
fn with_blocks<T: Real>(
    kernels: &Kernels<T>,
    of: &[T],
    layout: Layout,
    sizes: [usize; 2],
    f: impl FnOnce(&[T]),
) {
    if layout == Layout::Blocks {
        return f(of);
    }
    scratch(of.len(), |turned: &mut [T]| {
        to_blocks(kernels, of, sizes, turned);
        f(turned);
    });
}

/// Calls `f` with room for a batch of so many channels and pixels in blocks, which it fills.
fn fill_blocks<T: Real>(
    kernels: &Kernels<T>,
    to: &mut [T],
    layout: Layout,
    sizes: [usize; 2],
    f: impl FnOnce(&mut [T]),
) {
    if layout == Layout::Blocks {
        return f(to);
    }
    scratch(to.len(), |turned: &mut [T]| {
        f(turned);
        to_planes(kernels, turned, sizes, to);
    });
}

impl Convolution {
    /// Channels and pixels of the bottom, and of the top.
    fn sides(&self) -> ([usize; 2], [usize; 2]) {
        let Extents { channels, outputs, pixels, .. } = self.extents();
        ([channels, self.windows.plane()], [outputs, pixels])
    }

    /// [`Convolution::forward`] of images that may lie in blocks where it [takes blocks](Convolution::takes_blocks).
    pub fn forward_laid<T: Real>(&self, x: &[T], w: &[T], layouts: Layouts, end: &Ending<T>, y: &mut [T]) {
        if layouts == PLANES {
            return self.forward(x, w, end, y);
        }
        let (x, w, y) = (&x[..self.bottom_len()], &w[..self.weights_len()], &mut y[..self.top_len()]);
        let kernels = simd::kernels::<T>(self.isa);
        if let Some((thin, rest)) = &self.thin {
            return scratch(thin.left(x.len()), |left: &mut [T]| {
                match layouts.bottom {
                    Layout::Planes => thin.take(x, left),
                    Layout::Blocks => thin.take_blocks(kernels.lanes(), x, left),
                }
                rest.forward_laid(left, w, layouts, end, y);
            });
        }
        let (bottom, top) = self.sides();
        if let Some(depthwise) = &self.depthwise {
            return with_blocks(kernels, x, layouts.bottom, bottom, |x| {
                let (other, is_turned) = (end.other.unwrap_or_default(), layouts.other == Layout::Planes);
                let layout = if other.is_empty() || !is_turned { Layout::Blocks } else { Layout::Planes };
                with_blocks(kernels, other, layout, top, |other| {
                    let end = Ending { other: end.other.map(|_| other), ..*end };
                    fill_blocks(kernels, y, layouts.top, top, |y| {
                        depthwise.forward_blocks(kernels, x, w, &end, y);
                    });
                });
            });
        }
        if let Some(padded) = self.padded::<T>(layouts) {
            return padded.forward(x, w, layouts, end, y);
        }
        if let Some(direct) = self.narrow::<T>(layouts) {
            return narrow::forward(self, direct, x, w, layouts, end, y);
        }
        if let Some(tiles) = &self.winograd.blocks {
            let filters = self.filters(w, 0, false);
            return blocked::forward_tiles(kernels, tiles, x, layouts, &filters, end, y);
        }
        let Extents { channels, outputs, .. } = self.extents();
        let rows = Matrix { data: w, lane_step: channels, k_step: 1, scale: T::one() };
        scratch(w.len(), |ordered: &mut [T]| {
            order(kernels, &rows, [outputs, channels], ordered);
            blocked::forward(kernels, self.extents(), x, layouts, ordered, end, y);
        });
    }

    /// [`Convolution::backward_data`], the same.
    pub fn backward_data_laid<T: Real>(&self, w: &[T], dy: &[T], layouts: Layouts, dx: &mut [T]) {
        if layouts.bottom == Layout::Planes && layouts.top == Layout::Planes {
            return self.backward_data(w, dy, dx);
        }
        let (w, dy, dx) = (&w[..self.weights_len()], &dy[..self.top_len()], &mut dx[..self.bottom_len()]);
        let kernels = simd::kernels::<T>(self.isa);
        if let Some((thin, rest)) = &self.thin {
            return scratch(thin.left(dx.len()), |left: &mut [T]| {
                rest.backward_data_laid(w, dy, layouts, left);
                match layouts.bottom {
                    Layout::Planes => thin.put(left, dx),
                    Layout::Blocks => thin.put_blocks(kernels.lanes(), left, dx),
                }
            });
        }
        let (bottom, top) = self.sides();
        if let Some(depthwise) = &self.depthwise {
            return with_blocks(kernels, dy, layouts.top, top, |dy| {
                fill_blocks(kernels, dx, layouts.bottom, bottom, |dx| {
                    depthwise.backward_data_blocks(kernels, w, dy, dx);
                });
            });
        }
        if let Some(padded) = self.padded::<T>(layouts) {
            return padded.backward_data(w, dy, layouts, dx);
        }
        if self.narrow::<T>(layouts).is_some() {
            return narrow::backward_data(self, w, dy, dx);
        }
        let back = Layouts { bottom: layouts.top, other: Layout::Planes, top: layouts.bottom };
        let none = Ending::none();
        if let Some(tiles) = &self.winograd.blocks {
            let filters = self.filters(w, 0, true);
            return blocked::forward_tiles(kernels, &tiles.turned(), dy, back, &filters, &none, dx);
        }
        let Extents { channels, outputs, .. } = self.extents();
        let columns = Matrix { data: w, lane_step: 1, k_step: channels, scale: T::one() };
        scratch(w.len(), |ordered: &mut [T]| {
            order(kernels, &columns, [channels, outputs], ordered);
            let extents = Extents { channels: outputs, outputs: channels, ..self.extents() };
            blocked::forward(kernels, extents, dy, back, ordered, &none, dx);
        });
    }

    /// [`Convolution::backward_weights`], the same.
    pub fn backward_weights_laid<T: Real>(&self, x: &[T], dy: &[T], layouts: Layouts, dw: &mut [T]) {
        if layouts.bottom == Layout::Planes && layouts.top == Layout::Planes {
            return self.backward_weights(x, dy, dw);
        }
        let (x, dy, dw) = (&x[..self.bottom_len()], &dy[..self.top_len()], &mut dw[..self.weights_len()]);
        let kernels = simd::kernels::<T>(self.isa);
        if let Some((thin, rest)) = &self.thin {
            return scratch(thin.left(x.len()), |left: &mut [T]| {
                match layouts.bottom {
                    Layout::Planes => thin.take(x, left),
                    Layout::Blocks => thin.take_blocks(kernels.lanes(), x, left),
                }
                rest.backward_weights_laid(left, dy, layouts, dw);
            });
        }
        if let Some(padded) = self.padded::<T>(layouts) {
            return padded.backward_weights(x, dy, layouts, dw);
        }
        if let Some(direct) = self.narrow::<T>(layouts) {
            return narrow::backward_weights(self, direct, x, dy, dw, None);
        }
        let (extents, (bottom, top)) = (self.extents(), self.sides());
        with_blocks(kernels, x, layouts.bottom, bottom, |x| {
            with_blocks(kernels, dy, layouts.top, top, |dy| match (&self.depthwise, &self.winograd.blocks) {
                (Some(depthwise), _) => depthwise.backward_weights_blocks(kernels, x, dy, dw),
                (_, Some(tiles)) => {
                    tiles.weights_blocks(kernels, [extents.channels, extents.outputs], x, dy, dw);
                }
                _ => outer::weights(kernels, extents, x, dy, dw),
            });
        });
    }

    /// [`Convolution::backward_weights_laid`] and [`Convolution::backward_bias_laid`], which may share a pass over the top's gradient.
    pub fn backward_params_laid<T: Real>(
        &self,
        x: &[T],
        dy: &[T],
        layouts: Layouts,
        dw: &mut [T],
        db: &mut [T],
    ) {
        if let (Some(direct), Layout::Blocks) = (self.narrow::<T>(layouts), layouts.top) {
            let (x, dy) = (&x[..self.bottom_len()], &dy[..self.top_len()]);
            let (dw, db) = (&mut dw[..self.weights_len()], &mut db[..self.geometry.num_output]);
            return narrow::backward_weights(self, direct, x, dy, dw, Some(db));
        }
        if layouts.bottom == Layout::Planes && layouts.top == Layout::Planes {
            return self.backward_params(x, dy, dw, Some(db));
        }
        self.backward_bias_laid(dy, layouts.top, db);
        self.backward_weights_laid(x, dy, layouts, dw);
    }
}
