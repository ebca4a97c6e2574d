//! The number types that layers compute in.

use super::simd::{self, Isa, Kernels};
use crate::blob::Element;
use num_traits::{Float, NumAssign};
use std::iter::Sum;

/// Number type of a net: `f32` or `f64`. `T::from_f64(x)` makes constants.
pub trait Real: Element + Float + NumAssign + Sum {
    /// The kernels for `isa`, which the processor must have.
    #[doc(hidden)]
    fn kernels(isa: Isa) -> &'static Kernels<Self>;
}

impl Real for f32 {
    fn kernels(isa: Isa) -> &'static Kernels<f32> {
        simd::kernels_f32(isa)
    }
}

impl Real for f64 {
    fn kernels(isa: Isa) -> &'static Kernels<f64> {
        simd::kernels_f64(isa)
    }
}
