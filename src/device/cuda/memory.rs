//! Memory on a GPU.

use super::{Gpu, driver_error};
use crate::blob::Element;
use crate::device::{Device, DeviceMemory};
use crate::error::{Error, Kind, Result};
use cudarc::driver::{result, sys};
use std::marker::PhantomData;
use std::sync::atomic::Ordering::Relaxed;

/// Memory for `len` values on a GPU. What it holds means nothing until it is written.
pub struct Memory<E> {
    gpu: Gpu,
    at: u64,
    len: usize,
    kind: PhantomData<E>,
}

/// Values on a device: where they begin, and how many. It is what kernels are given.
///
/// It keeps nothing alive: whoever takes one holds the buffer it came from until the launch is asked for. Freeing waits
/// for what was launched.
#[derive(Clone, Copy, Debug)]
pub struct View<E> {
    /// Address on the device; 0 for no values.
    pub at: u64,
    /// Number of values.
    pub len: usize,
    kind: PhantomData<E>,
}

impl<E> View<E> {
    /// No values: a kernel's null pointer.
    pub const NONE: View<E> = View { at: 0, len: 0, kind: PhantomData };

    /// Of these many values at an address.
    pub(crate) fn new(at: u64, len: usize) -> View<E> {
        View { at, len, kind: PhantomData }
    }

    /// The first `len` values.
    pub fn to(self, len: usize) -> View<E> {
        View::new(self.at, len.min(self.len))
    }

    /// The values from number `first` on.
    pub fn from(self, first: usize) -> View<E> {
        let first = first.min(self.len);
        View::new(self.at + (first * size_of::<E>()) as u64, self.len - first)
    }
}

impl<E> Memory<E> {
    /// Takes memory. An error where the device has too little left.
    pub fn new(gpu: &Gpu, len: usize) -> Result<Memory<E>> {
        gpu.not_in_capture("take memory")?;
        gpu.enter()?;
        let bytes = len.saturating_mul(size_of::<E>());
        let at = match bytes {
            0 => 0,
            // SAFETY: the context is current; the memory is freed once, in `drop`.
            _ => unsafe { result::malloc_sync(bytes) }.map_err(|e| {
                let left = result::mem_get_info().map(|(left, _)| left >> 20).unwrap_or(0);
                driver_error(
                    &format!("give {} MB of memory ({left} MB are left)", bytes.div_ceil(1 << 20)),
                    e,
                )
            })?,
        };
        gpu.0.held.fetch_add(bytes, Relaxed);
        Ok(Memory { gpu: gpu.clone(), at, len, kind: PhantomData })
    }

    /// All its values.
    pub fn view(&self) -> View<E> {
        View::new(self.at, self.len)
    }

    /// Memory in `slot` for at least `len` values: what is there on this device, or new memory in its place.
    pub fn ready<'a>(slot: &'a mut Option<Memory<E>>, gpu: &Gpu, len: usize) -> Result<&'a Memory<E>> {
        if slot.as_ref().is_some_and(|m| m.len < len || m.gpu != *gpu) {
            *slot = None;
        }
        match slot {
            Some(memory) => Ok(memory),
            None => Ok(slot.insert(Memory::new(gpu, len)?)),
        }
    }
}

impl Memory<u64> {
    /// Copies words from the host to its beginning.
    pub fn write(&self, words: &[u64]) -> Result<()> {
        self.send(words)
    }

    /// Copies its beginning to the host, when all that was asked of the device before is done.
    pub fn read(&self, words: &mut [u64]) -> Result<()> {
        self.take(words)
    }
}

impl<E> Memory<E> {
    fn send(&self, host: &[E]) -> Result<()> {
        fits(host.len(), self.len)?;
        if host.is_empty() {
            return Ok(());
        }
        self.gpu.not_in_capture("take values from the host")?;
        self.gpu.enter()?;
        // SAFETY: the range lies in this memory. The host's memory is pageable: the driver has copied it when the call returns.
        unsafe { result::memcpy_htod_async(self.at, host, self.gpu.0.stream) }
            .map_err(|e| driver_error("take values from the host", e))
    }

    fn take(&self, host: &mut [E]) -> Result<()> {
        fits(host.len(), self.len)?;
        if host.is_empty() {
            return Ok(());
        }
        self.gpu.not_in_capture("give values to the host")?;
        self.gpu.enter()?;
        // SAFETY: the range lies in this memory, and the copy is waited for.
        unsafe { result::memcpy_dtoh_async(host, self.at, self.gpu.0.stream) }
            .map_err(|e| driver_error("give values to the host", e))?;
        self.gpu.synchronize()
    }
}

impl<E> Drop for Memory<E> {
    fn drop(&mut self) {
        self.gpu.0.held.fetch_sub(self.len * size_of::<E>(), Relaxed);
        if self.at != 0 && self.gpu.enter().is_ok() {
            // SAFETY: it was allocated in `new` and nobody else frees it. Freeing waits for kernels that use it.
            let _ = unsafe { result::free_sync(self.at) };
        }
    }
}

impl<T: Element> DeviceMemory<T> for Memory<T> {
    fn capacity(&self) -> usize {
        self.len
    }

    fn address(&self) -> u64 {
        self.at
    }

    fn upload(&mut self, host: &[T]) -> Result<()> {
        self.send(host)
    }

    fn download(&self, host: &mut [T]) -> Result<()> {
        self.take(host)
    }

    fn fill(&mut self, len: usize, value: T) -> Result<()> {
        fits(len, self.len)?;
        self.gpu.fill(self.view(), len, value)
    }
}

impl Gpu {
    /// Sets the first `len` values.
    pub fn fill<T: Element>(&self, memory: View<T>, len: usize, value: T) -> Result<()> {
        fits(len, memory.len)?;
        if len == 0 {
            return Ok(());
        }
        self.enter()?;
        let (at, stream, value) = (memory.at, self.0.stream, value.as_f64());
        // SAFETY: the ranges lie in the memory of the view. A double is set as a column of low and one of high words.
        let done = unsafe {
            if size_of::<T>() == 4 {
                sys::cuMemsetD32Async(at, (value as f32).to_bits(), len, stream).result()
            } else {
                let bits = value.to_bits();
                let low = sys::cuMemsetD2D32Async(at, 8, bits as u32, 1, len, stream).result();
                low.and(sys::cuMemsetD2D32Async(at + 4, 8, (bits >> 32) as u32, 1, len, stream).result())
            }
        };
        done.map_err(|e| driver_error("fill memory", e))
    }

    /// Copies values on the device. The two may not overlap.
    pub fn copy<E>(&self, from: View<E>, to: View<E>) -> Result<()> {
        fits(from.len, to.len)?;
        if from.len == 0 || from.at == to.at {
            return Ok(());
        }
        self.enter()?;
        let bytes = from.len * size_of::<E>();
        // SAFETY: both ranges lie in the memory of their views.
        unsafe { result::memcpy_dtod_async(to.at, from.at, bytes, self.0.stream) }
            .map_err(|e| driver_error("copy values", e))
    }
}

impl<T: Element> Device<T> for Gpu {
    fn allocate(&self, len: usize) -> Result<Box<dyn DeviceMemory<T>>> {
        Ok(Box::new(Memory::new(self, len)?))
    }
}

fn fits(len: usize, room: usize) -> Result<()> {
    if len <= room {
        return Ok(());
    }
    Err(Error::new(Kind::Device, "more values than the device's memory was made for")
        .expected(room)
        .found(len))
}
