//! NEON on double numbers.

use super::lanes::Lanes;
use super::neon::{Neon, near, nearer};
use std::arch::aarch64::*;

impl Lanes<f64> for Neon {
    type V = float64x2_t;
    const COUNT: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f64) -> float64x2_t {
        // SAFETY: runs in a function with `neon`.
        unsafe { vdupq_n_f64(x) }
    }
    #[inline(always)]
    unsafe fn splat_of(p: *const f64, i: usize, n: usize) -> float64x2_t {
        let pair = i / 2 * 2;
        // SAFETY: as above; numbers are read of the `n` at `p` only.
        unsafe {
            match (pair + 2 <= n, i % 2) {
                (true, 0) => vdupq_laneq_f64::<0>(vld1q_f64(p.add(pair))),
                (true, _) => vdupq_laneq_f64::<1>(vld1q_f64(p.add(pair))),
                (false, _) => vdupq_n_f64(*p.add(i)),
            }
        }
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
    #[inline(always)]
    unsafe fn larger(
        x: float64x2_t,
        at: float64x2_t,
        best: float64x2_t,
        place: float64x2_t,
    ) -> (float64x2_t, float64x2_t) {
        // SAFETY: as above.
        unsafe {
            let equal = vreinterpretq_u32_u64(vceqq_f64(x, x));
            let wins = vorrq_u64(vcgtq_f64(x, best), vreinterpretq_u64_u32(vmvnq_u32(equal)));
            (vbslq_f64(wins, x, best), vbslq_f64(wins, at, place))
        }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const f64) {
        nearer(p.cast());
    }
    #[inline(always)]
    unsafe fn prefetch_far(p: *const f64) {
        near(p.cast());
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f64, n: usize) -> float64x2_t {
        // SAFETY: as above; `n` numbers are good at `p`, no others are touched.
        unsafe {
            match n {
                0 => vdupq_n_f64(0.0),
                1 => vld1q_lane_f64::<0>(p, vdupq_n_f64(0.0)),
                _ => vld1q_f64(p),
            }
        }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f64, v: float64x2_t, n: usize) {
        // SAFETY: as above; `n` numbers are good at `p`, no others are touched.
        unsafe {
            match n {
                0 => {}
                1 => vst1q_lane_f64::<0>(p, v),
                _ => vst1q_f64(p, v),
            }
        }
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f64, bits: u32) -> float64x2_t {
        // SAFETY: as above; the lanes of the set bits are good at `p`, no others are touched.
        unsafe {
            let zero = vdupq_n_f64(0.0);
            match bits & 3 {
                0 => zero,
                1 => vld1q_lane_f64::<0>(p, zero),
                2 => vld1q_lane_f64::<1>(p.wrapping_add(1), zero),
                _ => vld1q_f64(p),
            }
        }
    }
    #[inline(always)]
    unsafe fn load_halves(p: *const f64, q: *const f64) -> float64x2_t {
        // SAFETY: as above; a number is good at `p` and at `q`.
        unsafe { vcombine_f64(vld1_f64(p), vld1_f64(q)) }
    }
    #[inline(always)]
    unsafe fn store_halves(p: *mut f64, q: *mut f64, v: float64x2_t) {
        // SAFETY: as above; a number is good at `p` and at `q`.
        unsafe {
            vst1_f64(p, vget_low_f64(v));
            vst1_f64(q, vget_high_f64(v));
        }
    }

    #[inline(always)]
    unsafe fn deal(a: float64x2_t, b: float64x2_t) -> (float64x2_t, float64x2_t) {
        // SAFETY: as above.
        unsafe { (vuzp1q_f64(a, b), vuzp2q_f64(a, b)) }
    }
    #[inline(always)]
    unsafe fn join(even: float64x2_t, odd: float64x2_t) -> (float64x2_t, float64x2_t) {
        // SAFETY: as above.
        unsafe { (vzip1q_f64(even, odd), vzip2q_f64(even, odd)) }
    }

    const TURN: usize = 2;
    #[inline(always)]
    unsafe fn turn(rows: &[*const f64; 16], at: usize, mut out: impl FnMut(usize, float64x2_t)) {
        // SAFETY: as above; two numbers are good in each row.
        unsafe {
            let (a, b) = (vld1q_f64(rows[0].add(at)), vld1q_f64(rows[1].add(at)));
            out(0, vzip1q_f64(a, b));
            out(1, vzip2q_f64(a, b));
        }
    }

    #[inline(always)]
    unsafe fn unturn(v: &[float64x2_t; 4], to: &[*mut f64; 16], offset: usize) {
        // SAFETY: as above; four numbers are good for each of the 2 lanes, as the caller promises.
        unsafe {
            for i in [0, 2] {
                vst1q_f64(to[0].add(offset + i), vzip1q_f64(v[i], v[i + 1]));
                vst1q_f64(to[1].add(offset + i), vzip2q_f64(v[i], v[i + 1]));
            }
        }
    }
}
