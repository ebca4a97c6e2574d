//! What a buffer needs of a device.

use crate::error::Result;
use std::any::Any;

/// A device that has memory of its own.
pub trait Device<T>: Send + Sync {
    /// Zeroed memory for `len` values.
    fn allocate(&self, len: usize) -> Result<Box<dyn DeviceMemory<T>>>;
}

/// Memory on a device.
pub trait DeviceMemory<T>: Send + Sync {
    /// Copies from the host; the lengths are equal.
    fn upload(&mut self, host: &[T]) -> Result<()>;
    /// Copies to the host; the lengths are equal.
    fn download(&self, host: &mut [T]) -> Result<()>;
    /// For the backend that made it, to reach its own type.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// How many transfers were made. A steady iteration of a net on a device makes none but for its batch and losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// Copies from host to device.
    pub to_device: u64,
    /// Copies from device to host.
    pub to_host: u64,
}
