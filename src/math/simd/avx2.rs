//! AVX2 with FMA: 16 registers of 32 bytes.

use super::blocked::pixels;
use super::kernels::{Kernels, Tile, heights, micro};
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

pub(super) struct Avx2;

#[target_feature(enable = "avx2,fma")]
unsafe fn tile<T: Real, const MR: usize, const NV: usize>(t: &Tile<T>)
where
    Avx2: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `micro`; the features are enabled here.
    unsafe { micro::<T, Avx2, MR, NV>(t) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn blocked<T: Real, const MR: usize, const NV: usize>(t: &Blocked<T>)
where
    Avx2: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `pixels`; the features are enabled here.
    unsafe { pixels::<T, Avx2, MR, NV>(t) }
}

/// Rows of a tile of outer products of pixels.
const OUTER_ROWS: usize = 4;

#[target_feature(enable = "avx2,fma")]
unsafe fn outer_pixels<T: Real, const NV: usize>(t: &OuterPixels<T>)
where
    Avx2: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `pixel_products`; the features are enabled here.
    unsafe { pixel_products::<T, Avx2, OUTER_ROWS, NV>(t) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn taps<T: Real, const MR: usize, const NV: usize>(t: &Taps<T>)
where
    Avx2: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `tap_products`; the features are enabled here.
    unsafe { tap_products::<T, Avx2, MR, NV>(t) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn narrow<T: Real, const MR: usize, const NV: usize>(t: &Narrow<T>)
where
    Avx2: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `few_channels`; the features are enabled here.
    unsafe { few_channels::<T, Avx2, MR, NV>(t) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn strip<T: Real, const MR: usize, const NV: usize>(t: &Strip<T>)
where
    Avx2: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `walk`; the features are enabled here.
    unsafe { walk::<T, Avx2, MR, NV>(t) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn outer<T: Real, const MR: usize, const NV: usize>(t: &Outer<T>)
where
    Avx2: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `products`; the features are enabled here.
    unsafe { products::<T, Avx2, MR, NV>(t) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn patches<T: Real>(p: &Patch<T>)
where
    Avx2: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `patch_rows`; the features are enabled here.
    unsafe { patch_rows::<T, Avx2, 6>(p) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn shifted<T: Real, const MR: usize, const NO: usize>(t: &Shifted<T>)
where
    Avx2: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `shifted_products`; the features are enabled here.
    unsafe { shifted_products::<T, Avx2, MR, NO>(t) }
}

/// Runs `f` compiled with the features, which the caller has checked.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run<R>(f: impl FnOnce() -> R) -> R {
    f()
}

pub(super) struct Table<T>(std::marker::PhantomData<T>);

impl<T: Real> Table<T>
where
    Avx2: Lanes<T>,
{
    // 6 × 2 accumulators, 2 vectors of B and the broadcast number of A: 15 of the 16 registers.
    pub(super) const KERNELS: Kernels<T> = Kernels {
        isa: Isa::Avx2,
        lanes: <Avx2 as Lanes<T>>::COUNT,
        wide: heights!(tile, 2: 1 2 3 4 5 6),
        narrow: heights!(tile, 1: 1 2 3 4 5 6),
        blocked: [heights!(blocked, 1: 1 2 3 4 5 6), heights!(blocked, 2: 1 2 3 4 5 6)],
        strips: &[heights!(strip, 1: 1 2 3 4 5 6), heights!(strip, 2: 1 2 3 4 5 6)],
        outer_pixels: [outer_pixels::<T, 1>, outer_pixels::<T, 2>, outer_pixels::<T, 3>],
        outer_rows: OUTER_ROWS,
        few_channels: [heights!(narrow, 1: 1 2 3 4 5 6), heights!(narrow, 2: 1 2 3 4 5 6)],
        taps: &[([1, 8], taps::<T, 8, 1>), ([2, 6], taps::<T, 6, 2>), ([3, 3], taps::<T, 3, 3>)],
        outer: &[heights!(outer, 1: 1 2 3 4 5 6), heights!(outer, 2: 1 2 3 4 5 6)],
        patches: patches::<T>,
        shifted: &[([5, 2], shifted::<T, 5, 2>), ([3, 3], shifted::<T, 3, 3>)],
    };
}
