//! Memory that several tasks write at once, each its own part.

use std::marker::PhantomData;
use std::ops::Range;

/// A borrowed slice whose parts tasks may write side by side.
///
/// It hands out pointers, and slices by promise: who writes through one says why nobody else does.
pub(crate) struct Shared<'a, T> {
    data: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: it gives nothing but pointers, through which tasks write disjoint elements of an exclusive borrow.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// All of a slice.
    pub(crate) fn new(data: &'a mut [T]) -> Self {
        Shared { data: data.as_mut_ptr(), len: data.len(), lifetime: PhantomData }
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Pointer to an element; panics if there is none.
    pub(crate) fn at(&self, index: usize) -> *mut T {
        assert!(index < self.len);
        self.data.wrapping_add(index)
    }

    /// `len` elements from `start` on; panics if there are fewer.
    pub(crate) fn part(&self, start: usize, len: usize) -> Shared<'a, T> {
        assert!(start + len <= self.len);
        Shared { data: self.data.wrapping_add(start), len, lifetime: PhantomData }
    }

    /// The elements of a range; panics if there are fewer.
    ///
    /// # Safety
    /// While it lives nobody else reads or writes them.
    pub(crate) unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        let part = self.part(range.start, range.len());
        // SAFETY: they are elements of a slice that is borrowed for as long; nobody else uses them, by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(part.data, part.len) }
    }
}
