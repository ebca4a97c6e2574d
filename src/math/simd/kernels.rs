//! The two kernels everything rests on: a tile of a matrix product, and the copy of windows into a panel.

use super::lanes::Lanes;
use crate::math::Real;

/// Kernels of one number type on one instruction set.
pub struct Kernels<T: 'static> {
    /// Numbers in a vector.
    pub(super) lanes: usize,
    /// `wide[i]` computes tiles of `i + 1` rows and two vectors.
    pub(super) wide: &'static [unsafe fn(&Tile<T>)],
    /// `narrow[i]` computes tiles of `i + 1` rows and one vector.
    pub(super) narrow: &'static [unsafe fn(&Tile<T>)],
    pub(super) copy: unsafe fn(&Copy<T>),
}

/// A tile of `C = A·B + beta·C + bias`: what to read and where to write.
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
    /// One number per row to add, or null.
    pub bias: *const T,
}

/// A stretch of neighbouring pixels of one panel whose windows are neighbours in the image.
#[derive(Clone, Copy, Default)]
pub(crate) struct Run {
    /// First lane of the panel.
    pub lane: usize,
    /// Lanes.
    pub len: usize,
    /// Where the window of the first pixel starts in the first channel.
    pub start: usize,
    /// Distance of channels.
    pub plane: usize,
}

/// Fills a panel with rows `rows` of the window matrix: row `c·offsets.len() + t` holds, for each lane, element
/// `start + c·plane + offsets[t] + i·step` of `image`, where lane i of its run starts there.
pub(crate) struct Copy<'a, T> {
    pub image: &'a [T],
    pub runs: &'a [Run],
    pub offsets: &'a [usize],
    pub step: usize,
    pub rows: std::ops::Range<usize>,
    pub width: usize,
    /// `rows.len() · width` numbers.
    pub panel: *mut T,
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

    /// Copies windows into a panel.
    pub(crate) fn copy(&self, copy: &Copy<T>, panel: &mut [T]) {
        let taps = copy.offsets.len();
        let reach = copy.offsets.iter().max().copied().unwrap_or(0);
        let channel = copy.rows.end.saturating_sub(1) / taps.max(1);
        assert!(panel.len() >= copy.rows.len() * copy.width);
        for run in copy.runs {
            let last = run.start + channel * run.plane + reach + (run.len - 1) * copy.step;
            assert!(run.lane + run.len <= copy.width && last < copy.image.len());
        }
        let copy = Copy { panel: panel.as_mut_ptr(), rows: copy.rows.clone(), ..*copy };
        // SAFETY: the lines above checked every access; a table is only handed out where the processor has its
        // features.
        unsafe { (self.copy)(&copy) }
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
                let left = S::splat(*a.add(i));
                for (sum, &v) in row.iter_mut().zip(&right) {
                    *sum = S::mul_add(left, v, *sum);
                }
            }
            a = a.add(MR);
            b = b.add(t.b_step);
        }
        let whole = t.columns == NV * S::COUNT;
        let zero = S::splat(T::zero());
        let beta = S::splat(t.beta);
        for (i, row) in sums.iter().enumerate() {
            let bias = if t.bias.is_null() { zero } else { S::splat(*t.bias.add(i)) };
            for (j, &sum) in row.iter().enumerate() {
                let c = t.c.add(i * t.c_step + j * S::COUNT);
                let sum = S::add(sum, bias);
                if whole {
                    let old = if t.beta == T::zero() { sum } else { S::mul_add(beta, S::load(c), sum) };
                    S::store(c, old);
                } else if t.columns > j * S::COUNT {
                    let n = (t.columns - j * S::COUNT).min(S::COUNT);
                    let old =
                        if t.beta == T::zero() { sum } else { S::mul_add(beta, S::load_first(c, n), sum) };
                    S::store_first(c, old, n);
                }
            }
        }
    }
}

/// Body of the copy kernels.
///
/// # Safety
/// Every access that `copy` describes is good; only inside a function compiled for the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn copy_rows<T: Real, S: Lanes<T>>(copy: &Copy<T>) {
    let taps = copy.offsets.len();
    let (first, begin) = (copy.rows.start / taps, copy.rows.start % taps);
    for run in copy.runs {
        let mut lane = 0;
        while lane < run.len {
            let n = (run.len - lane).min(S::COUNT);
            // SAFETY: promised by the caller.
            unsafe {
                let mut to = copy.panel.add(run.lane + lane);
                let mut from = copy.image.as_ptr().add(run.start + first * run.plane + lane * copy.step);
                let mut tap = begin;
                for _ in 0..copy.rows.len() {
                    let window = from.add(*copy.offsets.get_unchecked(tap));
                    if copy.step == 1 {
                        S::store_first(to, S::load_first(window, n), n);
                    } else {
                        for i in 0..n {
                            *to.add(i) = *window.add(i * copy.step);
                        }
                    }
                    to = to.add(copy.width);
                    tap += 1;
                    if tap == taps {
                        tap = 0;
                        from = from.wrapping_add(run.plane);
                    }
                }
            }
            lane += n;
        }
    }
}
