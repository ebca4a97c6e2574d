//! What the net lends a layer for one call.

use super::Step;
use crate::blob::{Blob, Buffer, Param, ParamId, Shape, Store, Weights};
use crate::device::View;
use crate::error::Result;
use crate::math::{Layouts, Real};

/// Blobs that a layer reads in this call: data of bottoms or tops, or diffs of tops.
#[derive(Clone, Copy)]
pub struct Inputs<'a, T> {
    store: &'a Store<T>,
    blobs: &'a [Blob],
    ids: &'a [usize],
    diff: bool,
}

impl<'a, T: Real> Inputs<'a, T> {
    pub(crate) fn data_of(store: &'a Store<T>, blobs: &'a [Blob], ids: &'a [usize]) -> Self {
        Inputs { store, blobs, ids, diff: false }
    }

    pub(crate) fn diff_of(store: &'a Store<T>, blobs: &'a [Blob], ids: &'a [usize]) -> Self {
        Inputs { store, blobs, ids, diff: true }
    }

    /// How many blobs.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Extents of a blob.
    pub fn shape(&self, i: usize) -> &'a Shape {
        &self.blobs[self.ids[i]].shape
    }

    /// The buffer of a blob.
    pub fn buffer(&self, i: usize) -> &'a Buffer<T> {
        let blob = &self.blobs[self.ids[i]];
        self.store.get(if self.diff { blob.diff } else { blob.data })
    }

    /// Values of a blob on the host. Empty where the layer runs in place (the values are then in the blob it writes),
    /// and for the diff of a top that is not [`live`](Backward::live).
    pub fn get(&self, i: usize) -> &'a [T] {
        self.buffer(i).host()
    }

    /// Values of a blob on the device, in a call of [`DeviceCode`](super::DeviceCode). An error where the layer runs in place.
    pub fn device(&self, i: usize) -> Result<View<T>> {
        self.buffer(i).on_device()
    }

    /// Whether the blob is the one the layer writes (it runs in place).
    pub fn in_place(&self, i: usize) -> bool {
        self.buffer(i).len() != self.shape(i).count()
    }
}

/// Blobs that a layer writes in this call: data of tops, or diffs of bottoms.
pub struct Outputs<'a, T> {
    lent: &'a mut [Buffer<T>],
    blobs: &'a [Blob],
    ids: &'a [usize],
}

impl<'a, T: Real> Outputs<'a, T> {
    pub(crate) fn new(lent: &'a mut [Buffer<T>], blobs: &'a [Blob], ids: &'a [usize]) -> Self {
        Outputs { lent, blobs, ids }
    }

    /// How many blobs.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Extents of a blob.
    pub fn shape(&self, i: usize) -> &'a Shape {
        &self.blobs[self.ids[i]].shape
    }

    /// The buffer of a blob. It has length 0 for a bottom diff that nobody asked for.
    pub fn buffer(&mut self, i: usize) -> &mut Buffer<T> {
        &mut self.lent[i]
    }

    /// Values of a blob on the host, for writing; they hold what the buffer held before.
    pub fn get(&mut self, i: usize) -> &mut [T] {
        self.lent[i].host_mut()
    }

    /// Values of a blob on the device, for writing.
    pub fn device(&mut self, i: usize) -> Result<View<T>> {
        self.lent[i].on_device_mut()
    }

    /// Values of two different blobs at once (`i < j`).
    pub fn pair(&mut self, i: usize, j: usize) -> (&mut [T], &mut [T]) {
        let (head, tail) = self.lent.split_at_mut(j);
        (head[i].host_mut(), tail[0].host_mut())
    }
}

/// The parameters of a layer.
pub struct Params<'a, T> {
    weights: &'a mut Weights<T>,
    ids: &'a [ParamId],
    learned: &'a [bool],
}

impl<'a, T: Real> Params<'a, T> {
    pub(crate) fn new(weights: &'a mut Weights<T>, ids: &'a [ParamId], learned: &'a [bool]) -> Self {
        Params { weights, ids, learned }
    }

    /// How many parameters.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// A parameter, for reading.
    pub fn get(&self, i: usize) -> &Param<T> {
        self.weights.get(self.ids[i])
    }

    /// A parameter, for writing.
    pub fn get_mut(&mut self, i: usize) -> &mut Param<T> {
        self.weights.get_mut(self.ids[i])
    }

    /// Values of a parameter on the host.
    pub fn data(&self, i: usize) -> &[T] {
        self.get(i).data.host()
    }

    /// Values of a parameter on the host, for writing.
    pub fn data_mut(&mut self, i: usize) -> &mut [T] {
        self.get_mut(i).data.host_mut()
    }

    /// Gradient of a parameter on the host, to add to.
    pub fn diff_mut(&mut self, i: usize) -> &mut [T] {
        self.get_mut(i).diff.host_mut()
    }

    /// Values and gradient of a parameter at once.
    pub fn data_and_diff(&mut self, i: usize) -> (&[T], &mut [T]) {
        let p = self.get_mut(i);
        (p.data.host(), p.diff.host_mut())
    }

    /// Values of a parameter on the device.
    pub fn device(&self, i: usize) -> Result<View<T>> {
        self.get(i).data.on_device()
    }

    /// Values of a parameter on the device, for writing.
    pub fn device_mut(&mut self, i: usize) -> Result<View<T>> {
        self.get_mut(i).data.on_device_mut()
    }

    /// Gradient of a parameter on the device, to add to.
    pub fn device_diff(&mut self, i: usize) -> Result<View<T>> {
        self.get_mut(i).diff.on_device_mut()
    }

    /// Whether the gradient of this parameter is asked for.
    pub fn learned(&self, i: usize) -> bool {
        self.learned[i]
    }
}

/// What a layer has for its forward pass.
pub struct Forward<'a, T> {
    /// Values of the bottoms.
    pub bottom: Inputs<'a, T>,
    /// Values of the tops, to be written.
    pub top: Outputs<'a, T>,
    /// Parameters; a layer may update statistics in them.
    pub params: Params<'a, T>,
    /// Whether this pass may be followed by a call of backward: if not, nothing need be kept for it.
    pub need_backward: bool,
    /// What the layers behind it do that it does along: as many steps as it said it [absorbs](super::Layer::absorbs), or
    /// none. Their parameters follow its own.
    pub tail: &'a [Step],
    /// How the channels of its bottoms, of what it adds along and of its tops lie: in planes, but where it [takes blocks](super::Layer::blocks).
    pub layouts: Layouts,
    /// The bottoms that backward [gates](super::Layer::gates): empty where it gates none.
    pub gated: &'a [bool],
}

/// What a layer has for its backward pass.
pub struct Backward<'a, T> {
    /// Values of the bottoms.
    pub bottom: Inputs<'a, T>,
    /// Values of the tops.
    pub top: Inputs<'a, T>,
    /// Gradients of the tops. Only where [`live`](Backward::live) says so are there values: what is read of any other
    /// top is empty or left over, and its gradient counts as zero.
    pub top_diff: Inputs<'a, T>,
    /// Which tops take part in the loss. Where `live[j]` is `false`, the gradient of top j is zero and nobody has
    /// written it: do not read `top_diff.get(j)`, which may have no elements at all. At least one top is live.
    pub live: &'a [bool],
    /// Gradients of the bottoms, to be overwritten where `propagate` says so.
    pub bottom_diff: Outputs<'a, T>,
    /// Which bottoms want a gradient.
    pub propagate: &'a [bool],
    /// Parameters; their diffs are added to.
    pub params: Params<'a, T>,
    /// The tail that forward had.
    pub tail: &'a [Step],
    /// The layouts that forward had: those of the gradients, too.
    pub layouts: Layouts,
    /// The bottoms that it [gates](super::Layer::gates), as forward had them.
    pub gated: &'a [bool],
}

impl<T: Real> Forward<'_, T> {
    /// Bottom and top on the device, of a layer with one of each; the same where it runs in place.
    pub fn on_device(&mut self) -> Result<(View<T>, View<T>)> {
        let y = self.top.device(0)?;
        let x = if self.bottom.in_place(0) { y } else { self.bottom.device(0)? };
        Ok((x, y))
    }
}

impl<T: Real> Backward<'_, T> {
    /// The gradients of top and bottom on the device, of a layer with one of each; the same where they share memory.
    pub fn diffs_on_device(&mut self) -> Result<(View<T>, View<T>)> {
        let dx = self.bottom_diff.device(0)?;
        let dy = if self.top_diff.in_place(0) { dx } else { self.top_diff.device(0)? };
        Ok((dy, dx))
    }
}
