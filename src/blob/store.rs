//! The owner of all buffers of a net.

use super::{Buffer, Element, Shape};
use std::mem::take;

/// Name of a buffer inside its [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferId(usize);

/// A named array with its gradient: a shape and two buffers. Blobs with equal ids share memory
/// (in-place tops, `Split`, `Reshape`, `Flatten`), which is settled when the net is built.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Name in the prototxt.
    pub name: String,
    /// Extents.
    pub shape: Shape,
    /// Values.
    pub data: BufferId,
    /// Gradient of the loss with respect to the values.
    pub diff: BufferId,
}

/// Owns all buffers of a net and lends them out.
///
/// To run a layer, what it writes is moved out ([`Store::lend`]), what it reads is borrowed. So writes never
/// alias and reads may, without a lock.
#[derive(Default)]
pub struct Store<T> {
    buffers: Vec<Buffer<T>>,
}

impl<T: Element> Store<T> {
    /// A new buffer of `len` values.
    pub fn add(&mut self, len: usize) -> BufferId {
        self.buffers.push(Buffer::new(len));
        BufferId(self.buffers.len() - 1)
    }

    /// Moves a buffer out; until it is given back the store holds an empty one in its place.
    pub fn lend(&mut self, id: BufferId) -> Buffer<T> {
        take(&mut self.buffers[id.0])
    }

    /// Puts a lent buffer back.
    pub fn give_back(&mut self, id: BufferId, buffer: Buffer<T>) {
        self.buffers[id.0] = buffer;
    }

    /// A buffer for reading.
    pub fn get(&self, id: BufferId) -> &Buffer<T> {
        &self.buffers[id.0]
    }

    /// A buffer for writing.
    pub fn get_mut(&mut self, id: BufferId) -> &mut Buffer<T> {
        &mut self.buffers[id.0]
    }

    /// Bytes of host memory that its buffers hold.
    pub fn bytes(&self) -> usize {
        self.buffers.iter().map(|b| size_of_val(b.host())).sum()
    }
}
