//! NVIDIA GPUs: the driver, NVRTC, cuBLAS, cuBLASLt and cuDNN, all found at run time. The only place that names CUDA.
//!
//! A [`Gpu`] is a device with a stream of its own on which everything happens in order. Kernels are CUDA C++ text beside the
//! layers that launch them ([`Source`]); they are compiled for the device and the number type when first launched, and kept.

mod blas;
mod cache;
mod dnn;
mod event;
mod factor;
mod gpu;
mod graph;
mod launch;
mod libraries;
mod lt;
mod memory;
mod module;
mod nccl;
mod precision;
mod query;
mod staging;
mod workspace;

pub use blas::Batch;
pub use dnn::{Convolution, ConvolutionSizes, Cudnn, Direction, cudnn_version};
pub use event::Event;
pub use gpu::Gpu;
pub use graph::Graph;
pub use launch::{Arg, Grid};
pub use lt::{FusedProduct, cublaslt_version};
pub use memory::{Memory, View};
pub use module::Source;
pub use nccl::Member;
pub use precision::{Bf16, Operand, Precision};
pub use query::{Properties, count, query};
pub use staging::{Pinned, Staging};
pub use workspace::WORKSPACE;

use crate::error::{Error, Kind};
use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;

/// The kernels of no layer, for tests that compile every one of them.
pub fn kernels() -> Vec<&'static Source> {
    vec![&precision::KERNELS]
}

/// What the driver answered, in words. `doing` completes "the GPU cannot ...".
fn driver_error(doing: &str, error: DriverError) -> Error {
    let code = format!("{:?}", error.0);
    let text = error.error_string().ok().and_then(|s| s.to_str().ok()).unwrap_or_default();
    let found = if text.is_empty() || text == code { code } else { format!("{code}: {text}") };
    let report = Error::new(Kind::Device, format!("the GPU cannot {doing}")).found(found);
    match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            report.suggest("a smaller batch_size, a smaller net, or another GPU: this one's memory is full")
        }
        CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION | CUresult::CUDA_ERROR_INVALID_PTX => {
            report.suggest("the driver is older than the libnvrtc that was found: update the driver, or use an older libnvrtc")
        }
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS | CUresult::CUDA_ERROR_LAUNCH_FAILED => {
            report.suggest("a kernel went wrong; this is a mistake of Cortado, please report it")
        }
        _ => report,
    }
}
