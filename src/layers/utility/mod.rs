//! Layers that move, share or drop blobs.

pub mod concat;
pub mod flatten;
pub mod reshape;
pub mod silence;
pub mod slice;
pub mod split;
