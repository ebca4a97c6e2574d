//! What a buffer can hold.

use std::fmt::{Debug, Display};

/// Number type of blobs: `f32` or `f64`.
pub trait Element: Copy + Default + PartialEq + PartialOrd + Debug + Display + Send + Sync + 'static {
    /// Name as Rust and CUDA sources have it.
    const NAME: &'static str;
    /// From double precision, rounded.
    fn from_f64(value: f64) -> Self;
    /// To double precision, exact.
    fn as_f64(self) -> f64;
}

impl Element for f32 {
    const NAME: &'static str = "f32";
    fn from_f64(value: f64) -> f32 {
        value as f32
    }
    fn as_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Element for f64 {
    const NAME: &'static str = "f64";
    fn from_f64(value: f64) -> f64 {
        value
    }
    fn as_f64(self) -> f64 {
        self
    }
}
