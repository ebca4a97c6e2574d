//! Mean of each window, one image plane at a time. The pad counts as zeros.

use super::axis::Axis;
use super::strips::{self, STRIP, Strip};
use crate::math::parallel::sum_of;
use crate::math::{Real, vectorised};

/// `y` is the sum over each window of the planes `x`, divided by the window's size with its pad.
pub(super) fn forward<T: Real>(x: &[T], axes: &[Axis; 2], y: &mut [T]) {
    let [h, w] = axes;
    let planes = x.chunks_exact(h.input * w.input).zip(y.chunks_exact_mut(h.output * w.output));
    if !strips::suits(axes) {
        return planes.for_each(|(x, y)| one_by_one(x, axes, y));
    }
    strips::with_buffer(axes, |buffer| {
        vectorised(
            #[inline(always)]
            || {
                let mut sums = [T::zero(); STRIP];
                for (x, y) in planes {
                    strips::each(
                        x,
                        axes,
                        T::zero(),
                        buffer,
                        #[inline(always)]
                        |strip| strip_of(strip, axes, &mut sums, y),
                    );
                }
            },
        );
    });
}

/// The windows of a strip.
#[inline(always)]
fn strip_of<T: Real>(strip: &Strip<T>, [h, w]: &[Axis; 2], sums: &mut [T; STRIP], y: &mut [T]) {
    let (sums, whole) = (&mut sums[..strip.len()], w.whole());
    sums.fill(T::zero());
    for r in 0..h.kernel {
        for k in 0..w.kernel {
            sums.iter_mut().zip(strip.values(r, k)).for_each(|(sum, &x)| *sum += x);
        }
    }
    strip.windows(
        #[inline(always)]
        |p, q, place, n| {
            let part = share::<T>(h.padded_len(p), w, whole.start.min(w.output - 1));
            let y = &mut y[p * w.output + q..][..n];
            y.iter_mut().zip(&sums[place..]).for_each(|(y, &sum)| *y = sum * part);
            for i in (q..q + n).filter(|i| !whole.contains(i)) {
                y[i - q] = sums[place + i - q] * share(h.padded_len(p), w, i);
            }
        },
    );
}

/// What one element is of the mean over window `q` along `w`, with `height` rows.
#[inline(always)]
fn share<T: Real>(height: usize, w: &Axis, q: usize) -> T {
    T::one() / T::from_f64((height * w.padded_len(q)) as f64)
}

/// Large windows, of which there are few.
#[inline(always)]
fn one_by_one<T: Real>(x: &[T], [h, w]: &[Axis; 2], y: &mut [T]) {
    for (i, y) in y.iter_mut().enumerate() {
        let (p, q) = (i / w.output, i % w.output);
        let (rows, columns) = (h.range(p), w.range(q));
        let row = |row: usize| sum_of(&x[row * w.input..][columns.clone()], |x| x.as_f64());
        *y = T::from_f64(rows.map(row).sum::<f64>()) * share(h.padded_len(p), w, q);
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
    let whole = w.whole();
    for p in (0..whole.start).chain(whole.end..w.output) {
        let part: T = dy[p] * share(height, w, p);
        for dx in dx.chunks_exact_mut(w.input) {
            dx[w.range(p)].iter_mut().for_each(|dx| *dx += part);
        }
    }
    if whole.is_empty() {
        return;
    }
    let (left, each) = (whole.start * stride - w.pad, share::<T>(height, w, whole.start));
    let dy = &dy[whole];
    for dx in dx.chunks_exact_mut(w.input) {
        for k in 0..w.kernel {
            // The last one apart: behind it there may be less than a stride.
            let (dx, last) = (&mut dx[left + k..], dy.len() - 1);
            dx.chunks_exact_mut(stride).zip(&dy[..last]).for_each(|(dx, &dy)| dx[0] += dy * each);
            dx[last * stride] += dy[last] * each;
        }
    }
}
