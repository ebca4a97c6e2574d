//! Runs a net forward and backward, and gives access to its blobs.

use super::fuse::Along;
use super::keep::not_kept;
use super::residence::fetch;
use super::{Net, Node};
use crate::blob::{Blob, Buffer, BufferId, ParamId, Shape, Weights};
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, Forward, Inputs, Layer, Outputs, Params, Sharing, Step};
use crate::math::{Layouts, Real, awake};
use crate::proto::caffe::Phase;
use ndarray::{ArrayViewD, ArrayViewMutD, IxDyn};

/// What a call of a layer is about.
struct Call<'a> {
    bottom: &'a [usize],
    top: &'a [usize],
    params: &'a [ParamId],
    learned: &'a [bool],
    tail: &'a [Step],
    layouts: Layouts,
    gated: &'a [bool],
    propagate: &'a [bool],
    live: &'a [bool],
    need_backward: bool,
}

impl<T: Real> Node<T> {
    /// The layer, room for the buffers of a call, and what the call is about.
    fn parts(&mut self, fused: bool) -> (&mut dyn Layer<T>, &mut Vec<Buffer<T>>, Call<'_>) {
        let Node { layer, lent, propagate, live, need_backward, along, bottom, top, params, learned, .. } =
            self;
        let mut call = Call {
            bottom,
            top,
            params,
            learned,
            tail: &[],
            layouts: Layouts::default(),
            gated: &[],
            propagate,
            live,
            need_backward: *need_backward,
        };
        if fused {
            let Along { bottom, top, params, learned, tail, layouts, gated, .. } = along;
            call = Call { bottom, top, params, learned, tail, layouts: *layouts, gated, ..call };
        }
        (layer.as_mut(), lent, call)
    }
}

impl<T: Real> Net<T> {
    /// Runs all layers forward; the weighted sum of the losses. Each call is the next pass of the random streams.
    pub fn forward(&mut self, weights: &mut Weights<T>) -> Result<f64> {
        match self.as_a_whole().filter(|_| self.cx.phase == Phase::Test) {
            Some(gpu) => self.pass(&gpu, weights, &mut |_: &mut Weights<T>| Ok(()), true),
            None => self.forward_by_layer(weights),
        }
    }

    pub(super) fn forward_by_layer(&mut self, weights: &mut Weights<T>) -> Result<f64> {
        self.begin_pass()?;
        self.awake(|net| (0..net.nodes.len()).map(|i| net.forward_layer(i, weights)).sum())
    }

    /// Runs `work`, for which threads stay awake where it is they who compute.
    fn awake<R: Send>(&mut self, mut work: impl FnMut(&mut Self) -> R + Send) -> R {
        if self.cx.device.is_some() { work(self) } else { awake(|| work(self)) }
    }

    /// Begins a pass: what [`Net::forward`] does before it runs the layers one by one.
    pub fn begin_pass(&mut self) -> Result<()> {
        self.cx.pass = self.next_pass;
        if let Some(pass) = &self.pass_on_device {
            pass.write(&[self.cx.pass])?;
        }
        self.fused = self.fusion && self.debug.is_none();
        self.next_pass += 1;
        Ok(())
    }

    /// Number of the next forward pass, which keys the random streams.
    pub fn next_pass(&self) -> u64 {
        self.next_pass
    }

    /// Sets the number of the next forward pass: the same number draws the same dropout masks and negatives.
    pub fn set_next_pass(&mut self, pass: u64) {
        self.next_pass = pass;
    }

    /// Makes it the net of one of `count` solvers that train together, of number `rank`: its data layers share out the records, all else
    /// draws from the stream of `seed` + `rank`. It was built with `seed`, which is that of all of them.
    ///
    /// Source: Caffe's `DataLayer::Skip` and `Solver::Init`.
    pub fn set_share(&mut self, seed: u64, rank: u64, count: u64) {
        self.cx.seed = seed.wrapping_add(rank);
        self.replay.forget();
        self.nodes.iter_mut().for_each(|n| n.layer.set_share(rank, count));
    }

    /// Runs one layer forward; what it adds to the loss.
    pub fn forward_layer(&mut self, i: usize, weights: &mut Weights<T>) -> Result<f64> {
        self.run_forward(i, weights)?;
        let loss = self.loss(i)?;
        if self.debug.is_some() {
            self.fetch_layer(i, weights)?;
            self.describe_forward(i, weights);
        }
        Ok(loss)
    }

    /// What all layers add to the loss.
    pub(super) fn losses(&mut self) -> Result<f64> {
        (0..self.nodes.len()).map(|i| self.loss(i)).sum()
    }

    /// What a layer adds to the loss.
    fn loss(&mut self, i: usize) -> Result<f64> {
        let Net { nodes, blobs, store, cx, .. } = self;
        let node = &nodes[i];
        let (mut loss, mut odd) = (0.0, false);
        for (&t, &w) in node.top.iter().zip(&node.loss_weight).filter(|(_, w)| **w != 0.0) {
            store.get_mut(blobs[t].data).to_host(&mut cx.transfers)?;
            let values = store.get(blobs[t].data).host();
            loss += f64::from(w) * values.iter().map(|v| v.as_f64()).sum::<f64>();
            odd |= values.iter().any(|v| v.as_f64().is_nan());
        }
        if odd {
            self.ask_again(i)?;
        }
        Ok(loss)
    }

    /// Runs one layer forward, and leaves what it adds to the loss where it is.
    pub(super) fn run_forward(&mut self, i: usize, weights: &mut Weights<T>) -> Result<()> {
        let done_along = self.fused && self.nodes[i].leader.is_some();
        if !done_along {
            self.check_forward(i)?;
        }
        if let Some(gpu) = self.cx.device.clone().filter(|_| self.nodes[i].bottom.is_empty())
            && self.deliver(i, &gpu).map_err(|e| self.at(i, e))?
        {
            return Ok(());
        }
        let settled = matches!(self.nodes[i].layer.sharing(), Sharing::Data | Sharing::DataAndDiff);
        if !settled && !done_along {
            let fused = self.fused;
            let device = self.bring_forward(i, fused, weights).map_err(|e| self.at(i, e))?;
            let Net { nodes, blobs, store, cx, .. } = self;
            cx.layer = i as u32;
            let (layer, lent, call) = nodes[i].parts(fused);
            lent.extend(call.top.iter().map(|&t| store.lend(blobs[t].data)));
            let io = Forward {
                bottom: Inputs::data_of(store, blobs, call.bottom),
                top: Outputs::new(lent, blobs, call.top),
                params: Params::new(weights, call.params, call.learned),
                need_backward: call.need_backward,
                tail: call.tail,
                layouts: if cx.device.is_some() { Layouts::default() } else { call.layouts },
                gated: if cx.device.is_some() { &[] } else { call.gated },
            };
            let done = match device.as_ref().and_then(|gpu| Some((gpu, layer.device_code()?))) {
                Some((gpu, code)) => code.check(&io.bottom).and_then(|()| code.forward(gpu, cx, io)),
                None => layer.forward(cx, io),
            };
            for (&t, buffer) in call.top.iter().zip(lent.drain(..)) {
                store.give_back(blobs[t].data, buffer);
            }
            done.map_err(|e| self.at(i, e))?;
        }
        Ok(())
    }

    /// Runs all layers that need it backward, from the losses of the last forward pass. Parameter diffs are added to.
    ///
    /// Errors: what a layer finds wrong; a net for forward passes alone; a second time after one forward pass, in a net
    /// that does not keep all blobs.
    pub fn backward(&mut self, weights: &mut Weights<T>) -> Result<()> {
        self.goes_backward()?;
        self.awake(|net| (0..net.nodes.len()).rev().try_for_each(|i| net.backward_layer(i, weights)))
    }

    /// [`Net::backward`], telling after each layer which one it was.
    pub(super) fn backward_with(
        &mut self,
        weights: &mut Weights<T>,
        done: &mut dyn FnMut(usize, &mut Weights<T>) -> Result<()>,
    ) -> Result<()> {
        self.goes_backward()?;
        (0..self.nodes.len()).rev().try_for_each(|i| {
            self.backward_layer(i, weights)?;
            done(i, weights)
        })
    }

    fn goes_backward(&self) -> Result<()> {
        if self.forward_only {
            return Err(Error::new(Kind::Net, "the net was built for forward passes alone")
                .suggest("build it with force_backward, or with Keep::All"));
        }
        Ok(())
    }

    /// Runs one layer backward, if it needs it.
    pub fn backward_layer(&mut self, i: usize, weights: &mut Weights<T>) -> Result<()> {
        let node = &self.nodes[i];
        if !node.need_backward || (node.bottom.is_empty() && node.params.is_empty()) {
            return Ok(()); // a layer that makes data has no use for its tops' gradients
        }
        let Net { nodes, blobs, store, cx, .. } = self;
        let node = &mut nodes[i];
        let device = cx.device.as_ref().filter(|_| node.layer.device_code().is_some());
        for (&t, &w) in node.top.iter().zip(&node.loss_weight).filter(|(_, w)| **w != 0.0) {
            let diff = store.get_mut(blobs[t].diff);
            device.map_or(Ok(()), |gpu| diff.overwrite_on_device(gpu))?;
            diff.fill(T::from_f64(w.into()))?;
        }
        self.check_backward(i)?;
        // On a device each layer goes backward by itself.
        let fused = self.fused && self.cx.device.is_none();
        let leader = self.nodes[i].leader.filter(|&leader| !self.nodes[leader].along.forward_alone);
        let done_along = fused && (leader.is_some() || self.nodes[i].gated);
        if self.nodes[i].layer.sharing() != Sharing::DataAndDiff && !done_along {
            let device = self.bring_backward(i, weights).map_err(|e| self.at(i, e))?;
            let Net { nodes, blobs, store, cx, .. } = self;
            cx.layer = i as u32;
            let forward_alone = nodes[i].along.forward_alone;
            let (layer, lent, call) = nodes[i].parts(fused);
            for (&b, &wanted) in call.bottom.iter().zip(call.propagate) {
                lent.push(if wanted { store.lend(blobs[b].diff) } else { Default::default() });
            }
            let io = Backward {
                bottom: Inputs::data_of(store, blobs, call.bottom),
                top: Inputs::data_of(store, blobs, call.top),
                top_diff: Inputs::diff_of(store, blobs, call.top),
                live: call.live,
                bottom_diff: Outputs::new(lent, blobs, call.bottom),
                propagate: call.propagate,
                params: Params::new(weights, call.params, call.learned),
                tail: if forward_alone { &[] } else { call.tail },
                layouts: call.layouts,
                gated: call.gated,
            };
            let done = match device.as_ref().and_then(|gpu| Some((gpu, layer.device_code()?))) {
                Some((gpu, code)) => code.backward(gpu, cx, io),
                None => layer.backward(cx, io),
            };
            for ((&b, buffer), &wanted) in call.bottom.iter().zip(lent.drain(..)).zip(call.propagate) {
                if wanted {
                    store.give_back(blobs[b].diff, buffer);
                }
            }
            done.map_err(|e| self.at(i, e))?;
        }
        if self.debug.is_some() {
            self.fetch_layer(i, weights)?;
            self.describe_backward(i, weights);
        }
        Ok(())
    }

    /// Whether a layer may do along what layers in place on its top do (it may, unless told otherwise): a `BatchNorm` the
    /// `Scale` and `ReLU` behind it, for one. Blobs, parameters and gradients are the same within rounding. Switch it off
    /// to look at the blobs between [`Net::forward_layer`]s; `debug_info` does so by itself. Takes effect with
    /// the next forward pass.
    pub fn set_fusion(&mut self, on: bool) {
        self.replay.forget();
        self.fusion = on;
    }

    /// An error of layer i.
    fn at(&self, i: usize, error: Error) -> Error {
        error.in_nth_layer(&self.nodes[i].name, self.nodes[i].nth)
    }

    /// The layers, in the order in which they run.
    pub fn nodes(&self) -> &[Node<T>] {
        &self.nodes
    }

    /// The layers, for tools that look into them.
    pub fn nodes_mut(&mut self) -> &mut [Node<T>] {
        self.replay.forget();
        &mut self.nodes
    }

    /// All blobs. An in-place layer adds none.
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// Phase it was built for.
    pub fn phase(&self) -> Phase {
        self.cx.phase
    }

    /// What looked wrong but works, said by the layers when the net was built.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Index of the blob of a name; an error with the nearest name.
    pub fn blob(&self, name: &str) -> Result<usize> {
        self.blobs.iter().position(|b| b.name == name).ok_or_else(|| {
            Error::new(Kind::UnknownName, format!("the net has no blob \"{name}\""))
                .suggest_nearest(name, self.blobs.iter().map(|b| b.name.as_str()))
        })
    }

    /// Indices of the blobs that nobody reads: the net's outputs.
    pub fn outputs(&self) -> Vec<usize> {
        let read = |b: usize| {
            // An in-place layer reads and makes the same blob.
            self.nodes.iter().any(|n| n.bottom.contains(&b) && !n.top.contains(&b))
        };
        (0..self.blobs.len()).filter(|&b| !read(b)).collect()
    }

    /// Indices of the tops of `Input` layers.
    pub fn inputs(&self) -> Vec<usize> {
        let inputs = self.nodes.iter().filter(|n| n.param.r#type() == "Input");
        inputs.flat_map(|n| n.top.iter().copied()).collect()
    }

    /// Whether the values of a blob can be read after a pass ([`Keep`](super::Keep)).
    pub fn keeps(&self, blob: usize) -> bool {
        self.store.keeps(self.blobs[blob].data)
    }

    /// Values of a blob; empty where the net does not keep them, or where they are on a device ([`Net::fetch`]).
    pub fn data(&self, blob: usize) -> &[T] {
        self.kept(self.blobs[blob].data)
    }

    /// Values of a blob, for writing; empty where the net does not keep them.
    pub fn data_mut(&mut self, blob: usize) -> &mut [T] {
        self.kept_mut(self.blobs[blob].data)
    }

    /// Gradient of a blob; empty where backward never computes one or the net does not keep it.
    pub fn diff(&self, blob: usize) -> &[T] {
        self.kept(self.blobs[blob].diff)
    }

    /// Gradient of a blob, for writing: the diff of an output, before [`Net::backward`]. Empty where the net does not
    /// keep it.
    pub fn diff_mut(&mut self, blob: usize) -> &mut [T] {
        self.kept_mut(self.blobs[blob].diff)
    }

    fn kept(&self, id: BufferId) -> &[T] {
        if self.store.keeps(id) { self.store.get(id).host() } else { &[] }
    }

    fn kept_mut(&mut self, id: BufferId) -> &mut [T] {
        if !self.store.keeps(id) {
            return &mut [];
        }
        // Who writes a few of many values that are on a device finds the others beside them.
        match fetch(self.store.get_mut(id), &mut self.cx) {
            Ok(()) => self.store.get_mut(id).host_mut(),
            Err(_) => &mut [],
        }
    }

    /// Values of a blob as an array of its shape. Errors: no such blob; one that the net does not keep.
    pub fn view(&self, name: &str) -> Result<ArrayViewD<'_, T>> {
        let blob = self.blob(name)?;
        if !self.keeps(blob) {
            return Err(not_kept(name));
        }
        ArrayViewD::from_shape(IxDyn(&self.blobs[blob].shape), self.data(blob)).map_err(shape_error)
    }

    /// Values of a blob as an array of its shape, for writing.
    pub fn view_mut(&mut self, name: &str) -> Result<ArrayViewMutD<'_, T>> {
        let blob = self.blob(name)?;
        if !self.keeps(blob) {
            return Err(not_kept(name));
        }
        let shape = self.blobs[blob].shape.clone();
        ArrayViewMutD::from_shape(IxDyn(&shape), self.data_mut(blob)).map_err(shape_error)
    }

    /// Gives an input another shape, for a batch of another size. Call [`Net::reshape`] after the last one.
    pub fn set_input_shape(&mut self, blob: usize, shape: Shape) -> Result<()> {
        let blob = &mut self.blobs[blob];
        let count = shape.count();
        blob.shape = shape;
        for id in [blob.data, blob.diff] {
            self.store.resize(id, count);
        }
        Ok(())
    }

    /// Bytes that its blobs hold in host memory.
    pub fn bytes(&self) -> usize {
        self.store.bytes()
    }

    /// Whether the next passes describe themselves (`debug_info`).
    pub fn set_debug_info(&mut self, on: bool) {
        self.debug = if on { Some(self.take_debug()) } else { None };
    }

    /// What the last passes said of themselves, if the net has `debug_info`.
    pub fn take_debug(&mut self) -> Vec<String> {
        self.debug.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn describe_forward(&mut self, i: usize, weights: &Weights<T>) {
        let node = &self.nodes[i];
        let mut lines = Vec::new();
        for &t in &node.top {
            let (name, mean) = (&self.blobs[t].name, mean_abs(self.store.get(self.blobs[t].data).host()));
            lines.push(format!("    [Forward] Layer {}, top blob {name} data: {mean}", node.name));
        }
        for (k, &p) in node.params.iter().enumerate() {
            let mean = mean_abs(weights.get(p).data.host());
            lines.push(format!("    [Forward] Layer {}, param blob {k} data: {mean}", node.name));
        }
        self.debug.get_or_insert_default().extend(lines);
    }

    fn describe_backward(&mut self, i: usize, weights: &Weights<T>) {
        let node = &self.nodes[i];
        let mut lines = Vec::new();
        for (&b, _) in node.bottom.iter().zip(&node.propagate).filter(|(_, p)| **p) {
            let (name, mean) = (&self.blobs[b].name, mean_abs(self.store.get(self.blobs[b].diff).host()));
            lines.push(format!("    [Backward] Layer {}, bottom blob {name} diff: {mean}", node.name));
        }
        for (k, &p) in node.params.iter().enumerate().filter(|(k, _)| node.learned[*k]) {
            let mean = mean_abs(weights.get(p).diff.host());
            lines.push(format!("    [Backward] Layer {}, param blob {k} diff: {mean}", node.name));
        }
        self.debug.get_or_insert_default().extend(lines);
    }
}

/// Mean absolute value, printed as C++ streams do.
fn mean_abs<T: Real>(values: &[T]) -> f64 {
    values.iter().map(|v| v.as_f64().abs()).sum::<f64>() / values.len().max(1) as f64
}

fn shape_error(error: ndarray::ShapeError) -> Error {
    Error::new(Kind::Shape, format!("the blob cannot be viewed as an array: {error}"))
}
