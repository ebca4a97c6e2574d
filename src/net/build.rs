//! Builds a net: filters and wires the layers, shapes them, and settles once which blobs share memory.

use super::feed::Feeding;
use super::fuse::Along;
use super::replay::Replay;
use super::{Keep, filter, fuse, fuse_device, gate, in_place, insert_splits, keep, layout, liveness, params};
use crate::blob::{Blob, Buffer, BufferId, ParamId, Shape, Store, Weights};
use crate::device::{Context, Memory};
use crate::error::{Error, Kind, Result};
use crate::layers::{Layer, Setup, Sharing, registry};
use crate::math::Real;
use crate::proto::caffe::{LayerParameter, NetParameter, NetState, Phase};
use std::collections::HashMap;

/// A layer in its place in a net.
pub struct Node<T: Real> {
    /// Name in the prototxt.
    pub name: String,
    /// Which of the layers of that name in the prototxt.
    pub nth: usize,
    /// The message it was made from.
    pub param: LayerParameter,
    /// The layer itself.
    pub layer: Box<dyn Layer<T>>,
    /// Indices of its bottoms among the net's blobs.
    pub bottom: Vec<usize>,
    /// Indices of its tops.
    pub top: Vec<usize>,
    /// Its parameters.
    pub params: Vec<ParamId>,
    /// Their shapes as the layer sees them.
    pub(super) param_shapes: Vec<Shape>,
    /// Which of its parameters want a gradient.
    pub(super) learned: Vec<bool>,
    /// Which of its bottoms want a gradient.
    pub propagate: Vec<bool>,
    /// Which of its tops take part in the loss.
    pub(super) live: Vec<bool>,
    /// Whether backward runs it at all.
    pub need_backward: bool,
    /// Weights of its tops in the loss.
    pub loss_weight: Vec<f32>,
    /// The layer that does its work along, in a fused net.
    pub leader: Option<usize>,
    /// Its work in a fused net.
    pub(super) along: Along,
    /// Whether the layer behind it goes back for it, in a fused net on the host.
    pub(super) gated: bool,
    /// Room for the buffers that the store lends it for a call.
    pub(super) lent: Vec<Buffer<T>>,
}

/// A net: layers in order, the blobs between them, and the store that owns their memory. Its parameters are in
/// the [`Weights`] that are lent to each call.
pub struct Net<T: Real> {
    /// Name in the prototxt.
    pub name: String,
    pub(super) nodes: Vec<Node<T>>,
    pub(super) blobs: Vec<Blob>,
    pub(super) store: Store<T>,
    pub(super) cx: Context<T>,
    pub(super) next_pass: u64,
    /// Whether each pass describes itself (`debug_info`), and what it said.
    pub(super) debug: Option<Vec<String>>,
    pub(super) warnings: Vec<String>,
    pub(super) keep: Keep,
    pub(super) forward_only: bool,
    /// Whether layers may do the work of others along, and whether the last forward pass had them do it.
    pub(super) fusion: bool,
    pub(super) fused: bool,
    /// The number of the pass on the device it runs on.
    pub(super) pass_on_device: Option<Memory<u64>>,
    pub(super) replay: Replay,
    /// Batches on their way to the device, by the layer that makes them.
    pub(super) feeding: Vec<Option<Feeding<T>>>,
}

impl<T: Real> Net<T> {
    /// Builds the net that `param` describes in its `state` (phase, level, stages).
    ///
    /// Its layers take parameters of the same layer name from `weights` if they are there, as a test net does from
    /// the train net's, and add the others. `seed` keys all random streams.
    ///
    /// Errors: no layer in that state, and all that can be wrong with one. They name layer and field; [`crate::proto`]'s `Source` turns them into lines of the prototxt.
    ///
    /// All its blobs can be read after a pass ([`Keep::All`]); [`Net::keeping`] saves memory.
    pub fn new(param: &NetParameter, seed: u64, weights: &mut Weights<T>) -> Result<Net<T>> {
        Net::keeping(param, seed, weights, &Keep::All)
    }

    /// [`Net::new`], but only what `keep` names can be read after a pass: the other blobs share memory.
    ///
    /// Errors: also a name that no blob has.
    pub fn keeping(param: &NetParameter, seed: u64, weights: &mut Weights<T>, keep: &Keep) -> Result<Net<T>> {
        let state = param.state.clone().unwrap_or_default();
        let kept = filter(&param.layer, &state)?;
        if kept.is_empty() {
            return Err(no_layers(param, &state));
        }
        let layers = insert_splits(kept)?;
        let mut net = Net {
            name: param.name().to_string(),
            nodes: Vec::with_capacity(layers.len()),
            blobs: Vec::new(),
            store: Store::default(),
            cx: Context::new(state.phase(), seed),
            next_pass: 0,
            debug: param.debug_info().then(Vec::new),
            warnings: Vec::new(),
            keep: keep.clone(),
            forward_only: *keep != Keep::All && state.phase() == Phase::Test && !param.force_backward(),
            fusion: true,
            fused: false,
            pass_on_device: None,
            replay: Replay::default(),
            feeding: Vec::new(),
        };
        let mut builder = Builder { names: HashMap::new(), params: params::Registrar::new(), weights };
        for (layer, nth) in layers {
            let name = layer.name().to_string();
            builder.add(&mut net, layer, nth).map_err(|e| e.in_nth_layer(&name, nth))?;
        }
        liveness::settle(&mut net, param.force_backward())?;
        in_place::check(&net)?;
        fuse::settle(&mut net);
        layout::settle(&mut net)?;
        gate::settle(&mut net);
        keep::settle(&mut net)?;
        net.allocate(builder.weights);
        Ok(net)
    }

    /// Shapes all layers again, after an input has changed its shape.
    pub fn reshape(&mut self) -> Result<()> {
        self.replay.forget();
        for i in 0..self.nodes.len() {
            self.cx.layer = i as u32;
            let node = &mut self.nodes[i];
            let bottom: Vec<&Shape> = node.bottom.iter().map(|&b| &self.blobs[b].shape).collect();
            let in_place = node.top.first().is_some_and(|t| node.bottom.first() == Some(t));
            let mut setup = Setup::new(&self.cx, node.top.len(), in_place, Some(&node.param_shapes));
            let result = node.layer.reshape(&bottom, &mut setup);
            let shapes = result.map_err(|e| e.in_nth_layer(&node.name, node.nth))?;
            for (&t, shape) in node.top.iter().zip(shapes) {
                let blob = &mut self.blobs[t];
                if node.param.r#type() == "Input" {
                    continue; // an input has the shape that the user gave it
                }
                let count = shape.count();
                blob.shape = shape;
                for id in [blob.data, blob.diff] {
                    self.store.resize(id, count);
                }
            }
        }
        fuse::settle(self);
        layout::settle(self)?;
        gate::settle(self);
        keep::settle(self)?;
        fuse_device::settle(self);
        Ok(())
    }

    /// Gives every blob that is used its memory, so that the first iteration allocates no more than the others.
    fn allocate(&mut self, weights: &mut Weights<T>) {
        for node in &mut self.nodes {
            node.lent.reserve(node.top.len().max(node.bottom.len()));
            let own = |id: &BufferId| self.store.keeps(*id); // what is shared has its memory
            let tops = node.top.iter().map(|&t| self.blobs[t].data);
            for id in tops.filter(own).collect::<Vec<_>>() {
                self.store.get_mut(id).allocate();
            }
            if node.need_backward {
                let own = |id: &BufferId| self.store.keeps(*id);
                let diffs = node.bottom.iter().chain(&node.top).map(|&b| self.blobs[b].diff);
                for id in diffs.filter(own).collect::<Vec<_>>() {
                    self.store.get_mut(id).allocate();
                }
                for (&p, _) in node.params.iter().zip(&node.learned).filter(|(_, l)| **l) {
                    weights.get_mut(p).diff.allocate();
                }
            }
        }
    }
}

/// Caffe builds such a net and does nothing; it is always a mistake, of the file or of the state.
fn no_layers(param: &NetParameter, state: &NetState) -> Error {
    if param.layer.is_empty() {
        return Error::new(Kind::Net, "the net has no layers").expected("at least one layer { ... }");
    }
    let stages = state.stage.join(", ");
    Error::new(Kind::Net, "no layer of the net belongs to the state it is built in")
        .expected("a layer whose include and exclude rules admit it")
        .found(format!("phase {}, level {}, stages [{stages}]", state.phase().as_str_name(), state.level()))
}

struct Builder<'a, T> {
    /// The newest blob of each name.
    names: HashMap<String, usize>,
    params: params::Registrar,
    weights: &'a mut Weights<T>,
}

impl<T: Real> Builder<'_, T> {
    fn add(&mut self, net: &mut Net<T>, mut param: LayerParameter, nth: usize) -> Result<()> {
        param.phase.get_or_insert(net.cx.phase as i32);
        let mut layer = registry::create::<T>(&param)?;
        if layer.auto_tops() {
            for i in param.top.len()..*layer.tops().start() {
                param.top.push(format!("({}_{i})", param.name()));
            }
        }
        check_counts(&param, layer.as_ref())?;
        let bottom: Vec<usize> = param.bottom.iter().filter_map(|b| self.names.get(b).copied()).collect();
        let in_place = !bottom.is_empty() && param.top.first() == param.bottom.first();
        net.cx.layer = net.nodes.len() as u32;

        let shapes: Vec<&Shape> = bottom.iter().map(|&b| &net.blobs[b].shape).collect();
        let mut setup = Setup::new(&net.cx, param.top.len(), in_place, None);
        let tops = layer.reshape(&shapes, &mut setup)?;
        let created = setup.into_params();
        if tops.len() != param.top.len() {
            let given = format!("{} tops are named", param.top.len());
            let error = Error::new(Kind::Net, format!("the layer gives {} tops", tops.len()));
            return Err(error.found(given).in_field("top"));
        }
        net.warnings.extend(layer.warnings().into_iter().map(|w| format!("layer \"{}\": {w}", param.name())));
        let top = self.wire(net, &param, layer.as_ref(), &bottom, tops)?;
        let param_shapes = created.iter().map(|p| p.shape.clone()).collect();
        let claimed = self.params.claim(&param, created, self.weights)?;
        param.blobs.clear(); // their values are in the weights now
        let loss_weight = loss_weights(&param, layer.as_ref())?;
        net.nodes.push(Node {
            name: param.name().to_string(),
            nth,
            propagate: propagate(&param, layer.as_ref())?,
            learned: claimed.iter().map(|&p| self.weights.get(p).lr_mult != 0.0).collect(),
            live: vec![false; top.len()],
            params: claimed,
            param_shapes,
            need_backward: false,
            leader: None,
            along: Along::default(),
            gated: false,
            lent: Vec::new(),
            layer,
            bottom,
            top,
            loss_weight,
            param,
        });
        Ok(())
    }

    /// Makes the top blobs, or takes the bottom's where the layer runs in place or shares.
    fn wire(
        &mut self,
        net: &mut Net<T>,
        param: &LayerParameter,
        layer: &dyn Layer<T>,
        bottom: &[usize],
        shapes: Vec<Shape>,
    ) -> Result<Vec<usize>> {
        let mut tops = Vec::with_capacity(shapes.len());
        for (j, (name, shape)) in param.top.iter().zip(shapes).enumerate() {
            let field = format!("top[{j}]");
            let same = param.bottom.get(j) == Some(name);
            if same && j == 0 && layer.sharing() == Sharing::InPlace {
                tops.push(bottom[0]);
                continue;
            }
            if same && !(j == 0 && layer.sharing() == Sharing::DataAndDiff) {
                return Err(Error::new(Kind::Net, format!("a {} layer cannot run in place", param.r#type()))
                    .found(format!("\"{name}\" as bottom and top"))
                    .suggest("give the top a name of its own")
                    .in_field(&field));
            }
            if !same && self.names.contains_key(name) {
                let maker = net.nodes.iter().find(|n| n.param.top.contains(name));
                let maker = maker.map_or("", |n| n.name.as_str());
                return Err(Error::new(
                    Kind::Net,
                    format!("the blob \"{name}\" is made already, by layer \"{maker}\""),
                )
                .expected("a name that no other top has, or the layer's own bottom (in place)")
                .in_field(&field));
            }
            let shared = |pick: fn(&Blob) -> BufferId| -> Option<BufferId> {
                bottom.first().map(|&b| pick(&net.blobs[b]))
            };
            let (data, diff) = match layer.sharing() {
                Sharing::Data if j + 1 == param.top.len() => (shared(|b| b.data), shared(|b| b.diff)),
                Sharing::Data => (shared(|b| b.data), None),
                Sharing::LastDiff => (None, bottom.last().map(|&b| net.blobs[b].diff)),
                Sharing::DataAndDiff => (shared(|b| b.data), shared(|b| b.diff)),
                Sharing::None | Sharing::InPlace => (None, None),
            };
            let count = shape.count();
            let data = data.unwrap_or_else(|| net.store.add(count));
            let diff = diff.unwrap_or_else(|| net.store.add(count));
            net.blobs.push(Blob { name: name.clone(), shape, data, diff });
            self.names.insert(name.clone(), net.blobs.len() - 1);
            tops.push(net.blobs.len() - 1);
        }
        Ok(tops)
    }
}

/// Numbers of bottoms and tops against what the layer takes and gives.
fn check_counts<T: Real>(param: &LayerParameter, layer: &dyn Layer<T>) -> Result<()> {
    for (what, range, count) in
        [("bottom", layer.bottoms(), param.bottom.len()), ("top", layer.tops(), param.top.len())]
    {
        if !range.contains(&count) {
            let expected = match (*range.start(), *range.end()) {
                (lo, hi) if lo == hi => format!("{lo}"),
                (lo, usize::MAX) => format!("{lo} or more"),
                (lo, hi) => format!("{lo} to {hi}"),
            };
            let s = if count == 1 { "" } else { "s" };
            return Err(Error::new(Kind::Net, format!("a {} layer with {count} {what}{s}", param.r#type()))
                .expected(expected)
                .in_field(what));
        }
    }
    Ok(())
}

/// Weights of the tops in the loss: the prototxt's, else the layer's own.
fn loss_weights<T: Real>(param: &LayerParameter, layer: &dyn Layer<T>) -> Result<Vec<f32>> {
    let (given, tops) = (&param.loss_weight, param.top.len());
    if given.is_empty() {
        return Ok((0..tops).map(|i| layer.loss_weight(i)).collect());
    }
    if given.len() != tops {
        return Err(Error::new(Kind::Value, "loss_weight must be given for every top or for none")
            .expected(format!("{tops} values"))
            .found(given.len())
            .in_field("loss_weight"));
    }
    Ok(given.clone())
}

/// Which bottoms the prototxt lets a gradient through, where the layer has one.
fn propagate<T: Real>(param: &LayerParameter, layer: &dyn Layer<T>) -> Result<Vec<bool>> {
    let (given, bottoms) = (&param.propagate_down, param.bottom.len());
    if given.is_empty() {
        return Ok((0..bottoms).map(|b| layer.differentiable(b)).collect());
    }
    if given.len() != bottoms {
        return Err(Error::new(Kind::Value, "propagate_down must be given for every bottom or for none")
            .expected(format!("{bottoms} values"))
            .found(given.len())
            .in_field("propagate_down"));
    }
    if let Some(b) = (0..bottoms).find(|&b| given[b] && !layer.differentiable(b)) {
        return Err(Error::new(
            Kind::Value,
            format!("no gradient with respect to bottom {b} (\"{}\") exists", param.bottom[b]),
        )
        .suggest("propagate_down: false")
        .in_field(&format!("propagate_down[{b}]")));
    }
    Ok(given.clone())
}
