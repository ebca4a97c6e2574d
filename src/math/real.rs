//! The number types that layers compute in.

use crate::blob::Element;
use num_traits::{Float, NumAssign};
use std::iter::Sum;

/// Number type of a net: `f32` or `f64`. `T::from_f64(x)` makes constants.
pub trait Real: Element + Float + NumAssign + Sum {}

impl Real for f32 {}
impl Real for f64 {}
