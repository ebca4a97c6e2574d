//! Floor 1: shapes, buffers, blobs, the store that owns them, and weights.

mod buffer;
mod element;
mod shape;
mod store;
mod weights;

pub use buffer::{Buffer, Residence, Stamp};
pub use element::Element;
pub use shape::Shape;
pub use store::{Blob, BufferId, Store};
pub use weights::{Param, ParamId, Weights};
