//! Upgrades of older formats to today's, step by step as Caffe's `upgrade_proto`:
//!
//! 1. V0 nets (a `layer` message inside each `layers`, padding as layers of its own) to V1,
//! 2. transformation fields inside data parameters to `transform_param`,
//! 3. V1 nets (`layers` with an enum as type) to `layer`,
//! 4. `input`, `input_dim` and `input_shape` of the net to an Input layer,
//! 5. BatchNorm layers with three `param` to ones the solver leaves alone,
//! 6. `solver_type` of a solver to `type`.

mod input;
mod transform;
mod v0;
mod v1;

use super::caffe::{NetParameter, SolverParameter, solver_parameter::SolverType};
use crate::error::{Error, Kind, Result};
pub(super) use v1::type_name;

/// Brings a net to today's format. Gives what was done, a sentence each: nothing for a net that needs nothing.
///
/// Errors, with the layer where there is one: layer types that V0 did not have, `layer` and `layers` in one net, padding
/// that belongs to no convolution or pooling, inputs without a shape of their own.
pub fn upgrade_net(net: &mut NetParameter) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    if net.layers.iter().any(|l| l.layer.is_some()) {
        v0::upgrade(net, &mut notes)?;
    }
    transform::upgrade(net, &mut notes);
    if !net.layers.is_empty() {
        v1::upgrade(net, &mut notes)?;
    }
    if !net.input.is_empty() {
        input::upgrade(net, &mut notes)?;
    }
    batch_norm(net, &mut notes);
    Ok(notes)
}

/// Brings a solver, and the nets inside it, to today's format. Gives what was done, a sentence each.
pub fn upgrade_solver(solver: &mut SolverParameter) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    if let Some(number) = solver.solver_type {
        if solver.r#type.is_some() {
            let text = "both solver_type and type are given";
            return Err(Error::new(Kind::Value, text).in_field("solver_type").suggest("keep type"));
        }
        let name = SolverType::try_from(number).map(solver_name).map_err(|_| {
            Error::new(Kind::UnknownName, format!("solver_type {number} has no name")).in_field("solver_type")
        })?;
        solver.r#type = Some(name.to_string());
        solver.solver_type = None;
        notes.push(format!("solver_type became type: \"{name}\""));
    }
    let inner = solver.net_param.iter_mut().chain(&mut solver.train_net_param);
    for net in inner.chain(&mut solver.test_net_param) {
        notes.extend(upgrade_net(net)?);
    }
    Ok(notes)
}

fn solver_name(kind: SolverType) -> &'static str {
    match kind {
        SolverType::Sgd => "SGD",
        SolverType::Nesterov => "Nesterov",
        SolverType::Adagrad => "AdaGrad",
        SolverType::Rmsprop => "RMSProp",
        SolverType::Adadelta => "AdaDelta",
        SolverType::Adam => "Adam",
    }
}

/// BatchNorm layers once declared `lr_mult: 0` for their three blobs themselves; Caffe sets both multipliers to 0.
fn batch_norm(net: &mut NetParameter, notes: &mut Vec<String>) {
    let old = |l: &&mut super::caffe::LayerParameter| l.r#type() == "BatchNorm" && l.param.len() == 3;
    for layer in net.layer.iter_mut().filter(old) {
        let done = layer.param.iter().all(|p| (p.lr_mult, p.decay_mult) == (Some(0.0), Some(0.0)));
        if done {
            continue;
        }
        for spec in &mut layer.param {
            (spec.lr_mult, spec.decay_mult) = (Some(0.0), Some(0.0));
        }
        notes.push(format!("lr_mult and decay_mult of BatchNorm layer \"{}\" became 0", layer.name()));
    }
}

/// A message in which something is set.
fn if_set<M: PartialEq + Default>(message: M) -> Option<M> {
    if message == M::default() { None } else { Some(message) }
}
