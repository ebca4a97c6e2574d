//! The parameters of nets.

use super::{Buffer, Element, Residence, Shape};
use crate::device::Transfers;
use crate::error::Result;

/// Name of a parameter inside its [`Weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(pub(crate) usize);

/// One parameter blob of a layer (or of several that share it by name).
pub struct Param<T> {
    /// Layer that owns it.
    pub layer: String,
    /// Its number among the layer's parameters: 0 the weights, 1 the bias, as a rule.
    pub index: usize,
    /// Extents.
    pub shape: Shape,
    /// Values.
    pub data: Buffer<T>,
    /// Gradient, summed over all layers that share the parameter and all passes since it was cleared.
    pub diff: Buffer<T>,
    /// Factor on the solver's learning rate; 0 for one that is not learned.
    pub lr_mult: f32,
    /// Factor on the solver's weight decay.
    pub decay_mult: f32,
}

/// All parameters of a model. The solver owns them and lends them to its train and test nets, whose layers
/// find theirs by layer name.
#[derive(Default)]
pub struct Weights<T> {
    params: Vec<Param<T>>,
}

impl<T: Element> Weights<T> {
    /// No parameters yet.
    pub fn new() -> Weights<T> {
        Weights { params: Vec::new() }
    }

    /// Adds a parameter.
    pub fn add(&mut self, param: Param<T>) -> ParamId {
        self.params.push(param);
        ParamId(self.params.len() - 1)
    }

    /// Number of parameters (blobs, not values).
    pub fn len(&self) -> usize {
        self.params.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.params.is_empty()
    }

    /// The parameter that a layer owns under this number.
    pub fn find(&self, layer: &str, index: usize) -> Option<ParamId> {
        self.params.iter().position(|p| p.index == index && p.layer == layer).map(ParamId)
    }

    /// A parameter for reading.
    pub fn get(&self, id: ParamId) -> &Param<T> {
        &self.params[id.0]
    }

    /// A parameter for writing.
    pub fn get_mut(&mut self, id: ParamId) -> &mut Param<T> {
        &mut self.params[id.0]
    }

    /// All parameters, in the order in which the first net created them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Param<T>> {
        self.params.iter()
    }

    /// All parameters, for writing.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = &mut Param<T>> {
        self.params.iter_mut()
    }

    /// Bytes of host memory that values and gradients hold.
    pub fn bytes(&self) -> usize {
        self.params.iter().map(|p| p.data.bytes() + p.diff.bytes()).sum()
    }

    /// Sets all gradients to zero, wherever they are.
    pub fn clear_diffs(&mut self) -> Result<()> {
        let mut there = self.params.iter_mut().filter(|p| p.diff.residence() != Residence::Nowhere);
        there.try_for_each(|p| p.diff.fill(T::default()))
    }

    /// Brings values and gradients to the host.
    pub fn to_host(&mut self, count: &mut Transfers) -> Result<()> {
        for buffer in self.params.iter_mut().flat_map(|p| [&mut p.data, &mut p.diff]) {
            if buffer.residence() == Residence::Device {
                buffer.to_host(count)?;
            }
        }
        Ok(())
    }
}
