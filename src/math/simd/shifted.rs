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
        let rest = (1u32 << (t.line - whole)) - 1;
        for &start in t.starts {
            let line = t.image.wrapping_add(start);
            let rows: [*const T; MR] = std::array::from_fn(|i| line.wrapping_add(taps[i]));
            let mut p = 0;
            while p < whole {
                let right: [S::V; NO] = std::array::from_fn(|j| S::load(outputs[j].add(p)));
                for (row, sums) in rows.iter().zip(&mut sums) {
                    let left = S::load(row.add(p));
                    for (sum, &v) in sums.iter_mut().zip(&right) {
                        *sum = S::mul_add(left, v, *sum);
                    }
                }
                p += S::COUNT;
            }
            if rest != 0 {
                // What lies behind a line may be no number: it is not read on either side.
                let right: [S::V; NO] = std::array::from_fn(|j| S::load_masked(outputs[j].add(p), rest));
                for (row, sums) in rows.iter().zip(&mut sums) {
                    let left = S::load_masked(row.add(p), rest);
                    for (sum, &v) in sums.iter_mut().zip(&right) {
                        *sum = S::mul_add(left, v, *sum);
                    }
                }
            }
            outputs = outputs.map(|output| output.wrapping_add(t.line));
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                let out = t.out.add((i * NO + j) * S::COUNT);
                S::store(out, S::add(S::load(out), sum));
            }
        }
    }
}
