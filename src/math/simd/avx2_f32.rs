//! AVX2 on single numbers.

use super::avx2::Avx2;
use super::lanes::Lanes;
use std::arch::x86_64::*;

/// Mask of the first `n` of 8 lanes.
#[inline(always)]
unsafe fn first_32(n: usize) -> __m256i {
    // SAFETY: runs in a function with the features.
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}

/// Mask of the 8 lanes whose bits are set.
#[inline(always)]
unsafe fn chosen_32(bits: u32) -> __m256i {
    // SAFETY: runs in a function with the features.
    unsafe {
        let lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits as i32), lanes), lanes)
    }
}

impl Lanes<f32> for Avx2 {
    type V = __m256;
    const COUNT: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        // SAFETY: runs in a function with the features.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        // SAFETY: as above; the lanes are good at `p`.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        // SAFETY: as above; the lanes are good at `p`.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn stream(p: *mut f32, v: __m256) {
        // SAFETY: as above; the lanes are good at `p`, which is aligned.
        unsafe { _mm256_stream_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: every processor with these features has it.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn larger(x: __m256, at: __m256, best: __m256, place: __m256) -> (__m256, __m256) {
        // SAFETY: as above.
        unsafe {
            let wins =
                _mm256_or_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(x, best), _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
            (_mm256_blendv_ps(best, x, wins), _mm256_blendv_ps(place, at, wins))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, v: __m256) {
        // SAFETY: as above; 8 bytes are good at `p`.
        unsafe {
            let v = _mm256_cvtps_epi32(v);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
            _mm_storel_epi64(p.cast(), _mm_packus_epi16(words, words));
        }
    }
    #[inline(always)]
    unsafe fn add_where(sum: __m256, x: __m256, p: *const u8, byte: u8) -> __m256 {
        // SAFETY: as above; 8 bytes are good at `p`.
        unsafe {
            let here = _mm_cmpeq_epi8(_mm_loadl_epi64(p.cast()), _mm_set1_epi8(byte as i8));
            _mm256_add_ps(sum, _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_cvtepi8_epi32(here))))
        }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const f32) {
        // SAFETY: as above; a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_far(p: *const f32) {
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> __m256 {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm256_maskload_ps(p, first_32(n)) }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: __m256, n: usize) {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm256_maskstore_ps(p, first_32(n), v) }
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f32, bits: u32) -> __m256 {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm256_maskload_ps(p, chosen_32(bits)) }
    }

    #[inline(always)]
    unsafe fn load_halves(p: *const f32, q: *const f32) -> __m256 {
        // SAFETY: as above; half of the lanes are good at `p` and at `q`.
        unsafe { _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(q)) }
    }
    #[inline(always)]
    unsafe fn store_halves(p: *mut f32, q: *mut f32, v: __m256) {
        // SAFETY: as above; half of the lanes are good at `p` and at `q`.
        unsafe {
            _mm_storeu_ps(p, _mm256_castps256_ps128(v));
            _mm_storeu_ps(q, _mm256_extractf128_ps::<1>(v));
        }
    }

    #[inline(always)]
    unsafe fn deal(a: __m256, b: __m256) -> (__m256, __m256) {
        // SAFETY: as above.
        unsafe {
            // Pairs of a and b alternate: the middle two change places.
            let order = |v| _mm256_castpd_ps(_mm256_permute4x64_pd::<0xd8>(_mm256_castps_pd(v)));
            (order(_mm256_shuffle_ps::<0x88>(a, b)), order(_mm256_shuffle_ps::<0xdd>(a, b)))
        }
    }
    #[inline(always)]
    unsafe fn join(even: __m256, odd: __m256) -> (__m256, __m256) {
        // SAFETY: as above.
        unsafe {
            let (low, high) = (_mm256_unpacklo_ps(even, odd), _mm256_unpackhi_ps(even, odd));
            (_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
        }
    }

    const TURN: usize = 4;
    #[inline(always)]
    unsafe fn turn(rows: &[*const f32; 16], at: usize, mut out: impl FnMut(usize, __m256)) {
        // SAFETY: as above; four numbers are good in each row.
        unsafe {
            let quad = |i: usize| {
                let v = _mm256_castps128_ps256(_mm_loadu_ps(rows[i].add(at)));
                _mm256_insertf128_ps::<1>(v, _mm_loadu_ps(rows[i + 4].add(at)))
            };
            let (r0, r1, r2, r3) = (quad(0), quad(1), quad(2), quad(3));
            let (low, low2) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpacklo_ps(r2, r3));
            let (high, high2) = (_mm256_unpackhi_ps(r0, r1), _mm256_unpackhi_ps(r2, r3));
            let (low, low2) = (_mm256_castps_pd(low), _mm256_castps_pd(low2));
            let (high, high2) = (_mm256_castps_pd(high), _mm256_castps_pd(high2));
            out(0, _mm256_castpd_ps(_mm256_unpacklo_pd(low, low2)));
            out(1, _mm256_castpd_ps(_mm256_unpackhi_pd(low, low2)));
            out(2, _mm256_castpd_ps(_mm256_unpacklo_pd(high, high2)));
            out(3, _mm256_castpd_ps(_mm256_unpackhi_pd(high, high2)));
        }
    }

    #[inline(always)]
    unsafe fn unturn(v: &[__m256; 4], to: &[*mut f32; 16], offset: usize) {
        // SAFETY: as above; four numbers are good for each of the 8 lanes, as the caller promises.
        unsafe {
            let (low, low2) = (_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpacklo_ps(v[2], v[3]));
            let (high, high2) = (_mm256_unpackhi_ps(v[0], v[1]), _mm256_unpackhi_ps(v[2], v[3]));
            let (low, low2) = (_mm256_castps_pd(low), _mm256_castps_pd(low2));
            let (high, high2) = (_mm256_castps_pd(high), _mm256_castps_pd(high2));
            // Half h of vector i is lane 4h + i.
            let quads = [
                _mm256_unpacklo_pd(low, low2),
                _mm256_unpackhi_pd(low, low2),
                _mm256_unpacklo_pd(high, high2),
                _mm256_unpackhi_pd(high, high2),
            ];
            for (i, &quad) in quads.iter().enumerate() {
                let quad = _mm256_castpd_ps(quad);
                _mm_storeu_ps(to[i].add(offset), _mm256_castps256_ps128(quad));
                _mm_storeu_ps(to[i + 4].add(offset), _mm256_extractf128_ps::<1>(quad));
            }
        }
    }
}
