//! Batches on their way to a device: the next one is copied while the device works on the one before.

use super::Net;
use crate::device::{Gpu, Staging};
use crate::error::Result;
use crate::math::Real;

/// The next batch of a layer that makes data ahead of time.
pub(super) struct Feeding<T> {
    staging: Staging<T>,
    /// Which one it is, by the records before it; nothing where no copy was begun.
    begun: Option<Option<u64>>,
}

impl<T: Real> Net<T> {
    /// Gives a layer's tops their batch on the device; whether it is a layer that makes data ahead of time.
    pub(super) fn deliver(&mut self, i: usize, gpu: &Gpu) -> Result<bool> {
        if !self.begin_feed(i, gpu)? {
            return Ok(false);
        }
        let Net { nodes, blobs, store, cx, feeding, .. } = self;
        let node = &mut nodes[i];
        let (Some(Some(feeding)), Some(feed)) = (feeding.get_mut(i), node.layer.feed()) else {
            return Ok(false);
        };
        for (top, &t) in node.top.iter().enumerate() {
            let buffer = store.get_mut(blobs[t].data);
            buffer.overwrite_on_device(gpu)?;
            feeding.staging.take(top, buffer.on_device_mut()?)?;
            cx.transfers.to_device += 1;
        }
        // The layer fills its memory again once it is told to go on.
        feeding.staging.wait()?;
        feeding.begun = None;
        for (top, &t) in node.top.iter().enumerate().skip(1) {
            // Labels are looked at on the host too.
            store.get_mut(blobs[t].data).mirror(feed.peek(gpu, top)?);
        }
        feed.advance();
        Ok(true)
    }

    /// Begins to copy the next batches, once a pass has been asked for. What is wrong with one will show when its turn comes.
    pub(super) fn begin_feeds(&mut self, gpu: &Gpu) {
        for i in 0..self.nodes.len() {
            let _ = self.begin_feed(i, gpu);
        }
    }

    /// Begins to copy the next batch of a layer, unless it is on its way; whether the layer makes data ahead of time.
    fn begin_feed(&mut self, i: usize, gpu: &Gpu) -> Result<bool> {
        let node = &mut self.nodes[i];
        let records = node.layer.records();
        let Some(feed) = node.layer.feed() else { return Ok(false) };
        if self.feeding.len() <= i {
            self.feeding.resize_with(i + 1, || None);
        }
        let feeding = match &mut self.feeding[i] {
            Some(feeding) => feeding,
            slot => slot.insert(Feeding { staging: Staging::new(gpu, node.top.len())?, begun: None }),
        };
        if feeding.begun == Some(records) {
            return Ok(true);
        }
        feeding.begun = None;
        for top in 0..node.top.len() {
            feeding.staging.begin(top, feed.peek(gpu, top)?)?;
        }
        feeding.begun = Some(records);
        Ok(true)
    }
}
