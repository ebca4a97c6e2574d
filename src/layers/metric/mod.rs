//! Layers that measure, and give no gradient.

pub mod accuracy;
