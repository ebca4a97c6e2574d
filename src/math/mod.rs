//! Floor 2: the arithmetic of the layers.
//!
//! Everything here runs in whatever rayon pool is current and gives the same bits for any number of threads.

mod ceiling;
mod convolution;
mod far;
pub mod filler;
mod gemm;
mod layout;
pub mod parallel;
pub mod random;
mod real;
mod scratch;
mod shared;
mod simd;
pub mod softmax;
mod team;
pub mod vector;

pub use ceiling::ceiling;
pub use convolution::{Convolution, Geometry};
pub(crate) use far::Far;
pub use filler::{fill, fill_on_device, kernels};
pub use gemm::{Ending, Transpose, gemm};
pub(crate) use layout::{Images, for_each_piece};
pub use layout::{Layout, Layouts};
pub use random::{Purpose, Stream};
pub use real::Real;
pub(crate) use scratch::scratch;
#[cfg(test)]
pub(crate) use simd::NOBODY;
pub use simd::{Isa, Kernels, vectorised};
pub(crate) use simd::{Largest, LargestBack, Series};
pub use team::awake;
