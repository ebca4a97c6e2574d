//! Convolutions of any number of spatial axes, forward and backward, as matrix products whose operands are packed
//! straight from the images.
//!
//! With W of `num_output/groups` × K (K = channels/groups · taps), windows X of K × pixels and dY of
//! `num_output/groups` × pixels, per group: `Y = W·X + bias`, `dW += dY·Xᵀ`, `dX = Wᵀ·dY` put back in place.

mod bias;
mod blocked;
mod choice;
mod data;
mod depthwise;
mod direct;
mod forward;
mod geometry;
mod laid;
mod narrow;
mod operands;
mod outer;
mod padded;
mod prepared;
mod products;
mod shifted;
mod spread;
#[cfg(test)]
mod tests;
mod thin;
mod weights;
mod windows;
mod winograd;

pub use geometry::Geometry;

use super::Real;
use super::gemm::Ending;
use super::layout::{Layout, Layouts};
use super::parallel::for_each_chunk;
use super::scratch::scratch;
use super::simd::{self, Isa};
use crate::error::Result;
use blocked::Extents;
use choice::{InPlace, Winograd};
use data::DataForm;
use depthwise::Depthwise;
use direct::{Batch, Direct, Gradient};
use padded::Padded;
use thin::Thin;
use windows::Windows;
use winograd::{Filters, Images, Tiles};

/// The plan of a convolution: everything that can be settled when only sizes are known.
///
/// Bottoms are `batch × channels × input…`, tops `batch × num_output × output…`, weights
/// `num_output × channels/groups × kernel…`, all dense. The methods give the same bits for any number of threads and
/// allocate nothing once each thread has its scratch memory.
///
/// # Panics
/// Every method panics if a slice is too short, which is a mistake of the layer and not of a user's input.
#[derive(Debug)]
pub struct Convolution {
    geometry: Geometry,
    output: Vec<usize>,
    windows: Windows,
    data: DataForm,
    /// What stands for it if most elements of the bottom do not count.
    thin: Option<(Thin, Box<Convolution>)>,
    /// Tiles of the passes for which Winograd's way is the faster one.
    winograd: Winograd,
    /// Passes that read windows where they lie.
    direct: InPlace,
    /// What stands for it where its images lie in blocks and its channels are no whole vectors.
    padded: Option<Padded>,
    /// Set for few channels, whose top alone can lie in blocks.
    narrow: Option<Direct>,
    /// Set for a depthwise convolution.
    depthwise: Option<Depthwise>,
    isa: Isa,
}

impl Convolution {
    /// Plans a convolution.
    ///
    /// # Errors
    /// As [`Geometry::output`].
    pub fn new(geometry: &Geometry) -> Result<Self> {
        Convolution::on(Isa::detect(), geometry)
    }

    /// [`Convolution::new`] on a given instruction set.
    pub(crate) fn on(isa: Isa, geometry: &Geometry) -> Result<Self> {
        let g = geometry;
        let output = g.output()?;
        let windows = Windows::new(g.channels, &g.input, &output, &g.kernel, &g.pad, &g.stride, &g.dilation);
        let data = DataForm::choose(g, &output, &windows);
        let thin = match Thin::suited(g, &output) {
            Some(thin) => Some((thin, Box::new(Convolution::on(isa, &Thin::rest(g, &output))?))),
            None => None,
        };
        let depthwise = Depthwise::suited(g, &output);
        let mut plan = Convolution {
            geometry: g.clone(),
            output,
            windows,
            data,
            thin,
            winograd: Winograd::default(),
            direct: InPlace::default(),
            padded: None,
            narrow: None,
            depthwise,
            isa,
        };
        plan.choose();
        if plan.thin.is_none() && plan.depthwise.is_none() {
            plan.padded = Padded::suited(isa, g)?;
            plan.narrow = narrow::suited(g, &plan.output);
        }
        Ok(plan)
    }

    /// The sizes it was planned for.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Spatial sizes of the output.
    pub fn output(&self) -> &[usize] {
        &self.output
    }

    /// Multiply-adds of a forward pass, without those of the bias.
    pub fn multiply_adds(&self) -> usize {
        self.geometry.batch * self.geometry.num_output * self.windows.pixels * self.depth()
    }

    /// `y = end(w * x)`.
    pub fn forward<T: Real>(&self, x: &[T], w: &[T], end: &Ending<T>, y: &mut [T]) {
        let g = &self.geometry;
        let (x, w, y) = (&x[..self.bottom_len()], &w[..self.weights_len()], &mut y[..self.top_len()]);
        if end.other.is_some() && (self.depthwise.is_some() || self.direct.forward.is_some()) {
            // These kernels know no other numbers.
            self.forward(x, w, &end.lines(), y);
            return for_each_chunk(
                y,
                1 << 13,
                #[inline(always)]
                |at, y| end.finish(at, y),
            );
        }
        if let Some((thin, rest)) = &self.thin {
            return scratch(thin.left(x.len()), |left: &mut [T]| {
                thin.take(x, left);
                rest.forward(left, w, end, y);
            });
        }
        if let Some(depthwise) = &self.depthwise {
            return depthwise.forward(simd::kernels(self.isa), x, w, end, y);
        }
        let kernels = simd::kernels::<T>(self.isa);
        if let Some(tiles) = self.small(kernels, 0).filter(|_| end.other.is_none()) {
            let mut y = Images { data: y, image: self.top_len() / g.batch };
            let filters = self.filters(w, 0, false);
            return tiles.convolve_small(kernels, &filters, &self.images(x, 0), &mut y, end);
        }
        let Some(tiles) = &self.winograd.forward else {
            return forward::forward(self, x, w, end, y);
        };
        for group in 0..g.groups {
            self.convolve(tiles, group, &self.filters(w, group, false), x, end, y);
        }
    }

    /// The forward pass of a group by Winograd's way.
    fn convolve<T: Real>(
        &self,
        tiles: &Tiles,
        group: usize,
        filters: &Filters<T>,
        x: &[T],
        end: &Ending<T>,
        y: &mut [T],
    ) {
        let (outputs, pixels) = (filters.to, self.windows.pixels);
        let from = group * outputs;
        let end = end.part(from..from + outputs, from * pixels);
        let y = &mut y[from * pixels..];
        let image = self.geometry.num_output * pixels;
        let (x, mut y) = (self.images(x, group), Images { data: y, image });
        tiles.convolve(simd::kernels(self.isa), filters, &x, &mut y, &end);
    }

    /// Numbers that prepared weights take for images that lie so; 0 where [`Convolution::forward`] is as fast without.
    pub fn prepared_len<T: Real>(&self, layouts: Layouts) -> usize {
        match &self.thin {
            Some((_, rest)) => rest.prepared_len::<T>(layouts),
            None if self.narrow::<T>(layouts).is_some() => 0,
            None => match self.padded::<T>(layouts) {
                Some(padded) => padded.prepared_len::<T>(),
                None => self.geometry.groups * prepared::len::<T>(self, layouts),
            },
        }
    }

    /// Puts weights in the order in which [`Convolution::forward_prepared`] reads them.
    pub fn prepare<T: Real>(&self, w: &[T], layouts: Layouts, prepared: &mut [T]) {
        match &self.thin {
            Some((_, rest)) => rest.prepare(w, layouts, prepared),
            None => match self.padded::<T>(layouts) {
                Some(padded) => padded.prepare(&w[..self.weights_len()], prepared),
                None => prepared::prepare(self, &w[..self.weights_len()], layouts, prepared),
            },
        }
    }

    /// [`Convolution::forward`] with weights that [`Convolution::prepare`] has put in order.
    ///
    /// Images may lie in blocks where [`Convolution::takes_blocks`].
    pub fn forward_prepared<T: Real>(
        &self,
        x: &[T],
        prepared: &[T],
        layouts: Layouts,
        end: &Ending<T>,
        y: &mut [T],
    ) {
        let (x, y) = (&x[..self.bottom_len()], &mut y[..self.top_len()]);
        match &self.thin {
            Some((thin, rest)) => scratch(thin.left(x.len()), |left: &mut [T]| {
                match layouts.bottom {
                    Layout::Planes => thin.take(x, left),
                    Layout::Blocks => thin.take_blocks(simd::kernels::<T>(self.isa).lanes(), x, left),
                }
                rest.forward_prepared(left, prepared, layouts, end, y);
            }),
            None => match self.padded::<T>(layouts) {
                Some(padded) => padded.forward_prepared(x, prepared, layouts, end, y),
                None => prepared::forward(self, x, prepared, layouts, end, y),
            },
        }
    }

    /// Whether passes read and write images in blocks: [`Convolution::forward_prepared`] and those that say so.
    pub fn takes_blocks<T: Real>(&self) -> bool {
        match &self.thin {
            Some((_, rest)) => rest.takes_blocks::<T>(),
            None => {
                let padded = self.padded.as_ref().is_some_and(Padded::serves::<T>);
                let narrow = self.narrow.is_some() && narrow::fits::<T>(self);
                let lanes = simd::kernels::<T>(self.isa).lanes();
                let depthwise =
                    self.depthwise.as_ref().is_some_and(|depthwise| depthwise.takes_blocks(lanes));
                prepared::takes_blocks::<T>(self) || padded || narrow || depthwise
            }
        }
    }

    /// The way of few channels for images that lie so.
    fn narrow<T: Real>(&self, layouts: Layouts) -> Option<&Direct> {
        let others = prepared::takes_blocks::<T>(self) || self.padded::<T>(layouts).is_some();
        let is_narrow = layouts != Layouts::default() && !others && narrow::fits::<T>(self);
        self.narrow.as_ref().filter(|_| is_narrow)
    }

    /// What does the work for images that lie so, if more channels are needed for it.
    fn padded<T: Real>(&self, layouts: Layouts) -> Option<&Padded> {
        let in_blocks = layouts != Layouts::default() && !prepared::takes_blocks::<T>(self);
        self.padded.as_ref().filter(|padded| in_blocks && padded.serves::<T>())
    }

    /// `dx = wᵀ * dy`; what `dx` held is overwritten.
    pub fn backward_data<T: Real>(&self, w: &[T], dy: &[T], dx: &mut [T]) {
        let (w, dy) = (&w[..self.weights_len()], &dy[..self.top_len()]);
        let dx = &mut dx[..self.bottom_len()];
        if let Some((thin, rest)) = &self.thin {
            return scratch(thin.left(dx.len()), |left: &mut [T]| {
                rest.backward_data(w, dy, left);
                thin.put(left, dx);
            });
        }
        if let Some(depthwise) = &self.depthwise {
            return depthwise.backward_data(simd::kernels(self.isa), w, dy, dx);
        }
        let kernels = simd::kernels::<T>(self.isa);
        if let Some(tiles) = self.small(kernels, 1) {
            let mut dx = Images { data: dx, image: self.bottom_len() / self.geometry.batch };
            let (filters, dy) = (self.filters(w, 0, true), self.gradients(dy, 0));
            return tiles.convolve_small(kernels, &filters, &dy, &mut dx, &Ending::none());
        }
        let Some(tiles) = &self.winograd.data else {
            return data::backward(self, w, dy, dx);
        };
        let (g, plane) = (&self.geometry, self.windows.plane());
        for group in 0..g.groups {
            let dx = &mut dx[group * g.channels / g.groups * plane..];
            let (dy, mut dx) = (self.gradients(dy, group), Images { data: dx, image: g.channels * plane });
            let end = Ending::none();
            tiles.convolve(simd::kernels(self.isa), &self.filters(w, group, true), &dy, &mut dx, &end);
        }
    }

    /// `dw += dy * x`.
    pub fn backward_weights<T: Real>(&self, x: &[T], dy: &[T], dw: &mut [T]) {
        self.backward_params(x, dy, dw, None);
    }

    /// The same, and `db += Σ dy` if that is wanted.
    fn backward_params<T: Real>(&self, x: &[T], dy: &[T], dw: &mut [T], mut db: Option<&mut [T]>) {
        let g = &self.geometry;
        let (x, dy) = (&x[..self.bottom_len()], &dy[..self.top_len()]);
        let dw = &mut dw[..self.weights_len()];
        if let Some((thin, rest)) = &self.thin {
            return scratch(thin.left(x.len()), |left: &mut [T]| {
                thin.take(x, left);
                rest.backward_params(left, dy, dw, db);
            });
        }
        let (outputs, depth) = (g.num_output / g.groups, self.depth());
        let size = outputs * depth;
        if let Some((direct, way)) = self.shifted::<T>() {
            for group in 0..g.groups {
                let db = db.as_deref_mut().map(|db| &mut db[group * outputs..][..outputs]);
                let (x, dy) = (self.batch(x, group), self.top_batch(dy, group));
                let dw = &mut dw[group * size..][..size];
                way.weights(direct, simd::kernels(self.isa), &self.windows, [&x, &dy], dw, db);
            }
            return;
        }
        if let Some(db) = db {
            self.backward_bias(dy, db);
        }
        if let Some(depthwise) = &self.depthwise {
            return depthwise.backward_weights(simd::kernels(self.isa), x, dy, dw);
        }
        if weights::turned(self, x, dy, dw) {
            return;
        }
        if let Some(tiles) = &self.winograd.weights {
            for group in 0..g.groups {
                let (x, dy) = (self.images(x, group), self.gradients(dy, group));
                let dw = &mut dw[group * size..][..size];
                tiles.weights(simd::kernels(self.isa), &x, g.channels / g.groups, &dy, outputs, dw);
            }
            return;
        }
        if let Some(direct) = &self.direct.weights {
            for group in 0..g.groups {
                let dy = Gradient::Planes(self.top_batch(dy, group));
                let (x, dw) = (self.batch(x, group), &mut dw[group * size..][..size]);
                direct.weights(simd::kernels(self.isa), &self.windows, &x, &dy, dw, None);
            }
            return;
        }
        weights::backward(self, x, dy, dw);
    }

    /// Those of a 1×1 convolution.
    fn extents(&self) -> Extents {
        let (g, pixels) = (&self.geometry, self.windows.pixels);
        Extents { batch: g.batch, pixels, channels: g.channels, outputs: g.num_output }
    }

    /// Length of the sums of a forward pass.
    fn depth(&self) -> usize {
        self.geometry.channels / self.geometry.groups * self.windows.taps.len()
    }

    fn bottom_len(&self) -> usize {
        self.geometry.batch * self.geometry.channels * self.windows.plane()
    }

    fn top_len(&self) -> usize {
        self.geometry.batch * self.geometry.num_output * self.windows.pixels
    }

    fn weights_len(&self) -> usize {
        self.geometry.num_output * self.depth()
    }

    /// Tiles of the forward pass (0) or the bottom's gradient (1), if its images are small.
    fn small<T: Real>(&self, kernels: &simd::Kernels<T>, pass: usize) -> Option<&Tiles> {
        let (channels, outputs) = (self.geometry.channels, self.geometry.num_output);
        let (from, to) = if pass == 0 { (channels, outputs) } else { (outputs, channels) };
        self.winograd.small[pass].as_ref().filter(|tiles| tiles.are_small(kernels, from, to))
    }

    /// The filters of a group, for the way forward or back.
    fn filters<'a, T>(&self, w: &'a [T], group: usize, back: bool) -> Filters<'a, T> {
        let (channels, outputs) =
            (self.geometry.channels / self.geometry.groups, self.geometry.num_output / self.geometry.groups);
        let (depth, area) = (self.depth(), self.windows.taps.len());
        let data = &w[group * outputs * depth..][..outputs * depth];
        let (forth, from) = ((outputs, depth), (channels, area));
        let ((to, to_step), (from, from_step)) = if back { (from, forth) } else { (forth, from) };
        Filters { data, to, to_step, from, from_step, turned: back, ordered: false }
    }

    /// The channels of the bottom that a group reads.
    fn images<'a, T>(&self, x: &'a [T], group: usize) -> Images<&'a [T]> {
        Images { data: self.group_of(x, group), image: self.geometry.channels * self.windows.plane() }
    }

    /// The same for windows that are read where they lie.
    fn batch<'a, T>(&self, x: &'a [T], group: usize) -> Batch<'a, T> {
        let (g, Images { data, image }) = (&self.geometry, self.images(x, group));
        Batch { data, image, samples: g.batch, channels: g.channels / g.groups }
    }

    /// The channels of the top's gradient that a group has, as those of images.
    fn top_batch<'a, T>(&self, dy: &'a [T], group: usize) -> Batch<'a, T> {
        let (g, Images { data, image }) = (&self.geometry, self.gradients(dy, group));
        Batch { data, image, samples: g.batch, channels: g.num_output / g.groups }
    }

    /// The way of pixels side by side for the gradients of weights and bias, if they go that way.
    fn shifted<T: Real>(&self) -> Option<(&Direct, shifted::Way)> {
        let Winograd { weights, turned, .. } = &self.winograd;
        let has_other = self.depthwise.is_some() || weights.is_some() || turned.is_some();
        let direct = self.direct.weights.as_ref().filter(|_| !has_other)?;
        let (kernels, outputs) = (simd::kernels(self.isa), self.geometry.num_output / self.geometry.groups);
        Some((direct, shifted::Way::choose::<T>(kernels, &self.windows, self.depth(), outputs)?))
    }

    /// The channels of the top's gradient that a group has.
    fn gradients<'a, T>(&self, dy: &'a [T], group: usize) -> Images<&'a [T]> {
        let (g, pixels) = (&self.geometry, self.windows.pixels);
        let data = dy.get(group * g.num_output / g.groups * pixels..).unwrap_or_default();
        Images { data, image: g.num_output * pixels }
    }

    /// The bottom from the first channel of a group on.
    fn group_of<'a, T>(&self, x: &'a [T], group: usize) -> &'a [T] {
        let channels = self.geometry.channels / self.geometry.groups;
        x.get(group * channels * self.windows.plane()..).unwrap_or_default()
    }
}
