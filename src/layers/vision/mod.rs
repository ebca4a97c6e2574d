//! Layers on images: convolution, pooling, local normalisation.

pub mod convolution;
pub mod lrn;
pub mod pooling;
pub(crate) mod windows;
