//! Graphs: work that was asked of a device once, to be asked again at the cost of a single launch.

use super::workspace::Block;
use super::{Gpu, driver_error};
use crate::error::{Error, Kind, Result};
use cudarc::driver::result::{graph, stream};
use cudarc::driver::sys::{CUgraphExec, CUgraphInstantiate_flags, CUstreamCaptureMode};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Launches, copies and fills in the order in which they were captured.
///
/// It holds addresses and numbers, not memory: whoever keeps a graph sees to it that all that the work touches stays where it was.
pub struct Graph {
    exec: CUgraphExec,
    /// The workspace in which it works, though the device may have a larger one by now. Freed before the device is let go.
    _workspace: Option<Arc<Block>>,
    gpu: Gpu,
}

// SAFETY: the driver's handle may be used from any thread that has made the context current, which every method does first.
unsafe impl Send for Graph {}
// SAFETY: as above; a launch changes nothing of the graph.
unsafe impl Sync for Graph {}

impl Gpu {
    /// Captures what `work` asks of the device, none of which is done. All that it needs is to be there already, so let it run once before:
    /// memory cannot be taken in a capture, nor kernels compiled, values moved to or from the host, or the device waited for.
    ///
    /// Errors: those of `work`, in particular where it does one of these; what the driver says. The device is then as before.
    pub fn capture(&self, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
        self.enter()?;
        if self.0.workspace == 0 {
            return Err(Error::new(
                Kind::Device,
                "there is no memory for the workspace of cuBLAS in a graph",
            ));
        }
        let failed = |e| driver_error("capture its work", e);
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives as long as `Inner`.
        unsafe { stream::begin_capture(self.0.stream, mode) }.map_err(failed)?;
        self.0.capturing.store(true, Relaxed);
        let done = work();
        self.0.capturing.store(false, Relaxed);
        // SAFETY: the capture was begun above, by this thread.
        let captured = unsafe { stream::end_capture(self.0.stream) };
        let captured = match (done, captured) {
            (Ok(()), captured) => captured.map_err(failed)?,
            (Err(error), captured) => {
                if let Ok(captured) = captured {
                    // SAFETY: nobody else has it.
                    let _ = unsafe { graph::destroy(captured) };
                }
                return Err(error);
            }
        };
        // SAFETY: the graph is the one just captured; it is destroyed once, and what was made from it stays.
        let exec = unsafe {
            let exec = graph::instantiate(captured, CUgraphInstantiate_flags(0));
            let _ = graph::destroy(captured);
            exec.map_err(failed)?
        };
        Ok(Graph { exec, _workspace: self.workspace_block(), gpu: self.clone() })
    }

    /// An error in a capture, which cannot hold what the caller is about to do. `doing` completes "the GPU cannot ...".
    pub(super) fn not_in_capture(&self, doing: &str) -> Result<()> {
        match self.0.capturing.load(Relaxed) {
            false => Ok(()),
            true => {
                Err(Error::new(Kind::Device, format!("the GPU cannot {doing} while its work is captured")))
            }
        }
    }
}

impl Graph {
    /// Asks all of it of the device again.
    pub fn launch(&self) -> Result<()> {
        self.gpu.enter()?;
        // SAFETY: graph and stream live as long as this; that what the graph touches is still there is its owner's duty.
        unsafe { graph::launch(self.exec, self.gpu.0.stream) }
            .map_err(|e| driver_error("repeat captured work", e))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // A graph that still runs goes when it is done.
        if self.gpu.enter().is_ok() {
            // SAFETY: it was made in `capture` and nobody else destroys it.
            let _ = unsafe { graph::exec_destroy(self.exec) };
        }
    }
}
