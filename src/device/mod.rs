//! Floor 1: the thread pool and the devices. Nothing above this module names a device API.

mod context;
mod cuda;
mod memory;
mod pool;

pub use context::Context;
pub use cuda::{Arg, Batch, Gpu, Grid, Memory, Properties, Source, View, count, query};
pub use memory::{Device, DeviceMemory, Transfers};
pub use pool::Pool;
