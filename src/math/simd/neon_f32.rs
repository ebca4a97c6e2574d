//! NEON on single numbers.

use super::lanes::Lanes;
use super::neon::{Neon, near, nearer};
use std::arch::aarch64::*;

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
    unsafe fn larger(
        x: float32x4_t,
        at: float32x4_t,
        best: float32x4_t,
        place: float32x4_t,
    ) -> (float32x4_t, float32x4_t) {
        // SAFETY: as above.
        unsafe {
            let wins = vorrq_u32(vcgtq_f32(x, best), vmvnq_u32(vceqq_f32(x, x)));
            (vbslq_f32(wins, x, best), vbslq_f32(wins, at, place))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, v: float32x4_t) {
        // SAFETY: as above; 4 bytes are good at `p`.
        unsafe {
            let words = vmovn_u32(vcvtq_u32_f32(v));
            let bytes = vreinterpret_u32_u8(vmovn_u16(vcombine_u16(words, words)));
            p.cast::<u32>().write_unaligned(vget_lane_u32::<0>(bytes));
        }
    }
    #[inline(always)]
    unsafe fn add_where(sum: float32x4_t, x: float32x4_t, p: *const u8, byte: u8) -> float32x4_t {
        // SAFETY: as above; 4 bytes are good at `p`.
        unsafe {
            let bytes = vreinterpret_u8_u32(vdup_n_u32(p.cast::<u32>().read_unaligned()));
            let here = vmovl_s8(vreinterpret_s8_u8(vceq_u8(bytes, vdup_n_u8(byte))));
            let here = vreinterpretq_u32_s32(vmovl_s16(vget_low_s16(here)));
            vaddq_f32(sum, vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), here)))
        }
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
    unsafe fn load_halves(p: *const f32, q: *const f32) -> float32x4_t {
        // SAFETY: as above; two numbers are good at `p` and at `q`.
        unsafe { vcombine_f32(vld1_f32(p), vld1_f32(q)) }
    }
    #[inline(always)]
    unsafe fn store_halves(p: *mut f32, q: *mut f32, v: float32x4_t) {
        // SAFETY: as above; two numbers are good at `p` and at `q`.
        unsafe {
            vst1_f32(p, vget_low_f32(v));
            vst1_f32(q, vget_high_f32(v));
        }
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
