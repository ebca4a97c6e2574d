//! AVX2 on double numbers.

use super::avx2::Avx2;
use super::lanes::Lanes;
use std::arch::x86_64::*;

impl Lanes<f64> for Avx2 {
    type V = __m256d;
    const COUNT: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f64) -> __m256d {
        // SAFETY: runs in a function with the features.
        unsafe { _mm256_set1_pd(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f64) -> __m256d {
        // SAFETY: as above; the lanes are good at `p`.
        unsafe { _mm256_loadu_pd(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f64, v: __m256d) {
        // SAFETY: as above; the lanes are good at `p`.
        unsafe { _mm256_storeu_pd(p, v) }
    }
    #[inline(always)]
    unsafe fn stream(p: *mut f64, v: __m256d) {
        // SAFETY: as above; the lanes are good at `p`, which is aligned.
        unsafe { _mm256_stream_pd(p, v) }
    }
    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: every processor with these features has it.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn add(a: __m256d, b: __m256d) -> __m256d {
        // SAFETY: as above.
        unsafe { _mm256_add_pd(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m256d, b: __m256d, c: __m256d) -> __m256d {
        // SAFETY: as above.
        unsafe { _mm256_fmadd_pd(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256d, b: __m256d) -> __m256d {
        // SAFETY: as above.
        unsafe { _mm256_max_pd(a, b) }
    }
    #[inline(always)]
    unsafe fn larger(x: __m256d, at: __m256d, best: __m256d, place: __m256d) -> (__m256d, __m256d) {
        // SAFETY: as above.
        unsafe {
            let wins =
                _mm256_or_pd(_mm256_cmp_pd::<_CMP_GT_OQ>(x, best), _mm256_cmp_pd::<_CMP_UNORD_Q>(x, x));
            (_mm256_blendv_pd(best, x, wins), _mm256_blendv_pd(place, at, wins))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, v: __m256d) {
        // SAFETY: as above; 4 bytes are good at `p`.
        unsafe {
            let v = _mm256_cvtpd_epi32(v);
            let words = _mm_packs_epi32(v, v);
            _mm_storeu_si32(p.cast(), _mm_packus_epi16(words, words));
        }
    }
    #[inline(always)]
    unsafe fn add_where(sum: __m256d, x: __m256d, p: *const u8, byte: u8) -> __m256d {
        // SAFETY: as above; 4 bytes are good at `p`.
        unsafe {
            let here = _mm_cmpeq_epi8(_mm_loadu_si32(p.cast()), _mm_set1_epi8(byte as i8));
            _mm256_add_pd(sum, _mm256_and_pd(x, _mm256_castsi256_pd(_mm256_cvtepi8_epi64(here))))
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
    unsafe fn load_first(p: *const f64, n: usize) -> __m256d {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm256_maskload_pd(p, first_64(n)) }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f64, v: __m256d, n: usize) {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm256_maskstore_pd(p, first_64(n), v) }
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f64, bits: u32) -> __m256d {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm256_maskload_pd(p, chosen_64(bits)) }
    }

    const TURN: usize = 2;
    #[inline(always)]
    unsafe fn turn(rows: &[*const f64; 16], at: usize, mut out: impl FnMut(usize, __m256d)) {
        // SAFETY: as above; two numbers are good in each row.
        unsafe {
            let pair = |i: usize| {
                let v = _mm256_castpd128_pd256(_mm_loadu_pd(rows[i].add(at)));
                _mm256_insertf128_pd::<1>(v, _mm_loadu_pd(rows[i + 2].add(at)))
            };
            let (even, odd) = (pair(0), pair(1));
            out(0, _mm256_unpacklo_pd(even, odd));
            out(1, _mm256_unpackhi_pd(even, odd));
        }
    }
}

/// Mask of the first `n` of 4 lanes.
#[inline(always)]
unsafe fn first_64(n: usize) -> __m256i {
    // SAFETY: runs in a function with the features.
    unsafe { _mm256_cmpgt_epi64(_mm256_set1_epi64x(n as i64), _mm256_setr_epi64x(0, 1, 2, 3)) }
}

/// Mask of the 4 lanes whose bits are set.
#[inline(always)]
unsafe fn chosen_64(bits: u32) -> __m256i {
    // SAFETY: runs in a function with the features.
    unsafe {
        let lanes = _mm256_setr_epi64x(1, 2, 4, 8);
        _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(i64::from(bits)), lanes), lanes)
    }
}
