//! Tiles of a 1×1 convolution over images whose channels lie in blocks of a vector.
//!
//! Such images are read where they lie: neighbouring windows are whole vectors apart, and all that a tile writes is two runs of
//! neighbouring vectors.

use super::kernels::{Kernels, Next};
use super::lanes::Lanes;
use crate::math::Real;

/// A tile: some neighbouring pixels times one or two vectors of outputs, `y = max(scale·(y? + Σ w·x) + bias + other, floor)`.
#[derive(Clone, Copy)]
pub(crate) struct Blocked<T> {
    /// Blocks of channels to sum over.
    pub blocks: usize,
    /// The first pixel of the first block; those behind it follow vector by vector.
    pub x: *const T,
    /// Numbers from one block of x to the next.
    pub x_step: usize,
    /// What a later tile reads, which this one asks for: a line for each channel.
    pub next: Next<T>,
    /// Numbers from the lines for one block to those for the next.
    pub next_block: usize,
    /// For each channel of a block as many vectors, one weight per output.
    pub w: *const T,
    /// Numbers from the weights of one block to those of the next.
    pub w_step: usize,
    /// The first pixel of the first vector of outputs.
    pub y: *mut T,
    /// Numbers from one vector of outputs to the other.
    pub y_step: usize,
    /// Whether `y` has the sums over channels before these.
    pub adds: bool,
    /// Whether these are the last channels: what follows is done then.
    pub ends: bool,
    /// As many vectors of factors.
    pub scale: *const T,
    /// The same of summands.
    pub bias: *const T,
    /// Numbers to add, as `y` lies, or null.
    pub other: *const T,
    /// As `y_step`.
    pub other_step: usize,
    /// The least result.
    pub floor: T,
}

/// `[v - 1][i]` computes tiles of `i + 1` pixels and `v` vectors of outputs.
pub(super) type Table<T> = [&'static [unsafe fn(&Blocked<T>)]; 2];

impl<T: Real> Kernels<T> {
    /// Computes a tile of `rows` pixels and so many vectors of outputs, one or two.
    ///
    /// # Safety
    /// The pointers of `tile` are good for what it describes, and nobody else writes or reads its part of y.
    pub(crate) unsafe fn blocked(&self, rows: usize, vectors: usize, tile: &Blocked<T>) {
        // SAFETY: promised by the caller; a table is only handed out where the processor has its features.
        unsafe { self.blocked[vectors - 1][rows - 1](tile) }
    }
}

/// Some neighbouring vectors.
///
/// # Safety
/// As many are good for reading, and only inside a function compiled for the instruction set of `S`.
#[inline(always)]
unsafe fn vectors<T: Real, S: Lanes<T>, const NV: usize>(from: *const T) -> [S::V; NV] {
    // SAFETY: promised by the caller.
    unsafe {
        let mut all = [S::splat(T::zero()); NV];
        for (i, vector) in all.iter_mut().enumerate() {
            *vector = S::load(from.add(i * S::COUNT));
        }
        all
    }
}

/// Body of the kernels: `MR` pixels and `NV` vectors in registers.
///
/// # Safety
/// As [`Kernels::blocked`], and only inside a function compiled for the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn pixels<T: Real, S: Lanes<T>, const MR: usize, const NV: usize>(t: &Blocked<T>) {
    // SAFETY: promised by the caller; a prefetch of any address is harmless.
    unsafe {
        let at = |i: usize, j: usize, step: usize| i * S::COUNT + j * step;
        let mut sums = [[S::splat(T::zero()); NV]; MR];
        if t.adds {
            for (i, row) in sums.iter_mut().enumerate() {
                for (j, sum) in row.iter_mut().enumerate() {
                    *sum = S::load(t.y.add(at(i, j, t.y_step)));
                }
            }
        } else {
            for i in 0..NV * MR {
                S::prefetch(t.y.wrapping_add(at(i / NV, i % NV, t.y_step)));
            }
        }
        if t.ends && !t.other.is_null() {
            for i in 0..NV * MR {
                S::prefetch(t.other.wrapping_add(at(i / NV, i % NV, t.other_step)));
            }
        }
        let (mut block, mut weights, mut next) = (t.x, t.w, t.next.start);
        for _ in 0..t.blocks {
            let (mut x, mut w, mut ahead) = (block, weights, next);
            for _ in 0..S::COUNT {
                S::prefetch_far(ahead);
                let right = vectors::<T, S, NV>(w);
                for (i, row) in sums.iter_mut().enumerate() {
                    let left = S::splat(*x.add(i * S::COUNT));
                    for (sum, &v) in row.iter_mut().zip(&right) {
                        *sum = S::mul_add(left, v, *sum);
                    }
                }
                w = w.wrapping_add(NV * S::COUNT);
                x = x.add(1);
                ahead = ahead.wrapping_add(t.next.step);
            }
            block = block.wrapping_add(t.x_step);
            weights = weights.wrapping_add(t.w_step);
            next = next.wrapping_add(t.next_block);
        }
        if !t.ends {
            for (i, row) in sums.iter().enumerate() {
                for (j, &sum) in row.iter().enumerate() {
                    S::store(t.y.add(at(i, j, t.y_step)), sum);
                }
            }
            return;
        }
        let (scale, bias) = (vectors::<T, S, NV>(t.scale), vectors::<T, S, NV>(t.bias));
        let floor = S::splat(t.floor);
        if t.other.is_null() {
            for (i, row) in sums.iter().enumerate() {
                for (j, &sum) in row.iter().enumerate() {
                    let y = S::mul_add(scale[j], sum, bias[j]);
                    S::store(t.y.add(at(i, j, t.y_step)), S::max(floor, y));
                }
            }
            return;
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                let y = S::mul_add(scale[j], sum, bias[j]);
                let y = S::add(y, S::load(t.other.add(at(i, j, t.other_step))));
                S::store(t.y.add(at(i, j, t.y_step)), S::max(floor, y));
            }
        }
    }
}
