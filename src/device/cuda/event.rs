//! Moments in the work of a device.

use super::{Gpu, driver_error};
use crate::error::{Error, Kind, Result};
use cudarc::driver::result::event;
use cudarc::driver::sys::{CUevent, CUevent_flags, CUresult, CUstream, culib};

/// A moment in the work of a device: when it has done what was asked of it before [`Event::record`].
pub struct Event {
    gpu: Gpu,
    pub(super) at: CUevent,
}

// SAFETY: the driver's handle may be used from any thread that has made the context current, which every method does first.
unsafe impl Send for Event {}
// SAFETY: as above; the driver orders calls on the same event.
unsafe impl Sync for Event {}

impl Event {
    /// One that has not been recorded.
    pub fn new(gpu: &Gpu) -> Result<Event> {
        gpu.enter()?;
        let at =
            event::create(CUevent_flags::CU_EVENT_DEFAULT).map_err(|e| driver_error("make an event", e))?;
        Ok(Event { gpu: gpu.clone(), at })
    }

    /// Becomes the moment when all is done that the device was asked for until now.
    pub fn record(&self) -> Result<()> {
        self.record_on(self.gpu.0.stream)
    }

    pub(super) fn record_on(&self, stream: CUstream) -> Result<()> {
        self.gpu.enter()?;
        // SAFETY: event and stream live.
        unsafe { event::record(self.at, stream) }.map_err(|e| driver_error("record an event", e))
    }

    /// Waits for the moment.
    pub fn wait(&self) -> Result<()> {
        self.gpu.not_in_capture("be waited for")?;
        self.gpu.enter()?;
        // SAFETY: the event lives.
        unsafe { event::synchronize(self.at) }.map_err(|e| driver_error("finish its work", e))
    }

    /// Whether the moment has come.
    pub fn happened(&self) -> Result<bool> {
        self.gpu.not_in_capture("be asked")?;
        self.gpu.enter()?;
        // SAFETY: the event lives.
        match unsafe { event::query(self.at) } {
            Ok(()) => Ok(true),
            Err(e) if e.0 == CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            Err(e) => Err(driver_error("finish its work", e)),
        }
    }

    /// Milliseconds from an earlier moment to this one, both of which have been waited for.
    pub fn since(&self, earlier: &Event) -> Result<f64> {
        self.gpu.enter()?;
        type Elapsed = unsafe extern "C" fn(*mut f32, CUevent, CUevent) -> CUresult;
        let mut ms = 0.0;
        // SAFETY: the signature is the driver's. Every driver has this name; the newer one that cudarc would call only those of CUDA 12.8.
        let done = unsafe {
            let elapsed = culib().get::<Elapsed>(b"cuEventElapsedTime");
            let elapsed = elapsed.map_err(|e| {
                Error::new(Kind::Device, format!("the driver has no cuEventElapsedTime: {e}"))
            })?;
            elapsed(&mut ms, earlier.at, self.at).result()
        };
        done.map_err(|e| driver_error("tell the time between two events", e))?;
        Ok(f64::from(ms))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.gpu.enter().is_ok() {
            // SAFETY: it was made in `new` and nobody else destroys it.
            let _ = unsafe { event::destroy(self.at) };
        }
    }
}
