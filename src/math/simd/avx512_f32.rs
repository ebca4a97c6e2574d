//! AVX-512 on single numbers.

use super::avx512::Avx512;
use super::lanes::Lanes;
use std::arch::x86_64::*;

impl Lanes<f32> for Avx512 {
    type V = __m512;
    const COUNT: usize = 16;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: runs in a function with the features.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: as above; the lanes are good at `p`.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        // SAFETY: as above; the lanes are good at `p`.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn stream(p: *mut f32, v: __m512) {
        // SAFETY: as above; the lanes are good at `p`, which is aligned.
        unsafe { _mm512_stream_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: every processor with these features has it.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn larger(x: __m512, at: __m512, best: __m512, place: __m512) -> (__m512, __m512) {
        // SAFETY: as above.
        unsafe {
            let wins = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, best) | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
            (_mm512_mask_mov_ps(best, wins, x), _mm512_mask_mov_ps(place, wins, at))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, v: __m512) {
        // SAFETY: as above; 16 bytes are good at `p`.
        unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v))) }
    }
    #[inline(always)]
    unsafe fn add_where(sum: __m512, x: __m512, p: *const u8, byte: u8) -> __m512 {
        // SAFETY: as above; 16 bytes are good at `p`.
        unsafe {
            let here = _mm_cmpeq_epi8_mask(_mm_loadu_si128(p.cast()), _mm_set1_epi8(byte as i8));
            _mm512_mask_add_ps(sum, here, sum, x)
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
    unsafe fn load_first(p: *const f32, n: usize) -> __m512 {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm512_maskz_loadu_ps(((1u32 << n) - 1) as __mmask16, p) }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: __m512, n: usize) {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as __mmask16, v) }
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f32, bits: u32) -> __m512 {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm512_maskz_loadu_ps(bits as __mmask16, p) }
    }

    #[inline(always)]
    unsafe fn load_halves(p: *const f32, q: *const f32) -> __m512 {
        // SAFETY: as above; half of the lanes are good at `p` and at `q`.
        unsafe { _mm512_insertf32x8::<1>(_mm512_castps256_ps512(_mm256_loadu_ps(p)), _mm256_loadu_ps(q)) }
    }
    #[inline(always)]
    unsafe fn store_halves(p: *mut f32, q: *mut f32, v: __m512) {
        // SAFETY: as above; half of the lanes are good at `p` and at `q`.
        unsafe {
            _mm256_storeu_ps(p, _mm512_castps512_ps256(v));
            _mm256_storeu_ps(q, _mm512_extractf32x8_ps::<1>(v));
        }
    }

    const TURN: usize = 4;
    #[inline(always)]
    unsafe fn turn(rows: &[*const f32; 16], at: usize, mut out: impl FnMut(usize, __m512)) {
        // SAFETY: as above; four numbers are good in each row.
        unsafe {
            let quad = |i: usize| {
                let v = _mm512_castps128_ps512(_mm_loadu_ps(rows[i].add(at)));
                let v = _mm512_insertf32x4::<1>(v, _mm_loadu_ps(rows[i + 4].add(at)));
                let v = _mm512_insertf32x4::<2>(v, _mm_loadu_ps(rows[i + 8].add(at)));
                _mm512_insertf32x4::<3>(v, _mm_loadu_ps(rows[i + 12].add(at)))
            };
            let (r0, r1, r2, r3) = (quad(0), quad(1), quad(2), quad(3));
            let (low, low2) = (_mm512_unpacklo_ps(r0, r1), _mm512_unpacklo_ps(r2, r3));
            let (high, high2) = (_mm512_unpackhi_ps(r0, r1), _mm512_unpackhi_ps(r2, r3));
            let (low, low2) = (_mm512_castps_pd(low), _mm512_castps_pd(low2));
            let (high, high2) = (_mm512_castps_pd(high), _mm512_castps_pd(high2));
            out(0, _mm512_castpd_ps(_mm512_unpacklo_pd(low, low2)));
            out(1, _mm512_castpd_ps(_mm512_unpackhi_pd(low, low2)));
            out(2, _mm512_castpd_ps(_mm512_unpacklo_pd(high, high2)));
            out(3, _mm512_castpd_ps(_mm512_unpackhi_pd(high, high2)));
        }
    }

    const SQUARE: usize = 16;
    #[inline(always)]
    unsafe fn turn_square(rows: &[*const f32; 16], at: usize, mut out: impl FnMut(usize, __m512)) {
        // SAFETY: as above; 16 numbers are good in each row.
        unsafe {
            let mut quads = [_mm512_setzero_ps(); 16];
            for g in (0..16).step_by(4) {
                // Quarter q of quads[g + j] holds number 4q + j of rows g to g + 3.
                let row = |i: usize| _mm512_loadu_ps(rows[g + i].add(at));
                let (r0, r1, r2, r3) = (row(0), row(1), row(2), row(3));
                let (low, low2) = (_mm512_unpacklo_ps(r0, r1), _mm512_unpacklo_ps(r2, r3));
                let (high, high2) = (_mm512_unpackhi_ps(r0, r1), _mm512_unpackhi_ps(r2, r3));
                let (low, low2) = (_mm512_castps_pd(low), _mm512_castps_pd(low2));
                let (high, high2) = (_mm512_castps_pd(high), _mm512_castps_pd(high2));
                quads[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, low2));
                quads[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, low2));
                quads[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high, high2));
                quads[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high, high2));
            }
            for j in 0..4 {
                let even = _mm512_shuffle_f32x4::<0x88>(quads[j], quads[4 + j]);
                let odd = _mm512_shuffle_f32x4::<0xdd>(quads[j], quads[4 + j]);
                let even2 = _mm512_shuffle_f32x4::<0x88>(quads[8 + j], quads[12 + j]);
                let odd2 = _mm512_shuffle_f32x4::<0xdd>(quads[8 + j], quads[12 + j]);
                out(j, _mm512_shuffle_f32x4::<0x88>(even, even2));
                out(4 + j, _mm512_shuffle_f32x4::<0x88>(odd, odd2));
                out(8 + j, _mm512_shuffle_f32x4::<0xdd>(even, even2));
                out(12 + j, _mm512_shuffle_f32x4::<0xdd>(odd, odd2));
            }
        }
    }

    #[inline(always)]
    unsafe fn deal(a: __m512, b: __m512) -> (__m512, __m512) {
        // SAFETY: as above.
        unsafe {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            (_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b))
        }
    }
    #[inline(always)]
    unsafe fn join(even: __m512, odd: __m512) -> (__m512, __m512) {
        // SAFETY: as above.
        unsafe {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
            (_mm512_permutex2var_ps(even, low, odd), _mm512_permutex2var_ps(even, high, odd))
        }
    }

    #[inline(always)]
    unsafe fn unturn(v: &[__m512; 4], to: &[*mut f32; 16], offset: usize) {
        // SAFETY: as above; four numbers are good for each of the 16 lanes, as the caller promises.
        unsafe {
            let (low, low2) = (_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpacklo_ps(v[2], v[3]));
            let (high, high2) = (_mm512_unpackhi_ps(v[0], v[1]), _mm512_unpackhi_ps(v[2], v[3]));
            let (low, low2) = (_mm512_castps_pd(low), _mm512_castps_pd(low2));
            let (high, high2) = (_mm512_castps_pd(high), _mm512_castps_pd(high2));
            // Quarter q of vector i is lane 4q + i.
            let quads = [
                _mm512_unpacklo_pd(low, low2),
                _mm512_unpackhi_pd(low, low2),
                _mm512_unpacklo_pd(high, high2),
                _mm512_unpackhi_pd(high, high2),
            ];
            for (i, &quad) in quads.iter().enumerate() {
                let quad = _mm512_castpd_ps(quad);
                _mm_storeu_ps(to[i].add(offset), _mm512_castps512_ps128(quad));
                _mm_storeu_ps(to[i + 4].add(offset), _mm512_extractf32x4_ps::<1>(quad));
                _mm_storeu_ps(to[i + 8].add(offset), _mm512_extractf32x4_ps::<2>(quad));
                _mm_storeu_ps(to[i + 12].add(offset), _mm512_extractf32x4_ps::<3>(quad));
            }
        }
    }
}
