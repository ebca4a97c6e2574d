//! Mean of each window, one image plane at a time. The pad counts as zeros.

use super::axis::Axis;
use crate::math::Real;

/// `y` is the sum over each window of plane `x`, divided by the window's size with its pad.
#[inline(always)]
pub(super) fn forward<T: Real>(x: &[T], [h, w]: &[Axis; 2], y: &mut [T]) {
    for (p, y) in y.chunks_exact_mut(w.output).enumerate() {
        let rows = h.range(p);
        let x = &x[rows.start * w.input..rows.end * w.input];
        y.fill(T::zero());
        match w.stride {
            1 => sum::<T, 1>(x, w, y),
            2 => sum::<T, 2>(x, w, y),
            _ => sum::<T, 0>(x, w, y),
        }
        divide(h.padded_len(p), w, y);
    }
}

/// Divides a row of sums by the sizes of its windows, `height` by what lies along `w`.
#[inline(always)]
fn divide<T: Real>(height: usize, w: &Axis, y: &mut [T]) {
    let size = |p: usize| T::one() / T::from_f64((height * w.padded_len(p)) as f64);
    let whole = w.whole();
    for p in (0..whole.start).chain(whole.end..w.output) {
        y[p] *= size(p);
    }
    let each = size(whole.start);
    y[whole].iter_mut().for_each(|y| *y *= each);
}

/// Adds a row of windows over the rows of `x` to `y`.
#[inline(always)]
fn sum<T: Real, const STRIDE: usize>(x: &[T], w: &Axis, y: &mut [T]) {
    let stride = if STRIDE == 0 { w.stride } else { STRIDE };
    let whole = w.whole();
    for p in (0..whole.start).chain(whole.end..w.output) {
        y[p] = x.chunks_exact(w.input).map(|x| x[w.range(p)].iter().copied().sum::<T>()).sum();
    }
    if whole.is_empty() {
        return;
    }
    let left = whole.start * stride - w.pad;
    let y = &mut y[whole];
    for x in x.chunks_exact(w.input) {
        for k in 0..w.kernel {
            for (y, x) in y.iter_mut().zip(x[left + k..].chunks(stride)) {
                *y += x[0];
            }
        }
    }
}

/// Spreads each gradient over its window.
#[inline(always)]
pub(super) fn backward<T: Real>(dy: &[T], [h, w]: &[Axis; 2], dx: &mut [T]) {
    dx.fill(T::zero());
    for (p, dy) in dy.chunks_exact(w.output).enumerate() {
        let rows = h.range(p);
        let dx = &mut dx[rows.start * w.input..rows.end * w.input];
        let height = h.padded_len(p);
        match w.stride {
            1 => spread::<T, 1>(dy, height, w, dx),
            2 => spread::<T, 2>(dy, height, w, dx),
            _ => spread::<T, 0>(dy, height, w, dx),
        }
    }
}

#[inline(always)]
fn spread<T: Real, const STRIDE: usize>(dy: &[T], height: usize, w: &Axis, dx: &mut [T]) {
    let stride = if STRIDE == 0 { w.stride } else { STRIDE };
    let size = |p: usize| T::one() / T::from_f64((height * w.padded_len(p)) as f64);
    let whole = w.whole();
    for p in (0..whole.start).chain(whole.end..w.output) {
        let share = dy[p] * size(p);
        for dx in dx.chunks_exact_mut(w.input) {
            dx[w.range(p)].iter_mut().for_each(|dx| *dx += share);
        }
    }
    if whole.is_empty() {
        return;
    }
    let (left, each) = (whole.start * stride - w.pad, size(whole.start));
    let dy = &dy[whole];
    for dx in dx.chunks_exact_mut(w.input) {
        for k in 0..w.kernel {
            for (dx, &dy) in dx[left + k..].chunks_mut(stride).zip(dy) {
                dx[0] += dy * each;
            }
        }
    }
}
