//! Memory for packed panels, kept by each thread from call to call.

use super::Real;
use std::cell::RefCell;

/// A cache line; a vector of them is aligned to 64 bytes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u64; 8]);

thread_local! {
    /// Buffers nobody uses now. Calls nest (and a thread that waits for another steals its work), so there are
    /// several.
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `len` numbers of unspecified value, aligned to 64 bytes.
///
/// The memory stays with the thread, so that a repeated computation allocates nothing.
pub(crate) fn scratch<T: Real, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    let lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
    let mut buffer = FREE.with_borrow_mut(|free| take(free, lines));
    if buffer.len() < lines {
        // Powers of two: few sizes, soon reached.
        buffer = vec![Line([0; 8]); lines.next_power_of_two()];
    }
    // SAFETY: the lines are initialised, long and aligned enough, and `T` is f32 or f64, for which every bit
    // pattern is a number.
    let numbers = unsafe { std::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast::<T>(), len) };
    let result = f(numbers);
    FREE.with_borrow_mut(|free| free.push(buffer));
    result
}

/// The smallest free buffer of at least `lines`, else the largest one, else a new empty one.
fn take(free: &mut Vec<Vec<Line>>, lines: usize) -> Vec<Line> {
    let fits = (0..free.len()).filter(|&i| free[i].len() >= lines).min_by_key(|&i| free[i].len());
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
