//! The number types that layers compute in.

use super::simd::{self, Isa, Kernel, Kernels};
use crate::blob::Element;
use num_traits::{Float, NumAssign};
use std::iter::Sum;

/// Number type of a net: `f32` or `f64`. `T::from_f64(x)` makes constants.
pub trait Real: Element + Float + NumAssign + Sum {
    /// The kernels for `isa`, which the processor must have.
    #[doc(hidden)]
    fn kernels(isa: Isa) -> &'static Kernels<Self>;

    /// Runs a kernel compiled for `isa`.
    ///
    /// # Safety
    /// The processor has `isa`; what the kernel asks for.
    #[doc(hidden)]
    unsafe fn run<K: Kernel<Self>>(isa: Isa, kernel: K) -> K::Output;

    /// x^(−1/4), for normal numbers above 0 and below 1e30; loops over it become vectors.
    fn inverse_fourth_root(self) -> Self;
}

impl Real for f32 {
    fn kernels(isa: Isa) -> &'static Kernels<f32> {
        simd::kernels_f32(isa)
    }

    #[inline]
    unsafe fn run<K: Kernel<f32>>(isa: Isa, kernel: K) -> K::Output {
        // SAFETY: promised by the caller.
        unsafe { simd::run_f32(isa, kernel) }
    }

    /// Newton's way from a quarter of the logarithm that the bits are nearly: neither a root nor a division, which take as long as all of this.
    #[inline(always)]
    fn inverse_fourth_root(self) -> f32 {
        let mut root = f32::from_bits(0x4f58_cae5 - (self.to_bits() >> 2));
        for _ in 0..4 {
            let square = root * root;
            root *= 1.25 - 0.25 * self * (square * square);
        }
        root
    }
}

impl Real for f64 {
    fn kernels(isa: Isa) -> &'static Kernels<f64> {
        simd::kernels_f64(isa)
    }

    #[inline]
    unsafe fn run<K: Kernel<f64>>(isa: Isa, kernel: K) -> K::Output {
        // SAFETY: promised by the caller.
        unsafe { simd::run_f64(isa, kernel) }
    }

    #[inline(always)]
    fn inverse_fourth_root(self) -> f64 {
        1.0 / self.sqrt().sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fourth_roots_are_as_near_as_numbers_are() {
        let mut x = 1.5e-38f32;
        while x < 1e30 {
            let (want, root) = (f64::from(x).powf(-0.25), f64::from(x.inverse_fourth_root()));
            assert!((root / want - 1.0).abs() < 2e-7, "{x}: {root} instead of {want}");
            x *= 1.003;
        }
        assert_eq!(16f64.inverse_fourth_root(), 0.5);
    }
}
