//! Tiles of a sum of outer products over the pixels of images whose channels lie in blocks.

use super::kernels::Kernels;
use super::lanes::Lanes;
use crate::math::Real;

/// A tile: `c (+)= Σ a·b` over pixels, a being some channels of one blob, down the rows, and b some vectors of channels of another.
#[derive(Clone, Copy)]
pub(crate) struct OuterPixels<T> {
    /// Images to sum over, and pixels of each.
    pub images: usize,
    /// See `images`.
    pub pixels: usize,
    /// The first pixel of the first row's channel; those behind it are a vector apart.
    pub a: *const T,
    /// Numbers from block to block of channels, where rows reach into the next one.
    pub a_step: usize,
    /// Numbers from image to image.
    pub a_image: usize,
    /// The first pixel of the first vector; those behind it follow vector by vector.
    pub b: *const T,
    /// Numbers from one vector to the next.
    pub b_step: usize,
    /// Numbers from image to image.
    pub b_image: usize,
    /// What a later tile reads, which this one asks for: a line for each pixel of an image. Never read, so it may be any address.
    pub next: *const T,
    /// The first row.
    pub c: *mut T,
    /// Numbers from row to row.
    pub c_step: usize,
    /// Whether to add to what `c` holds.
    pub adds: bool,
}

/// `[v - 1]` computes tiles of `v` vectors.
pub(super) type Table<T> = [unsafe fn(&OuterPixels<T>); 3];

impl<T: Real> Kernels<T> {
    /// Rows of a tile of outer products.
    pub(crate) fn outer_rows(&self) -> usize {
        self.outer_rows
    }

    /// Most vectors of such a tile.
    pub(crate) fn outer_vectors(&self) -> usize {
        self.outer_pixels.len()
    }

    /// Sums outer products of so many vectors.
    ///
    /// # Safety
    /// The pointers of `tile` are good for what it describes, and nobody else writes or reads its part of c.
    pub(crate) unsafe fn outer_pixels(&self, vectors: usize, tile: &OuterPixels<T>) {
        // SAFETY: promised by the caller; a table is only handed out where the processor has its features.
        unsafe { self.outer_pixels[vectors - 1](tile) }
    }
}

/// Body of the kernels: `MR` rows and `NV` vectors in registers.
///
/// # Safety
/// As [`Kernels::outer_pixels`], and only inside a function compiled for the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn pixel_products<T: Real, S: Lanes<T>, const MR: usize, const NV: usize>(
    t: &OuterPixels<T>,
) {
    // SAFETY: promised by the caller; a prefetch of any address is harmless.
    unsafe {
        for i in 0..MR * NV {
            S::prefetch(t.c.wrapping_add(i / NV * t.c_step + i % NV * S::COUNT));
        }
        let mut sums = [[S::splat(T::zero()); NV]; MR];
        for image in 0..t.images {
            let (mut a, mut b) = (t.a.wrapping_add(image * t.a_image), t.b.wrapping_add(image * t.b_image));
            let mut next = t.next.wrapping_add(image * t.b_image);
            for _ in 0..t.pixels {
                S::prefetch_far(next);
                let mut right = [S::splat(T::zero()); NV];
                for (j, v) in right.iter_mut().enumerate() {
                    *v = S::load(b.wrapping_add(j * t.b_step));
                }
                for (i, row) in sums.iter_mut().enumerate() {
                    let left = S::splat(*a.wrapping_add(i / S::COUNT * t.a_step + i % S::COUNT));
                    for (sum, &v) in row.iter_mut().zip(&right) {
                        *sum = S::mul_add(left, v, *sum);
                    }
                }
                a = a.wrapping_add(S::COUNT);
                b = b.wrapping_add(S::COUNT);
                next = next.wrapping_add(S::COUNT);
            }
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                let c = t.c.add(i * t.c_step + j * S::COUNT);
                S::store(c, if t.adds { S::add(S::load(c), sum) } else { sum });
            }
        }
    }
}
