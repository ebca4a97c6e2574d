//! Floor 1: shapes, buffers, blobs, the store that owns them, and weights.

mod element;

pub use element::Element;
