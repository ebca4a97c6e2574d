//! Kernels of the gradients of weights by Winograd's way for images whose channels lie in blocks of a vector.

use super::kernels::{Kernel, Kernels, Next};
use super::lanes::Lanes;
use super::winograd::{SIDE, all, back};
use crate::math::Real;

/// A tile of a sum of outer products, `C = C? + Σ a·bᵀ`, whose operands are read where they lie.
pub(crate) struct Outer<T> {
    /// Products to sum.
    pub k: usize,
    /// One number per row, side by side; those of the next product are `a_step` numbers further.
    pub a: *const T,
    /// See `a`.
    pub a_step: usize,
    /// One or two vectors side by side; those of the next product are `b_step` numbers further.
    pub b: *const T,
    /// See `b`.
    pub b_step: usize,
    /// Rows of sums, `c_step` numbers apart.
    pub c: *mut T,
    /// See `c`.
    pub c_step: usize,
    /// Whether the sums are added to what is there.
    pub adds: bool,
    /// Numbers of a and of b that a later tile reads, which this one asks for: a line each for each product.
    pub next: [Next<T>; 2],
}

/// Transforms sums back, by Aᵀ·m·A, to filters of `size` × `size` numbers, which are added to those at `out`: dense ones, lane after lane.
///
/// Number p of lane i is at `data + p·step + i`, summed over `parts` which are `part_step` numbers apart.
pub(crate) struct GatherFilters<T> {
    pub data: *const T,
    pub step: usize,
    pub parts: usize,
    pub part_step: usize,
    pub size: usize,
    /// Lanes, in whole vectors.
    pub vectors: usize,
    pub out: *mut T,
}

/// `[v - 1][i]` computes tiles of `i + 1` rows and `v` vectors.
pub(super) type Table<T> = &'static [&'static [unsafe fn(&Outer<T>)]; 2];

impl<T: Real> Kernels<T> {
    /// Computes a tile of so many rows and vectors; there are as many rows at most as [`Kernels::rows`] says.
    ///
    /// # Safety
    /// The pointers of `tile` are good for what it describes, and nobody else writes or reads its part of C.
    pub(crate) unsafe fn outer(&self, rows: usize, vectors: usize, tile: &Outer<T>) {
        // SAFETY: promised by the caller; a table is only handed out where the processor has its features.
        unsafe { self.outer[vectors - 1][rows - 1](tile) }
    }

    /// Transforms sums back to filters.
    ///
    /// # Safety
    /// Every access that `gather` describes is good, and nobody else uses what it writes.
    pub(crate) unsafe fn gather_filters(&self, gather: &GatherFilters<T>) {
        // SAFETY: promised by the caller; a table is only handed out where the processor has its features.
        unsafe { self.run(gather) }
    }
}

/// Body of the kernels of tiles: `MR` rows and `NV` vectors in registers.
///
/// # Safety
/// As [`Kernels::outer`], and only inside a function compiled for the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn products<T: Real, S: Lanes<T>, const MR: usize, const NV: usize>(t: &Outer<T>) {
    // SAFETY: promised by the caller; a prefetch of any address is harmless.
    unsafe {
        for i in 0..MR {
            for j in 0..NV {
                S::prefetch(t.c.wrapping_add(i * t.c_step + j * S::COUNT));
            }
        }
        let mut sums = [[S::splat(T::zero()); NV]; MR];
        let (mut a, mut b) = (t.a, t.b);
        let (mut next_a, mut next_b) = (t.next[0].start, t.next[1].start);
        for _ in 0..t.k {
            S::prefetch_far(next_a);
            S::prefetch_far(next_b);
            next_a = next_a.wrapping_add(t.next[0].step);
            next_b = next_b.wrapping_add(t.next[1].step);
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
            a = a.wrapping_add(t.a_step);
            b = b.wrapping_add(t.b_step);
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                let c = t.c.add(i * t.c_step + j * S::COUNT);
                S::store(c, if t.adds { S::add(S::load(c), sum) } else { sum });
            }
        }
    }
}

impl<T: Real> Kernel<T> for &GatherFilters<T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) {
        // SAFETY: promised by the caller.
        unsafe {
            match self.size {
                2 => gather_size::<T, S, 2>(self),
                3 => gather_size::<T, S, 3>(self),
                4 => gather_size::<T, S, 4>(self),
                _ => gather_size::<T, S, 5>(self),
            }
        }
    }
}

/// Body of the gathering kernels for `N` × `N` numbers.
///
/// # Safety
/// As its [`run`](Kernel::run).
#[inline(always)]
unsafe fn gather_size<T: Real, S: Lanes<T>, const N: usize>(g: &GatherFilters<T>) {
    // Room for the filters of 16 lanes, and for the step of four numbers that goes past the last one.
    let mut aside = [T::zero(); 16 * 25 + 4];
    let aside = aside.as_mut_ptr();
    let to: [*mut T; 16] = std::array::from_fn(|i| aside.wrapping_add(i * N * N));
    for vector in 0..g.vectors {
        // SAFETY: promised by the caller; the room aside holds COUNT ≤ 16 lanes.
        unsafe {
            // The next vectors: there are more streams of them than the processor follows.
            for point in 0..SIDE * SIDE {
                S::prefetch(g.data.wrapping_add(point * g.step + (vector + 1) * S::COUNT));
            }
            let zero = all::<T, S>(0.0);
            let mut half = [[zero; SIDE]; N];
            for j in 0..SIDE {
                let mut column = [zero; SIDE];
                for (i, v) in column.iter_mut().enumerate() {
                    let from = g.data.wrapping_add((i * SIDE + j) * g.step + vector * S::COUNT);
                    *v = S::load(from);
                    for part in 1..g.parts {
                        *v = S::add(*v, S::load(from.wrapping_add(part * g.part_step)));
                    }
                }
                for (half, &v) in half.iter_mut().zip(&back::<T, S, N>(&column)) {
                    half[j] = v;
                }
            }
            let mut numbers = [zero; 28];
            for (i, half) in half.iter().enumerate() {
                for (j, &v) in back::<T, S, N>(half).iter().enumerate().take(N) {
                    numbers[i * N + j] = v;
                }
            }
            // Backwards, so that what a last step writes past a filter is overwritten by the first step of the next.
            let steps = (N * N).div_ceil(4);
            for i in 0..steps {
                let at = 4 * (steps - 1 - i);
                S::unturn(&[numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]], &to, at);
            }
            let out = g.out.wrapping_add(vector * S::COUNT * N * N);
            for i in 0..N * N {
                let to = out.add(i * S::COUNT);
                S::store(to, S::add(S::load(to), S::load(aside.add(i * S::COUNT))));
            }
        }
    }
}
