//! Floor 4: layers, one small file each, in rooms by family, and the table that lists them.
//!
//! `docs/adding-a-layer.md` walks through adding one.

pub mod activation;
pub mod common;
pub mod data;
pub mod loss;
pub mod metric;
pub mod normalization;
pub mod registry;
pub mod utility;
pub mod vision;

#[path = "ending_cuda.rs"]
mod ending;
mod io;
mod kernels;
mod layer;
mod setup;
mod step;

pub use io::{Backward, Forward, Inputs, Outputs, Params};
pub use kernels::kernels;
pub use layer::{DeviceCode, Feed, InBlocks, Layer, Reads, Sharing};
pub use normalization::Channels;
pub use setup::Setup;
pub use step::Step;
pub(crate) use step::Tail;
