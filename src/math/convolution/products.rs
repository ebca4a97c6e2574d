//! The gradient of weights from a band of an image: products of what each tap reads with the gradient of the outputs.

use super::bias::{SUMS, add_lanes};
use super::direct::Batch;
use super::windows::Windows;
use crate::math::Real;
use crate::math::shared::Shared;
use crate::math::simd::{Kernels, Run, Taps, Turn, vectorised};
use std::ops::Range;

/// Pixels whose gradient stays in the first-level cache.
const PIXELS: usize = 128;

/// The gradient of some lines with outputs of a pixel side by side.
#[derive(Clone, Copy)]
pub(super) struct Pixels<'a, T> {
    pub data: &'a [T],
    /// Numbers from pixel to pixel, and from one vector of outputs to the next.
    pub step: usize,
    pub vector: usize,
}

/// The products of a band with a gradient, summed over its pixels: a row of outputs for each tap of each channel.
pub(super) struct Products<'a, T: 'static> {
    pub kernels: &'a Kernels<T>,
    pub windows: &'a Windows,
    /// Lines of the output.
    pub lines: Range<usize>,
    /// What their windows read, padded, of so many channels that are `plane` numbers apart.
    pub band: &'a [T],
    pub plane: usize,
    pub channels: usize,
    pub dy: Pixels<'a, T>,
    /// Outputs of a row, in whole vectors.
    pub width: usize,
}

impl<T: Real> Products<'_, T> {
    /// Adds them to sums, for taps anywhere; those of a gradient in blocks itself to what begins at `bias`.
    pub(super) fn add_taps(&self, sums: &Shared<T>, bias: Option<usize>) {
        let &Products { kernels, windows, ref lines, band, plane, channels, dy, width } = self;
        let (lanes, line, depth) = (kernels.lanes(), windows.line, channels * windows.taps.len());
        let image = band.as_ptr().wrapping_sub(windows.starts[lines.start]);
        let tap = |i: usize| windows.tap(i.min(depth - 1), plane);
        let some = PIXELS.div_ceil(line);
        for first_line in lines.clone().step_by(some) {
            let starts = &windows.starts[first_line..lines.end.min(first_line + some)];
            let here = (first_line - lines.start) * line * dy.step;
            self.add_outputs(here, starts.len() * line, sums, bias);
            let mut column = 0;
            while column < width {
                let kind = kernels.tap_kind(depth, (width - column) / lanes);
                let vectors = kind.vectors;
                let data = &dy.data[here + column / lanes * dy.vector..];
                // The same outputs of the next lines, a vector with each of the first tiles; the others ask for what is near.
                let next = |i: usize| if i < vectors { some * line * dy.step + i * dy.vector } else { 0 };
                for (i, first) in (0..depth).step_by(kind.taps).enumerate() {
                    let tile = Taps {
                        taps: std::array::from_fn(|i| tap(first + i)),
                        image,
                        starts,
                        line,
                        dy: data.as_ptr(),
                        dy_step: dy.step,
                        dy_vector: dy.vector,
                        next: data.as_ptr().wrapping_add(next(i)),
                        out: sums.part(first * width, kind.taps * width).at(column),
                        out_step: width,
                    };
                    // SAFETY: taps of these lines lie in the band, their pixels in `dy`; the sums are this task's own, and hold a tile
                    // more than there are taps.
                    unsafe { kernels.tap_products(kind, &tile) };
                }
                column += vectors * lanes;
            }
        }
    }

    /// Adds the outputs of some pixels of a gradient in blocks to the sums that begin at `bias`. So they come from memory in long stretches, and
    /// lie near for their products.
    fn add_outputs(&self, first: usize, pixels: usize, sums: &Shared<T>, bias: Option<usize>) {
        let (Some(bias), lanes) = (bias, self.kernels.lanes()) else { return };
        // SAFETY: the sums are this task's own, and no tile has these.
        let to = unsafe { sums.slice(bias..bias + self.width) };
        vectorised(
            #[inline(always)]
            || {
                for (block, to) in to.chunks_exact_mut(lanes).enumerate() {
                    let mut sums = [0.0; SUMS];
                    let dy = &self.dy.data[first + block * self.dy.vector..][..pixels * lanes];
                    add_lanes(dy, &mut sums[..lanes]);
                    to.iter_mut().zip(sums).for_each(|(to, sum)| *to += T::from_f64(sum));
                }
            },
        );
    }
}

/// The gradient of some lines with the outputs of a pixel side by side, `width` apart.
pub(super) fn turn<T: Real>(
    kernels: &Kernels<T>,
    windows: &Windows,
    dy: &Batch<T>,
    sample: usize,
    lines: &Range<usize>,
    width: usize,
    turned: &mut [T],
) {
    let data = &dy.data[sample * dy.image..];
    let run = Run { start: lines.start * windows.line, len: lines.len() * windows.line, ..Run::default() };
    let mut starts = [0; 64];
    for first in (0..dy.channels).step_by(starts.len()) {
        let starts = &mut starts[..(dy.channels - first).min(64)];
        starts.iter_mut().enumerate().for_each(|(i, start)| *start = (first + i) * windows.pixels);
        let turn = Turn { data, lanes: starts, runs: &[run], width, panel: std::ptr::null_mut() };
        kernels.turn(&turn, &mut turned[first..]);
    }
}
