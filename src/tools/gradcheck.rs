//! Checks the gradients of every layer of a net, and of the net as a whole.

use super::check_report::{Check, Report};
use super::gradient_checker::{Draw, GradientChecker};
use super::subject::{Subject, full_precision};
use crate::blob::{Param, Weights};
use crate::error::{Error, Kind, Result};
use crate::math::{Real, Stream};
use crate::net::{Net, Node};
use crate::proto::caffe::NetParameter;

/// Checks every layer of the net that `param` describes in its `state`, alone and at its real shapes, against all its
/// bottoms and parameters; then the whole net along a random direction. `layer` restricts it to the layers of a name.
/// `each` hears of every check as it is made: large nets take a while.
///
/// `Input` blobs are filled with normal random numbers; those that reach a bottom without a gradient (labels) with
/// integers below the number of classes, the extent of axis 1 of that layer's first bottom. Parameters that are all
/// zero, as those of a deploy net, get random values. Each layer then sees what the layers before it computed.
pub fn check_net<T: Real>(
    param: &NetParameter,
    layer: Option<&str>,
    checker: &GradientChecker,
    each: &mut dyn FnMut(&Check),
) -> Result<Report> {
    if let Some(wanted) = layer.filter(|l| param.layer.iter().all(|p| p.name() != *l)) {
        return Err(Error::new(Kind::UnknownName, format!("the net has no layer \"{wanted}\""))
            .suggest_nearest(wanted, param.layer.iter().map(|l| l.name())));
    }
    full_precision(checker.device.as_ref())?;
    let mut param = param.clone();
    param.force_backward = Some(true);
    let mut weights = Weights::new();
    let mut net = Net::<T>::new(&param, checker.seed, &mut weights)?;
    net.set_device(checker.device.clone(), &mut weights)?;
    for (nth, p) in weights.iter_mut().enumerate() {
        fill_zeros(p, &checker.stream(Draw::Values, &p.layer, nth));
    }
    fill_inputs(&mut net, checker);

    let mut report = Report::default();
    net.set_fusion(false); // each layer is checked on what the one before it made
    net.begin_pass()?;
    for i in 0..net.nodes().len() {
        let node = &net.nodes()[i];
        // The splits that the net put in are the net's business.
        let ours = param.layer.iter().any(|l| l.name() == node.name);
        if ours && !node.bottom.is_empty() && layer.is_none_or(|l| l == node.name) {
            let at = |e: Error| e.in_nth_layer(&node.name, node.nth);
            let mut subject = Subject::of(&net, &weights, i, checker.seed).map_err(at)?;
            let stream = checker.stream(Draw::Values, &node.name, i);
            subject.break_ties(|k| stream.uniform_at(k));
            // As the prototxt has them, not as the splits do.
            if let Some(layer) = param.layer.iter().filter(|l| l.name() == node.name).nth(node.nth) {
                subject.shown = layer.bottom.clone();
            }
            if !subject.variables().is_empty() {
                let found = checker.check_layer(&mut subject).map_err(at)?;
                found.checks.iter().for_each(&mut *each);
                report.checks.extend(found.checks);
            }
        }
        net.forward_layer(i, &mut weights)?;
        net.fetch(&mut weights)?;
    }
    if layer.is_none() {
        fill_inputs(&mut net, checker);
        net.set_fusion(true);
        let found = checker.check_net_direction(&mut net, &mut weights)?;
        found.checks.iter().for_each(&mut *each);
        report.checks.extend(found.checks);
    }
    Ok(report)
}

/// Gives a parameter without values some: weights as He et al. would start them, biases small ones, statistics (a
/// variance among them) positive ones.
pub(super) fn fill_zeros<T: Real>(param: &mut Param<T>, stream: &Stream) {
    let fan = param.shape.count_from(1);
    let statistic = param.lr_mult == 0.0 && fan <= 1;
    let values = param.data.host_mut();
    if values.iter().any(|v| *v != T::zero()) {
        return;
    }
    let std = if fan > 1 { (2.0 / fan as f64).sqrt() } else { 0.1 };
    for (i, value) in values.iter_mut().enumerate() {
        let i = i as u64;
        *value =
            T::from_f64(if statistic { 0.5 + stream.uniform_at(i) } else { std * stream.gaussian_at(i) });
    }
}

/// Fills the inputs of a net with random values, labels where labels are read.
pub(super) fn fill_inputs<T: Real>(net: &mut Net<T>, checker: &GradientChecker) {
    for (nth, blob) in net.inputs().into_iter().enumerate() {
        let labels = labels(net, blob);
        let stream = checker.stream(Draw::Values, "inputs", nth);
        for (i, value) in net.data_mut(blob).iter_mut().enumerate() {
            *value = T::from_f64(match labels {
                // Rows of a pair have the same label.
                Some((classes, group)) => (stream.uniform_at((i / group) as u64) * classes as f64).floor(),
                None => stream.gaussian_at(i as u64),
            });
        }
    }
}

/// If a blob goes to a bottom without a gradient: the number of classes, and how many rows in turn share a label.
pub(super) fn labels<T: Real>(net: &Net<T>, blob: usize) -> Option<(usize, usize)> {
    let mut found: Option<(usize, usize)> = None;
    for node in net.nodes() {
        for (b, _) in node.bottom.iter().enumerate().filter(|(_, x)| **x == blob) {
            let this = match node.param.r#type() {
                "Split" => node.top.iter().filter_map(|&t| labels(net, t)).reduce(stricter),
                _ if node.layer.differentiable(b) => None,
                _ => Some((classes(net, node), group(node))),
            };
            found = [found, this].into_iter().flatten().reduce(stricter);
        }
    }
    found
}

/// Labels that suit two readers.
fn stricter(a: (usize, usize), b: (usize, usize)) -> (usize, usize) {
    (a.0.min(b.0), a.1.max(b.1))
}

fn classes<T: Real>(net: &Net<T>, node: &Node<T>) -> usize {
    let (softmax, accuracy) = (&node.param.softmax_param, &node.param.accuracy_param);
    let axis = softmax.as_ref().map(|p| p.axis()).or(accuracy.as_ref().map(|p| p.axis())).unwrap_or(1);
    let shape = &net.blobs()[node.bottom[0]].shape;
    shape.axis(axis).map_or(1, |axis| shape.legacy(axis)).max(1)
}

fn group<T: Real>(node: &Node<T>) -> usize {
    node.param.rank_param.as_ref().map_or(1, |p| p.pair_size() as usize).max(1)
}
