//! Floor 2: the arithmetic of the layers.

pub mod filler;
pub mod random;
mod real;

pub use filler::fill;
pub use random::{Purpose, Stream};
pub use real::Real;
