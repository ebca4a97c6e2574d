//! Layers that bring data into a net.

pub mod data_layer;
pub mod dummy_data;
pub mod input;
