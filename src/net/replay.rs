//! Whole iterations on a device, and whole forward passes of a test: captured in a graph once the net has run, then repeated at the cost of
//! one launch.

use super::{Hooks, Net, Node, Way};
use crate::blob::{Blob, Buffer, BufferId, Residence, Weights};
use crate::device::{Gpu, Graph};
use crate::error::Result;
use crate::layers::{Inputs, Sharing};
use crate::math::Real;
use std::mem::take;

/// Iterations that run layer by layer before one is captured: the first takes memory and compiles kernels, in the second everything is where
/// it stays.
const WARM_UP: u32 = 2;

/// What is known of repeating the iterations of a net.
pub(super) struct Replay {
    /// Whether it is wanted.
    on: bool,
    /// Whether the passes so far went forward alone.
    forward_only: bool,
    /// Whether the last pass was one that more follow before the update.
    more_follow: bool,
    /// What is known of such passes, and of the others: of the last one's kind, and of the other.
    now: Kind,
    other: Kind,
    /// Where memory is now; kept for its room.
    layout: Vec<(u64, bool)>,
}

/// Passes that ask the same of the device.
#[derive(Default)]
struct Kind {
    /// How many there were since the net or its place changed.
    runs: u32,
    captured: Option<Captured>,
    /// Why it cannot be done.
    refused: Option<String>,
}

struct Captured {
    graph: Graph,
    /// Where memory was when it was captured. It is worth nothing where that has changed.
    layout: Vec<(u64, bool)>,
    /// Whose values the places hold at the end, and which of them were computed.
    state: Vec<(Option<usize>, bool)>,
    /// Which parameters and gradients it may have written: not those that the host had the values of at the end.
    written: Vec<bool>,
}

/// How a net runs its iterations on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Iterations {
    /// Layer by layer, so far or because that is wanted.
    Launched,
    /// From a graph.
    Replayed,
    /// Layer by layer, because this keeps them out of a graph.
    Refused(String),
}

impl Default for Replay {
    fn default() -> Replay {
        let (now, other) = Default::default();
        Replay { on: true, forward_only: false, more_follow: false, now, other, layout: Vec::new() }
    }
}

impl Replay {
    /// Forgets what was captured: the net has changed.
    pub fn forget(&mut self) {
        (self.now, self.other) = Default::default();
    }

    /// The next pass is of this kind.
    fn turn_to(&mut self, more_follow: bool) {
        if self.more_follow != more_follow {
            self.more_follow = more_follow;
            std::mem::swap(&mut self.now, &mut self.other);
        }
    }
}

impl<T: Real> Net<T> {
    /// Whether iterations on a device, and forward passes of a net in the test phase, are captured in a graph and repeated from it (they are,
    /// unless told otherwise). All results are the same.
    pub fn set_graphs(&mut self, on: bool) {
        self.replay.forget();
        self.replay.on = on;
    }

    /// How the last iteration on a device was run, or the last forward pass of a test.
    pub fn iterations(&self) -> Iterations {
        match (&self.replay.now.captured, &self.replay.now.refused) {
            (Some(_), _) => Iterations::Replayed,
            (None, Some(why)) => Iterations::Refused(why.clone()),
            (None, None) => Iterations::Launched,
        }
    }

    /// Forgets a captured iteration, because what comes after backward is another now.
    pub(crate) fn forget_graph(&mut self) {
        self.replay.forget();
    }

    /// [`Net::forward`], [`Net::backward`], with all that goes along. The weighted sum of the losses.
    ///
    /// On a device the losses are read when everything has been asked for, and from the third call on a graph takes the place of single
    /// launches, where the net allows it: only layers that have code for the device, but for those at its beginning that make data; no
    /// `debug_info`.
    pub(crate) fn iterate(&mut self, weights: &mut Weights<T>, hooks: &mut dyn Hooks<T>) -> Result<f64> {
        match self.as_a_whole() {
            Some(gpu) => self.pass(&gpu, weights, hooks, false),
            None => {
                let loss = self.forward_by_layer(weights)?;
                self.backward(weights)?;
                hooks.update(weights)?;
                Ok(loss)
            }
        }
    }

    /// The device, if passes are asked of one as a whole.
    pub(super) fn as_a_whole(&self) -> Option<Gpu> {
        self.cx.device.clone().filter(|_| self.debug.is_none())
    }

    /// A pass on a device: forward, and unless it goes forward only, backward and what is behind it.
    pub(super) fn pass(
        &mut self,
        gpu: &Gpu,
        weights: &mut Weights<T>,
        hooks: &mut dyn Hooks<T>,
        forward_only: bool,
    ) -> Result<f64> {
        if self.replay.forward_only != forward_only {
            self.replay.forget();
            self.replay.forward_only = forward_only;
        }
        self.replay.turn_to(hooks.more_follow());
        self.begin_pass()?;
        let first = self.make_data(gpu, weights)?;
        if self.replay.on && self.replay.now.refused.is_none() && self.replay.now.runs == 0 {
            self.replay.now.refused = self.refusal(first);
        }
        let replayed = self.replay(gpu, first, weights, hooks)?;
        if !replayed {
            self.launch_all(first, weights, hooks)?;
            self.replay.now.runs = self.replay.now.runs.saturating_add(1);
        }
        self.begin_feeds(gpu);
        hooks.asked()?;
        self.losses()
    }

    /// The iteration as a graph, if there is one or it can be made now; whether it was.
    fn replay(
        &mut self,
        gpu: &Gpu,
        first: usize,
        weights: &mut Weights<T>,
        hooks: &mut dyn Hooks<T>,
    ) -> Result<bool> {
        if !self.replay.on {
            return Ok(false);
        }
        let layout = self.layout(weights);
        let way = match &self.replay.now {
            Kind { refused: Some(_), .. } | Kind { runs: 0..WARM_UP, .. } => Way::Launch,
            Kind { captured: None, .. } => Way::Capture,
            Kind { captured: Some(captured), .. } if captured.layout == layout => Way::Replay,
            Kind { captured: Some(_), .. } => {
                self.replay.forget(); // something has moved: once more from the start
                Way::Launch
            }
        };
        if hooks.agree(way, None)?.is_some() {
            self.replay.forget();
            self.replay.layout = layout;
            return Ok(false);
        }
        if way == Way::Launch {
            self.replay.layout = layout;
            return Ok(false);
        }
        if way == Way::Capture {
            let captured = gpu.capture(|| self.launch_all(first, weights, hooks));
            // An error of a layer will show again when it is run.
            let refused = captured.as_ref().err().map(ToString::to_string);
            let ready = if refused.is_some() { Way::Launch } else { Way::Replay };
            let others = hooks.agree(ready, refused.as_deref())?;
            match captured {
                Ok(graph) if others.is_none() => {
                    let mut state = Vec::new();
                    self.store.state(&mut state);
                    let layout = layout.clone();
                    let params = self.nodes.iter().flat_map(|n| &n.params).map(|&p| weights.get(p));
                    let diffs = !self.replay.forward_only;
                    let written = params.flat_map(|p| [Some(&p.data), diffs.then_some(&p.diff)]).flatten();
                    let written = written.map(|b| b.residence() == Residence::Device).collect();
                    self.replay.now.captured = Some(Captured { graph, layout, state, written });
                }
                _ => {
                    (self.replay.now.refused, self.replay.layout) = (refused.or(others), layout);
                    return Ok(false);
                }
            }
        } else {
            self.check_bottoms(first)?;
        }
        self.replay.layout = layout;
        let Some(captured) = &self.replay.now.captured else { return Ok(false) };
        captured.graph.launch()?;
        self.store.set_state(&captured.state);
        let (mut written, diffs) = (captured.written.iter(), !self.replay.forward_only);
        for param in self.nodes.iter().flat_map(|n| &n.params) {
            let param = weights.get_mut(*param);
            for buffer in [Some(&mut param.data), diffs.then_some(&mut param.diff)].into_iter().flatten() {
                if written.next() == Some(&true) {
                    buffer.on_device_mut()?;
                }
            }
        }
        Ok(true)
    }

    /// Everything but the data, layer by layer.
    fn launch_all(&mut self, first: usize, weights: &mut Weights<T>, hooks: &mut dyn Hooks<T>) -> Result<()> {
        for i in first..self.nodes.len() {
            self.run_forward(i, weights)?;
        }
        if self.replay.forward_only {
            return Ok(());
        }
        self.backward_with(weights, &mut |i, weights| hooks.layer_done(i, weights))?;
        hooks.update(weights)
    }

    /// Runs the layers at the beginning that make data, up to the last one that does so on the host, and brings to the device what the others
    /// read, parameters included. How many layers that were.
    fn make_data(&mut self, gpu: &Gpu, weights: &mut Weights<T>) -> Result<usize> {
        let beginning = self.nodes.iter().take_while(|n| n.bottom.is_empty() || settled(n)).count();
        let first = self.nodes[..beginning].iter_mut().rposition(makes_data).map_or(0, |last| last + 1);
        for i in 0..first {
            self.run_forward(i, weights)?;
        }
        let Net { nodes, blobs, store, cx, .. } = self;
        let (data, rest) = nodes.split_at_mut(first);
        for node in rest.iter_mut().filter(|n| !settled(n)) {
            if node.layer.device_code().is_none() {
                continue;
            }
            for id in node.bottom.iter().map(|&b| blobs[b].data).filter(|&id| made_by(data, blobs, id)) {
                store.get_mut(id).to_device(gpu, &mut cx.transfers)?;
            }
            for (&p, &learned) in node.params.iter().zip(&node.learned) {
                let param = weights.get_mut(p);
                param.data.to_device(gpu, &mut cx.transfers)?;
                if learned && node.need_backward && !self.replay.forward_only {
                    param.diff.to_device(gpu, &mut cx.transfers)?;
                }
            }
        }
        Ok(first)
    }

    /// What the layers have to say of their bottoms that the host has, in an iteration that does not call them.
    fn check_bottoms(&mut self, first: usize) -> Result<()> {
        let Net { nodes, blobs, store, .. } = self;
        let (data, rest) = nodes.split_at_mut(first);
        for node in rest {
            let mut read = node.bottom.iter().map(|&b| blobs[b].data);
            if !read.any(|id| made_by(data, blobs, id)) {
                continue;
            }
            let bottom = Inputs::data_of(store, blobs, &node.bottom);
            if let Some(code) = node.layer.device_code() {
                code.check(&bottom).map_err(|e| e.in_nth_layer(&node.name, node.nth))?;
            }
        }
        Ok(())
    }

    /// Why the layers behind the data cannot be captured.
    fn refusal(&mut self, first: usize) -> Option<String> {
        let mut nodes = self.nodes.iter_mut().skip(first);
        let on_host = nodes.find_map(|n| (!settled(n) && n.layer.device_code().is_none()).then_some(n));
        on_host.map(|n| format!("layer \"{}\" ({}) runs on the host", n.name, n.param.r#type()))
    }

    fn layout(&mut self, weights: &Weights<T>) -> Vec<(u64, bool)> {
        let mut layout = take(&mut self.replay.layout);
        layout.clear();
        // Another precision would be other launches.
        layout.push((self.cx.device.as_ref().map_or(0, |gpu| gpu.precision() as u64), false));
        self.store.layout(&mut layout);
        for param in self.nodes.iter().flat_map(|n| &n.params) {
            let param = weights.get(*param);
            let at = |b: &Buffer<T>| b.on_device().map_or((0, true), |v| (v.at, false));
            layout.push(at(&param.data));
            if !self.replay.forward_only {
                layout.push(at(&param.diff)); // a test does not look at them, and the first iteration makes them
            }
        }
        layout
    }
}

/// Whether one of these layers makes a buffer.
fn made_by<T: Real>(nodes: &[Node<T>], blobs: &[Blob], id: BufferId) -> bool {
    nodes.iter().flat_map(|n| &n.top).any(|&t| blobs[t].data == id)
}

/// Whether a layer makes data on the host.
fn makes_data<T: Real>(node: &mut Node<T>) -> bool {
    node.bottom.is_empty() && node.layer.device_code().is_none()
}

/// Whether a layer has nothing to do in a forward pass: its tops are its bottoms.
fn settled<T: Real>(node: &Node<T>) -> bool {
    matches!(node.layer.sharing(), Sharing::Data | Sharing::DataAndDiff)
}
