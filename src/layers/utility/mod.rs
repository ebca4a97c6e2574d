//! Layers that move, share or drop blobs.

pub mod split;
