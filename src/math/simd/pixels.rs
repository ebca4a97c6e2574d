//! Kernels of Winograd's convolution for images whose channels lie in blocks of a vector.
//!
//! A pixel is a vector there, and so is each number of a tile: patches and tiles are transformed without moving a lane.

use super::kernels::{Kernel, Kernels};
use super::lanes::Lanes;
use super::winograd::{Place, SIDE, all, back, filter, image};
use crate::math::Real;

/// A patch of pixels of an image.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Corner {
    /// Where its first pixel is or, outside of the image, would be.
    pub at: usize,
    /// The rows and columns of it that lie in the image, from the first to the one behind the last. All other pixels are zero.
    pub rows: [u8; 2],
    /// See `rows`.
    pub columns: [u8; 2],
}

/// Transforms patches of `size` × `size` pixels: of an image (`size` 6) by Bᵀ·d·B, of the top's gradient (anything smaller) by G·g·Gᵀ.
///
/// Number p of patch i goes to `out + p·step + i·pitch`.
pub(crate) struct SpreadPixels<'a, T> {
    pub data: *const T,
    pub patches: &'a [Corner],
    pub size: usize,
    /// Numbers from a row of the image to the next.
    pub row: usize,
    pub out: *mut T,
    pub step: usize,
    pub pitch: usize,
}

/// Transforms tiles back, by Aᵀ·m·A, to `size` × `size` pixels at their places, rows `row` numbers apart: `max(scale·y + bias + other, floor)`.
///
/// Number p of tile i is at `data + p·step + i·COUNT`.
pub(crate) struct GatherPixels<'a, T> {
    pub data: *const T,
    pub step: usize,
    pub size: usize,
    pub places: &'a [Place],
    pub out: *mut T,
    pub row: usize,
    /// A vector of factors, and one of summands.
    pub scale: *const T,
    /// See `scale`.
    pub bias: *const T,
    /// Numbers to add that lie as those of `out` do, or null.
    pub other: *const T,
    pub floor: T,
}

impl<T: Real> Kernels<T> {
    /// Transforms patches of pixels.
    ///
    /// # Safety
    /// Every access that `spread` describes is good, and nobody else uses what it writes.
    pub(crate) unsafe fn spread_pixels(&self, spread: &SpreadPixels<T>) {
        // SAFETY: promised by the caller; a table is only handed out where the processor has its features.
        unsafe { self.run(spread) }
    }

    /// Transforms tiles back to pixels.
    ///
    /// # Safety
    /// As [`Kernels::spread_pixels`].
    pub(crate) unsafe fn gather_pixels(&self, gather: &GatherPixels<T>) {
        // SAFETY: promised by the caller; a table is only handed out where the processor has its features.
        unsafe { self.run(gather) }
    }
}

impl<T: Real> Kernel<T> for &SpreadPixels<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) {
        // SAFETY: promised by the caller.
        unsafe {
            match self.size {
                2 => spread_size::<T, S, 2>(self),
                3 => spread_size::<T, S, 3>(self),
                4 => spread_size::<T, S, 4>(self),
                5 => spread_size::<T, S, 5>(self),
                _ => spread_size::<T, S, 6>(self),
            }
        }
    }
}

/// Body of the spreading kernels for patches of `N` × `N`.
///
/// # Safety
/// As its [`run`](Kernel::run).
#[inline(always)]
unsafe fn spread_size<T: Real, S: Lanes<T>, const N: usize>(s: &SpreadPixels<T>) {
    for (i, patch) in s.patches.iter().enumerate() {
        let (from, out) = (s.data.wrapping_add(patch.at), s.out.wrapping_add(i * s.pitch));
        // SAFETY: promised by the caller; a prefetch of any address is harmless.
        unsafe {
            if let Some(next) = s.patches.get(i + 1) {
                // The columns that this one does not have, if they are neighbours.
                let apart = next.at.wrapping_sub(patch.at) / S::COUNT;
                let first = N.saturating_sub(apart);
                for i in 0..N {
                    let row = s.data.wrapping_add(next.at.wrapping_add(i * s.row));
                    for j in first..N {
                        S::prefetch(row.wrapping_add(j * S::COUNT));
                    }
                }
                for i in 0..SIDE {
                    let to = out.wrapping_add(s.pitch + i * SIDE * s.step);
                    for j in 0..SIDE {
                        S::prefetch(to.wrapping_add(j * s.step));
                    }
                }
            }
            if patch.rows == [0, N as u8] && patch.columns == [0, N as u8] {
                spread_corner::<T, S, N, true>(s, patch, from, out);
            } else {
                spread_corner::<T, S, N, false>(s, patch, from, out);
            }
        }
    }
}

/// One patch, of which the `WHOLE` lies in the image or a part.
#[inline(always)]
unsafe fn spread_corner<T: Real, S: Lanes<T>, const N: usize, const WHOLE: bool>(
    s: &SpreadPixels<T>,
    patch: &Corner,
    from: *const T,
    out: *mut T,
) {
    // SAFETY: as the caller; only pixels in the image are read.
    unsafe {
        let zero = S::splat(T::zero());
        let within = |[first, end]: [u8; 2], i: usize| WHOLE || (first as usize..end as usize).contains(&i);
        // Rows of the patch become columns here.
        let mut half = [[zero; SIDE]; SIDE];
        for i in 0..N {
            let mut row = [zero; SIDE];
            if within(patch.rows, i) {
                let from = from.wrapping_add(i * s.row);
                for (j, v) in row.iter_mut().enumerate().take(N) {
                    if within(patch.columns, j) {
                        *v = S::load(from.wrapping_add(j * S::COUNT));
                    }
                }
            }
            for (half, &v) in half.iter_mut().zip(&spread_line::<T, S, N>(&row)) {
                half[i] = v;
            }
        }
        for (j, half) in half.iter().enumerate() {
            for (i, &v) in spread_line::<T, S, N>(half).iter().enumerate() {
                S::store(out.wrapping_add((i * SIDE + j) * s.step), v);
            }
        }
    }
}

/// The first `N` numbers of a line at the points.
#[inline(always)]
unsafe fn spread_line<T: Real, S: Lanes<T>, const N: usize>(line: &[S::V; SIDE]) -> [S::V; SIDE] {
    // SAFETY: as the caller.
    unsafe { if N == SIDE { image::<T, S>(line) } else { filter::<T, S, N>(line) } }
}

impl<T: Real> Kernel<T> for &GatherPixels<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) {
        for (i, place) in self.places.iter().enumerate() {
            let data = self.data.wrapping_add(i * S::COUNT);
            // SAFETY: promised by the caller.
            unsafe {
                match self.size {
                    2 => gather_place::<T, S, 2>(self, data, place),
                    3 => gather_place::<T, S, 3>(self, data, place),
                    4 => gather_place::<T, S, 4>(self, data, place),
                    _ => gather_place::<T, S, 5>(self, data, place),
                }
            }
        }
    }
}

/// One tile.
#[inline(always)]
unsafe fn gather_place<T: Real, S: Lanes<T>, const N: usize>(
    g: &GatherPixels<T>,
    data: *const T,
    place: &Place,
) {
    // SAFETY: as the caller; only the place's pixels are written.
    unsafe {
        // Lines of as many rows as the tile has, which are here by the time it is transformed.
        for i in 0..N * N {
            S::prefetch(g.out.wrapping_add(place.at + i / N * g.row + i % N * S::COUNT));
        }
        let zero = all::<T, S>(0.0);
        let mut half = [[zero; SIDE]; N];
        for j in 0..SIDE {
            let mut column = [zero; SIDE];
            for (i, v) in column.iter_mut().enumerate() {
                *v = S::load(data.wrapping_add((i * SIDE + j) * g.step));
            }
            for (half, &v) in half.iter_mut().zip(&back::<T, S, N>(&column)) {
                half[j] = v;
            }
        }
        let (scale, bias, floor) = (S::load(g.scale), S::load(g.bias), S::splat(g.floor));
        for (i, half) in half.iter().enumerate() {
            let row = back::<T, S, N>(half);
            if i < place.rows as usize {
                for (j, &v) in row.iter().enumerate().take(N) {
                    if j < place.columns as usize {
                        let at = place.at + i * g.row + j * S::COUNT;
                        let y = S::mul_add(scale, v, bias);
                        let y =
                            if g.other.is_null() { y } else { S::add(y, S::load(g.other.wrapping_add(at))) };
                        S::store(g.out.wrapping_add(at), S::max(floor, y));
                    }
                }
            }
        }
    }
}
