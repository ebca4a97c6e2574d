//! Gradient of the bias: `db += Σ dy` over samples and pixels.

use super::{Convolution, Extents};
use crate::math::Real;
use crate::math::layout::Layout;
use crate::math::parallel::{for_each_chunk, sum_of};
use crate::math::simd;

/// Numbers that are worth a thread.
const GRAIN: usize = 1 << 15;
/// As many sums as the largest vector has lanes; a smaller one's channels come again and again.
pub(super) const SUMS: usize = 16;
/// Numbers whose sums are kept in their own precision; those of more are in double precision.
const SPAN: usize = 64 * SUMS;

/// Adds to `sums`, of as many lanes as a vector has, those of pixels side by side.
#[inline(always)]
pub(super) fn add_lanes<T: Real>(pixels: &[T], sums: &mut [f64]) {
    for span in pixels.chunks(SPAN) {
        let mut here = [T::zero(); SUMS];
        let (many, rest) = span.as_chunks::<SUMS>();
        for numbers in many {
            here.iter_mut().zip(numbers).for_each(|(sum, &x)| *sum += x);
        }
        here.iter_mut().zip(rest).for_each(|(sum, &x)| *sum += x);
        for here in here.chunks_exact(sums.len()) {
            sums.iter_mut().zip(here).for_each(|(sum, x)| *sum += x.as_f64());
        }
    }
}

impl Convolution {
    /// `db += Σ dy` over samples and pixels.
    pub fn backward_bias<T: Real>(&self, dy: &[T], db: &mut [T]) {
        let Extents { pixels, outputs, batch, .. } = self.extents();
        let dy = &dy[..self.top_len()];
        for_each_chunk(
            &mut db[..outputs],
            (GRAIN / (batch * pixels).max(1)).max(1),
            #[inline(always)]
            |first, db| {
                for (i, db) in db.iter_mut().enumerate() {
                    let planes = dy.chunks_exact(pixels).skip(first + i).step_by(outputs);
                    *db += T::from_f64(planes.map(|plane| sum_of(plane, |x| x.as_f64())).sum());
                }
            },
        );
    }

    /// The same for a gradient that may lie in blocks.
    pub fn backward_bias_laid<T: Real>(&self, dy: &[T], layout: Layout, db: &mut [T]) {
        if layout == Layout::Planes {
            return self.backward_bias(dy, db);
        }
        let lanes = simd::kernels::<T>(self.isa).lanes();
        let Extents { pixels, outputs, batch, .. } = self.extents();
        let dy = &dy[..self.top_len()];
        for_each_chunk(
            &mut db[..outputs],
            lanes * GRAIN.div_ceil((batch * pixels * lanes).max(1)).max(1),
            #[inline(always)]
            |first, db| {
                for (i, db) in db.chunks_exact_mut(lanes).enumerate() {
                    let blocks = dy.chunks_exact(pixels * lanes).skip(first / lanes + i);
                    let mut sums = [0.0; SUMS];
                    blocks.step_by(outputs / lanes).for_each(|block| add_lanes(block, &mut sums[..lanes]));
                    db.iter_mut().zip(sums).for_each(|(db, sum)| *db += T::from_f64(sum));
                }
            },
        );
    }
}
