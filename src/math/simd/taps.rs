//! Tiles of the gradient of weights whose windows are read where they lie, for taps anywhere in the image.

use super::kernels::Kernels;
use super::lanes::Lanes;
use crate::math::Real;
use std::hint::black_box;

/// Most taps of a tile.
pub(crate) const TAPS: usize = 12;

/// A tile: `out += Σ x·dy` over the pixels of some lines, the taps down the rows, and some vectors of outputs.
#[derive(Clone, Copy)]
pub(crate) struct Taps<'a, T> {
    /// What each tap is away from a pixel's first number; there are as many as the [kind](Kernels::tap_kind) of tile has.
    pub taps: [usize; TAPS],
    /// The image, and where its lines start.
    pub image: *const T,
    pub starts: &'a [usize],
    /// Pixels of a line, whose first numbers are neighbours.
    pub line: usize,
    /// The first outputs of the first pixel; those of the next are `dy_step` numbers further, a pixel's next vector `dy_vector`.
    pub dy: *const T,
    pub dy_step: usize,
    pub dy_vector: usize,
    /// Outputs that a later tile reads, which this one asks for: those of a pixel with each pixel. Never read, so it may be any address.
    pub next: *const T,
    /// The first row.
    pub out: *mut T,
    pub out_step: usize,
}

/// Kinds of tiles, those of one vector of outputs first: vectors, taps, and the kernel.
pub(super) type Table<T> = &'static [([usize; 2], unsafe fn(&Taps<T>))];

/// One of these kinds.
#[derive(Clone, Copy)]
pub(crate) struct TapKind {
    nth: usize,
    pub vectors: usize,
    pub taps: usize,
}

impl<T: Real> Kernels<T> {
    /// The kind of tile for so many taps and vectors of outputs, which it takes as many of as go, or in equal parts.
    pub(crate) fn tap_kind(&self, taps: usize, vectors: usize) -> TapKind {
        let most = self.taps.iter().map(|&([vectors, _], _)| vectors).max().unwrap_or(1);
        let part = vectors.div_ceil(vectors.div_ceil(most));
        let kinds =
            self.taps.iter().enumerate().map(|(nth, &([vectors, taps], _))| TapKind { nth, vectors, taps });
        let suits = |kind: &TapKind| {
            kind.vectors == part || (kind.vectors > 1 && vectors.is_multiple_of(kind.vectors))
        };
        // Multiplications, those of taps that are not there too, and what is loaded for them.
        let cost = |kind: &TapKind| {
            let loads = 1.0 / kind.taps as f64 + 1.0 / kind.vectors as f64;
            taps.next_multiple_of(kind.taps) as f64 * (1.0 + 0.1 * loads)
        };
        let best = kinds.filter(suits).min_by(|a, b| cost(a).total_cmp(&cost(b)));
        best.unwrap_or(TapKind { nth: 0, vectors: 1, taps: self.taps[0].0[1] })
    }

    /// Adds up a tile of this kind.
    ///
    /// # Safety
    /// The pointers of `tile` are good for what it describes, and nobody else writes or reads its part of `out`.
    pub(crate) unsafe fn tap_products(&self, kind: TapKind, tile: &Taps<T>) {
        // SAFETY: promised by the caller; a table is only handed out where the processor has its features.
        unsafe { (self.taps[kind.nth].1)(tile) }
    }
}

/// Body of the kernels: `MR` taps and `NV` vectors in registers.
///
/// # Safety
/// As [`Kernels::tap_products`], and only inside a function compiled for the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn tap_products<T: Real, S: Lanes<T>, const MR: usize, const NV: usize>(t: &Taps<T>) {
    // SAFETY: promised by the caller.
    unsafe {
        for i in 0..MR * NV {
            S::prefetch(t.out.wrapping_add(i / NV * t.out_step + i % NV * S::COUNT));
        }
        let mut sums = [[S::splat(T::zero()); NV]; MR];
        let (mut dy, mut next) = (t.dy, t.next);
        for &start in t.starts {
            let line = t.image.wrapping_add(start);
            // Through a black box, so that each stays in a register of its own.
            let rows: [*const T; MR] = black_box(std::array::from_fn(|i| line.wrapping_add(t.taps[i])));
            for p in 0..t.line {
                S::prefetch_far(next);
                let mut right = [S::splat(T::zero()); NV];
                for (j, v) in right.iter_mut().enumerate() {
                    *v = S::load(dy.add(j * t.dy_vector));
                }
                for (row, sums) in rows.iter().zip(&mut sums) {
                    let left = S::splat(*row.add(p));
                    for (sum, &v) in sums.iter_mut().zip(&right) {
                        *sum = S::mul_add(left, v, *sum);
                    }
                }
                dy = dy.wrapping_add(t.dy_step);
                next = next.wrapping_add(t.dy_step);
            }
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                let out = t.out.add(i * t.out_step + j * S::COUNT);
                S::store(out, S::add(S::load(out), sum));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::simd::Isa;

    #[test]
    fn tiles_leave_few_taps_over() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let kernels = f32::kernels(isa);
            for (taps, vectors) in (1..=60).flat_map(|taps| (1..=6).map(move |vectors| (taps, vectors))) {
                let kind = kernels.tap_kind(taps, vectors);
                let alike = kernels.taps.iter().filter(|([of, _], _)| *of == kind.vectors);
                let least = alike.map(|([_, of], _)| usize::next_multiple_of(taps, *of)).min().unwrap();
                // A fifth more is what fewer loads may outweigh.
                let all = taps.next_multiple_of(kind.taps);
                assert!(
                    kind.vectors <= vectors && 5 * all <= 6 * least,
                    "{isa:?} {taps} {vectors}: {}",
                    kind.taps
                );
            }
        }
    }
}
