//! Tiles of the gradient of weights whose pixels lie side by side, for outputs that fill no whole vectors.

use super::kernels::Kernels;
use super::lanes::Lanes;
use crate::math::Real;
use std::hint::black_box;

/// Most taps of a tile, and most outputs.
pub(super) const SHIFTS: usize = 9;

/// A tile: `out += x·dy` over the pixels of some lines, a vector of sums for each pair of a tap and an output.
#[derive(Clone, Copy)]
pub(crate) struct Shifted<'a, T> {
    /// What each tap is away from a pixel's first number.
    pub taps: [usize; SHIFTS],
    /// The image, and where its lines start.
    pub image: *const T,
    pub starts: &'a [usize],
    /// Pixels of a line, whose first numbers are neighbours.
    pub line: usize,
    /// The first pixel of each output; the lines follow each other.
    pub dy: [*const T; SHIFTS],
    /// Vectors of the first tap, one for each output; then those of the next.
    pub out: *mut T,
}

/// Taps and outputs of a tile, and its kernel.
pub(super) type Table<T> = &'static [([usize; 2], unsafe fn(&Shifted<T>))];

impl<T: Real> Kernels<T> {
    /// Taps and outputs of each kind of such tiles.
    pub(crate) fn shifted_sizes(&self) -> impl Iterator<Item = [usize; 2]> {
        self.shifted.iter().map(|(size, _)| *size)
    }

    /// Adds up a tile of the kind of this index.
    ///
    /// # Safety
    /// The pointers of `tile` are good for what it describes, and nobody else writes or reads its part of `out`.
    pub(crate) unsafe fn shifted_products(&self, kind: usize, tile: &Shifted<T>) {
        // SAFETY: promised by the caller; a table is only handed out where the processor has its features.
        unsafe { (self.shifted[kind].1)(tile) }
    }
}

/// `sums += left * right`, for each of both.
#[inline(always)]
unsafe fn add<T: Real, S: Lanes<T>, const MR: usize, const NO: usize>(
    sums: &mut [[S::V; NO]; MR],
    left: impl Fn(usize) -> S::V,
    right: impl Fn(usize) -> S::V,
) {
    let right: [S::V; NO] = std::array::from_fn(right);
    for (i, sums) in sums.iter_mut().enumerate() {
        let left = left(i);
        for (sum, &v) in sums.iter_mut().zip(&right) {
            // SAFETY: promised by the caller.
            *sum = unsafe { S::mul_add(left, v, *sum) };
        }
    }
}

/// Body of the kernels: `MR` taps of `NO` outputs in registers.
///
/// # Safety
/// As [`Kernels::shifted_products`], and only inside a function compiled for the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn shifted_products<T: Real, S: Lanes<T>, const MR: usize, const NO: usize>(
    t: &Shifted<T>,
) {
    // SAFETY: promised by the caller.
    unsafe {
        let mut sums = [[S::splat(T::zero()); NO]; MR];
        let mut outputs: [*const T; NO] = std::array::from_fn(|j| t.dy[j]);
        // Through a black box, so that each stays in a register of its own.
        let taps: [usize; MR] = black_box(std::array::from_fn(|i| t.taps[i]));
        let whole = t.line / S::COUNT * S::COUNT;
        let rest = t.line - whole;
        let bits = (1u32 << rest) - 1;
        // Halves of vectors at the ends of two lines make a whole one.
        let are_halves = rest > 0 && 2 * rest == S::COUNT;
        for lines in t.starts.chunks(2) {
            let is_pair = are_halves && lines.len() == 2;
            let rows: [*const T; MR] =
                std::array::from_fn(|i| t.image.wrapping_add(lines[0]).wrapping_add(taps[i]));
            for (nth, &start) in lines.iter().enumerate() {
                let (ahead, below) = (start - lines[0], nth * t.line);
                let mut p = 0;
                while p < whole {
                    let left = |i: usize| S::load(rows[i].add(ahead + p));
                    add::<T, S, MR, NO>(&mut sums, left, |j| S::load(outputs[j].add(below + p)));
                    p += S::COUNT;
                }
                if rest > 0 && !is_pair {
                    // What lies behind a line may be no number: it is not read on either side.
                    let left = |i: usize| S::load_masked(rows[i].add(ahead + p), bits);
                    let right = |j: usize| S::load_masked(outputs[j].add(below + p), bits);
                    add::<T, S, MR, NO>(&mut sums, left, right);
                }
            }
            if is_pair {
                let ahead = lines[1] - lines[0];
                let two = |p: *const T, next: usize| S::load_halves(p.add(whole), p.add(whole + next));
                add::<T, S, MR, NO>(&mut sums, |i| two(rows[i], ahead), |j| two(outputs[j], t.line));
            }
            outputs = outputs.map(|output| output.wrapping_add(lines.len() * t.line));
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                let out = t.out.add((i * NO + j) * S::COUNT);
                S::store(out, S::add(S::load(out), sum));
            }
        }
    }
}
