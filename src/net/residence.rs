//! Where the values of a net are. Here, before a layer runs, is the only place that brings them from host to device and back.

use super::{Net, Node, fuse_device};
use crate::blob::{Buffer, Residence, Weights};
use crate::device::{Context, Gpu, Memory, Transfers, View};
use crate::error::Result;
use crate::layers::Inputs;
use crate::math::Real;

impl<T: Real> Net<T> {
    /// Runs the net on a device from now on, or on the host (`None`). Layers without device code go on running on the host,
    /// and what lies between is transferred and [counted](Net::transfers).
    ///
    /// Errors: a device that multiplies in bf16, for a net of double precision; what the device says.
    pub fn set_device(&mut self, device: Option<Gpu>, weights: &mut Weights<T>) -> Result<()> {
        device.as_ref().map_or(Ok(()), Gpu::suits::<T>)?;
        self.fetch(weights)?;
        if self.cx.device.is_some() && self.cx.device != device {
            // Memory is of the one device.
            self.store.leave_device();
            weights.iter_mut().flat_map(|p| [&mut p.data, &mut p.diff]).for_each(Buffer::leave_device);
        }
        self.replay.forget();
        self.feeding.clear();
        self.pass_on_device = device.as_ref().map(|gpu| Memory::new(gpu, 1)).transpose()?;
        self.cx.pass_on_device = self.pass_on_device.as_ref().map_or(View::NONE, Memory::view);
        self.cx.device = device;
        fuse_device::settle(self);
        Ok(())
    }

    /// The device it runs on.
    pub fn device(&self) -> Option<&Gpu> {
        self.cx.device.as_ref()
    }

    /// Transfers between host and device so far.
    pub fn transfers(&self) -> Transfers {
        self.cx.transfers
    }

    /// Brings to the host what the net keeps, values and gradients, and the weights: after a pass on a device, before
    /// [`Net::data`] and its like read them. On the host there is nothing to do.
    pub fn fetch(&mut self, weights: &mut Weights<T>) -> Result<()> {
        if self.cx.device.is_none() {
            return Ok(());
        }
        self.fetch_blobs()?;
        weights.to_host(&mut self.cx.transfers)
    }

    /// Brings the outputs to the host.
    pub fn fetch_outputs(&mut self) -> Result<()> {
        if self.cx.device.is_none() {
            return Ok(());
        }
        for blob in self.outputs() {
            let buffer = self.store.get_mut(self.blobs[blob].data);
            buffer.to_host(&mut self.cx.transfers)?;
            if buffer.host().iter().any(|v| v.as_f64().is_nan())
                && let Some(maker) = self.nodes.iter().rposition(|n| n.top.contains(&blob))
            {
                self.ask_again(maker)?;
            }
        }
        Ok(())
    }

    /// Shows a layer whose results are not numbers what it read that has no gradient, from the device where it is still there: labels that
    /// were computed there were looked at by nobody, and wrong ones give no number. The layer's error, if it finds one.
    pub(super) fn ask_again(&mut self, i: usize) -> Result<()> {
        let Net { nodes, blobs, store, cx, .. } = self;
        let node = &mut nodes[i];
        for (k, &b) in node.bottom.iter().enumerate() {
            let id = blobs[b].data;
            if cx.device.is_some() && !node.layer.differentiable(k) && store.holds(id) {
                fetch(store.get_mut(id), cx)?;
            }
        }
        let bottom = Inputs::data_of(store, blobs, &node.bottom);
        match node.layer.device_code().filter(|_| cx.device.is_some()) {
            Some(code) => code.check(&bottom).map_err(|e| e.in_nth_layer(&node.name, node.nth)),
            None => Ok(()),
        }
    }

    fn fetch_blobs(&mut self) -> Result<()> {
        let Net { blobs, store, cx, .. } = self;
        for id in blobs.iter().flat_map(|b| [b.data, b.diff]) {
            if store.keeps(id) {
                fetch(store.get_mut(id), cx)?;
            }
        }
        Ok(())
    }

    /// Brings what `debug_info` describes of a layer.
    pub(super) fn fetch_layer(&mut self, i: usize, weights: &mut Weights<T>) -> Result<()> {
        let Net { nodes, blobs, store, cx, .. } = self;
        if cx.device.is_none() {
            return Ok(());
        }
        for &b in nodes[i].top.iter().chain(&nodes[i].bottom) {
            for id in [blobs[b].data, blobs[b].diff] {
                if store.holds(id) {
                    fetch(store.get_mut(id), cx)?;
                }
            }
        }
        for &p in &nodes[i].params {
            fetch(&mut weights.get_mut(p).data, cx)?;
            fetch(&mut weights.get_mut(p).diff, cx)?;
        }
        Ok(())
    }

    /// Brings what layer i reads in its forward pass to where it runs, and gives what it writes memory there. The device, if it
    /// runs on one. `fused`: also for the layers whose work it does along.
    pub(super) fn bring_forward(
        &mut self,
        i: usize,
        fused: bool,
        weights: &mut Weights<T>,
    ) -> Result<Option<Gpu>> {
        let Net { nodes, blobs, store, cx, .. } = self;
        let node = &mut nodes[i];
        if cx.device.is_none() {
            return Ok(None); // all values are on the host
        }
        let gpu = place(node, cx);
        let (bottom, top, params) = match fused {
            true => (&node.along.bottom, &node.along.top, &node.along.params),
            false => (&node.bottom, &node.top, &node.params),
        };
        for &b in bottom {
            bring(store.get_mut(blobs[b].data), gpu.as_ref(), cx)?;
        }
        for &p in params {
            bring(&mut weights.get_mut(p).data, gpu.as_ref(), cx)?;
        }
        let Some(gpu) = gpu else { return Ok(None) };
        for (j, &t) in top.iter().enumerate() {
            if bottom.is_empty() && !node.layer.refills(j) {
                // It keeps what an earlier pass, or the user, has put there.
                bring(store.get_mut(blobs[t].data), Some(&gpu), cx)?;
                continue;
            }
            let in_place = bottom.iter().any(|&b| blobs[b].data == blobs[t].data);
            if !in_place {
                store.get_mut(blobs[t].data).overwrite_on_device(&gpu)?;
            }
        }
        Ok(Some(gpu))
    }

    /// The same for its backward pass.
    pub(super) fn bring_backward(&mut self, i: usize, weights: &mut Weights<T>) -> Result<Option<Gpu>> {
        let Net { nodes, blobs, store, cx, .. } = self;
        let node = &mut nodes[i];
        if cx.device.is_none() {
            return Ok(None);
        }
        let gpu = place(node, cx);
        let reads = node.layer.reads();
        for &b in node.bottom.iter().filter(|_| reads.bottom).chain(node.top.iter().filter(|_| reads.top)) {
            bring(store.get_mut(blobs[b].data), gpu.as_ref(), cx)?;
        }
        for (&t, _) in node.top.iter().zip(&node.live).filter(|(_, live)| **live) {
            bring(store.get_mut(blobs[t].diff), gpu.as_ref(), cx)?;
        }
        for (&p, &learned) in node.params.iter().zip(&node.learned) {
            let param = weights.get_mut(p);
            bring(&mut param.data, gpu.as_ref(), cx)?;
            if learned {
                bring(&mut param.diff, gpu.as_ref(), cx)?;
            }
        }
        let Some(gpu) = gpu else { return Ok(None) };
        for (&b, _) in node.bottom.iter().zip(&node.propagate).filter(|(_, wanted)| **wanted) {
            let in_place =
                node.top.iter().zip(&node.live).any(|(&t, &live)| live && blobs[t].diff == blobs[b].diff);
            if !in_place {
                store.get_mut(blobs[b].diff).overwrite_on_device(&gpu)?;
            }
        }
        Ok(Some(gpu))
    }
}

/// The device that a layer runs on; none where it has no code for one.
fn place<T: Real>(node: &mut Node<T>, cx: &Context<T>) -> Option<Gpu> {
    cx.device.clone().filter(|_| node.layer.device_code().is_some())
}

fn bring<T: Real>(buffer: &mut Buffer<T>, place: Option<&Gpu>, cx: &mut Context<T>) -> Result<()> {
    match place {
        None => buffer.to_host(&mut cx.transfers),
        Some(gpu) => buffer.to_device(gpu, &mut cx.transfers),
    }
}

/// To the host, if there is a value at all.
pub(super) fn fetch<T: Real>(buffer: &mut Buffer<T>, cx: &mut Context<T>) -> Result<()> {
    match buffer.residence() {
        Residence::Nowhere => Ok(()),
        _ => buffer.to_host(&mut cx.transfers),
    }
}
