//! Floor 1: the thread pool and the devices. Nothing above this module names a device API.

mod context;
mod cuda;
mod memory;
mod pool;

pub use context::Context;
pub use cuda::{
    Arg, Batch, Bf16, Convolution, ConvolutionSizes, Cudnn, Direction, Event, FusedProduct, Gpu, Graph, Grid,
    Member, Memory, Operand, Pinned, Precision, Properties, Source, Staging, View, WORKSPACE, count,
    cublaslt_version, cudnn_version, kernels, query,
};
pub use memory::{Device, DeviceMemory, Transfers};
pub use pool::Pool;
