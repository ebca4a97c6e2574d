//! Gradients of the weights of 1×1 convolutions over images whose channels lie in blocks: a sum of outer products, one for each pixel, whose
//! operands are read where they lie.

use super::Extents;
use crate::math::Real;
use crate::math::gemm::product::Cut;
use crate::math::parallel::{for_each_chunk, for_each_index};
use crate::math::scratch::scratch;
use crate::math::shared::Shared;
use crate::math::simd::{Kernels, OuterPixels};
use std::ops::Range;

/// Pixels that a tile sums at once: some vectors of them stay in the first-level cache.
const PIXELS: usize = 224;
/// Rows and columns of the gradient that a task works on: they stay in the second-level cache.
const ROWS: usize = 64;
const COLUMNS: usize = 256;
/// Tasks that a gradient is cut into if it is large enough, pixels that are worth one, and bytes of partial sums at most.
const TASKS: usize = 32;
const LEAST: usize = 512;
const SUMS: usize = 2 << 20;
/// Multiply-adds that are worth a thread.
const GRAIN: usize = 1 << 18;

/// A gradient to compute.
struct Pass<'a, T: 'static> {
    kernels: &'a Kernels<T>,
    extents: Extents,
    x: &'a [T],
    dy: &'a [T],
    /// Whole images that a tile takes at once, or parts of one.
    images: Cut,
    parts: Cut,
}

/// `dw += dy * xᵀ`, summed over the pixels of all images; `dw` has `outputs × channels` numbers.
pub(super) fn weights<T: Real>(kernels: &Kernels<T>, extents: Extents, x: &[T], dy: &[T], dw: &mut [T]) {
    let Extents { batch, pixels, channels, outputs } = extents;
    let (all, size) = (batch * pixels, channels * outputs);
    assert!(x.len() >= all * channels && dy.len() >= all * outputs && dw.len() == size);
    let images = Cut::new(batch, batch, (PIXELS / pixels).max(1), 1);
    let parts = Cut::new(pixels, pixels, PIXELS, 1);
    let pass = Pass { kernels, extents, x, dy, images, parts };
    let (rows, columns) = (
        Cut::new(outputs, outputs, ROWS, kernels.columns()),
        Cut::new(channels, channels, COLUMNS, kernels.lanes()),
    );
    let tiles = rows.count() * columns.count();
    let chunks = pass.images.count() * pass.parts.count();
    let sums = TASKS.div_ceil(tiles).min(chunks).min(all / LEAST).min(SUMS / (size * size_of::<T>())).max(1);
    let each = GRAIN.div_ceil(all * size / (sums * tiles));
    let run = |to: &Shared<T>, adds: bool| {
        for_each_index(sums * tiles, each, |task| {
            let (sum, tile) = (task / tiles, task % tiles);
            let (row, column) = (rows.block(tile % rows.count()), columns.block(tile / rows.count()));
            let part = chunks * sum / sums..chunks * (sum + 1) / sums;
            pass.tile(part, row, column, to.at(sum * size), adds);
        });
    };
    if sums == 1 {
        return run(&Shared::new(dw), true);
    }
    scratch(sums * size, |partial: &mut [T]| {
        run(&Shared::new(partial), false);
        let partial = &*partial;
        for_each_chunk(
            dw,
            1 << 12,
            #[inline(always)]
            |at, dw| {
                for sum in partial.chunks_exact(size) {
                    dw.iter_mut().zip(&sum[at..]).for_each(|(dw, &x)| *dw += x);
                }
            },
        );
    });
}

impl<T: Real> Pass<'_, T> {
    /// Sums some chunks of pixels for some rows and columns of the gradient that begins at `to`.
    fn tile(&self, chunks: Range<usize>, rows: Range<usize>, columns: Range<usize>, to: *mut T, adds: bool) {
        let Extents { pixels, channels, outputs, .. } = self.extents;
        let lanes = self.kernels.lanes();
        let (step, block) = (self.kernels.outer_rows(), pixels * lanes);
        let vectors = Cut::new(columns.len() / lanes, columns.len() / lanes, self.kernels.outer_vectors(), 1);
        for chunk in chunks.clone() {
            let images = self.images.block(chunk / self.parts.count());
            let part = self.parts.block(chunk % self.parts.count());
            let from = |data: &[T], channels: usize, first: usize| {
                let at = (images.start * channels + first) * pixels + part.start * lanes;
                data[at..].as_ptr()
            };
            for nth in 0..vectors.count() {
                let here = vectors.block(nth);
                let b = from(self.x, channels, columns.start + here.start * lanes);
                let next = vectors.block((nth + 1).min(vectors.count() - 1));
                let next_b = from(self.x, channels, columns.start + next.start * lanes);
                for (i, row) in rows.clone().step_by(step).enumerate() {
                    let inside = row % lanes;
                    let outer = OuterPixels {
                        images: images.len(),
                        pixels: part.len(),
                        a: from(self.dy, outputs, row - inside).wrapping_add(inside),
                        a_step: block,
                        a_image: outputs * pixels,
                        b,
                        b_step: block,
                        b_image: channels * pixels,
                        // What the next tiles read: a vector with each of the first rows.
                        next: next_b.wrapping_add(i.min(next.len() - 1) * block),
                        c: to.wrapping_add(row * channels + columns.start + here.start * lanes),
                        c_step: channels,
                        adds: adds || chunk > chunks.start,
                    };
                    // SAFETY: x and dy hold these channels of these images, as was checked; no other task has these rows and columns.
                    unsafe { self.kernels.outer_pixels(here.len(), &outer) };
                }
            }
        }
    }
}
