//! The nets of a solver with their weights and the history of its update rule.

use super::nets::NetPlan;
use crate::blob::{Buffer, Residence, Weights};
use crate::device::{Gpu, Transfers};
use crate::error::Result;
use crate::layers::Layer;
use crate::math::Real;
use crate::net::{Keep, Net};

/// All that a training run computes on.
pub struct Model<T: Real> {
    /// The training net.
    pub net: Net<T>,
    /// The test nets, which share the weights of the training net by layer name.
    pub tests: Vec<Test<T>>,
    /// The parameters of all nets. Those of the training net come first, in the order of its layers.
    pub weights: Weights<T>,
    /// What the update rule remembers of each parameter of the training net.
    pub history: Vec<Vec<Buffer<T>>>,
}

/// A test net.
pub struct Test<T: Real> {
    /// The net.
    pub net: Net<T>,
    /// Passes of a test.
    pub passes: usize,
}

/// The nets that a model is built from: for training, and for tests with their passes.
pub struct Plans {
    /// The training net.
    pub train: NetPlan,
    /// The test nets.
    pub tests: Vec<(NetPlan, usize)>,
    /// Which of their blobs can be read.
    pub keep: Keep,
}

impl<T: Real> Model<T> {
    /// Builds the nets with fresh weights; `histories` is what the update rule asks for. The test nets draw their random
    /// numbers from the seeds that follow `seed`. They run on `device`, or on the host.
    pub fn new(plans: &Plans, seed: u64, histories: usize, device: Option<&Gpu>) -> Result<Model<T>> {
        let mut weights = Weights::new();
        let plan = &plans.train;
        let net = Net::keeping(&plan.param, seed, &mut weights, &plans.keep).map_err(|e| plan.locate(e))?;
        let history = weights.iter().map(|p| {
            let mut buffers: Vec<Buffer<T>> = (0..histories).map(|_| Buffer::new(p.data.len())).collect();
            if p.lr_mult != 0.0 {
                buffers.iter_mut().for_each(Buffer::allocate);
            }
            buffers
        });
        let history = history.collect();
        let mut tests = Vec::with_capacity(plans.tests.len());
        for (i, (plan, passes)) in (1..).zip(&plans.tests) {
            // Names of blobs are those of the training net.
            let keep = if plans.keep == Keep::All { &Keep::All } else { &Keep::Outputs };
            let net = Net::keeping(&plan.param, seed.wrapping_add(i), &mut weights, keep)
                .map_err(|e| plan.locate(e))?;
            tests.push(Test { net, passes: *passes });
        }
        let mut model = Model { net, tests, weights, history };
        model.set_device(device)?;
        Ok(model)
    }

    /// Runs all nets on a device from now on, or on the host.
    pub fn set_device(&mut self, device: Option<&Gpu>) -> Result<()> {
        self.fetch()?;
        self.history.iter_mut().flatten().for_each(Buffer::leave_device);
        let tests = self.tests.iter_mut().map(|t| &mut t.net);
        for net in std::iter::once(&mut self.net).chain(tests) {
            net.set_device(device.cloned(), &mut self.weights)?;
        }
        Ok(())
    }

    /// Brings all that can be read to the host.
    pub fn fetch(&mut self) -> Result<()> {
        self.net.fetch(&mut self.weights)?;
        let mut count = Transfers::default();
        for buffer in self.history.iter_mut().flatten().filter(|b| b.residence() == Residence::Device) {
            buffer.to_host(&mut count)?;
        }
        Ok(())
    }
}

/// The layers of a net that read data, by name, with how many records each has handed out.
pub(super) fn positions<T: Real>(net: &Net<T>) -> impl Iterator<Item = (&str, u64)> {
    net.nodes().iter().filter_map(|n| Some((n.name.as_str(), n.layer.records()?)))
}

/// The layer of a name that reads data.
pub(super) fn reader<'a, T: Real>(net: &'a mut Net<T>, name: &str) -> Option<&'a mut Box<dyn Layer<T>>> {
    let mut nodes = net.nodes_mut().iter_mut();
    nodes.find(|n| n.name == name && n.layer.records().is_some()).map(|n| &mut n.layer)
}
