//! What a buffer needs of a device.

use crate::error::Result;

/// A device that has memory of its own.
pub trait Device<T>: Send + Sync {
    /// Memory for `len` values, which mean nothing until they are written.
    fn allocate(&self, len: usize) -> Result<Box<dyn DeviceMemory<T>>>;
}

/// Memory on a device.
pub trait DeviceMemory<T>: Send + Sync {
    /// How many values it has room for.
    fn capacity(&self) -> usize;
    /// Where it lies on its device.
    fn address(&self) -> u64;
    /// Copies from the host to its beginning.
    fn upload(&mut self, host: &[T]) -> Result<()>;
    /// Copies its beginning to the host.
    fn download(&self, host: &mut [T]) -> Result<()>;
    /// Sets the first `len` values.
    fn fill(&mut self, len: usize, value: T) -> Result<()>;
}

/// How many transfers were made. A steady iteration of a net on a device makes none but for its batch and losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// Copies from host to device.
    pub to_device: u64,
    /// Copies from device to host.
    pub to_host: u64,
}
