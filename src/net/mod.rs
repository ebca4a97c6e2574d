//! Floor 5: nets. Built from a `NetParameter`, run forward and backward, with weights in and out.

mod build;
mod feed;
mod filter;
mod flops;
mod fuse;
mod fuse_device;
mod gate;
mod hooks;
mod in_place;
mod insert_splits;
mod keep;
mod layout;
mod lifetimes;
mod liveness;
mod params;
mod replay;
mod residence;
mod run;
#[cfg(test)]
mod tests;
pub mod weights;

pub use build::{Net, Node};
pub use filter::filter;
pub(crate) use hooks::{Adding, Hooks, Way};
pub use insert_splits::insert_splits;
pub use keep::Keep;
pub use replay::Iterations;
pub use weights::{LoadReport, Misfit, load_weights};
