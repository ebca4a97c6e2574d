//! Layers that shift, scale and normalise.

pub mod batch_norm;
pub(crate) mod channels;
pub mod norm;
pub mod scale;
