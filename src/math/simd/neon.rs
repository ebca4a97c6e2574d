//! NEON: 32 registers of 16 bytes.

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
use std::arch::aarch64::*;
use std::arch::asm;

pub(super) struct Neon;

/// Brings the line at `p` into the first-level cache.
#[inline(always)]
pub(super) fn nearer(p: *const u8) {
    // SAFETY: a prefetch takes any address and never faults.
    unsafe { asm!("prfm pldl1keep, [{p}]", p = in(reg) p, options(readonly, nostack, preserves_flags)) }
}

/// Brings the line at `p` into the second-level cache.
#[inline(always)]
pub(super) fn near(p: *const u8) {
    // SAFETY: as above.
    unsafe { asm!("prfm pldl2keep, [{p}]", p = in(reg) p, options(readonly, nostack, preserves_flags)) }
}

#[target_feature(enable = "neon")]
unsafe fn tile<T: Real, const MR: usize, const NV: usize>(t: &Tile<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `micro`; the feature is enabled here.
    unsafe { micro::<T, Neon, MR, NV>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn blocked<T: Real, const MR: usize, const NV: usize>(t: &Blocked<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `pixels`; the feature is enabled here.
    unsafe { pixels::<T, Neon, MR, NV>(t) }
}

/// Rows of a tile of outer products of pixels.
const OUTER_ROWS: usize = 4;

#[target_feature(enable = "neon")]
unsafe fn outer_pixels<T: Real, const NV: usize>(t: &OuterPixels<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `pixel_products`; the feature is enabled here.
    unsafe { pixel_products::<T, Neon, OUTER_ROWS, NV>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn taps<T: Real, const MR: usize, const NV: usize>(t: &Taps<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `tap_products`; the feature is enabled here.
    unsafe { tap_products::<T, Neon, MR, NV>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn narrow<T: Real, const MR: usize, const NV: usize>(t: &Narrow<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `few_channels`; the feature is enabled here.
    unsafe { few_channels::<T, Neon, MR, NV>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn strip<T: Real, const MR: usize, const NV: usize>(t: &Strip<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `walk`; the features are enabled here.
    unsafe { walk::<T, Neon, MR, NV>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn outer<T: Real, const MR: usize, const NV: usize>(t: &Outer<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `products`; the features are enabled here.
    unsafe { products::<T, Neon, MR, NV>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn patches<T: Real>(p: &Patch<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `patch_rows`; the features are enabled here.
    unsafe { patch_rows::<T, Neon, 12>(p) }
}

#[target_feature(enable = "neon")]
unsafe fn shifted<T: Real, const MR: usize, const NO: usize>(t: &Shifted<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `shifted_products`; the features are enabled here.
    unsafe { shifted_products::<T, Neon, MR, NO>(t) }
}

pub(super) struct Table<T>(std::marker::PhantomData<T>);

impl<T: Real> Table<T>
where
    Neon: Lanes<T>,
{
    // 12 × 2 accumulators, 2 vectors of B and 3 of A: 29 of the 32 registers. Strips of 8 × 3: 28.
    pub(super) const KERNELS: Kernels<T> = Kernels {
        isa: Isa::Neon,
        lanes: <Neon as Lanes<T>>::COUNT,
        wide: heights!(tile, 2: 1 2 3 4 5 6 7 8 9 10 11 12),
        narrow: heights!(tile, 1: 1 2 3 4 5 6 7 8 9 10 11 12),
        blocked: [
            heights!(blocked, 1: 1 2 3 4 5 6 7 8 9 10 11 12),
            heights!(blocked, 2: 1 2 3 4 5 6 7 8 9 10 11 12),
        ],
        strips: &[
            heights!(strip, 1: 1 2 3 4 5 6 7 8),
            heights!(strip, 2: 1 2 3 4 5 6 7 8),
            heights!(strip, 3: 1 2 3 4 5 6 7 8),
        ],
        outer_pixels: [outer_pixels::<T, 1>, outer_pixels::<T, 2>, outer_pixels::<T, 3>],
        outer_rows: OUTER_ROWS,
        few_channels: [
            heights!(narrow, 1: 1 2 3 4 5 6 7 8 9 10 11 12),
            heights!(narrow, 2: 1 2 3 4 5 6 7 8 9 10 11 12),
        ],
        taps: &[
            ([1, 12], taps::<T, 12, 1>),
            ([2, 12], taps::<T, 12, 2>),
            ([3, 8], taps::<T, 8, 3>),
            ([4, 6], taps::<T, 6, 4>),
        ],
        outer: &[
            heights!(outer, 1: 1 2 3 4 5 6 7 8 9 10 11 12),
            heights!(outer, 2: 1 2 3 4 5 6 7 8 9 10 11 12),
        ],
        patches: patches::<T>,
        shifted: &[([5, 5], shifted::<T, 5, 5>), ([9, 3], shifted::<T, 9, 3>)],
    };
}
