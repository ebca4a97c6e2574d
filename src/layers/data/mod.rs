//! Layers that bring data into a net.

pub mod dummy_data;
pub mod input;
