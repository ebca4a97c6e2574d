//! NEON: 32 registers of 16 bytes.

use super::blocked::pixels;
use super::kernels::{Kernels, Tile, heights, micro};
use super::lanes::Lanes;
use super::lines::{blend_taps, deal_pairs, dot_taps, join_pairs, lay_lines};
use super::moves::{copy_rows, fold_rows, stream_all, turn_rows};
use super::narrow::few_channels;
use super::outer::{gather_dense, products};
use super::outer_pixels::pixel_products;
use super::patch::patch_rows;
use super::pixels::{gather_places, spread_corners};
use super::rows::{ROWS, Rows, side_by_side};
use super::shifted::shifted_products;
use super::strip::{Strip, walk};
use super::taps::tap_products;
use super::winograd::{gather_tiles, spread_patches};
use super::{
    Blend, Blocked, Copy, Dots, Fold, Gather, GatherFilters, GatherPixels, Isa, Lines, Narrow, Outer,
    OuterPixels, Patch, Shifted, Spread, SpreadPixels, Taps, Turn,
};
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
unsafe fn stream<T: Real>(from: &[T], to: &mut [T])
where
    Neon: Lanes<T>,
{
    // SAFETY: the feature is enabled here.
    unsafe { stream_all::<T, Neon>(from, to) }
}

#[target_feature(enable = "neon")]
unsafe fn fence<T: Real>()
where
    Neon: Lanes<T>,
{
    // SAFETY: the feature is enabled here.
    unsafe { Neon::fence() }
}

#[target_feature(enable = "neon")]
unsafe fn copy<T: Real>(c: &Copy<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `copy_rows`; the feature is enabled here.
    unsafe { copy_rows::<T, Neon>(c) }
}

#[target_feature(enable = "neon")]
unsafe fn turn<T: Real>(t: &Turn<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `turn_rows`; the features are enabled here.
    unsafe { turn_rows::<T, Neon>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn fold<T: Real>(t: &Fold<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `fold_rows`; the features are enabled here.
    unsafe { fold_rows::<T, Neon>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn spread<T: Real>(t: &Spread<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `spread_patches`; the features are enabled here.
    unsafe { spread_patches::<T, Neon>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn gather<T: Real>(t: &Gather<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `gather_tiles`; the features are enabled here.
    unsafe { gather_tiles::<T, Neon>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn dot_rows<T: Real>(t: &Rows<T>) -> [T; ROWS]
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `side_by_side`; the features are enabled here.
    unsafe { side_by_side::<T, Neon>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn spread_pixels<T: Real>(t: &SpreadPixels<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `spread_corners`; the features are enabled here.
    unsafe { spread_corners::<T, Neon>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn gather_pixels<T: Real>(t: &GatherPixels<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `gather_places`; the features are enabled here.
    unsafe { gather_places::<T, Neon>(t) }
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
unsafe fn gather_filters<T: Real>(t: &GatherFilters<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `gather_dense`; the features are enabled here.
    unsafe { gather_dense::<T, Neon>(t) }
}

#[target_feature(enable = "neon")]
unsafe fn blend<T: Real>(b: &Blend<T>, out: &mut [T])
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `blend_taps`; the features are enabled here.
    unsafe { blend_taps::<T, Neon>(b, out) }
}

#[target_feature(enable = "neon")]
unsafe fn dots<T: Real>(d: &Dots<T>, sums: &mut [T])
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `dot_taps`; the features are enabled here.
    unsafe { dot_taps::<T, Neon>(d, sums) }
}

#[target_feature(enable = "neon")]
unsafe fn lines<T: Real>(l: &Lines<T>, to: &mut [T])
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `lay_lines`; the features are enabled here.
    unsafe { lay_lines::<T, Neon>(l, to) }
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

#[target_feature(enable = "neon")]
unsafe fn deal<T: Real>(from: &[T], even: &mut [T], odd: &mut [T])
where
    Neon: Lanes<T>,
{
    // SAFETY: the kernel stays inside of the slices; the features are enabled here.
    unsafe { deal_pairs::<T, Neon>(from, even, odd) }
}

#[target_feature(enable = "neon")]
unsafe fn join<T: Real>(even: &[T], odd: &[T], to: &mut [T])
where
    Neon: Lanes<T>,
{
    // SAFETY: the kernel stays inside of the slices; the features are enabled here.
    unsafe { join_pairs::<T, Neon>(even, odd, to) }
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
        taps: &[(12, taps::<T, 12, 1>), (12, taps::<T, 12, 2>), (8, taps::<T, 8, 3>), (6, taps::<T, 6, 4>)],
        copy: copy::<T>,
        stream: stream::<T>,
        fence: fence::<T>,
        turn: turn::<T>,
        fold: fold::<T>,
        spread: spread::<T>,
        gather: gather::<T>,
        dot_rows: dot_rows::<T>,
        spread_pixels: spread_pixels::<T>,
        gather_pixels: gather_pixels::<T>,
        outer: &[
            heights!(outer, 1: 1 2 3 4 5 6 7 8 9 10 11 12),
            heights!(outer, 2: 1 2 3 4 5 6 7 8 9 10 11 12),
        ],
        gather_filters: gather_filters::<T>,
        blend: blend::<T>,
        dots: dots::<T>,
        lines: lines::<T>,
        deal: deal::<T>,
        join: join::<T>,
        patches: patches::<T>,
        shifted: &[([5, 5], shifted::<T, 5, 5>), ([9, 3], shifted::<T, 9, 3>)],
    };
}
