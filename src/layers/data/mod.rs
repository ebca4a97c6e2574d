//! Layers that bring data into a net.

pub mod input;
