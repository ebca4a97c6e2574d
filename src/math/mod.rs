//! Floor 2: the arithmetic of the layers.

mod convolution;
pub mod filler;
mod gemm;
pub mod parallel;
pub mod random;
mod real;
mod simd;
pub mod softmax;
pub mod vector;

pub use convolution::{Convolution, Geometry};
pub use filler::fill;
pub use gemm::{Transpose, gemm};
pub use random::{Purpose, Stream};
pub use real::Real;
