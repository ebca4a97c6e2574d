//! Values on their way to a device while it works on those before.

use super::{Event, Gpu, Memory, View, driver_error};
use crate::blob::Element;
use crate::error::Result;
use cudarc::driver::result::{free_host, malloc_host, memcpy_htod_async, stream};
use cudarc::driver::sys::CUevent_wait_flags;
use std::ops::{Deref, DerefMut};

/// Host memory from which a device copies by itself: pinned, where it can be had.
pub struct Pinned<T> {
    /// The device it is pinned for, and where it is; plain memory where there is none.
    pinned: Option<(Gpu, *mut T, usize)>,
    plain: Vec<T>,
}

// SAFETY: it owns its memory alone, as a `Vec` does.
unsafe impl<T: Send> Send for Pinned<T> {}

impl<T: Element> Pinned<T> {
    /// Makes memory of values a device's to copy from: pinned and with the same values, or as it was where no memory can be pinned.
    pub fn new(gpu: Option<&Gpu>, plain: Vec<T>) -> Pinned<T> {
        let bytes = size_of_val(plain.as_slice());
        let pin = |gpu: &Gpu| {
            gpu.not_in_capture("pin memory").ok()?;
            gpu.enter().ok()?;
            // SAFETY: the context is current; the memory is freed once, in `drop`, and filled before it is read.
            unsafe {
                let at = malloc_host(bytes, 0).ok()?.cast::<T>();
                std::ptr::copy_nonoverlapping(plain.as_ptr(), at, plain.len());
                Some((gpu.clone(), at, plain.len()))
            }
        };
        let pinned = gpu.filter(|_| bytes > 0).and_then(pin);
        let plain = if pinned.is_some() { Vec::new() } else { plain };
        Pinned { pinned, plain }
    }
}

impl<T> Deref for Pinned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.pinned {
            // SAFETY: so many values were written there when it was made.
            Some((_, at, len)) => unsafe { std::slice::from_raw_parts(*at, *len) },
            None => &self.plain,
        }
    }
}

impl<T> DerefMut for Pinned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &self.pinned {
            // SAFETY: as above, and nobody else has them.
            Some((_, at, len)) => unsafe { std::slice::from_raw_parts_mut(*at, *len) },
            None => &mut self.plain,
        }
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        if let Some((gpu, at, _)) = &self.pinned
            && gpu.enter().is_ok()
        {
            // SAFETY: it was taken in `new`, and no copy reads it any more.
            unsafe {
                let _ = stream::synchronize(gpu.0.copies);
                let _ = free_host(at.cast());
            }
        }
    }
}

/// Device memory in which the next values wait for their turn. They come on a stream of their own.
pub struct Staging<T> {
    gpu: Gpu,
    parts: Vec<Option<Memory<T>>>,
    /// When the values are here, and when those before them have been taken.
    here: Event,
    taken: Event,
}

impl<T: Element> Staging<T> {
    /// For so many arrays.
    pub fn new(gpu: &Gpu, parts: usize) -> Result<Staging<T>> {
        let parts = (0..parts).map(|_| None).collect();
        Ok(Staging { gpu: gpu.clone(), parts, here: Event::new(gpu)?, taken: Event::new(gpu)? })
    }

    /// Begins to copy an array. Pinned memory is to stay as it is until [`Staging::wait`].
    pub fn begin(&mut self, part: usize, host: &Pinned<T>) -> Result<()> {
        let Some(slot) = self.parts.get_mut(part) else { return Ok(()) };
        let memory = Memory::ready(slot, &self.gpu, host.len())?;
        self.gpu.enter()?;
        let copies = self.gpu.0.copies;
        let wait = CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: events and streams live; the range lies in the memory, which nothing reads until `here`.
        unsafe {
            stream::wait_event(copies, self.taken.at, wait)
                .map_err(|e| driver_error("wait for an event", e))?;
            memcpy_htod_async(memory.view().at, host, copies)
                .map_err(|e| driver_error("take values from the host", e))?;
        }
        self.here.record_on(copies)
    }

    /// Has the device copy an array to its place, once it is here, before all that it is asked for from now on.
    pub fn take(&mut self, part: usize, to: View<T>) -> Result<()> {
        let Some(Some(memory)) = self.parts.get(part) else { return Ok(()) };
        self.gpu.enter()?;
        let wait = CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: event and stream live.
        unsafe { stream::wait_event(self.gpu.0.stream, self.here.at, wait) }
            .map_err(|e| driver_error("wait for an event", e))?;
        self.gpu.copy(memory.view().to(to.len), to)?;
        self.taken.record()
    }

    /// Waits until all is here: the host's memory may change.
    pub fn wait(&self) -> Result<()> {
        self.here.wait()
    }
}
