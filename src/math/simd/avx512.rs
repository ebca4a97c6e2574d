//! AVX-512: 32 registers of 64 bytes, and masks.

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

pub(super) struct Avx512;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn tile<T: Real, const MR: usize, const NV: usize>(t: &Tile<T>)
where
    Avx512: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `micro`; the features are enabled here.
    unsafe { micro::<T, Avx512, MR, NV>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn blocked<T: Real, const MR: usize, const NV: usize>(t: &Blocked<T>)
where
    Avx512: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `pixels`; the features are enabled here.
    unsafe { pixels::<T, Avx512, MR, NV>(t) }
}

/// Rows of a tile of outer products of pixels.
const OUTER_ROWS: usize = 8;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn outer_pixels<T: Real, const NV: usize>(t: &OuterPixels<T>)
where
    Avx512: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `pixel_products`; the features are enabled here.
    unsafe { pixel_products::<T, Avx512, OUTER_ROWS, NV>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn taps<T: Real, const MR: usize, const NV: usize>(t: &Taps<T>)
where
    Avx512: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `tap_products`; the features are enabled here.
    unsafe { tap_products::<T, Avx512, MR, NV>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn narrow<T: Real, const MR: usize, const NV: usize>(t: &Narrow<T>)
where
    Avx512: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `few_channels`; the features are enabled here.
    unsafe { few_channels::<T, Avx512, MR, NV>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn strip<T: Real, const MR: usize, const NV: usize>(t: &Strip<T>)
where
    Avx512: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `walk`; the features are enabled here.
    unsafe { walk::<T, Avx512, MR, NV>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn outer<T: Real, const MR: usize, const NV: usize>(t: &Outer<T>)
where
    Avx512: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `products`; the features are enabled here.
    unsafe { products::<T, Avx512, MR, NV>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn patches<T: Real>(p: &Patch<T>)
where
    Avx512: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `patch_rows`; the features are enabled here.
    unsafe { patch_rows::<T, Avx512, 14>(p) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn shifted<T: Real, const MR: usize, const NO: usize>(t: &Shifted<T>)
where
    Avx512: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `shifted_products`; the features are enabled here.
    unsafe { shifted_products::<T, Avx512, MR, NO>(t) }
}

/// Runs `f` compiled with the features, which the caller has checked.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn run<R>(f: impl FnOnce() -> R) -> R {
    f()
}

pub(super) struct Table<T>(std::marker::PhantomData<T>);

impl<T: Real> Table<T>
where
    Avx512: Lanes<T>,
{
    // 14 × 2 accumulators, 2 vectors of B and the broadcast number of A fill the 32 registers.
    pub(super) const KERNELS: Kernels<T> = Kernels {
        isa: Isa::Avx512,
        lanes: <Avx512 as Lanes<T>>::COUNT,
        wide: heights!(tile, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        narrow: heights!(tile, 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        blocked: [
            heights!(blocked, 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            heights!(blocked, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        ],
        strips: &[
            heights!(strip, 1: 1 2 3 4 5 6 7 8),
            heights!(strip, 2: 1 2 3 4 5 6 7 8),
            heights!(strip, 3: 1 2 3 4 5 6 7 8),
        ],
        outer_pixels: [outer_pixels::<T, 1>, outer_pixels::<T, 2>, outer_pixels::<T, 3>],
        outer_rows: OUTER_ROWS,
        few_channels: [
            heights!(narrow, 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            heights!(narrow, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        ],
        taps: &[
            ([1, 12], taps::<T, 12, 1>),
            ([2, 12], taps::<T, 12, 2>),
            // As many taps as three channels of 3 × 3 divide into.
            ([2, 9], taps::<T, 9, 2>),
            ([3, 8], taps::<T, 8, 3>),
            ([4, 6], taps::<T, 6, 4>),
        ],
        outer: &[
            heights!(outer, 1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            heights!(outer, 2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        ],
        patches: patches::<T>,
        shifted: &[([5, 5], shifted::<T, 5, 5>), ([9, 3], shifted::<T, 9, 3>)],
    };
}
