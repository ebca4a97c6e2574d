//! How kernels are written and run, and the one everything rests on: a tile of a matrix product.

use super::Isa;
use super::blocked;
use super::lanes::Lanes;
use super::narrow;
use super::outer;
use super::outer_pixels;
use super::patch::Patch;
use super::shifted;
use super::strip;
use super::sums::Sums;
use super::taps;
use crate::math::Real;

/// The kernels of so many vectors for tiles of each of these heights.
macro_rules! heights {
    ($kernel:ident, $vectors:literal: $($rows:literal)*) => { &[$($kernel::<T, $rows, $vectors>),*] };
}
pub(super) use heights;

/// Code that is written once, and compiled for each instruction set where it is [run](Kernels::run).
pub trait Kernel<T: Real> {
    /// What it gives.
    type Output;

    /// Runs it. Must be `#[inline(always)]`.
    ///
    /// # Safety
    /// Only inside a function compiled for the instruction set of `S`, and with what the kernel itself asks for.
    unsafe fn run<S: Lanes<T>>(self) -> Self::Output;
}

/// Kernels of one number type on one instruction set.
pub struct Kernels<T: 'static> {
    pub(super) isa: Isa,
    /// Numbers in a vector.
    pub(super) lanes: usize,
    /// `wide[i]` computes tiles of `i + 1` rows and two vectors.
    pub(super) wide: &'static [unsafe fn(&Tile<T>)],
    /// `narrow[i]` computes tiles of `i + 1` rows and one vector.
    pub(super) narrow: &'static [unsafe fn(&Tile<T>)],
    pub(super) blocked: blocked::Table<T>,
    pub(super) strips: strip::Table<T>,
    /// `outer_pixels[v - 1]` sums outer products of `outer_rows` rows and `v` vectors.
    pub(super) outer_pixels: outer_pixels::Table<T>,
    pub(super) outer_rows: usize,
    pub(super) taps: taps::Table<T>,
    pub(super) few_channels: narrow::Table<T>,
    pub(super) outer: outer::Table<T>,
    pub(super) patches: unsafe fn(&Patch<T>),
    pub(super) shifted: shifted::Table<T>,
}

/// A tile of a product of packed operands: what to read and where to write.
pub(crate) struct Tile<T> {
    /// Length of the sums.
    pub k: usize,
    /// Panel of A: `k` groups of one number per row.
    pub a: *const T,
    /// Panel of B: `k` groups of one or two whole vectors, `b_step` numbers apart.
    pub b: *const T,
    /// See `b`.
    pub b_step: usize,
    /// What a tile of two vectors brings into the second-level cache meanwhile.
    pub next: Next<T>,
    /// Where the sums go.
    pub sums: Sums<T>,
}

/// Memory that will be used soon: a line for each of the `k` steps of a tile. The address of one comes from that of the
/// line before, since more arithmetic would take the ports of the multiplications.
#[derive(Clone, Copy)]
pub(crate) struct Next<T> {
    /// Never read, so it may be any address.
    pub start: *const T,
    /// Numbers from line to line; 0 if there is nothing to ask for.
    pub step: usize,
}

impl<T> Next<T> {
    /// Nothing.
    pub(crate) const NONE: Next<T> = Next { start: std::ptr::null(), step: 0 };
}

impl<T: Real> Kernels<T> {
    /// Runs a kernel compiled for this instruction set.
    ///
    /// # Safety
    /// What the kernel asks for.
    #[inline]
    pub(crate) unsafe fn run<K: Kernel<T>>(&self, kernel: K) -> K::Output {
        // SAFETY: a table is only handed out where the processor has its features; the rest is promised by the caller.
        unsafe { T::run(self.isa, kernel) }
    }
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
    /// Bytes that stay in the second-level cache: half of one of 2 MB, as processors with AVX-512 have, or of 512 KB.
    pub(crate) fn near_bytes(&self) -> usize {
        if self.lanes * size_of::<T>() == 64 { 1 << 20 } else { 1 << 18 }
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

/// The sums of a tile, and the asking for what is next, if there is a `NEXT`.
///
/// # Safety
/// As [`micro`].
#[inline(always)]
unsafe fn multiply<T: Real, S: Lanes<T>, const MR: usize, const NV: usize, const NEXT: bool>(
    t: &Tile<T>,
) -> [[S::V; NV]; MR] {
    // SAFETY: promised by the caller.
    unsafe {
        let mut sums = [[S::splat(T::zero()); NV]; MR];
        let (mut a, mut b, mut next) = (t.a, t.b, t.next.start);
        for _ in 0..t.k {
            if NEXT {
                S::prefetch_far(next);
                next = next.wrapping_add(t.next.step);
            }
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
        sums
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
        t.sums.bring::<S, MR, NV>();
        // A narrow tile has no time to ask.
        let sums = if NV == 1 || t.next.step == 0 {
            multiply::<T, S, MR, NV, false>(t)
        } else {
            multiply::<T, S, MR, NV, true>(t)
        };
        // Every index into `sums` must be a constant once loops are unrolled, or all of it would be written to memory in
        // each step of the loop above: so what is long goes through memory once.
        let to = &t.sums;
        let plain = to.scale.is_null() && to.other.is_null() && to.floor == T::neg_infinity();
        if to.columns == NV * S::COUNT && plain && !to.turned && to.alpha == T::one() {
            let (zero, beta) = (S::splat(T::zero()), S::splat(to.beta));
            for (i, row) in sums.iter().enumerate() {
                let bias = if to.bias.is_null() { zero } else { S::splat(*to.bias.add(i)) };
                for (j, &sum) in row.iter().enumerate() {
                    let c = to.c.add(i * to.c_step + j * S::COUNT);
                    let sum = S::add(sum, bias);
                    S::store(c, if to.beta == T::zero() { sum } else { S::mul_add(beta, S::load(c), sum) });
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
        to.write::<S, MR>(room, NV * S::COUNT);
    }
}
