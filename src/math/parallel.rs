//! Work cut by size and spread over the current rayon pool.
//!
//! Pieces depend on sizes alone, never on the number of threads, and so do all results. Nothing here allocates.
//! `grain` is the smallest piece worth handing to another thread; a piece of about 10 microseconds is right.

use super::Real;
use super::simd::vectorised;
pub(crate) use super::team::join;

/// Calls `f` with every index below `n`, in pieces of at most `grain`.
pub fn for_each_index(n: usize, grain: usize, f: impl Fn(usize) + Sync) {
    halve(0, n, grain.max(1), &f);
}

fn halve(begin: usize, end: usize, grain: usize, f: &(impl Fn(usize) + Sync)) {
    if end - begin <= grain {
        return (begin..end).for_each(f);
    }
    let middle = begin + middle(end - begin, grain);
    join(|| halve(begin, middle, grain, f), || halve(middle, end, grain, f));
}

/// Half of `len`, rounded up to whole grains.
fn middle(len: usize, grain: usize) -> usize {
    len.div_ceil(grain).div_ceil(2) * grain
}

/// Calls `f(offset, chunk)` for chunks of `grain` elements (the last may be shorter), compiled for wide vectors
/// when `f` is inlined.
pub fn for_each_chunk<A: Send>(a: &mut [A], grain: usize, f: impl Fn(usize, &mut [A]) + Sync) {
    fn go<A: Send>(offset: usize, a: &mut [A], grain: usize, f: &(impl Fn(usize, &mut [A]) + Sync)) {
        if a.len() <= grain {
            if !a.is_empty() {
                vectorised(|| f(offset, a));
            }
            return;
        }
        let middle = middle(a.len(), grain);
        let (left, right) = a.split_at_mut(middle);
        join(|| go(offset, left, grain, f), || go(offset + middle, right, grain, f));
    }
    go(0, a, grain.max(1), &f);
}

/// [`for_each_chunk`] over two slices of equal length side by side.
pub fn for_each_chunk2<A: Send, B: Send>(
    a: &mut [A],
    b: &mut [B],
    grain: usize,
    f: impl Fn(usize, &mut [A], &mut [B]) + Sync,
) {
    fn go<A: Send, B: Send>(
        offset: usize,
        a: &mut [A],
        b: &mut [B],
        grain: usize,
        f: &(impl Fn(usize, &mut [A], &mut [B]) + Sync),
    ) {
        if a.len() <= grain {
            if !a.is_empty() {
                vectorised(|| f(offset, a, b));
            }
            return;
        }
        let middle = middle(a.len(), grain);
        let ((a, a2), (b, b2)) = (a.split_at_mut(middle), b.split_at_mut(middle));
        join(|| go(offset, a, b, grain, f), || go(offset + middle, a2, b2, grain, f));
    }
    let n = a.len().min(b.len());
    debug_assert!(a.len() == n && b.len() == n);
    go(0, &mut a[..n], &mut b[..n], grain.max(1), &f);
}

/// [`for_each_chunk`] over three slices of equal length side by side.
pub fn for_each_chunk3<A: Send, B: Send, C: Send>(
    a: &mut [A],
    b: &mut [B],
    c: &mut [C],
    grain: usize,
    f: impl Fn(usize, &mut [A], &mut [B], &mut [C]) + Sync,
) {
    fn go<A: Send, B: Send, C: Send>(
        offset: usize,
        a: &mut [A],
        b: &mut [B],
        c: &mut [C],
        grain: usize,
        f: &(impl Fn(usize, &mut [A], &mut [B], &mut [C]) + Sync),
    ) {
        if a.len() <= grain {
            if !a.is_empty() {
                vectorised(|| f(offset, a, b, c));
            }
            return;
        }
        let middle = middle(a.len(), grain);
        let ((a, a2), (b, b2)) = (a.split_at_mut(middle), b.split_at_mut(middle));
        let (c, c2) = c.split_at_mut(middle);
        join(|| go(offset, a, b, c, grain, f), || go(offset + middle, a2, b2, c2, grain, f));
    }
    let n = a.len().min(b.len()).min(c.len());
    debug_assert!(a.len() == n && b.len() == n && c.len() == n);
    go(0, &mut a[..n], &mut b[..n], &mut c[..n], grain.max(1), &f);
}

/// Sum of `f(i..j)` over the ranges of `grain` indices below `n`, added pairwise in an order that `n` and `grain`
/// fix.
pub fn sum(n: usize, grain: usize, f: impl Fn(std::ops::Range<usize>) -> f64 + Sync) -> f64 {
    reduce(n, grain, 0.0, f, |a, b| a + b)
}

/// `combine` over `f(i..j)` for the ranges of `grain` indices below `n`, as a tree that `n` and `grain` fix;
/// `empty` if `n` is 0.
pub fn reduce<R: Send>(
    n: usize,
    grain: usize,
    empty: R,
    f: impl Fn(std::ops::Range<usize>) -> R + Sync,
    combine: impl Fn(R, R) -> R + Sync,
) -> R {
    fn go<R: Send>(
        range: std::ops::Range<usize>,
        grain: usize,
        f: &(impl Fn(std::ops::Range<usize>) -> R + Sync),
        combine: &(impl Fn(R, R) -> R + Sync),
    ) -> R {
        if range.len() <= grain {
            return vectorised(|| f(range));
        }
        let middle = range.start + middle(range.len(), grain);
        let (a, b) =
            join(|| go(range.start..middle, grain, f, combine), || go(middle..range.end, grain, f, combine));
        combine(a, b)
    }
    if n == 0 { empty } else { go(0..n, grain.max(1), &f, &combine) }
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
