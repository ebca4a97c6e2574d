//! Mean of each window, one image plane at a time. The pad counts as zeros.

use super::axis::Axis;
use super::strips::{self, BLOCK, STRIP, Strip};
use crate::math::parallel::sum_of;
use crate::math::{Real, scratch, vectorised};

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
    let whole = w.whole();
    sums.fill(T::zero());
    strip.taps(
        #[inline(always)]
        |taps| {
            let blocks = sums.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate();
            for (block, sums) in blocks.take(strip.len().div_ceil(BLOCK)) {
                let mut here = *sums;
                for &(tap, _) in taps {
                    here.iter_mut().zip(strip.block(tap, block)).for_each(|(sum, &x)| *sum += x);
                }
                *sums = here;
            }
        },
    );
    strip.windows(
        #[inline(always)]
        |p, q, place, n| {
            let part = share::<T>(h.padded_len(p), w, whole.start.min(w.output - 1));
            let y = &mut y[p * w.output + q..][..n];
            y.iter_mut().zip(&sums[place..]).for_each(|(y, &sum)| *y = sum * part);
            for i in (q..whole.start.min(q + n)).chain(whole.end.max(q)..q + n) {
                y[i - q] = sums[place + i - q] * share(h.padded_len(p), w, i);
            }
        },
    );
}

/// What one element is of the mean over window `q` along `w`, with `height` rows.
#[inline(always)]
pub(super) fn share<T: Real>(height: usize, w: &Axis, q: usize) -> T {
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
pub(super) fn backward<T: Real>(dy: &[T], [h, w]: &[Axis; 2], dx: &mut [T]) {
    scratch(w.input, |line: &mut [T]| {
        vectorised(
            #[inline(always)]
            || {
                dx.fill(T::zero());
                for (p, dy) in dy.chunks_exact(w.output).enumerate() {
                    let (rows, height) = (h.range(p), h.padded_len(p));
                    // What a row of windows adds is the same for each of its rows of elements.
                    line.fill(T::zero());
                    match w.stride {
                        1 => spread::<T, 1>(dy, height, w, line),
                        2 => spread::<T, 2>(dy, height, w, line),
                        _ => spread::<T, 0>(dy, height, w, line),
                    }
                    for dx in dx[rows.start * w.input..rows.end * w.input].chunks_exact_mut(w.input) {
                        dx.iter_mut().zip(&*line).for_each(|(dx, &x)| *dx += x);
                    }
                }
            },
        );
    });
}

/// Spreads the gradients of a row of windows over a line.
#[inline(always)]
fn spread<T: Real, const STRIDE: usize>(dy: &[T], height: usize, w: &Axis, line: &mut [T]) {
    let stride = if STRIDE == 0 { w.stride } else { STRIDE };
    let whole = w.whole();
    for p in (0..whole.start).chain(whole.end..w.output) {
        let part: T = dy[p] * share(height, w, p);
        line[w.range(p)].iter_mut().for_each(|x| *x += part);
    }
    if whole.is_empty() {
        return;
    }
    let (left, each) = (whole.start * stride - w.pad, share::<T>(height, w, whole.start));
    let dy = &dy[whole];
    for k in 0..w.kernel {
        // The last one apart: behind it there may be less than a stride.
        let (line, last) = (&mut line[left + k..], dy.len() - 1);
        line.chunks_exact_mut(stride).zip(&dy[..last]).for_each(|(x, &dy)| x[0] += dy * each);
        line[last * stride] += dy[last] * each;
    }
}
