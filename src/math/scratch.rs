//! Memory for packed panels, kept by each thread from call to call.

use super::Real;
use std::cell::RefCell;

/// Bytes of a cache line, and of the widest vector register.
const ALIGN: usize = 64;
/// Words of a line.
const LINE: usize = ALIGN / size_of::<u64>();

thread_local! {
    /// Buffers nobody uses now. Calls nest (and a thread that waits for another steals its work), so there are
    /// several.
    static FREE: RefCell<Vec<Vec<u64>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `len` numbers of unspecified value, aligned to 64 bytes.
///
/// The memory stays with the thread, so that a repeated computation allocates nothing.
pub(crate) fn scratch<T: Real, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    let words = (len * size_of::<T>()).div_ceil(size_of::<u64>());
    let mut buffer = FREE.with_borrow_mut(|free| take(free, words + LINE));
    if buffer.len() < words + LINE {
        // Powers of two: few sizes, soon reached. Zeros come straight from the system, which gives memory only to the
        // pages that are used.
        buffer = vec![0; words.next_power_of_two() + LINE];
    }
    let start = buffer.as_ptr().align_offset(ALIGN).min(LINE);
    // SAFETY: the words are initialised, enough behind `start` and aligned for `T`, which is f32 or f64, for which every
    // bit pattern is a number.
    let numbers = unsafe { std::slice::from_raw_parts_mut(buffer[start..].as_mut_ptr().cast::<T>(), len) };
    let result = f(numbers);
    FREE.with_borrow_mut(|free| free.push(buffer));
    result
}

/// The smallest free buffer of at least `words`, else the largest one, else a new empty one.
fn take(free: &mut Vec<Vec<u64>>, words: usize) -> Vec<u64> {
    let fits = (0..free.len()).filter(|&i| free[i].len() >= words).min_by_key(|&i| free[i].len());
    match fits.or_else(|| (0..free.len()).max_by_key(|&i| free[i].len())) {
        Some(i) => free.swap_remove(i),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_reused() {
        let first = scratch::<f32, _>(100, |a| {
            assert_eq!(a.len(), 100);
            assert_eq!(a.as_ptr() as usize % 64, 0);
            let inner = scratch::<f64, _>(10, |b| b.as_ptr() as usize);
            assert_ne!(a.as_ptr() as usize, inner);
            a.as_ptr() as usize
        });
        assert_eq!(scratch::<f64, _>(40, |a| a.as_ptr() as usize), first);
    }
}
