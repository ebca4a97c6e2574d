//! Floor 1: the thread pool and the devices. Nothing above this module names a device API.

mod context;
mod cuda;
mod memory;
mod pool;

pub use context::Context;
pub use cuda::{
    Arg, Batch, Event, Gpu, Graph, Grid, Member, Memory, Pinned, Properties, Source, Staging, View, count,
    query,
};
pub use memory::{Device, DeviceMemory, Transfers};
pub use pool::Pool;
