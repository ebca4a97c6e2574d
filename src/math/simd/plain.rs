//! Plain code on arrays of 16 bytes, which every compiler turns into the vectors its target has.

use super::blocked::pixels;
use super::kernels::{Kernels, Tile, micro};
use super::lanes::Lanes;
use super::narrow::few_channels;
use super::outer::products;
use super::outer_pixels::pixel_products;
use super::patch::patch_rows;
use super::shifted::shifted_products;
use super::strip::{Strip, walk};
use super::taps::tap_products;
use super::{Blocked, Isa, Narrow, Outer, OuterPixels, Patch, Shifted, Taps};
use crate::math::Real;

pub(super) struct Plain;

impl<T: Real> Lanes<T> for Plain {
    type V = [T; 4];
    const COUNT: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: T) -> [T; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const T) -> [T; 4] {
        // SAFETY: four numbers are good at `p`.
        unsafe { p.cast::<[T; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut T, v: [T; 4]) {
        // SAFETY: four numbers are good at `p`.
        unsafe { p.cast::<[T; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn add(a: [T; 4], b: [T; 4]) -> [T; 4] {
        [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]]
    }
    // Two roundings: without an FMA instruction `mul_add` would be a library call for each number.
    #[inline(always)]
    unsafe fn mul_add(a: [T; 4], b: [T; 4], c: [T; 4]) -> [T; 4] {
        [a[0] * b[0] + c[0], a[1] * b[1] + c[1], a[2] * b[2] + c[2], a[3] * b[3] + c[3]]
    }
    #[inline(always)]
    unsafe fn max(a: [T; 4], b: [T; 4]) -> [T; 4] {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
}

unsafe fn tile<T: Real, const MR: usize, const NV: usize>(t: &Tile<T>) {
    // SAFETY: the caller keeps the contract of `micro`; plain code runs everywhere.
    unsafe { micro::<T, Plain, MR, NV>(t) }
}

unsafe fn blocked<T: Real, const MR: usize, const NV: usize>(t: &Blocked<T>) {
    // SAFETY: the caller keeps the contract of `pixels`; plain code runs everywhere.
    unsafe { pixels::<T, Plain, MR, NV>(t) }
}

/// Rows of a tile of outer products of pixels.
const OUTER_ROWS: usize = 4;

unsafe fn outer_pixels<T: Real, const NV: usize>(t: &OuterPixels<T>) {
    // SAFETY: the caller keeps the contract of `pixel_products`; plain code runs everywhere.
    unsafe { pixel_products::<T, Plain, OUTER_ROWS, NV>(t) }
}

unsafe fn taps<T: Real, const MR: usize, const NV: usize>(t: &Taps<T>) {
    // SAFETY: the caller keeps the contract of `tap_products`; plain code runs everywhere.
    unsafe { tap_products::<T, Plain, MR, NV>(t) }
}

unsafe fn narrow<T: Real, const MR: usize, const NV: usize>(t: &Narrow<T>) {
    // SAFETY: the caller keeps the contract of `few_channels`; plain code runs everywhere.
    unsafe { few_channels::<T, Plain, MR, NV>(t) }
}

unsafe fn strip<T: Real, const MR: usize, const NV: usize>(t: &Strip<T>) {
    // SAFETY: the caller keeps the contract of `walk`; plain code runs everywhere.
    unsafe { walk::<T, Plain, MR, NV>(t) }
}

unsafe fn outer<T: Real, const MR: usize, const NV: usize>(t: &Outer<T>) {
    // SAFETY: the caller keeps the contract of `products`; plain code runs everywhere.
    unsafe { products::<T, Plain, MR, NV>(t) }
}

unsafe fn patches<T: Real>(p: &Patch<T>) {
    // SAFETY: the caller keeps the contract of `patch_rows`; plain code runs everywhere.
    unsafe { patch_rows::<T, Plain, 4>(p) }
}

unsafe fn shifted<T: Real, const MR: usize, const NO: usize>(t: &Shifted<T>) {
    // SAFETY: the caller keeps the contract of `shifted_products`; plain code runs everywhere.
    unsafe { shifted_products::<T, Plain, MR, NO>(t) }
}

pub(super) struct Table<T>(std::marker::PhantomData<T>);

impl<T: Real> Table<T> {
    pub(super) const KERNELS: Kernels<T> = Kernels {
        isa: Isa::Plain,
        lanes: 4,
        wide: &[tile::<T, 1, 2>, tile::<T, 2, 2>, tile::<T, 3, 2>, tile::<T, 4, 2>],
        narrow: &[tile::<T, 1, 1>, tile::<T, 2, 1>, tile::<T, 3, 1>, tile::<T, 4, 1>],
        blocked: [
            &[blocked::<T, 1, 1>, blocked::<T, 2, 1>, blocked::<T, 3, 1>, blocked::<T, 4, 1>],
            &[blocked::<T, 1, 2>, blocked::<T, 2, 2>, blocked::<T, 3, 2>, blocked::<T, 4, 2>],
        ],
        strips: &[
            &[strip::<T, 1, 1>, strip::<T, 2, 1>, strip::<T, 3, 1>, strip::<T, 4, 1>],
            &[strip::<T, 1, 2>, strip::<T, 2, 2>, strip::<T, 3, 2>, strip::<T, 4, 2>],
        ],
        outer_pixels: [outer_pixels::<T, 1>, outer_pixels::<T, 2>, outer_pixels::<T, 3>],
        outer_rows: OUTER_ROWS,
        few_channels: [
            &[narrow::<T, 1, 1>, narrow::<T, 2, 1>, narrow::<T, 3, 1>, narrow::<T, 4, 1>],
            &[narrow::<T, 1, 2>, narrow::<T, 2, 2>, narrow::<T, 3, 2>, narrow::<T, 4, 2>],
        ],
        taps: &[
            ([1, 4], taps::<T, 4, 1>),
            ([2, 2], taps::<T, 2, 2>),
            ([3, 2], taps::<T, 2, 3>),
            ([4, 2], taps::<T, 2, 4>),
        ],
        outer: &[
            &[outer::<T, 1, 1>, outer::<T, 2, 1>, outer::<T, 3, 1>, outer::<T, 4, 1>],
            &[outer::<T, 1, 2>, outer::<T, 2, 2>, outer::<T, 3, 2>, outer::<T, 4, 2>],
        ],
        patches: patches::<T>,
        shifted: &[([5, 2], shifted::<T, 5, 2>), ([3, 3], shifted::<T, 3, 3>)],
    };
}
