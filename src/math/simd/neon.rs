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
use std::arch::asm;

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
    unsafe fn splat_of(p: *const f32, i: usize, n: usize) -> float32x4_t {
        let quad = i / 4 * 4;
        // SAFETY: as above; numbers are read of the `n` at `p` only.
        unsafe {
            match (quad + 4 <= n, i % 4) {
                (true, 0) => vdupq_laneq_f32::<0>(vld1q_f32(p.add(quad))),
                (true, 1) => vdupq_laneq_f32::<1>(vld1q_f32(p.add(quad))),
                (true, 2) => vdupq_laneq_f32::<2>(vld1q_f32(p.add(quad))),
                (true, _) => vdupq_laneq_f32::<3>(vld1q_f32(p.add(quad))),
                (false, _) => vdupq_n_f32(*p.add(i)),
            }
        }
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
    #[inline(always)]
    unsafe fn prefetch(p: *const f32) {
        nearer(p.cast());
    }
    #[inline(always)]
    unsafe fn prefetch_far(p: *const f32) {
        near(p.cast());
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> float32x4_t {
        // SAFETY: as above; `n` numbers are good at `p`, no others are touched.
        unsafe {
            let zero = vdup_n_f32(0.0);
            match n {
                0 => vcombine_f32(zero, zero),
                1 => vcombine_f32(vld1_lane_f32::<0>(p, zero), zero),
                2 => vcombine_f32(vld1_f32(p), zero),
                3 => vcombine_f32(vld1_f32(p), vld1_lane_f32::<0>(p.add(2), zero)),
                _ => vld1q_f32(p),
            }
        }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: float32x4_t, n: usize) {
        // SAFETY: as above; `n` numbers are good at `p`, no others are touched.
        unsafe {
            if n >= 4 {
                return vst1q_f32(p, v);
            }
            if n & 2 != 0 {
                vst1_f32(p, vget_low_f32(v));
            }
            match n {
                1 => vst1q_lane_f32::<0>(p, v),
                3 => vst1q_lane_f32::<2>(p.add(2), v),
                _ => {}
            }
        }
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f32, bits: u32) -> float32x4_t {
        // SAFETY: as above; the lanes of the set bits are good at `p`, no others are touched.
        unsafe {
            if bits & 15 == 15 {
                return vld1q_f32(p);
            }
            let lane = |i: usize| if bits >> i & 1 == 1 { *p.wrapping_add(i) } else { 0.0 };
            let lanes = [lane(0), lane(1), lane(2), lane(3)];
            vld1q_f32(lanes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_masked(p: *mut f32, v: float32x4_t, bits: u32) {
        // SAFETY: as above; the lanes of the set bits are good at `p`, no others are touched.
        unsafe {
            if bits & 15 == 15 {
                return vst1q_f32(p, v);
            }
            if bits & 1 != 0 {
                vst1q_lane_f32::<0>(p, v);
            }
            if bits & 2 != 0 {
                vst1q_lane_f32::<1>(p.wrapping_add(1), v);
            }
            if bits & 4 != 0 {
                vst1q_lane_f32::<2>(p.wrapping_add(2), v);
            }
            if bits & 8 != 0 {
                vst1q_lane_f32::<3>(p.wrapping_add(3), v);
            }
        }
    }
    #[inline(always)]
    unsafe fn load_halves(p: *const f32, q: *const f32) -> float32x4_t {
        // SAFETY: as above; two numbers are good at `p` and at `q`.
        unsafe { vcombine_f32(vld1_f32(p), vld1_f32(q)) }
    }

    #[inline(always)]
    unsafe fn deal(a: float32x4_t, b: float32x4_t) -> (float32x4_t, float32x4_t) {
        // SAFETY: as above.
        unsafe { (vuzp1q_f32(a, b), vuzp2q_f32(a, b)) }
    }
    #[inline(always)]
    unsafe fn join(even: float32x4_t, odd: float32x4_t) -> (float32x4_t, float32x4_t) {
        // SAFETY: as above.
        unsafe { (vzip1q_f32(even, odd), vzip2q_f32(even, odd)) }
    }

    const TURN: usize = 4;
    #[inline(always)]
    unsafe fn turn(rows: &[*const f32; 16], at: usize, mut out: impl FnMut(usize, float32x4_t)) {
        // SAFETY: as above; four numbers are good in each row.
        unsafe {
            let row = |i: usize| vld1q_f32(rows[i].add(at));
            for (i, v) in transposed([row(0), row(1), row(2), row(3)]).into_iter().enumerate() {
                out(i, v);
            }
        }
    }

    #[inline(always)]
    unsafe fn unturn(v: &[float32x4_t; 4], to: &[*mut f32; 16], offset: usize) {
        // SAFETY: as above; four numbers are good for each of the 4 lanes, as the caller promises.
        unsafe {
            for (i, v) in transposed(*v).into_iter().enumerate() {
                vst1q_f32(to[i].add(offset), v);
            }
        }
    }
}

/// Number j of vector i becomes number i of vector j.
#[inline(always)]
unsafe fn transposed(v: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: runs in a function with `neon`.
    unsafe {
        // Half h of each of these is numbers 2h or 2h + 1 of two vectors.
        let (even, odd) = (vtrn1q_f32(v[0], v[1]), vtrn2q_f32(v[0], v[1]));
        let (even2, odd2) = (vtrn1q_f32(v[2], v[3]), vtrn2q_f32(v[2], v[3]));
        let (even, odd) = (vreinterpretq_f64_f32(even), vreinterpretq_f64_f32(odd));
        let (even2, odd2) = (vreinterpretq_f64_f32(even2), vreinterpretq_f64_f32(odd2));
        [
            vreinterpretq_f32_f64(vtrn1q_f64(even, even2)),
            vreinterpretq_f32_f64(vtrn1q_f64(odd, odd2)),
            vreinterpretq_f32_f64(vtrn2q_f64(even, even2)),
            vreinterpretq_f32_f64(vtrn2q_f64(odd, odd2)),
        ]
    }
}

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
    // 12 × 2 accumulators, 2 vectors of B and 3 of A: 29 of the 32 registers. Strips of 8 × 3: 28.
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
            tile::<T, 9, 2>,
            tile::<T, 10, 2>,
            tile::<T, 11, 2>,
            tile::<T, 12, 2>,
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
            tile::<T, 9, 1>,
            tile::<T, 10, 1>,
            tile::<T, 11, 1>,
            tile::<T, 12, 1>,
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
            &[
                strip::<T, 1, 3>,
                strip::<T, 2, 3>,
                strip::<T, 3, 3>,
                strip::<T, 4, 3>,
                strip::<T, 5, 3>,
                strip::<T, 6, 3>,
                strip::<T, 7, 3>,
                strip::<T, 8, 3>,
            ],
        ],
        copy: copy::<T>,
        stream: stream::<T>,
        fence: fence::<T>,
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
