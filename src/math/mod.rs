//! Floor 2: the arithmetic of the layers.

mod real;

pub use real::Real;
