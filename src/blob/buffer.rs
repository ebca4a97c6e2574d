//! Memory of one blob's data or diff, mirrored on host and device.

use super::Element;
use crate::device::{Device, DeviceMemory, Transfers, View};
use crate::error::{Error, Kind, Result};
use std::sync::{Arc, OnceLock};

/// Where the current value of a buffer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residence {
    /// No value yet: reads as zeros once it is used.
    #[default]
    Nowhere,
    /// In host memory.
    Host,
    /// In device memory.
    Device,
    /// The same in both.
    Both,
}

/// Values of type `T` in host memory, device memory or both.
///
/// It takes memory when it is first used, so blobs nobody computes cost nothing. [`Buffer::to_host`] and
/// [`Buffer::to_device`] are the only transfers; the net calls them before it runs a layer.
#[derive(Default)]
pub struct Buffer<T> {
    len: usize,
    /// The values lie at `start..start + len`, so that they begin on a cache line.
    host: Vec<T>,
    start: usize,
    device: Option<Box<dyn DeviceMemory<T>>>,
    residence: Residence,
    /// What stands for the values, since somebody asked.
    stamp: OnceLock<Stamp>,
}

/// Stands for values of a [`Buffer`]: as long as it has the same stamp, nobody has changed them.
#[derive(Clone, Debug)]
pub struct Stamp(Arc<()>);

impl PartialEq for Stamp {
    fn eq(&self, other: &Stamp) -> bool {
        // Who compares holds both, so that no address has come to stand for something else.
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Bytes of a cache line, and of the widest vector register.
const ALIGN: usize = 64;

impl<T: Element> Buffer<T> {
    /// A buffer of `len` values that takes no memory yet.
    pub fn new(len: usize) -> Buffer<T> {
        Buffer {
            len,
            host: Vec::new(),
            start: 0,
            device: None,
            residence: Residence::Nowhere,
            stamp: OnceLock::new(),
        }
    }

    /// A buffer with these values in host memory.
    pub fn from_slice(values: &[T]) -> Buffer<T> {
        let mut buffer = Buffer::new(values.len());
        buffer.host_mut().copy_from_slice(values);
        buffer
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no values at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where its value is.
    pub fn residence(&self) -> Residence {
        self.residence
    }

    /// Changes the length. Values are kept as far as they go (not those that are on a device alone and find no room there);
    /// a buffer that shrinks keeps its memory.
    pub fn resize(&mut self, len: usize) {
        if len == self.len {
            return;
        }
        self.stamp.take();
        if self.device.as_ref().is_some_and(|d| d.capacity() < len) {
            self.device = None;
        }
        match (self.residence, &self.device) {
            (Residence::Device, Some(_)) => {
                self.len = len;
                return;
            }
            (Residence::Device, None) => self.residence = Residence::Nowhere,
            (Residence::Both, _) => self.residence = Residence::Host,
            _ => {}
        }
        let fits = self.start + len <= self.host.len();
        if self.residence != Residence::Nowhere && !fits {
            let old = std::mem::take(&mut self.host);
            let (start, kept) = (self.start, self.len.min(len));
            self.len = len;
            self.allocate();
            let to = self.start;
            self.host[to..to + kept].copy_from_slice(&old[start..start + kept]);
        } else {
            if fits && len > self.len {
                self.host[self.start + self.len..self.start + len].fill(T::default());
            }
            self.len = len;
        }
    }

    /// Makes it a buffer of `len` values of no meaning, in the memory it has as far as that goes.
    pub(super) fn reuse(&mut self, len: usize) {
        self.stamp.take();
        self.len = len;
        if self.device.as_ref().is_some_and(|d| d.capacity() < len) {
            self.device = None;
        }
        self.residence = match self.host.is_empty() {
            true => Residence::Nowhere,
            false => Residence::Host,
        };
    }

    /// Bytes of host memory that it holds.
    pub fn bytes(&self) -> usize {
        size_of_val(self.host.as_slice())
    }

    /// Takes host memory now, so that the first iteration allocates no more than the others.
    pub fn allocate(&mut self) {
        if self.host.len() < self.start + self.len || self.residence == Residence::Nowhere {
            let spare = ALIGN / size_of::<T>();
            self.host = vec![T::default(); self.len + spare];
            self.start = self.host.as_ptr().align_offset(ALIGN).min(spare);
            self.residence = Residence::Host;
        }
    }

    /// The stamp of its values on the host, for who keeps something made of them.
    pub fn stamp(&self) -> Stamp {
        self.stamp.get_or_init(|| Stamp(Arc::new(()))).clone()
    }

    /// Exchanges the values with another buffer of the same length and the same memory, at no cost; whether it could.
    pub fn exchange(&mut self, other: &mut Buffer<T>) -> bool {
        let fits = self.len == other.len && self.host.len() == other.host.len();
        let on_host = self.residence == Residence::Host && other.residence == Residence::Host;
        if fits && on_host {
            std::mem::swap(&mut self.stamp, &mut other.stamp);
            std::mem::swap(&mut self.host, &mut other.host);
            std::mem::swap(&mut self.start, &mut other.start);
        }
        fits && on_host
    }

    /// The values in host memory; an empty slice where they are not there.
    pub fn host(&self) -> &[T] {
        match self.residence {
            Residence::Host | Residence::Both => &self.host[self.start..self.start + self.len],
            Residence::Nowhere | Residence::Device => &[],
        }
    }

    /// The values in host memory for writing; zeros if there were none. A copy on the device becomes stale.
    ///
    /// Values that are on the device alone are lost: bring them with [`Buffer::to_host`] first.
    pub fn host_mut(&mut self) -> &mut [T] {
        self.stamp.take();
        self.allocate();
        self.residence = Residence::Host;
        &mut self.host[self.start..self.start + self.len]
    }

    /// Brings the values to host memory, if they are elsewhere.
    pub fn to_host(&mut self, count: &mut Transfers) -> Result<()> {
        match self.residence {
            Residence::Nowhere => self.allocate(),
            Residence::Host | Residence::Both => {}
            Residence::Device => {
                self.stamp.take();
                if self.host.len() < self.start + self.len {
                    self.allocate();
                    self.residence = Residence::Device; // until they are there
                }
                if let Some(memory) = &self.device {
                    memory.download(&mut self.host[self.start..self.start + self.len])?;
                    count.to_host += 1;
                }
                self.residence = Residence::Both;
            }
        }
        Ok(())
    }

    /// Brings the values to a device, if they are not there; zeros if there were none.
    pub fn to_device(&mut self, device: &dyn Device<T>, count: &mut Transfers) -> Result<()> {
        if matches!(self.residence, Residence::Device | Residence::Both) {
            return Ok(());
        }
        let (start, len) = (self.start, self.len);
        let host = self.residence == Residence::Host;
        let memory = self.memory(device)?;
        if !host {
            memory.fill(len, T::default())?;
            self.residence = Residence::Device;
        } else if let Some(memory) = &mut self.device {
            memory.upload(&self.host[start..start + len])?;
            count.to_device += 1;
            self.residence = Residence::Both;
        }
        Ok(())
    }

    /// Device memory in which all values are about to be written: what they were is lost, and nothing is transferred.
    pub fn overwrite_on_device(&mut self, device: &dyn Device<T>) -> Result<()> {
        self.memory(device)?;
        self.residence = Residence::Device;
        Ok(())
    }

    /// Takes the values that the device has for the host too, from somebody who knows them.
    pub fn mirror(&mut self, values: &[T]) {
        if self.residence != Residence::Device || values.len() != self.len {
            return;
        }
        self.stamp.take();
        if self.host.len() < self.start + self.len {
            self.allocate();
        }
        self.host[self.start..self.start + self.len].copy_from_slice(values);
        self.residence = Residence::Both;
    }

    /// Sets all values, wherever they are.
    pub fn fill(&mut self, value: T) -> Result<()> {
        let len = self.len;
        match (&mut self.device, self.residence) {
            (Some(memory), Residence::Device | Residence::Both) => {
                memory.fill(len, value)?;
                self.residence = Residence::Device;
            }
            _ => self.host_mut().fill(value),
        }
        Ok(())
    }

    /// Where its device memory is; 0 if it has none.
    pub(super) fn device_address(&self) -> u64 {
        self.device.as_ref().map_or(0, |memory| memory.address())
    }

    /// Makes it `len` values that were just written in the device memory it has.
    pub(super) fn written_on_device(&mut self, len: usize) {
        if self.device.as_ref().is_some_and(|d| d.capacity() >= len) {
            self.stamp.take();
            (self.len, self.residence) = (len, Residence::Device);
        }
    }

    /// Gives device memory back. Values that are there alone are lost: bring them with [`Buffer::to_host`] first.
    pub fn leave_device(&mut self) {
        self.device = None;
        self.residence = match self.residence {
            Residence::Both | Residence::Host => Residence::Host,
            Residence::Device | Residence::Nowhere => Residence::Nowhere,
        };
    }

    /// The device memory, with room for the values.
    fn memory(&mut self, device: &dyn Device<T>) -> Result<&mut (dyn DeviceMemory<T> + 'static)> {
        // As much as the host's, so that buffers which take turns here need no more later.
        let room = self.len.max(self.host.len().saturating_sub(ALIGN / size_of::<T>()));
        let memory = match self.device.take().filter(|m| m.capacity() >= self.len) {
            Some(memory) => memory,
            None => device.allocate(room)?,
        };
        Ok(self.device.insert(memory).as_mut())
    }

    /// The values on the device, for reading. An error where they are not there.
    pub fn on_device(&self) -> Result<View<T>> {
        match (&self.device, self.residence) {
            (Some(memory), Residence::Device | Residence::Both) => Ok(View::new(memory.address(), self.len)),
            _ => Err(Error::new(Kind::Device, "values that a GPU is to read are not there")
                .found(format!("{:?}", self.residence))),
        }
    }

    /// The values on the device, for writing: the copy on the host becomes stale.
    pub fn on_device_mut(&mut self) -> Result<View<T>> {
        let view = self.on_device()?;
        self.residence = Residence::Device;
        Ok(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Host memory that plays the device.
    struct Fake;
    struct FakeMemory(Vec<f32>);
    impl Device<f32> for Fake {
        fn allocate(&self, len: usize) -> Result<Box<dyn DeviceMemory<f32>>> {
            Ok(Box::new(FakeMemory(vec![0.0; len])))
        }
    }
    impl DeviceMemory<f32> for FakeMemory {
        fn capacity(&self) -> usize {
            self.0.len()
        }
        fn address(&self) -> u64 {
            7
        }
        fn upload(&mut self, host: &[f32]) -> Result<()> {
            self.0[..host.len()].copy_from_slice(host);
            Ok(())
        }
        fn download(&self, host: &mut [f32]) -> Result<()> {
            host.copy_from_slice(&self.0[..host.len()]);
            Ok(())
        }
        fn fill(&mut self, len: usize, value: f32) -> Result<()> {
            self.0[..len].fill(value);
            Ok(())
        }
    }

    #[test]
    fn a_value_moves_only_when_it_is_stale() {
        let mut count = Transfers::default();
        let mut b = Buffer::from_slice(&[1.0f32, 2.0]);
        b.to_device(&Fake, &mut count).unwrap();
        b.to_device(&Fake, &mut count).unwrap();
        assert_eq!((count.to_device, b.residence()), (1, Residence::Both));
        assert_eq!(b.host(), [1.0, 2.0]);
        assert_eq!((b.on_device().unwrap().at, b.on_device().unwrap().len), (7, 2));
        b.fill(7.0).unwrap();
        assert!(b.host().is_empty());
        b.to_host(&mut count).unwrap();
        b.to_host(&mut count).unwrap();
        assert_eq!((count.to_host, b.host()), (1, [7.0, 7.0].as_slice()));
        b.host_mut()[1] = 3.0;
        b.to_device(&Fake, &mut count).unwrap();
        assert_eq!(count.to_device, 2);
    }

    #[test]
    fn a_stamp_stands_for_values() {
        let mut b = Buffer::from_slice(&[1.0f32, 2.0]);
        let stamp = b.stamp();
        assert_eq!((b.host()[0], b.stamp()), (1.0, stamp.clone()));
        assert_ne!(Buffer::from_slice(&[1.0f32, 2.0]).stamp(), stamp);
        b.host_mut();
        let second = b.stamp();
        assert_ne!(second, stamp);
        let mut count = Transfers::default();
        b.to_device(&Fake, &mut count).unwrap();
        assert_eq!(b.stamp(), second);
        b.fill(3.0).unwrap();
        b.to_host(&mut count).unwrap();
        assert_ne!(b.stamp(), second);
        let (third, mut other) = (b.stamp(), Buffer::from_slice(&[5.0f32, 6.0]));
        let fourth = other.stamp();
        b.leave_device();
        b.to_host(&mut count).unwrap();
        assert!(b.exchange(&mut other));
        assert_eq!((b.stamp(), other.stamp()), (fourth, third));
        b.resize(1);
        assert_ne!(b.stamp(), other.stamp());
    }

    #[test]
    fn what_is_overwritten_is_not_transferred() {
        let mut count = Transfers::default();
        let mut b = Buffer::from_slice(&[1.0f32, 2.0, 3.0]);
        assert!(b.on_device().is_err() && b.on_device_mut().is_err());
        b.overwrite_on_device(&Fake).unwrap();
        b.fill(5.0).unwrap();
        b.reuse(2);
        b.overwrite_on_device(&Fake).unwrap();
        b.to_host(&mut count).unwrap();
        assert_eq!((b.host(), count), ([5.0, 5.0].as_slice(), Transfers { to_device: 0, to_host: 1 }));
        b.leave_device();
        assert_eq!((b.residence(), b.host()), (Residence::Host, [5.0, 5.0].as_slice()));
        let mut new = Buffer::<f32>::new(2);
        new.to_device(&Fake, &mut count).unwrap();
        new.to_host(&mut count).unwrap();
        assert_eq!((new.host(), count.to_device), ([0.0, 0.0].as_slice(), 0));
    }

    #[test]
    fn unused_buffers_take_no_memory_and_read_as_zeros() {
        let mut b = Buffer::<f64>::new(3);
        assert_eq!((b.residence(), b.host().len(), b.len()), (Residence::Nowhere, 0, 3));
        assert_eq!(b.host_mut(), [0.0; 3]);
        assert_eq!(b.host().as_ptr() as usize % ALIGN, 0);
    }

    #[test]
    fn memory_is_reused_for_fewer_values() {
        let mut b = Buffer::from_slice(&[1.0f32; 100]);
        let (at, bytes) = (b.host().as_ptr(), b.bytes());
        for len in [7, 100] {
            b.reuse(len);
            assert_eq!((b.host_mut().len(), b.host().as_ptr(), b.bytes()), (len, at, bytes));
        }
        b.reuse(1000);
        assert_eq!(b.host_mut(), [0.0; 1000]);
    }

    #[test]
    fn buffers_of_one_size_exchange_their_memory() {
        let (mut a, mut b) = (Buffer::from_slice(&[1.0f32, 2.0]), Buffer::from_slice(&[3.0, 4.0]));
        let (at_a, at_b) = (a.host().as_ptr(), b.host().as_ptr());
        assert!(a.exchange(&mut b));
        assert_eq!((a.host(), b.host()), ([3.0, 4.0].as_slice(), [1.0, 2.0].as_slice()));
        assert_eq!((a.host().as_ptr(), b.host().as_ptr()), (at_b, at_a));
        let mut larger = Buffer::from_slice(&[5.0; 9]);
        larger.resize(2);
        assert!(!a.exchange(&mut larger) && !a.exchange(&mut Buffer::new(2)));
        assert_eq!(a.host(), [3.0, 4.0]);
    }

    #[test]
    fn resizing_keeps_what_fits_and_clears_the_rest() {
        let mut b = Buffer::from_slice(&[1.0f32, 2.0, 3.0]);
        b.resize(2);
        b.resize(3);
        assert_eq!(b.host(), [1.0, 2.0, 0.0]);
        b.resize(500);
        assert_eq!((b.host().len(), b.host()[1], b.host()[499]), (500, 2.0, 0.0));
    }
}
