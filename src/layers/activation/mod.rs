//! Element-wise layers: y = f(x).

mod elementwise;
pub mod relu;

pub use elementwise::{Elementwise, Function};
