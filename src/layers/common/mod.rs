//! Layers that nets of all kinds use.

pub mod dropout;
pub mod eltwise;
pub mod inner_product;
pub mod softmax;
