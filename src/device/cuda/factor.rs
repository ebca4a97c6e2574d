//! Factors as NVIDIA's libraries read them.

use std::ffi::c_void;
use std::ptr::from_ref;

/// A factor on numbers of a type: a `float`, but a `double` for doubles.
pub(super) enum Factor {
    Single(f32),
    Double(f64),
}

impl Factor {
    pub fn new<T>(value: f64) -> Factor {
        if size_of::<T>() == 4 { Factor::Single(value as f32) } else { Factor::Double(value) }
    }

    pub fn at(&self) -> *const c_void {
        match self {
            Factor::Single(value) => from_ref(value).cast(),
            Factor::Double(value) => from_ref(value).cast(),
        }
    }
}
