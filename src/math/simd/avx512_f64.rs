//! AVX-512 on double numbers.

use super::avx512::Avx512;
use super::lanes::Lanes;
use std::arch::x86_64::*;

impl Lanes<f64> for Avx512 {
    type V = __m512d;
    const COUNT: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f64) -> __m512d {
        // SAFETY: runs in a function with the features.
        unsafe { _mm512_set1_pd(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f64) -> __m512d {
        // SAFETY: as above; the lanes are good at `p`.
        unsafe { _mm512_loadu_pd(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f64, v: __m512d) {
        // SAFETY: as above; the lanes are good at `p`.
        unsafe { _mm512_storeu_pd(p, v) }
    }
    #[inline(always)]
    unsafe fn stream(p: *mut f64, v: __m512d) {
        // SAFETY: as above; the lanes are good at `p`, which is aligned.
        unsafe { _mm512_stream_pd(p, v) }
    }
    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: every processor with these features has it.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn add(a: __m512d, b: __m512d) -> __m512d {
        // SAFETY: as above.
        unsafe { _mm512_add_pd(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512d, b: __m512d, c: __m512d) -> __m512d {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_pd(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512d, b: __m512d) -> __m512d {
        // SAFETY: as above.
        unsafe { _mm512_max_pd(a, b) }
    }
    #[inline(always)]
    unsafe fn larger(x: __m512d, at: __m512d, best: __m512d, place: __m512d) -> (__m512d, __m512d) {
        // SAFETY: as above.
        unsafe {
            let wins = _mm512_cmp_pd_mask::<_CMP_GT_OQ>(x, best) | _mm512_cmp_pd_mask::<_CMP_UNORD_Q>(x, x);
            (_mm512_mask_mov_pd(best, wins, x), _mm512_mask_mov_pd(place, wins, at))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, v: __m512d) {
        // SAFETY: as above; 8 bytes are good at `p`.
        unsafe { _mm_storel_epi64(p.cast(), _mm256_cvtepi32_epi8(_mm512_cvtpd_epi32(v))) }
    }
    #[inline(always)]
    unsafe fn add_where(sum: __m512d, x: __m512d, p: *const u8, byte: u8) -> __m512d {
        // SAFETY: as above; 8 bytes are good at `p`. The mask is cut to as many lanes.
        unsafe {
            let here = _mm_cmpeq_epi8_mask(_mm_loadl_epi64(p.cast()), _mm_set1_epi8(byte as i8));
            _mm512_mask_add_pd(sum, here as __mmask8, sum, x)
        }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const f64) {
        // SAFETY: as above; a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_far(p: *const f64) {
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f64, n: usize) -> __m512d {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm512_maskz_loadu_pd(((1u16 << n) - 1) as __mmask8, p) }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f64, v: __m512d, n: usize) {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm512_mask_storeu_pd(p, ((1u16 << n) - 1) as __mmask8, v) }
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f64, bits: u32) -> __m512d {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm512_maskz_loadu_pd(bits as __mmask8, p) }
    }

    #[inline(always)]
    unsafe fn load_halves(p: *const f64, q: *const f64) -> __m512d {
        // SAFETY: as above; half of the lanes are good at `p` and at `q`.
        unsafe { _mm512_insertf64x4::<1>(_mm512_castpd256_pd512(_mm256_loadu_pd(p)), _mm256_loadu_pd(q)) }
    }
    #[inline(always)]
    unsafe fn store_halves(p: *mut f64, q: *mut f64, v: __m512d) {
        // SAFETY: as above; half of the lanes are good at `p` and at `q`.
        unsafe {
            _mm256_storeu_pd(p, _mm512_castpd512_pd256(v));
            _mm256_storeu_pd(q, _mm512_extractf64x4_pd::<1>(v));
        }
    }

    const TURN: usize = 2;
    #[inline(always)]
    unsafe fn turn(rows: &[*const f64; 16], at: usize, mut out: impl FnMut(usize, __m512d)) {
        // SAFETY: as above; two numbers are good in each row.
        unsafe {
            let pair = |i: usize| {
                let v = _mm512_castpd128_pd512(_mm_loadu_pd(rows[i].add(at)));
                let v = _mm512_insertf64x2::<1>(v, _mm_loadu_pd(rows[i + 2].add(at)));
                let v = _mm512_insertf64x2::<2>(v, _mm_loadu_pd(rows[i + 4].add(at)));
                _mm512_insertf64x2::<3>(v, _mm_loadu_pd(rows[i + 6].add(at)))
            };
            let (even, odd) = (pair(0), pair(1));
            out(0, _mm512_unpacklo_pd(even, odd));
            out(1, _mm512_unpackhi_pd(even, odd));
        }
    }
}
