//! Writing what is too large to be in a cache when it is read again.
//!
//! A store brings its line from memory before it writes to it. For whole blobs, of which every line is overwritten, that
//! is half of all traffic; streamed lines go to memory straight.

use super::Real;
use super::simd::{self, Isa, Kernels};

/// Bytes of a blob from which on it is streamed: more than second-level caches hold.
const FAR_BYTES: usize = 4 << 20;
/// Numbers computed in the first-level cache before they are written.
const BLOCK: usize = 1024;

/// Writes parts of one blob, each line once. What it wrote may be read by others once it is dropped.
pub(crate) struct Far<T: Real>(Option<&'static Kernels<T>>);

impl<T: Real> Far<T> {
    /// For a blob of `len` numbers; a small one is written as usual.
    #[inline(always)]
    pub(crate) fn of(len: usize) -> Far<T> {
        Far((len * size_of::<T>() >= FAR_BYTES).then(|| simd::kernels(Isa::detect())))
    }

    /// Whether parts are written past the caches.
    pub(crate) fn streams(&self) -> bool {
        self.0.is_some()
    }

    /// Calls `f(at, part)`, which sets all of the part that begins at `at`, for parts that make up `to`.
    #[inline(always)]
    pub(crate) fn write(&self, to: &mut [T], mut f: impl FnMut(usize, &mut [T])) {
        let Some(kernels) = self.0 else { return f(0, to) };
        let mut block = [T::zero(); BLOCK];
        for (i, to) in to.chunks_mut(BLOCK).enumerate() {
            let block = &mut block[..to.len()];
            f(i * BLOCK, block);
            kernels.stream(block, to);
        }
    }

    /// `to = from`, of equal lengths.
    pub(crate) fn copy(&self, from: &[T], to: &mut [T]) {
        match self.0 {
            Some(kernels) => kernels.stream(from, to),
            None => to.copy_from_slice(from),
        }
    }
}

impl<T: Real> Drop for Far<T> {
    fn drop(&mut self) {
        if let Some(kernels) = self.0 {
            kernels.fence();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_written_once_wherever_it_begins() {
        for len in [10, FAR_BYTES] {
            for (begin, end) in [(0, 0), (0, 5), (3, 2500), (16, 2064), (1, 1026)] {
                let mut to = vec![-1.0f32; 3000];
                Far::of(len).write(&mut to[begin..end], |at, part| {
                    part.iter_mut().enumerate().for_each(|(i, x)| *x = (at + i) as f32);
                });
                for (i, &x) in to.iter().enumerate() {
                    assert_eq!(x, if (begin..end).contains(&i) { (i - begin) as f32 } else { -1.0 });
                }
            }
        }
    }
}
