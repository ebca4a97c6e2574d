//! Element-wise layers: y = f(x).

mod elementwise;
pub mod power;
pub mod relu;
pub mod sigmoid;
pub mod tanh;

pub use elementwise::{Elementwise, Formula, Function};
