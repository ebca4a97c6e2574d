//! NEON: 32 registers of 16 bytes.

use super::kernels::{Kernels, Tile, micro};
use super::lanes::Lanes;
use super::lines::{blend_taps, deal_pairs, dot_taps, join_pairs, lay_lines};
use super::moves::{copy_rows, fold_rows, stream_all, turn_rows};
use super::patch::{correlate_taps, patch_rows};
use super::strip::{Strip, walk};
use super::winograd::{gather_tiles, spread_patches};
use super::{Blend, Copy, Correlate, Dots, Fold, Gather, Lines, Patch, Spread, Turn};
use crate::math::Real;
use std::arch::aarch64::*;

pub(super) struct Neon;

impl Lanes<f32> for Neon {
    type V = float32x4_t;
    const COUNT: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> float32x4_t {
        // SAFETY: runs in a function with `neon`.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> float32x4_t {
        // SAFETY: as above; the lanes are good at `p`.
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: float32x4_t) {
        // SAFETY: as above; the lanes are good at `p`.
        unsafe { vst1q_f32(p, v) }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: as above.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: as above.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: as above.
        unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
    }
}

impl Lanes<f64> for Neon {
    type V = float64x2_t;
    const COUNT: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f64) -> float64x2_t {
        // SAFETY: runs in a function with `neon`.
        unsafe { vdupq_n_f64(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f64) -> float64x2_t {
        // SAFETY: as above; the lanes are good at `p`.
        unsafe { vld1q_f64(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f64, v: float64x2_t) {
        // SAFETY: as above; the lanes are good at `p`.
        unsafe { vst1q_f64(p, v) }
    }
    #[inline(always)]
    unsafe fn add(a: float64x2_t, b: float64x2_t) -> float64x2_t {
        // SAFETY: as above.
        unsafe { vaddq_f64(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: float64x2_t, b: float64x2_t, c: float64x2_t) -> float64x2_t {
        // SAFETY: as above.
        unsafe { vfmaq_f64(c, a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: float64x2_t, b: float64x2_t) -> float64x2_t {
        // SAFETY: as above.
        unsafe { vbslq_f64(vcgtq_f64(a, b), a, b) }
    }
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

unsafe fn fence() {}

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
    unsafe { patch_rows::<T, Neon, 8>(p) }
}

#[target_feature(enable = "neon")]
unsafe fn correlate<T: Real>(c: &Correlate<T>)
where
    Neon: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `correlate_taps`; the features are enabled here.
    unsafe { correlate_taps::<T, Neon, 4, 2>(c) }
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
    pub(super) const KERNELS: Kernels<T> = Kernels {
        lanes: <Neon as Lanes<T>>::COUNT,
        wide: &[
            tile::<T, 1, 2>,
            tile::<T, 2, 2>,
            tile::<T, 3, 2>,
            tile::<T, 4, 2>,
            tile::<T, 5, 2>,
            tile::<T, 6, 2>,
            tile::<T, 7, 2>,
            tile::<T, 8, 2>,
        ],
        narrow: &[
            tile::<T, 1, 1>,
            tile::<T, 2, 1>,
            tile::<T, 3, 1>,
            tile::<T, 4, 1>,
            tile::<T, 5, 1>,
            tile::<T, 6, 1>,
            tile::<T, 7, 1>,
            tile::<T, 8, 1>,
        ],
        strips: &[
            &[
                strip::<T, 1, 1>,
                strip::<T, 2, 1>,
                strip::<T, 3, 1>,
                strip::<T, 4, 1>,
                strip::<T, 5, 1>,
                strip::<T, 6, 1>,
                strip::<T, 7, 1>,
                strip::<T, 8, 1>,
            ],
            &[
                strip::<T, 1, 2>,
                strip::<T, 2, 2>,
                strip::<T, 3, 2>,
                strip::<T, 4, 2>,
                strip::<T, 5, 2>,
                strip::<T, 6, 2>,
                strip::<T, 7, 2>,
                strip::<T, 8, 2>,
            ],
        ],
        copy: copy::<T>,
        stream: stream::<T>,
        fence,
        turn: turn::<T>,
        fold: fold::<T>,
        spread: spread::<T>,
        gather: gather::<T>,
        blend: blend::<T>,
        dots: dots::<T>,
        lines: lines::<T>,
        deal: deal::<T>,
        join: join::<T>,
        patches: patches::<T>,
        correlate: correlate::<T>,
        tap_rows: [4, 2],
    };
}
