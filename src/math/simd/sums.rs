//! What becomes of the sums of a tile.

use super::lanes::Lanes;
use crate::math::Real;

/// Where the sums of a tile go: `C = max(scale·(alpha·sums + beta·C) + bias + other, floor)`.
#[derive(Clone, Copy)]
pub(crate) struct Sums<T> {
    /// Element (i, j) of C is at `i·c_step + j`; if `turned` at `j·c_step + i`.
    pub c: *mut T,
    /// See `c`.
    pub c_step: usize,
    /// See `c`.
    pub turned: bool,
    /// Columns of C to write; the vectors of the tile may be longer.
    pub columns: usize,
    /// Factor of the sums.
    pub alpha: T,
    /// Factor of the old C; 0 ignores what is there, NaN too.
    pub beta: T,
    /// One factor per row of C, or null.
    pub scale: *const T,
    /// One number per row to add, or null.
    pub bias: *const T,
    /// Numbers to add that lie as those of C do, or null.
    pub other: *const T,
    /// The least number written: −∞ for none.
    pub floor: T,
}

impl<T: Real> Sums<T> {
    /// Sums that are written as they are, to whole rows.
    pub(crate) fn plain(c: *mut T, c_step: usize, columns: usize, beta: T) -> Self {
        let none = std::ptr::null();
        let (alpha, floor) = (T::one(), T::neg_infinity());
        Sums { c, c_step, turned: false, columns, alpha, beta, scale: none, bias: none, other: none, floor }
    }

    /// Asks for C and what is added to it, so that they are here by the time the sums are done: they lie in more rows
    /// than the processor follows by itself.
    #[inline(always)]
    pub(super) unsafe fn bring<S: Lanes<T>, const MR: usize, const NV: usize>(&self) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe {
            let line = |at: usize| {
                S::prefetch(self.c.wrapping_add(at));
                if !self.other.is_null() {
                    S::prefetch(self.other.wrapping_add(at));
                }
            };
            if self.turned {
                // What the tile before has not touched.
                for j in 0..self.columns {
                    line(j * self.c_step + MR - 1);
                }
            } else {
                for i in 0..MR {
                    for j in 0..NV {
                        line(i * self.c_step + j * S::COUNT);
                    }
                }
            }
        }
    }

    /// Writes `MR` rows of sums, `pitch` numbers apart.
    ///
    /// # Safety
    /// The pointers are good for what they describe, rows of sums hold whole vectors, and nobody else uses this part of C.
    #[inline(always)]
    pub(super) unsafe fn write<S: Lanes<T>, const MR: usize>(&self, sums: *const T, pitch: usize) {
        // SAFETY: promised by the caller.
        unsafe {
            if self.turned { self.turned::<S, MR>(sums, pitch) } else { self.straight::<S, MR>(sums, pitch) }
        }
    }

    /// What becomes of `sum` for the first `n` numbers at place `at` of C.
    #[inline(always)]
    unsafe fn vector<S: Lanes<T>>(&self, at: usize, n: usize, sum: S::V, scale: S::V, bias: S::V) {
        // SAFETY: `n` numbers are good there.
        unsafe {
            let c = self.c.add(at);
            let sum = S::mul_add(S::splat(self.alpha), sum, S::splat(T::zero()));
            let load = |p: *const T| if n == S::COUNT { S::load(p) } else { S::load_first(p, n) };
            let sum =
                if self.beta == T::zero() { sum } else { S::mul_add(S::splat(self.beta), load(c), sum) };
            let y = S::mul_add(scale, sum, bias);
            let y = if self.other.is_null() { y } else { S::add(y, load(self.other.add(at))) };
            let y = S::max(S::splat(self.floor), y);
            if n == S::COUNT { S::store(c, y) } else { S::store_first(c, y, n) }
        }
    }

    /// Factor and summand of row `i` of C.
    #[inline(always)]
    unsafe fn line<S: Lanes<T>>(&self, i: usize) -> (S::V, S::V) {
        // SAFETY: the caller's C has this row.
        unsafe {
            let of = |line: *const T, none| S::splat(if line.is_null() { none } else { *line.add(i) });
            (of(self.scale, T::one()), of(self.bias, T::zero()))
        }
    }

    #[inline(always)]
    unsafe fn straight<S: Lanes<T>, const MR: usize>(&self, sums: *const T, pitch: usize) {
        for i in 0..MR {
            // SAFETY: the caller's C has these columns, a row of sums whole vectors, scale and bias this row.
            unsafe {
                let (scale, bias) = self.line::<S>(i);
                for j in (0..self.columns).step_by(S::COUNT) {
                    let n = (self.columns - j).min(S::COUNT);
                    self.vector::<S>(i * self.c_step + j, n, S::load(sums.add(i * pitch + j)), scale, bias);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn turned<S: Lanes<T>, const MR: usize>(&self, sums: *const T, pitch: usize) {
        for first in (0..MR).step_by(S::COUNT) {
            let n = (MR - first).min(S::COUNT);
            // Rows past the last one repeat it.
            let mut rows = [sums; 16];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = sums.wrapping_add((first + i.min(n - 1)) * pitch);
            }
            for at in (0..self.columns).step_by(S::TURN) {
                // SAFETY: a row of sums holds whole vectors, of which TURN divides the length; C has what is written.
                unsafe {
                    S::turn(
                        &rows,
                        at,
                        #[inline(always)]
                        |i, column| {
                            let row = at + i;
                            if row < self.columns {
                                let (scale, bias) = self.line::<S>(row);
                                self.vector::<S>(row * self.c_step + first, n, column, scale, bias);
                            }
                        },
                    );
                }
            }
        }
    }
}
