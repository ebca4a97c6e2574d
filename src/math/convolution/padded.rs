//! Channels that nearly fill whole vectors: filled up with zeros on one side of a convolution, or on both, so that the other can lie in blocks.

use super::{Convolution, Geometry};
use crate::error::Result;
use crate::math::Real;
use crate::math::gemm::Ending;
use crate::math::layout::{Layout, Layouts, to_blocks, to_planes};
use crate::math::scratch::scratch;
use crate::math::simd::{self, Isa, Kernels};

const BLOCKS: Layouts = Layouts { bottom: Layout::Blocks, other: Layout::Blocks, top: Layout::Blocks };

/// Least part of the channels in memory that are in use.
const LEAST: f64 = 0.7;

/// A convolution of more channels that does the work.
#[derive(Debug)]
pub(super) struct Padded {
    /// In blocks on both sides.
    pub rest: Box<Convolution>,
    /// Channels in use: of the bottom and of the top.
    used: [usize; 2],
    /// Weights from a channel to a channel.
    taps: usize,
}

/// One side of a convolution: images in use, `channels × pixels` each.
#[derive(Clone, Copy)]
struct Side {
    layout: Layout,
    channels: usize,
    pixels: usize,
}

impl Side {
    /// Calls `f` with a batch in blocks.
    fn with_blocks<T: Real>(self, kernels: &Kernels<T>, of: &[T], f: impl FnOnce(&[T])) {
        let image = self.channels * self.pixels;
        if self.layout == Layout::Blocks || of.is_empty() {
            return f(of);
        }
        let whole = self.channels.next_multiple_of(kernels.lanes()) * self.pixels;
        scratch(of.len() / image * whole, |turned: &mut [T]| {
            to_blocks(kernels, of, [self.channels, self.pixels], turned);
            f(turned);
        });
    }

    /// Calls `f` with room for a batch in blocks, which it fills.
    fn fill<T: Real>(self, kernels: &Kernels<T>, to: &mut [T], f: impl FnOnce(&mut [T])) {
        let image = self.channels * self.pixels;
        if self.layout == Layout::Blocks || to.is_empty() {
            return f(to);
        }
        let whole = self.channels.next_multiple_of(kernels.lanes()) * self.pixels;
        scratch(to.len() / image * whole, |turned: &mut [T]| {
            f(turned);
            to_planes(kernels, turned, [self.channels, self.pixels], to);
        });
    }
}

impl Padded {
    /// For dense convolutions with channels that are nearly whole vectors, and not all whole.
    pub(super) fn suited(isa: Isa, g: &Geometry) -> Result<Option<Padded>> {
        let lanes = simd::kernels::<f32>(isa).lanes();
        let used = [g.channels, g.num_output];
        let whole = used.map(|n| n.next_multiple_of(lanes));
        let fits = used.iter().zip(whole).all(|(&used, whole)| used as f64 >= LEAST * whole as f64);
        if g.groups > 1 || whole == used || !fits {
            return Ok(None);
        }
        let rest = Convolution::on(isa, &Geometry { channels: whole[0], num_output: whole[1], ..g.clone() })?;
        let suits = rest.thin.is_none() && rest.takes_blocks::<f32>();
        let taps = g.kernel.iter().product();
        Ok(suits.then(|| Padded { rest: Box::new(rest), used, taps }))
    }

    /// Whether its channels are just whole vectors of numbers of this type.
    pub(super) fn serves<T: Real>(&self) -> bool {
        let (g, lanes) = (&self.rest.geometry, simd::kernels::<T>(self.rest.isa).lanes());
        self.used.map(|n| n.next_multiple_of(lanes)) == [g.channels, g.num_output]
    }

    fn sides(&self, layouts: Layouts) -> [Side; 2] {
        let [channels, outputs] = self.used;
        [
            Side { layout: layouts.bottom, channels, pixels: self.rest.windows.plane() },
            Side { layout: layouts.top, channels: outputs, pixels: self.rest.windows.pixels },
        ]
    }

    /// Calls `f` with weights for all channels.
    fn with_weights<T: Real>(&self, w: &[T], f: impl FnOnce(&[T])) {
        let row = self.used[0] * self.taps;
        scratch(self.rest.weights_len(), |padded: &mut [T]| {
            padded.fill(T::zero());
            let rows = padded.chunks_exact_mut(self.rest.geometry.channels * self.taps);
            rows.zip(w.chunks_exact(row)).for_each(|(to, from)| to[..row].copy_from_slice(from));
            f(padded);
        });
    }

    /// Puts weights in order, as [`Convolution::prepare`].
    pub(super) fn prepare<T: Real>(&self, w: &[T], prepared: &mut [T]) {
        self.with_weights(w, |w| self.rest.prepare(w, BLOCKS, prepared));
    }

    /// Numbers of weights in order.
    pub(super) fn prepared_len<T: Real>(&self) -> usize {
        self.rest.prepared_len::<T>(BLOCKS)
    }

    /// As [`Convolution::forward_prepared`].
    pub(super) fn forward_prepared<T: Real>(
        &self,
        x: &[T],
        prepared: &[T],
        layouts: Layouts,
        end: &Ending<T>,
        y: &mut [T],
    ) {
        self.forward_with(x, layouts, end, y, |x, end, y| {
            self.rest.forward_prepared(x, prepared, BLOCKS, end, y);
        });
    }

    /// As [`Convolution::forward_laid`].
    pub(super) fn forward<T: Real>(&self, x: &[T], w: &[T], layouts: Layouts, end: &Ending<T>, y: &mut [T]) {
        self.with_weights(w, |w| {
            self.forward_with(x, layouts, end, y, |x, end, y| self.rest.forward_laid(x, w, BLOCKS, end, y));
        });
    }

    /// Calls `f` with everything in blocks.
    fn forward_with<T: Real>(
        &self,
        x: &[T],
        layouts: Layouts,
        end: &Ending<T>,
        y: &mut [T],
        f: impl FnOnce(&[T], &Ending<T>, &mut [T]),
    ) {
        let kernels = simd::kernels::<T>(self.rest.isa);
        let [bottom, top] = self.sides(layouts);
        let other = Side { layout: layouts.other, ..top };
        let outputs = self.rest.geometry.num_output;
        scratch(2 * outputs, |lines: &mut [T]| {
            lines.fill(T::zero());
            let (scale, bias) = lines.split_at_mut(outputs);
            for (to, from) in [(&mut *scale, end.scale), (&mut *bias, end.bias)] {
                from.into_iter().for_each(|from| to[..top.channels].copy_from_slice(&from[..top.channels]));
            }
            bottom.with_blocks(kernels, x, |x| {
                other.with_blocks(
                    kernels,
                    &end.other.unwrap_or_default()[..end.other.map_or(0, |_| y.len())],
                    |other| {
                        let end = Ending {
                            scale: end.scale.map(|_| &*scale),
                            bias: end.bias.map(|_| &*bias),
                            other: end.other.map(|_| other),
                            floor: end.floor,
                        };
                        top.fill(kernels, y, |y| f(x, &end, y));
                    },
                );
            });
        });
    }

    /// As [`Convolution::backward_data_laid`].
    pub(super) fn backward_data<T: Real>(&self, w: &[T], dy: &[T], layouts: Layouts, dx: &mut [T]) {
        let kernels = simd::kernels::<T>(self.rest.isa);
        let [bottom, top] = self.sides(layouts);
        self.with_weights(w, |w| {
            top.with_blocks(kernels, dy, |dy| {
                bottom.fill(kernels, dx, |dx| self.rest.backward_data_laid(w, dy, BLOCKS, dx));
            });
        });
    }

    /// As [`Convolution::backward_weights_laid`].
    pub(super) fn backward_weights<T: Real>(&self, x: &[T], dy: &[T], layouts: Layouts, dw: &mut [T]) {
        let kernels = simd::kernels::<T>(self.rest.isa);
        let ([bottom, top], row) = (self.sides(layouts), self.used[0] * self.taps);
        scratch(self.rest.weights_len(), |padded: &mut [T]| {
            padded.fill(T::zero());
            bottom.with_blocks(kernels, x, |x| {
                top.with_blocks(kernels, dy, |dy| self.rest.backward_weights_laid(x, dy, BLOCKS, padded));
            });
            let rows = padded.chunks_exact(self.rest.geometry.channels * self.taps);
            for (dw, padded) in dw.chunks_exact_mut(row).zip(rows) {
                dw.iter_mut().zip(padded).for_each(|(dw, &sum)| *dw += sum);
            }
        });
    }
}
