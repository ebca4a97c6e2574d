//! What a layer is told about the run it is part of.

use super::{Gpu, Transfers, View};
use crate::proto::caffe::Phase;
use std::marker::PhantomData;

/// The run a layer is part of: phase, random streams, device. The net sets `layer` before each call.
pub struct Context<T> {
    /// Training or testing.
    pub phase: Phase,
    /// Seed of all random streams.
    pub seed: u64,
    /// Index of the layer in its net: which stream is its own.
    pub layer: u32,
    /// Number of the forward pass: where in the stream it stands. Equal passes draw equal numbers.
    pub pass: u64,
    /// The same number on the device, where kernels read it: what is captured in a graph must not hold it as an argument.
    pub pass_on_device: View<u64>,
    /// The device that computes; the host where there is none.
    pub device: Option<Gpu>,
    /// Transfers made so far.
    pub transfers: Transfers,
    kind: PhantomData<T>,
}

impl<T> Context<T> {
    /// A context on the host.
    pub fn new(phase: Phase, seed: u64) -> Context<T> {
        Context {
            phase,
            seed,
            layer: 0,
            pass: 0,
            pass_on_device: View::NONE,
            device: None,
            transfers: Transfers::default(),
            kind: PhantomData,
        }
    }
}
