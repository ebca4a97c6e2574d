//! Layers that shift, scale and normalise.

pub mod batch_norm;
pub(crate) mod channels;
mod line;
pub mod norm;
pub mod scale;

pub use channels::Channels;

use crate::blob::Buffer;
use crate::math::{Real, vector};

/// Moves the values of a top that a layer is about to overwrite to where it keeps them for backward. What the top holds
/// then means nothing. Takes memory in the first pass of its size; from then on the two exchange theirs.
fn keep<T: Real>(top: &mut Buffer<T>, saved: &mut Buffer<T>) {
    saved.resize(top.len());
    saved.allocate();
    if !saved.exchange(top) {
        vector::copy(top.host_mut(), saved.host_mut());
    }
}
