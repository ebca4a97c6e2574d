//! A whole net against one random direction through all its parameters and inputs.

use super::check_report::{Check, Report};
use super::gradcheck::labels;
use super::gradient_checker::{Draw, GradientChecker, Towards};
use super::slopes::{Slopes, Tolerance, compare, smallest_step};
use super::subject::break_ties;
use crate::blob::{ParamId, Weights};
use crate::error::{Error, Kind, Result};
use crate::math::Real;
use crate::net::Net;

/// A blob or parameter that moves, with its gradient and where it moves from.
struct Mover<T> {
    what: What,
    gradient: Vec<T>,
    base: Vec<T>,
    towards: Towards,
}

#[derive(Clone, Copy)]
enum What {
    Blob(usize),
    Param(ParamId),
}

impl GradientChecker {
    /// Moves all learned parameters and all inputs of a net at once, along half their gradients and half a random
    /// direction (and once more against the random half), and compares the change of the loss with the inner product of direction and gradient (as
    /// `check_grads` of JAX does).
    ///
    /// The objective is the net's loss; in a net without one, a random weighting of its outputs, for which it must have
    /// been built with `force_backward`. Inputs move only where the net computes their gradient (`force_backward`
    /// too). Layers that read data are run once, and their
    /// records kept, with equal values in them moved apart a little. Values and statistics are restored.
    pub fn check_net_direction<T: Real>(&self, net: &mut Net<T>, weights: &mut Weights<T>) -> Result<Report> {
        let net_name = net.name.clone();
        let mut run = Run::new(self, net, weights)?;
        let loss = run.objective()?;
        if !loss.is_finite() {
            return Err(Error::new(
                Kind::NotFinite,
                "a gradient cannot be checked where the loss is not finite",
            )
            .found(loss));
        }
        run.backward()?;
        let movers = run.movers(self);
        let blobs = movers.len().max(1) as f64;
        // Each blob has the same share of a direction of length 1.
        let share = 1.0 / blobs.sqrt();
        let norm = movers.iter().map(|m| m.towards.norm).sum::<f64>() * share;
        let floor = norm.clamp(1e-5, 1.0);
        let tolerance = Tolerance { step: self.step, threshold: self.threshold, floor };
        let total = movers.iter().map(|m| m.gradient.len()).sum();
        let mut check =
            Check { layer: net_name, what: "whole net, directions".into(), total, ..Check::default() };
        // What the gradient and the random part cancel in one direction, they add up in the other.
        for (nth, sign) in [1.0, -1.0].into_iter().enumerate() {
            let found = compare(tolerance, smallest_step::<T>(), |h| {
                let (mut at, mut analytic) = ([0.0; 2], 0.0);
                for (at, h) in at.iter_mut().zip([h, -h]) {
                    for m in &movers {
                        let (values, length) = (run.values_mut(m.what), h * share);
                        analytic +=
                            m.towards.displace(sign, &m.gradient, &m.base, length, values) / (2.0 * h);
                    }
                    *at = run.objective()?;
                }
                let [up, down] = at;
                let (central, ahead, behind) = ((up - down) / (2.0 * h), (up - loss) / h, (loss - down) / h);
                Ok(Slopes { central, ahead, behind, analytic })
            });
            check.add(&found?, nth);
        }
        for m in &movers {
            run.values_mut(m.what).copy_from_slice(&m.base);
        }
        run.restore();
        Ok(Report { checks: vec![check] })
    }
}

/// The net, run again and again from the same data.
struct Run<'a, T: Real> {
    net: &'a mut Net<T>,
    weights: &'a mut Weights<T>,
    /// Layers without bottoms, which do not run again.
    sources: Vec<bool>,
    /// Their tops, with the values before an in-place layer overwrites them.
    data: Vec<(usize, Vec<T>)>,
    /// Parameters that forward may change.
    statistics: Vec<(ParamId, Vec<T>)>,
    /// Weights of the outputs, where the net has no loss.
    outputs: Vec<(usize, Vec<T>)>,
    pass: u64,
}

impl<'a, T: Real> Run<'a, T> {
    fn new(
        checker: &GradientChecker,
        net: &'a mut Net<T>,
        weights: &'a mut Weights<T>,
    ) -> Result<Run<'a, T>> {
        let sources: Vec<bool> = net.nodes().iter().map(|n| n.bottom.is_empty()).collect();
        let pass = net.next_pass();
        net.begin_pass()?;
        for (i, _) in sources.iter().enumerate().filter(|(_, s)| **s) {
            net.forward_layer(i, weights)?;
        }
        net.fetch(weights)?;
        let mut data = Vec::new();
        for (node, _) in net.nodes().iter().zip(&sources).filter(|(_, s)| **s) {
            for &t in &node.top {
                let mut values = net.data(t).to_vec();
                // Of records, as images with a plain background; what the user filled stays as it is.
                if node.param.r#type() != "Input" && labels(net, t).is_none() {
                    let stream = checker.stream(Draw::Values, &node.name, t);
                    break_ties(&mut values, |i| stream.uniform_at(i));
                }
                data.push((t, values));
            }
        }
        let mut used: Vec<ParamId> = net.nodes().iter().flat_map(|n| n.params.clone()).collect();
        used.sort();
        used.dedup();
        let fixed = used.into_iter().filter(|&p| weights.get(p).lr_mult == 0.0);
        let statistics = fixed.map(|p| (p, weights.get(p).data.host().to_vec())).collect();
        let has_loss = net.nodes().iter().any(|n| n.loss_weight.iter().any(|w| *w != 0.0));
        let mut outputs = Vec::new();
        for (nth, b) in net.outputs().into_iter().enumerate() {
            let stream = checker.stream(Draw::Weights, &net.name, nth);
            let weight = |i: usize| if has_loss { 0.0 } else { stream.gaussian_at(i as u64) };
            outputs.push((b, (0..net.blobs()[b].shape.count()).map(|i| T::from_f64(weight(i))).collect()));
        }
        Ok(Run { net, weights, sources, data, statistics, outputs, pass })
    }

    /// Runs forward from the kept data; the objective.
    fn objective(&mut self) -> Result<f64> {
        for (id, values) in &self.statistics {
            self.weights.get_mut(*id).data.host_mut().copy_from_slice(values);
        }
        self.net.set_next_pass(self.pass);
        self.net.begin_pass()?;
        for (b, values) in &self.data {
            self.net.data_mut(*b).copy_from_slice(values);
        }
        let mut loss = 0.0;
        for i in 0..self.sources.len() {
            if !self.sources[i] {
                loss += self.net.forward_layer(i, self.weights)?;
            }
        }
        self.net.fetch(self.weights)?;
        for (b, w) in &self.outputs {
            loss += w.iter().zip(self.net.data(*b)).map(|(w, y)| w.as_f64() * y.as_f64()).sum::<f64>();
        }
        Ok(loss)
    }

    fn backward(&mut self) -> Result<()> {
        for (b, w) in &self.outputs {
            if !self.net.diff(*b).is_empty() {
                self.net.diff_mut(*b).copy_from_slice(w);
            }
        }
        self.weights.clear_diffs()?;
        self.net.backward(self.weights)?;
        self.net.fetch(self.weights)
    }

    /// Everything that moves: inputs with a gradient, learned parameters.
    fn movers(&self, checker: &GradientChecker) -> Vec<Mover<T>> {
        let nodes = self.net.nodes();
        let reached =
            |b: usize| nodes.iter().any(|n| n.bottom.iter().zip(&n.propagate).any(|(&x, &p)| x == b && p));
        let mut params: Vec<ParamId> =
            nodes.iter().filter(|n| n.need_backward).flat_map(|n| n.params.clone()).collect();
        params.sort();
        params.dedup();
        params.retain(|&p| self.weights.get(p).lr_mult != 0.0);
        let blobs = self.data.iter().filter(|(b, _)| reached(*b));
        let blobs = blobs.map(|(b, base)| (What::Blob(*b), base.clone(), self.net.diff(*b).to_vec()));
        let params = params.into_iter().map(|p| {
            let param = self.weights.get(p);
            (What::Param(p), param.data.host().to_vec(), param.diff.host().to_vec())
        });
        let with_gradient = blobs.chain(params).filter(|(_, base, gradient)| base.len() == gradient.len());
        let mover = |(nth, (what, base, gradient)): (usize, (What, Vec<T>, Vec<T>))| {
            let towards = Towards::new(&gradient, checker.stream(Draw::Direction, &self.net.name, nth));
            Mover { what, gradient, base, towards }
        };
        with_gradient.enumerate().map(mover).collect()
    }

    fn values_mut(&mut self, what: What) -> &mut [T] {
        match what {
            What::Param(id) => self.weights.get_mut(id).data.host_mut(),
            What::Blob(b) => match self.data.iter().position(|(t, _)| *t == b) {
                Some(i) => &mut self.data[i].1,
                None => &mut [],
            },
        }
    }

    /// Leaves data and statistics as they were.
    fn restore(&mut self) {
        for (id, values) in &self.statistics {
            self.weights.get_mut(*id).data.host_mut().copy_from_slice(values);
        }
        for (b, values) in &self.data {
            self.net.data_mut(*b).copy_from_slice(values);
        }
    }
}
