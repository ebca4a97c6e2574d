//! What goes along with an iteration of a net.

use super::Net;
use crate::blob::{ParamId, Weights};
use crate::error::Result;
use crate::math::Real;

/// How an iteration on a device is about to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Layer by layer.
    Launch,
    /// Captured, then run from the graph.
    Capture,
    /// From the graph.
    Replay,
}

/// What a solver does in an iteration of its net. A closure is one that does something behind backward alone.
pub(crate) trait Hooks<T: Real> {
    /// Whether another pass follows before the update, and what is asked of the device differs from that of the last one for it.
    fn more_follow(&self) -> bool {
        false
    }

    /// Told how the iteration is about to run, with the reason where that is not as a graph though it should be. Nets that train together
    /// must all go the same way: where they do not, some reason why.
    fn agree(&mut self, _way: Way, _why: Option<&str>) -> Result<Option<String>> {
        Ok(None)
    }

    /// Backward has run layer i. In a repeated iteration it is not told: what it asks of the device is in the graph.
    fn layer_done(&mut self, _i: usize, _weights: &mut Weights<T>) -> Result<()> {
        Ok(())
    }

    /// Behind backward: launches that must be the same each time. In a repeated iteration they are in the graph.
    fn update(&mut self, weights: &mut Weights<T>) -> Result<()>;

    /// Everything has been asked of the device, and nothing waited for.
    fn asked(&mut self) -> Result<()> {
        Ok(())
    }
}

impl<T: Real, F: FnMut(&mut Weights<T>) -> Result<()>> Hooks<T> for F {
    fn update(&mut self, weights: &mut Weights<T>) -> Result<()> {
        self(weights)
    }
}

/// What goes along with a pass whose gradients are added to those of others that follow: nothing.
pub(crate) struct Adding;

impl<T: Real> Hooks<T> for Adding {
    fn more_follow(&self) -> bool {
        true
    }

    fn update(&mut self, _: &mut Weights<T>) -> Result<()> {
        Ok(())
    }
}

impl<T: Real> Net<T> {
    /// The parameters to whose gradient a layer is the last to add in backward, for each layer. A shared one is there once, with the first of
    /// its layers.
    pub(crate) fn last_gradients(&self) -> Vec<Vec<ParamId>> {
        let mut seen = Vec::new();
        let mut last = |node: &super::Node<T>| {
            let learned =
                node.params.iter().zip(&node.learned).filter(|(_, learned)| **learned && node.need_backward);
            let mut mine: Vec<ParamId> = learned.map(|(&p, _)| p).collect();
            mine.retain(|p| !seen.contains(p));
            mine.dedup();
            seen.extend(&mine);
            mine
        };
        self.nodes.iter().map(&mut last).collect()
    }
}
