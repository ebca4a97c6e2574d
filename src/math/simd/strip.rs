//! Tiles of a matrix product whose operands are read where they lie.

use super::kernels::Kernels;
use super::lanes::Lanes;
use crate::math::Real;
use std::hint::black_box;
use std::mem::MaybeUninit;

/// Most numbers in a row of a tile: three vectors of 16.
const WIDEST: usize = 48;

/// A tile of `C = max(scale·(alpha·A·B + beta·C) + bias + other, floor)`, where A may lie in any order and rows of B hold whole
/// vectors.
pub(crate) struct Strip<T> {
    /// Length of the sums.
    pub k: usize,
    /// Element (i, l) of A is at `i·a_row + l·a_k`.
    pub a: *const T,
    /// See `a`.
    pub a_row: usize,
    /// See `a`.
    pub a_k: usize,
    /// `k` groups of one to three whole vectors, `b_step` numbers apart.
    pub b: *const T,
    /// See `b`.
    pub b_step: usize,
    /// What to bring into the second-level cache meanwhile.
    pub soon: Soon<T>,
    /// Element (i, j) of C is at `i·c_step + j`; if `turned` at `j·c_step + i`.
    pub c: *mut T,
    /// See `c`.
    pub c_step: usize,
    /// See `c`.
    pub turned: bool,
    /// Columns of C to write; the vectors of B may be longer.
    pub columns: usize,
    /// Factor of the product.
    pub alpha: T,
    /// Factor of the old C; 0 ignores what is there, NaN too.
    pub beta: T,
    /// One factor per row of C, or null.
    pub scale: *const T,
    /// One number per row to add, or null, as `scale`.
    pub bias: *const T,
    /// Numbers to add that lie as those of C do, or null, as `scale`.
    pub other: *const T,
    /// The least number written: −∞ for none.
    pub floor: T,
}

/// Memory that will be used soon: eight rows side by side, `row` numbers apart; of one row after the other, the line
/// that is `step` eighths of a number further for each of the `k` steps.
#[derive(Clone, Copy)]
pub(crate) struct Soon<T> {
    /// Never read, so it may be any address.
    pub start: *const T,
    /// See above.
    pub row: usize,
    /// See above.
    pub step: usize,
}

/// `[v - 1][i]` computes tiles of `i + 1` rows and `v` vectors.
pub(super) type Table<T> = &'static [&'static [unsafe fn(&Strip<T>)]];

impl<T: Real> Kernels<T> {
    /// Most rows of a strip.
    pub(crate) fn strip_rows(&self) -> usize {
        self.strips[0].len()
    }

    /// Most vectors in a row of a strip.
    pub(crate) fn strip_vectors(&self) -> usize {
        self.strips.len()
    }

    /// Computes a strip of `rows` rows whose rows of B hold `vectors` vectors.
    ///
    /// # Safety
    /// The pointers of `strip` are good for what it describes, and nobody else writes or reads its part of C.
    pub(crate) unsafe fn strip(&self, rows: usize, vectors: usize, strip: &Strip<T>) {
        // SAFETY: promised by the caller; a table is only handed out where the processor has its features.
        unsafe { self.strips[vectors - 1][rows - 1](strip) }
    }
}

/// Body of the strip kernels: `MR` rows and `NV` vectors in registers.
///
/// # Safety
/// As [`Kernels::strip`], and only inside a function compiled for the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn walk<T: Real, S: Lanes<T>, const MR: usize, const NV: usize>(t: &Strip<T>) {
    // SAFETY: promised by the caller.
    unsafe {
        if !t.turned {
            // C is here by the time the sums are done.
            for i in 0..MR {
                for j in 0..NV {
                    S::prefetch(t.c.wrapping_add(i * t.c_step + j * S::COUNT));
                }
            }
        }
        let mut sums = [[S::splat(T::zero()); NV]; MR];
        // Through a black box, or the compiler would find each row from the one before: a chain longer than the
        // arithmetic of a step.
        let rows: [*const T; MR] = black_box(std::array::from_fn(|i| t.a.wrapping_add(i * t.a_row)));
        let (mut at, mut b) = (0, t.b);
        for l in 0..t.k {
            S::prefetch_far(t.soon.start.wrapping_add((l & 7) * t.soon.row + l * t.soon.step / 8));
            let mut right = [S::splat(T::zero()); NV];
            for (j, v) in right.iter_mut().enumerate() {
                *v = S::load(b.add(j * S::COUNT));
            }
            for (row, sums) in rows.iter().zip(&mut sums) {
                let left = S::splat(*row.add(at));
                for (sum, &v) in sums.iter_mut().zip(&right) {
                    *sum = S::mul_add(left, v, *sum);
                }
            }
            at += t.a_k;
            b = b.wrapping_add(t.b_step);
        }
        // Every index into `sums` must be a constant once loops are unrolled, or all of it would be written to memory in
        // each step of the loop above: so it goes through memory once, by the smallest of loops.
        let mut aside = MaybeUninit::<[[T; WIDEST]; MR]>::uninit();
        let aside = aside.as_mut_ptr().cast::<T>();
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                S::store(aside.add(i * WIDEST + j * S::COUNT), sum);
            }
        }
        if t.turned { turned::<T, S, MR>(t, aside) } else { straight::<T, S, MR>(t, aside) }
    }
}

/// What becomes of `sum` for the first `n` numbers at place `at` of C.
#[inline(always)]
unsafe fn write<T: Real, S: Lanes<T>>(t: &Strip<T>, at: usize, n: usize, sum: S::V, scale: S::V, bias: S::V) {
    // SAFETY: `n` numbers are good there.
    unsafe {
        let c = t.c.add(at);
        let sum = S::mul_add(S::splat(t.alpha), sum, S::splat(T::zero()));
        let load = |p: *const T| if n == S::COUNT { S::load(p) } else { S::load_first(p, n) };
        let sum = if t.beta == T::zero() { sum } else { S::mul_add(S::splat(t.beta), load(c), sum) };
        let y = S::mul_add(scale, sum, bias);
        let y = if t.other.is_null() { y } else { S::add(y, load(t.other.add(at))) };
        let y = S::max(S::splat(t.floor), y);
        if n == S::COUNT { S::store(c, y) } else { S::store_first(c, y, n) }
    }
}

/// Writes the sums, rows of `WIDEST` numbers.
#[inline(always)]
unsafe fn straight<T: Real, S: Lanes<T>, const MR: usize>(t: &Strip<T>, sums: *const T) {
    for i in 0..MR {
        // SAFETY: the caller's C has these columns, a row of sums whole vectors, scale and bias this row.
        unsafe {
            let scale = S::splat(if t.scale.is_null() { T::one() } else { *t.scale.add(i) });
            let bias = S::splat(if t.bias.is_null() { T::zero() } else { *t.bias.add(i) });
            for j in (0..t.columns).step_by(S::COUNT) {
                let n = (t.columns - j).min(S::COUNT);
                let sum = S::load(sums.add(i * WIDEST + j));
                write::<T, S>(t, i * t.c_step + j, n, sum, scale, bias);
            }
        }
    }
}

/// Writes the sums transposed.
#[inline(always)]
unsafe fn turned<T: Real, S: Lanes<T>, const MR: usize>(t: &Strip<T>, sums: *const T) {
    for first in (0..MR).step_by(S::COUNT) {
        let n = (MR - first).min(S::COUNT);
        // Rows past the last one repeat it.
        let mut rows = [sums; 16];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = sums.wrapping_add((first + i.min(n - 1)) * WIDEST);
        }
        for at in (0..t.columns).step_by(S::TURN) {
            // SAFETY: a row of sums holds whole vectors, of which TURN divides the length; C has what is written.
            unsafe {
                S::turn(
                    &rows,
                    at,
                    #[inline(always)]
                    |i, column| {
                        let row = at + i;
                        if row < t.columns {
                            let at = row * t.c_step + first;
                            let line =
                                |of: *const T, none| S::splat(if of.is_null() { none } else { *of.add(row) });
                            let (scale, bias) = (line(t.scale, T::one()), line(t.bias, T::zero()));
                            write::<T, S>(t, at, n, column, scale, bias);
                        }
                    },
                );
            }
        }
    }
}
