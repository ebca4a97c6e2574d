//! AVX2 with FMA (16 registers of 32 bytes) and AVX-512 (32 registers of 64 bytes, and masks).

use super::Copy;
use super::kernels::{Kernels, Tile, copy_rows, micro};
use super::lanes::Lanes;
use crate::math::Real;
use std::arch::x86_64::*;

pub(super) struct Avx512;
pub(super) struct Avx2;

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
    unsafe fn load_first(p: *const f32, n: usize) -> __m512 {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm512_maskz_loadu_ps(((1u32 << n) - 1) as __mmask16, p) }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: __m512, n: usize) {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as __mmask16, v) }
    }
}

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
    unsafe fn load_first(p: *const f64, n: usize) -> __m512d {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm512_maskz_loadu_pd(((1u16 << n) - 1) as __mmask8, p) }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f64, v: __m512d, n: usize) {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm512_mask_storeu_pd(p, ((1u16 << n) - 1) as __mmask8, v) }
    }
}

/// Mask of the first `n` of 8 lanes.
#[inline(always)]
unsafe fn first_32(n: usize) -> __m256i {
    // SAFETY: runs in a function with the features.
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}

/// Mask of the first `n` of 4 lanes.
#[inline(always)]
unsafe fn first_64(n: usize) -> __m256i {
    // SAFETY: runs in a function with the features.
    unsafe { _mm256_cmpgt_epi64(_mm256_set1_epi64x(n as i64), _mm256_setr_epi64x(0, 1, 2, 3)) }
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
    unsafe fn load_first(p: *const f32, n: usize) -> __m256 {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm256_maskload_ps(p, first_32(n)) }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: __m256, n: usize) {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm256_maskstore_ps(p, first_32(n), v) }
    }
}

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
    unsafe fn load_first(p: *const f64, n: usize) -> __m256d {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm256_maskload_pd(p, first_64(n)) }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f64, v: __m256d, n: usize) {
        // SAFETY: as above; masked lanes are not touched.
        unsafe { _mm256_maskstore_pd(p, first_64(n), v) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn tile_avx512<T: Real, const MR: usize, const NV: usize>(t: &Tile<T>)
where
    Avx512: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `micro`; the features are enabled here.
    unsafe { micro::<T, Avx512, MR, NV>(t) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn copy_avx512<T: Real>(c: &Copy<T>)
where
    Avx512: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `copy_rows`; the features are enabled here.
    unsafe { copy_rows::<T, Avx512>(c) }
}

/// Runs `f` compiled with the features, which the caller has checked.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn run_avx512<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile_avx2<T: Real, const MR: usize, const NV: usize>(t: &Tile<T>)
where
    Avx2: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `micro`; the features are enabled here.
    unsafe { micro::<T, Avx2, MR, NV>(t) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn copy_avx2<T: Real>(c: &Copy<T>)
where
    Avx2: Lanes<T>,
{
    // SAFETY: the caller keeps the contract of `copy_rows`; the features are enabled here.
    unsafe { copy_rows::<T, Avx2>(c) }
}

/// Runs `f` compiled with the features, which the caller has checked.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_avx2<R>(f: impl FnOnce() -> R) -> R {
    f()
}

pub(super) struct Table<T>(std::marker::PhantomData<T>);

impl<T: Real> Table<T>
where
    Avx512: Lanes<T>,
    Avx2: Lanes<T>,
{
    // 14 × 2 accumulators, 2 vectors of B and the broadcast number of A fill the 32 registers.
    pub(super) const AVX512: Kernels<T> = Kernels {
        lanes: <Avx512 as Lanes<T>>::COUNT,
        wide: &[
            tile_avx512::<T, 1, 2>,
            tile_avx512::<T, 2, 2>,
            tile_avx512::<T, 3, 2>,
            tile_avx512::<T, 4, 2>,
            tile_avx512::<T, 5, 2>,
            tile_avx512::<T, 6, 2>,
            tile_avx512::<T, 7, 2>,
            tile_avx512::<T, 8, 2>,
            tile_avx512::<T, 9, 2>,
            tile_avx512::<T, 10, 2>,
            tile_avx512::<T, 11, 2>,
            tile_avx512::<T, 12, 2>,
            tile_avx512::<T, 13, 2>,
            tile_avx512::<T, 14, 2>,
        ],
        narrow: &[
            tile_avx512::<T, 1, 1>,
            tile_avx512::<T, 2, 1>,
            tile_avx512::<T, 3, 1>,
            tile_avx512::<T, 4, 1>,
            tile_avx512::<T, 5, 1>,
            tile_avx512::<T, 6, 1>,
            tile_avx512::<T, 7, 1>,
            tile_avx512::<T, 8, 1>,
            tile_avx512::<T, 9, 1>,
            tile_avx512::<T, 10, 1>,
            tile_avx512::<T, 11, 1>,
            tile_avx512::<T, 12, 1>,
            tile_avx512::<T, 13, 1>,
            tile_avx512::<T, 14, 1>,
        ],
        copy: copy_avx512::<T>,
    };
    // 6 × 2 accumulators, 2 vectors of B and the broadcast number of A: 15 of the 16 registers.
    pub(super) const AVX2: Kernels<T> = Kernels {
        lanes: <Avx2 as Lanes<T>>::COUNT,
        wide: &[
            tile_avx2::<T, 1, 2>,
            tile_avx2::<T, 2, 2>,
            tile_avx2::<T, 3, 2>,
            tile_avx2::<T, 4, 2>,
            tile_avx2::<T, 5, 2>,
            tile_avx2::<T, 6, 2>,
        ],
        narrow: &[
            tile_avx2::<T, 1, 1>,
            tile_avx2::<T, 2, 1>,
            tile_avx2::<T, 3, 1>,
            tile_avx2::<T, 4, 1>,
            tile_avx2::<T, 5, 1>,
            tile_avx2::<T, 6, 1>,
        ],
        copy: copy_avx2::<T>,
    };
}
