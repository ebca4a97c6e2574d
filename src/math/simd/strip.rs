//! Tiles of a matrix product whose operands are read where they lie.

use super::kernels::Kernels;
use super::lanes::Lanes;
use super::sums::Sums;
use crate::math::Real;
use std::hint::black_box;
use std::mem::MaybeUninit;

/// Most numbers in a row of a tile: three vectors of 16.
const WIDEST: usize = 48;

/// A tile of a product whose A may lie in any order and whose rows of B hold whole vectors.
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
    /// Where the sums go.
    pub sums: Sums<T>,
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
        if !t.sums.turned {
            // C is here by the time the sums are done.
            for i in 0..MR {
                for j in 0..NV {
                    S::prefetch(t.sums.c.wrapping_add(i * t.sums.c_step + j * S::COUNT));
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
        t.sums.write::<S, MR>(aside, WIDEST);
    }
}
