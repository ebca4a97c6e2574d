//! Layers whose top is a loss.

pub mod contrastive_loss;
pub mod euclidean_loss;
pub(crate) mod label;
pub mod rank_hard_loss;
pub mod softmax_with_loss;

use crate::blob::Shape;
use crate::error::{Error, Kind, Result};

/// Size of the batch: the first extent of the first two bottoms, which must be the same and not 0.
fn batch(bottom: &[&Shape]) -> Result<usize> {
    match (bottom[0].first(), bottom[1].first()) {
        (Some(&n), Some(&m)) if n == m && n > 0 => Ok(n),
        (Some(0), _) => Err(Error::new(Kind::Shape, "a loss of an empty batch")
            .expected("a first extent of 1 at least")
            .found(format!("shape {}", bottom[0]))
            .in_field("bottom[0]")),
        _ => Err(Error::new(Kind::Shape, "the bottoms of a loss have different batch sizes")
            .expected("the same first extent")
            .found(format!("shapes {} and {}", bottom[0], bottom[1]))
            .in_field("bottom[1]")),
    }
}
