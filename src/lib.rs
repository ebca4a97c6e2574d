//! Cortado: Caffe reborn in Rust. Nets in prototxt, weights in `.caffemodel`, solvers, gradient checks and
//! metric learning.
//!
//! The modules are floors; each uses only what stands below it (see `docs/architecture.md`).
#![warn(missing_docs)]

pub mod blob;
pub mod cli;
pub mod data;
pub mod device;
pub mod error;
pub mod layers;
pub mod math;
pub mod net;
pub mod proto;
pub mod solver;
#[cfg(test)]
mod testing;
pub mod tools;

pub use error::{Error, Result};
