//! Work cut by size and spread over the current rayon pool.
//!
//! Pieces depend on sizes alone, never on the number of threads, and so do all results. Nothing here allocates.
//! `grain` is the smallest piece worth handing to another thread; a piece of about 10 microseconds is right.

use super::Real;
use super::shared::Shared;
use super::simd::vectorised;
pub(crate) use super::team::join;
use std::ops::Range;

/// Calls `f` with the pieces of a range. All loops are this one function: what the pool's code for a call weighs is paid for once.
fn for_each_range(range: Range<usize>, grain: usize, f: &(dyn Fn(Range<usize>) + Sync)) {
    if range.len() <= grain {
        return f(range);
    }
    let middle = range.start + middle(range.len(), grain);
    join(|| for_each_range(range.start..middle, grain, f), || for_each_range(middle..range.end, grain, f));
}

/// Half of `len`, rounded up to whole grains.
fn middle(len: usize, grain: usize) -> usize {
    len.div_ceil(grain).div_ceil(2) * grain
}

/// Calls `f` with every index below `n`, in pieces of at most `grain`.
pub fn for_each_index(n: usize, grain: usize, f: impl Fn(usize) + Sync) {
    for_each_range(0..n, grain.max(1), &|range| range.for_each(&f));
}

/// Calls `f(offset, chunk)` for chunks of `grain` elements (the last may be shorter), compiled for wide vectors
/// when `f` is inlined.
pub fn for_each_chunk<A: Send>(a: &mut [A], grain: usize, f: impl Fn(usize, &mut [A]) + Sync) {
    let a = Shared::new(a);
    for_each_range(0..a.len(), grain.max(1), &|range| {
        // SAFETY: each piece is called for once.
        let (offset, a) = (range.start, unsafe { a.slice(range) });
        if !a.is_empty() {
            vectorised(|| f(offset, a));
        }
    });
}

/// [`for_each_chunk`] over two slices of equal length side by side.
pub fn for_each_chunk2<A: Send, B: Send>(
    a: &mut [A],
    b: &mut [B],
    grain: usize,
    f: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) {
    debug_assert!(a.len() == b.len());
    let (a, b) = (Shared::new(a), Shared::new(b));
    for_each_range(0..a.len().min(b.len()), grain.max(1), &|range| {
        // SAFETY: each piece is called for once.
        let (offset, a, b) = (range.start, unsafe { a.slice(range.clone()) }, unsafe { b.slice(range) });
        if !a.is_empty() {
            vectorised(|| f(offset, a, b));
        }
    });
}

/// [`for_each_chunk`] over three slices of equal length side by side.
pub fn for_each_chunk3<A: Send, B: Send, C: Send>(
    a: &mut [A],
    b: &mut [B],
    c: &mut [C],
    grain: usize,
    f: impl Fn(usize, &mut [A], &mut [B], &mut [C]) + Sync,
) {
    debug_assert!(a.len() == b.len() && b.len() == c.len());
    let (a, b, c) = (Shared::new(a), Shared::new(b), Shared::new(c));
    for_each_range(0..a.len().min(b.len()).min(c.len()), grain.max(1), &|range| {
        let offset = range.start;
        // SAFETY: each piece is called for once.
        let (a, b, c) = unsafe { (a.slice(range.clone()), b.slice(range.clone()), c.slice(range)) };
        if !a.is_empty() {
            vectorised(|| f(offset, a, b, c));
        }
    });
}

/// Sum of `f(i..j)` over the ranges of `grain` indices below `n`, added pairwise in an order that `n` and `grain`
/// fix.
pub fn sum(n: usize, grain: usize, f: impl Fn(Range<usize>) -> f64 + Sync) -> f64 {
    reduce(n, grain, 0.0, f, |a, b| a + b)
}

/// `combine` over `f(i..j)` for the ranges of `grain` indices below `n`, as a tree that `n` and `grain` fix;
/// `empty` if `n` is 0.
pub fn reduce<R: Send>(
    n: usize,
    grain: usize,
    empty: R,
    f: impl Fn(Range<usize>) -> R + Sync,
    combine: impl Fn(R, R) -> R + Sync,
) -> R {
    fn go<R: Send>(
        range: Range<usize>,
        grain: usize,
        f: &(dyn Fn(Range<usize>) -> R + Sync),
        combine: &(dyn Fn(R, R) -> R + Sync),
    ) -> R {
        if range.len() <= grain {
            return f(range);
        }
        let middle = range.start + middle(range.len(), grain);
        let (a, b) =
            join(|| go(range.start..middle, grain, f, combine), || go(middle..range.end, grain, f, combine));
        combine(a, b)
    }
    if n == 0 { empty } else { go(0..n, grain.max(1), &|range| vectorised(|| f(range)), &combine) }
}

/// Sum in double precision of `f(x)` over a slice; for short slices inside a chunk, on this thread.
#[inline(always)]
pub(crate) fn sum_of<T: Real>(x: &[T], f: impl Fn(T) -> f64) -> f64 {
    // Eight sums at once, which the compiler keeps in vectors.
    let mut sums = [0.0; 16];
    let chunks = x.chunks_exact(16);
    let rest = chunks.remainder().iter().map(|&x| f(x)).sum::<f64>();
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f(x);
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[test]
    fn every_element_is_visited_once_at_its_offset() {
        for (n, grain) in [(0, 4), (1, 4), (4, 4), (5, 4), (1000, 7), (10, 0)] {
            let visits: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
            for_each_index(n, grain, |i| {
                visits[i].fetch_add(1, Relaxed);
            });
            assert!(visits.iter().all(|v| v.load(Relaxed) == 1));

            let mut a = vec![0; n];
            for_each_chunk(&mut a, grain, |offset, a| {
                assert!(a.len() <= grain.max(1) && offset % grain.max(1) == 0);
                a.iter_mut().enumerate().for_each(|(i, a)| *a += offset + i);
            });
            assert!(a.iter().enumerate().all(|(i, &a)| a == i));

            let (mut b, mut c) = (vec![0u8; n], vec![0.0f32; n]);
            for_each_chunk2(&mut a, &mut b, grain, |offset, a, b| {
                a.iter_mut().zip(b).enumerate().for_each(|(i, (a, b))| (*a, *b) = (*a - offset - i, 1));
            });
            for_each_chunk3(&mut a, &mut b, &mut c, grain, |_, a, b, c| {
                for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
                    (*a, *b, *c) = (*a + 1, *b + 1, *c + 3.0);
                }
            });
            assert!(a.iter().zip(&b).zip(&c).all(|((&a, &b), &c)| a == 1 && b == 2 && c == 3.0));
        }
    }

    #[test]
    fn sums_keep_the_order_of_ranges() {
        let text = reduce(20, 6, String::new(), |r| format!("{r:?} "), |a, b| a + &b);
        assert_eq!(text, "0..6 6..12 12..18 18..20 ");
        assert_eq!(sum(0, 5, |_| f64::NAN), 0.0);
    }
}
