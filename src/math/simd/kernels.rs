//! The kernel everything rests on: a tile of a matrix product.

use super::lanes::Lanes;
use super::lines::{Blend, Dots, Lines};
use super::moves::{Copy, Fold, Turn};
use super::patch::{Correlate, Patch};
use super::strip;
use super::winograd::{Gather, Spread};
use crate::math::Real;

/// Kernels of one number type on one instruction set.
pub struct Kernels<T: 'static> {
    /// Numbers in a vector.
    pub(super) lanes: usize,
    /// `wide[i]` computes tiles of `i + 1` rows and two vectors.
    pub(super) wide: &'static [unsafe fn(&Tile<T>)],
    /// `narrow[i]` computes tiles of `i + 1` rows and one vector.
    pub(super) narrow: &'static [unsafe fn(&Tile<T>)],
    pub(super) strips: strip::Table<T>,
    pub(super) copy: unsafe fn(&Copy<T>),
    pub(super) stream: unsafe fn(&[T], &mut [T]),
    pub(super) fence: unsafe fn(),
    pub(super) turn: unsafe fn(&Turn<T>),
    pub(super) fold: unsafe fn(&Fold<T>),
    pub(super) spread: unsafe fn(&Spread<T>),
    pub(super) gather: unsafe fn(&Gather<T>),
    pub(super) blend: unsafe fn(&Blend<T>, &mut [T]),
    pub(super) dots: unsafe fn(&Dots<T>, &mut [T]),
    pub(super) lines: unsafe fn(&Lines<T>, &mut [T]),
    pub(super) deal: unsafe fn(&[T], &mut [T], &mut [T]),
    pub(super) join: unsafe fn(&[T], &[T], &mut [T]),
    pub(super) patches: unsafe fn(&Patch<T>),
    pub(super) correlate: unsafe fn(&Correlate<T>),
    /// Rows of taps that `correlate` takes at once, for rows of 3 and of 5.
    pub(super) tap_rows: [usize; 2],
}

/// A tile of `C = max(scale·(A·B + beta·C) + bias + other, floor)`: what to read and where to write.
pub(crate) struct Tile<T> {
    /// Length of the sums.
    pub k: usize,
    /// Panel of A: `k` groups of one number per row.
    pub a: *const T,
    /// Panel of B: `k` groups of one or two whole vectors, `b_step` numbers apart.
    pub b: *const T,
    /// See `b`.
    pub b_step: usize,
    /// First element of the tile in C, whose rows are `c_step` apart.
    pub c: *mut T,
    /// See `c`.
    pub c_step: usize,
    /// Columns of C to write; the vectors of B may be longer.
    pub columns: usize,
    /// Factor of the old C; 0 ignores what is there, NaN too.
    pub beta: T,
    /// One factor per row, or null.
    pub scale: *const T,
    /// One number per row to add, or null.
    pub bias: *const T,
    /// Numbers to add that lie as those of C do, or null.
    pub other: *const T,
    /// The least number written: −∞ for none.
    pub floor: T,
}

impl<T: Real> Kernels<T> {
    /// Numbers in a vector.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }
    /// Most rows of a tile.
    pub(crate) fn rows(&self) -> usize {
        self.wide.len()
    }
    /// Most columns of a tile.
    pub(crate) fn columns(&self) -> usize {
        2 * self.lanes
    }

    /// Computes a tile of `rows` rows from a panel of B of `width` lanes (one or two vectors).
    ///
    /// # Safety
    /// The pointers of `tile` are good for what it describes, and nobody else writes or reads its part of C.
    pub(crate) unsafe fn tile(&self, rows: usize, width: usize, tile: &Tile<T>) {
        let table = if width > self.lanes { self.wide } else { self.narrow };
        // SAFETY: promised by the caller; a table is only handed out where the processor has its features.
        unsafe { table[rows - 1](tile) }
    }
}

/// Body of the tile kernels: `MR` rows and `NV` vectors in registers.
///
/// # Safety
/// As [`Kernels::tile`], and only inside a function compiled for the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn micro<T: Real, S: Lanes<T>, const MR: usize, const NV: usize>(t: &Tile<T>) {
    // SAFETY: promised by the caller.
    unsafe {
        let mut sums = [[S::splat(T::zero()); NV]; MR];
        let (mut a, mut b) = (t.a, t.b);
        for _ in 0..t.k {
            let mut right = [S::splat(T::zero()); NV];
            for (j, v) in right.iter_mut().enumerate() {
                *v = S::load(b.add(j * S::COUNT));
            }
            for (i, row) in sums.iter_mut().enumerate() {
                let left = S::splat_of(a, i, MR);
                for (sum, &v) in row.iter_mut().zip(&right) {
                    *sum = S::mul_add(left, v, *sum);
                }
            }
            a = a.add(MR);
            b = b.add(t.b_step);
        }
        let zero = S::splat(T::zero());
        let beta = S::splat(t.beta);
        // Every index into `sums` must be a constant once loops are unrolled, or all of it would be written to memory in
        // each step of the loop above: so what is long goes through memory once.
        let plain = t.scale.is_null() && t.other.is_null() && t.floor == T::neg_infinity();
        if t.columns == NV * S::COUNT && plain {
            for (i, row) in sums.iter().enumerate() {
                let bias = if t.bias.is_null() { zero } else { S::splat(*t.bias.add(i)) };
                for (j, &sum) in row.iter().enumerate() {
                    let c = t.c.add(i * t.c_step + j * S::COUNT);
                    let sum = S::add(sum, bias);
                    S::store(c, if t.beta == T::zero() { sum } else { S::mul_add(beta, S::load(c), sum) });
                }
            }
            return;
        }
        let mut room = std::mem::MaybeUninit::<[T; 512]>::uninit();
        let room = room.as_mut_ptr().cast::<T>();
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                S::store(room.add((i * NV + j) * S::COUNT), sum);
            }
        }
        let floor = S::splat(t.floor);
        for i in 0..MR {
            let scale = S::splat(if t.scale.is_null() { T::one() } else { *t.scale.add(i) });
            let bias = if t.bias.is_null() { zero } else { S::splat(*t.bias.add(i)) };
            for j in 0..t.columns.div_ceil(S::COUNT) {
                let c = t.c.add(i * t.c_step + j * S::COUNT);
                let sum = S::load(room.add((i * NV + j) * S::COUNT));
                let n = (t.columns - j * S::COUNT).min(S::COUNT);
                let sum = if t.beta == T::zero() { sum } else { S::mul_add(beta, S::load_first(c, n), sum) };
                let y = S::mul_add(scale, sum, bias);
                let y = if t.other.is_null() {
                    y
                } else {
                    S::add(y, S::load_first(t.other.add(i * t.c_step + j * S::COUNT), n))
                };
                S::store_first(c, S::max(floor, y), n);
            }
        }
    }
}
