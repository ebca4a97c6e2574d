//! Largest value of each window, one image plane at a time.

use super::axis::Axis;
use crate::math::Real;

/// `y` is the largest value of each window of plane `x`, `at` its index in the plane: the first one in reading order.
/// A NaN counts as largest, so that it is not hidden.
#[inline(always)]
pub(super) fn forward<T: Real>(x: &[T], [h, w]: &[Axis; 2], y: &mut [T], at: &mut [u32]) {
    let rows = y.chunks_exact_mut(w.output).zip(at.chunks_exact_mut(w.output));
    for (p, (y, at)) in rows.enumerate() {
        let rows = h.range(p);
        let first = rows.start * w.input;
        let x = &x[first..rows.end * w.input];
        match (w.kernel, w.stride, w.pad, rows.len()) {
            (2, 2, 0, 2) => two_by_two(x, first, w, y, at),
            (_, 1, _, _) => row::<T, 1>(x, first, w, y, at),
            (_, 2, _, _) => row::<T, 2>(x, first, w, y, at),
            _ => row::<T, 0>(x, first, w, y, at),
        }
    }
}

/// Whether `x` takes the place of the largest value so far.
#[inline(always)]
#[allow(clippy::eq_op)] // x ≠ x is NaN, which wins and stays
fn wins<T: Real>(x: T, largest: T) -> bool {
    x > largest || x != x
}

/// Windows of 2 by 2 side by side.
#[inline(always)]
fn two_by_two<T: Real>(x: &[T], first: usize, w: &Axis, y: &mut [T], at: &mut [u32]) {
    let (upper, lower) = x.split_at(w.input);
    let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
    let (below, mut corner) = (w.input as u32, first as u32);
    for ((y, at), (u, l)) in y.iter_mut().zip(at.iter_mut()).zip(pairs) {
        let (mut best, mut index) = (u[0], corner);
        for (x, i) in [(u[1], corner + 1), (l[0], corner + below), (l[1], corner + below + 1)] {
            let wins = wins(x, best);
            best = if wins { x } else { best };
            index = if wins { i } else { index };
        }
        (*y, *at) = (best, index);
        corner += 2;
    }
    let done = w.input / 2;
    windows(x, first, w, done..w.output, y, at);
}

/// A row of windows. Those that lie in the image as a whole are done all at once, one offset in the window after the
/// other; `STRIDE` is a stride that the compiler knows, 0 any other.
#[inline(always)]
fn row<T: Real, const STRIDE: usize>(x: &[T], first: usize, w: &Axis, y: &mut [T], at: &mut [u32]) {
    let stride = if STRIDE == 0 { w.stride } else { STRIDE };
    let whole = w.whole();
    windows(x, first, w, 0..whole.start, y, at);
    windows(x, first, w, whole.end..w.output, y, at);
    if whole.is_empty() {
        return;
    }
    let (y, at) = (&mut y[whole.clone()], &mut at[whole.clone()]);
    let left = whole.start * stride - w.pad;
    for (r, x) in x.chunks_exact(w.input).enumerate() {
        for k in 0..w.kernel {
            let column = left + k;
            let mut index = (first + r * w.input + column) as u32;
            let every = x[column..].chunks(stride);
            for ((y, at), x) in y.iter_mut().zip(at.iter_mut()).zip(every) {
                let x = x[0];
                let wins = wins(x, *y) || (r == 0 && k == 0);
                *y = if wins { x } else { *y };
                *at = if wins { index } else { *at };
                index += stride as u32;
            }
        }
    }
}

/// Some windows of a row one by one.
#[inline(always)]
fn windows<T: Real>(
    x: &[T],
    first: usize,
    w: &Axis,
    which: std::ops::Range<usize>,
    y: &mut [T],
    at: &mut [u32],
) {
    for p in which {
        let columns = w.range(p);
        let (mut best, mut index) = (x[columns.start], columns.start);
        for (r, x) in x.chunks_exact(w.input).enumerate() {
            for (c, &x) in columns.clone().zip(&x[columns.clone()]) {
                if wins(x, best) {
                    (best, index) = (x, r * w.input + c);
                }
            }
        }
        (y[p], at[p]) = (best, (first + index) as u32);
    }
}

/// Each gradient goes to the value that was largest.
#[inline(always)]
pub(super) fn backward<T: Real>(dy: &[T], at: &[u32], dx: &mut [T]) {
    dx.fill(T::zero());
    for (&dy, &at) in dy.iter().zip(at) {
        dx[at as usize] += dy;
    }
}
