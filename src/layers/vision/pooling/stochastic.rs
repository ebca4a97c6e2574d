//! Pooling that draws one value of each window with a probability proportional to it, one image plane at a time.
//! Source: Zeiler and Fergus, "Stochastic pooling for regularization of deep convolutional neural networks", 2013.

use super::axis::Axis;
use crate::math::{Real, Stream};

/// Calls `f` with the index in the plane of each element of window (p, q).
#[inline(always)]
fn each([h, w]: &[Axis; 2], (p, q): (usize, usize), mut f: impl FnMut(usize)) {
    for row in h.range(p) {
        for column in w.range(q) {
            f(row * w.input + column);
        }
    }
}

fn positions([h, w]: &[Axis; 2]) -> impl Iterator<Item = (usize, usize)> {
    let (rows, columns) = (h.output, w.output);
    (0..rows).flat_map(move |p| (0..columns).map(move |q| (p, q)))
}

/// Training: the first value at which the running sum of the window reaches a drawn part of the whole sum. The window
/// number `first + i` of the blob costs that word of the stream.
pub(super) fn draw<T: Real>(
    x: &[T],
    axes: &[Axis; 2],
    stream: &Stream,
    first: usize,
    y: &mut [T],
    at: &mut [u32],
) {
    for (i, window) in positions(axes).enumerate() {
        let mut sum = T::zero();
        each(axes, window, |j| sum += x[j]);
        let threshold = T::from_f64(stream.uniform_at((first + i) as u64)) * sum;
        let (mut running, mut chosen, mut found) = (T::zero(), 0, false);
        each(axes, window, |j| {
            if !found {
                running += x[j];
                chosen = j; // the last one, should rounding keep the sum below the threshold
                found = running >= threshold;
            }
        });
        (y[i], at[i]) = (x[chosen], chosen as u32);
    }
}

/// Testing: the mean that the draws have, Σx² / Σx.
pub(super) fn expect<T: Real>(x: &[T], axes: &[Axis; 2], y: &mut [T]) {
    for (i, window) in positions(axes).enumerate() {
        let (sum, squares) = sums(x, axes, window);
        y[i] = squares / sum;
    }
}

/// Gradient of [`expect`]: (2x·Σx − Σx²) / (Σx)².
pub(super) fn expect_backward<T: Real>(x: &[T], dy: &[T], axes: &[Axis; 2], dx: &mut [T]) {
    dx.fill(T::zero());
    for (i, window) in positions(axes).enumerate() {
        let (sum, squares) = sums(x, axes, window);
        let (twice, mean) = (T::from_f64(2.0), squares / sum);
        each(axes, window, |j| dx[j] += dy[i] * (twice * x[j] - mean) / sum);
    }
}

/// Σx and Σx² of a window. The first begins with the smallest number, so that zeros give 0 (as in Caffe).
fn sums<T: Real>(x: &[T], axes: &[Axis; 2], window: (usize, usize)) -> (T, T) {
    let (mut sum, mut squares) = (T::min_positive_value(), T::zero());
    each(axes, window, |j| {
        sum += x[j];
        squares += x[j] * x[j];
    });
    (sum, squares)
}
