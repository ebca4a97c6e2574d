//! Memory in which one piece of work after the other is done and leaves nothing: one for all layers of a device.

use super::{Gpu, View, memory};
use crate::error::Result;
use cudarc::driver::result;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes that the workspace of a device may have, unless told otherwise.
pub const WORKSPACE: usize = 256 << 20;

pub(super) struct Workspace {
    limit: usize,
    block: Option<Arc<Block>>,
}

/// What was taken of the device: free when neither the device nor a graph that works in it needs it any more.
pub(super) struct Block {
    at: u64,
    bytes: usize,
    held: Arc<AtomicUsize>,
}

impl Default for Workspace {
    fn default() -> Workspace {
        Workspace { limit: WORKSPACE, block: None }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Relaxed);
        // SAFETY: it was taken in `Gpu::workspace` and nobody else frees it; who drops it has made the context current. Freeing waits for
        // what works in it.
        let _ = unsafe { result::free_sync(self.at) };
    }
}

impl Gpu {
    /// How many bytes the workspace may have from now on: [`WORKSPACE`] if this is never said. What was chosen before stays; so say it before
    /// a net runs.
    pub fn set_workspace(&self, bytes: usize) {
        self.shared().limit = bytes;
    }

    /// How many bytes the workspace may have.
    pub fn workspace_limit(&self) -> usize {
        self.shared().limit
    }

    /// Room for `len` values in the workspace. It holds nothing from before, and belongs to the caller until the next call: whatever works
    /// in it is asked for by then, and done in that order.
    ///
    /// It grows to the largest room that was asked for. The limit is for those who can do with less: nothing is refused here.
    ///
    /// Errors: too little memory; a capture, in which it cannot grow.
    pub fn workspace<E>(&self, len: usize) -> Result<View<E>> {
        let bytes = len.saturating_mul(size_of::<E>());
        if bytes == 0 {
            return Ok(View::NONE);
        }
        let mut shared = self.shared();
        if let Some(block) = shared.block.as_ref().filter(|b| b.bytes >= bytes) {
            return Ok(View::new(block.at, len));
        }
        self.not_in_capture("take memory")?;
        self.enter()?;
        // The old one goes first, so that the new one may lie in its place.
        shared.block = None;
        let (at, held) = (memory::take(bytes)?, self.0.held.clone());
        held.fetch_add(bytes, Relaxed);
        shared.block = Some(Arc::new(Block { at, bytes, held }));
        Ok(View::new(at, len))
    }

    /// What the workspace is now, to be kept by who goes on working in it.
    pub(super) fn workspace_block(&self) -> Option<Arc<Block>> {
        self.shared().block.clone()
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Workspace> {
        self.0.shared.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Workspace {
    /// Lets go of what was taken; the context is current.
    pub fn release(&mut self) {
        self.block = None;
    }
}
