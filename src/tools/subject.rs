//! A layer alone, in a net of its own.

use crate::blob::{ParamId, Shape, Weights};
use crate::device::{Gpu, Precision};
use crate::error::{Error, Kind, Result};
use crate::math::Real;
use crate::net::{Net, Node};
use crate::proto::caffe::{BlobShape, InputParameter, LayerParameter, NetParameter, NetState, Phase};

/// A layer whose bottoms are inputs: what the gradient checker works on.
///
/// Its multipliers, sharing by name, loss weights and `propagate_down` are taken off, so that every parameter that
/// can be learned and every bottom that can carry a gradient gets one. Every forward pass starts from the same
/// bottoms, statistics and random numbers.
pub struct Subject<T: Real> {
    pub(super) net: Net<T>,
    pub(super) weights: Weights<T>,
    pub(super) name: String,
    /// What the bottoms are called in reports.
    pub(super) shown: Vec<String>,
    /// Index of the layer in the net.
    node: usize,
    /// Values of the bottoms before each pass; an in-place layer overwrites the blobs.
    values: Vec<Vec<T>>,
    /// Parameters that forward may change, with the values to start from.
    statistics: Vec<(ParamId, Vec<T>)>,
}

/// What can be varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    Bottom(usize),
    Param(usize),
}

impl<T: Real> Subject<T> {
    /// A layer on these bottoms (shape and values of each), in a phase. Its parameters have their fillers' values;
    /// [`Subject::param_mut`] sets others. `seed` keys them and the draws of the layer.
    pub fn new(
        layer: &LayerParameter,
        phase: Phase,
        bottoms: &[(Shape, Vec<T>)],
        seed: u64,
    ) -> Result<Subject<T>> {
        let mut layer = layer.clone();
        layer.phase = None;
        layer.include.clear();
        layer.exclude.clear();
        layer.param.clear();
        layer.propagate_down.clear();
        layer.loss_weight.clear();
        let mut param = NetParameter {
            force_backward: Some(true),
            state: Some(NetState { phase: Some(phase as i32), ..Default::default() }),
            ..Default::default()
        };
        if bottoms.len() != layer.bottom.len() {
            return Err(Error::new(Kind::Usage, "the layer names another number of bottoms")
                .expected(layer.bottom.len())
                .found(bottoms.len())
                .in_layer(layer.name()));
        }
        for (name, (shape, _)) in layer.bottom.iter().zip(bottoms) {
            let dim = shape.iter().map(|&d| d as i64).collect();
            param.layer.push(LayerParameter {
                name: Some(format!("input {name}")),
                r#type: Some("Input".into()),
                top: vec![name.clone()],
                input_param: Some(InputParameter { shape: vec![BlobShape { dim }] }),
                ..Default::default()
            });
        }
        let name = layer.name().to_string();
        param.layer.push(layer);
        let mut weights = Weights::new();
        let net = Net::new(&param, seed, &mut weights)?;
        let node = net.nodes().len() - 1;
        let values = bottoms.iter().map(|(_, values)| values.clone()).collect();
        let shown = net.nodes()[node].param.bottom.clone();
        let mut subject = Subject { net, weights, name, shown, node, values, statistics: Vec::new() };
        subject.net.nodes_mut()[node].loss_weight.fill(0.0);
        let node = &subject.net.nodes()[node];
        for (b, values) in node.bottom.iter().zip(&subject.values) {
            let shape = &subject.net.blobs()[*b].shape;
            if shape.count() != values.len() {
                let error = Error::new(Kind::Shape, "a bottom of another shape").expected(shape);
                return Err(error.found(format!("{} values", values.len())));
            }
        }
        subject.keep_statistics();
        Ok(subject)
    }

    /// Runs the layer on a device, or on the host. Errors: a device that rounds what it multiplies, on which no gradient can be checked.
    pub fn set_device(&mut self, device: Option<Gpu>) -> Result<()> {
        full_precision(device.as_ref())?;
        self.net.set_device(device, &mut self.weights)
    }

    /// A layer of a net as it stands, on the net's device: the blobs' present values (on the host) are the bottoms, the weights
    /// are the net's.
    pub fn of(net: &Net<T>, weights: &Weights<T>, node: usize, seed: u64) -> Result<Subject<T>> {
        let node = &net.nodes()[node];
        let bottoms: Vec<(Shape, Vec<T>)> =
            node.bottom.iter().map(|&b| (net.blobs()[b].shape.clone(), net.data(b).to_vec())).collect();
        let mut subject = Subject::new(&node.param, net.phase(), &bottoms, seed)?;
        subject.set_device(net.device().cloned())?;
        for (i, &p) in node.params.iter().enumerate() {
            let values = weights.get(p).data.host();
            if let Some(mine) = subject.param_mut(i).filter(|mine| mine.len() == values.len()) {
                mine.copy_from_slice(values);
            }
        }
        subject.keep_statistics();
        Ok(subject)
    }

    /// Values of a parameter of the layer, for writing. After setting statistics call [`Subject::keep_statistics`].
    pub fn param_mut(&mut self, index: usize) -> Option<&mut [T]> {
        let id = *self.net.nodes()[self.node].params.get(index)?;
        Some(self.weights.get_mut(id).data.host_mut())
    }

    /// Takes the present values of the statistics as those every pass starts from.
    pub fn keep_statistics(&mut self) {
        let kept = |id: &ParamId| (*id, self.weights.get(*id).data.host().to_vec());
        let node = &self.net.nodes()[self.node];
        let statistics = node.params.iter().filter(|&&p| self.weights.get(p).lr_mult == 0.0);
        self.statistics = statistics.map(kept).collect();
    }

    /// The layer in its net.
    pub fn node(&self) -> &Node<T> {
        &self.net.nodes()[self.node]
    }

    /// Bottoms and parameters that have a gradient.
    pub(super) fn variables(&self) -> Vec<Variable> {
        let node = self.node();
        let bottoms = (0..node.bottom.len()).filter(|&b| node.propagate[b] && node.need_backward);
        let params = (0..node.params.len()).filter(|&p| self.weights.get(node.params[p]).lr_mult != 0.0);
        bottoms.map(Variable::Bottom).chain(params.map(Variable::Param)).collect()
    }

    /// `bottom 0 "data"` or `param 1`.
    pub(super) fn describe(&self, variable: Variable) -> String {
        match variable {
            Variable::Bottom(b) => match self.shown.get(b) {
                Some(name) => format!("bottom {b} \"{name}\""),
                None => format!("bottom {b}"),
            },
            Variable::Param(p) => format!("param {p}"),
        }
    }

    /// Tops that the checks take as outputs: of a loss those that have a weight by themselves, since it has no
    /// gradient for the others; else all.
    fn objective(&self) -> Vec<usize> {
        let node = self.node();
        let is_loss = |j: &usize| node.layer.loss_weight(*j) != 0.0;
        let losses: Vec<usize> = (0..node.top.len()).filter(is_loss).collect();
        if losses.is_empty() { (0..node.top.len()).collect() } else { losses }
    }

    /// Runs the layer forward and collects the values of its tops.
    pub(super) fn outputs(&mut self, out: &mut Vec<T>) -> Result<()> {
        for (b, values) in self.net.nodes()[self.node].bottom.clone().into_iter().zip(&self.values) {
            self.net.data_mut(b).copy_from_slice(values);
        }
        for (id, values) in &self.statistics {
            self.weights.get_mut(*id).data.host_mut().copy_from_slice(values);
        }
        self.net.set_next_pass(0);
        self.net.forward(&mut self.weights)?;
        self.net.fetch(&mut self.weights)?;
        out.clear();
        for j in self.objective() {
            out.extend_from_slice(self.net.data(self.node().top[j]));
        }
        match out.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(at) => Err(Error::new(
                Kind::NotFinite,
                "a gradient cannot be checked where the output is not finite",
            )
            .found(format!("{} in element {at} of the tops", out[at]))
            .in_layer(&self.name)),
        }
    }

    /// Runs the layer backward from these diffs of its tops, after [`Subject::outputs`].
    pub(super) fn backward(&mut self, top_diff: &[T]) -> Result<()> {
        let tops = self.node().top.clone();
        for &t in &tops {
            self.net.diff_mut(t).fill(T::zero());
        }
        let mut rest = top_diff;
        for j in self.objective() {
            let diff = self.net.diff_mut(tops[j]);
            let (head, tail) = rest.split_at(diff.len().min(rest.len()));
            diff[..head.len()].copy_from_slice(head);
            rest = tail;
        }
        self.weights.clear_diffs()?;
        self.net.backward(&mut self.weights)?;
        self.net.fetch(&mut self.weights)
    }

    /// Gradient of the last backward pass.
    pub(super) fn gradient(&self, variable: Variable) -> &[T] {
        match variable {
            Variable::Bottom(b) => self.net.diff(self.node().bottom[b]),
            Variable::Param(p) => self.weights.get(self.node().params[p]).diff.host(),
        }
    }

    /// The values of a variable, for writing.
    pub(super) fn values_mut(&mut self, variable: Variable) -> &mut [T] {
        match variable {
            Variable::Bottom(b) => &mut self.values[b],
            Variable::Param(p) => {
                let id = self.net.nodes()[self.node].params[p];
                self.weights.get_mut(id).data.host_mut()
            }
        }
    }

    /// Moves the bottoms that carry a gradient a little, so that no two values are equal.
    pub fn break_ties(&mut self, uniform: impl Fn(u64) -> f64) {
        let propagate = self.node().propagate.clone();
        for (values, _) in self.values.iter_mut().zip(propagate).filter(|(_, p)| *p) {
            break_ties(values, &uniform);
        }
    }
}

/// Multiplies values by random numbers near 1, and moves zeros to small positive numbers. `uniform(i)` are random numbers
/// from [0, 1).
///
/// Behind a ReLU, a Dropout or the background of an image equal values are many, and a maximum over them has no
/// gradient. Signs are kept: a logarithm or a root may follow.
pub(super) fn break_ties<T: Real>(values: &mut [T], uniform: impl Fn(u64) -> f64) {
    let squares = values.iter().map(|v| v.as_f64() * v.as_f64()).sum::<f64>();
    let rms = (squares / values.len().max(1) as f64).sqrt();
    let size = if rms > 0.0 { rms } else { 1.0 };
    for (i, v) in values.iter_mut().enumerate() {
        let (x, u) = (v.as_f64(), uniform(i as u64));
        *v = T::from_f64(if x == 0.0 { size * (0.05 + 0.2 * u) } else { x * (0.95 + 0.1 * u) });
    }
}

/// An error where a device rounds what it multiplies: differences of such numbers say nothing of a gradient.
pub(super) fn full_precision(device: Option<&Gpu>) -> Result<()> {
    match device.map(Gpu::precision) {
        None | Some(Precision::Full) => Ok(()),
        Some(rounding) => Err(Error::new(Kind::Usage, "gradients are checked in full precision")
            .found(format!("a GPU that multiplies in {}", rounding.name()))
            .suggest("Gpu::set_precision(Precision::Full)")),
    }
}
