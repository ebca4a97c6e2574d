//! Depthwise convolutions: each channel has kernels of its own, so there is no matrix product worth the name.

use super::windows::Windows;
use crate::math::Real;
use crate::math::gemm::Ending;
use crate::math::parallel::for_each_chunk;
use crate::math::scratch::scratch;

/// Multiply-adds of a task.
const GRAIN: usize = 1 << 16;

/// Pixels whose sums stay in registers.
const BLOCK: usize = 64;

/// Adds the products of all taps to at most `BLOCK` pixels of a line.
#[inline(always)]
fn add_taps<T: Real>(taps: &[usize], weights: &[T], x: &[T], y: &mut [T]) {
    let mut sums = [T::zero(); BLOCK];
    for (&tap, &a) in taps.iter().zip(weights) {
        let x = &x[tap..];
        // Whole blocks wherever there is memory to read; what lies past the line is not used.
        match x.first_chunk::<BLOCK>() {
            Some(x) => sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += a * x),
            None => sums[..y.len()].iter_mut().zip(x).for_each(|(sum, &x)| *sum += a * x),
        }
    }
    y.iter_mut().zip(&sums).for_each(|(y, &sum)| *y += sum);
}

/// Planes of a task.
fn grain(w: &Windows) -> usize {
    (GRAIN / (w.pixels * w.taps.len()).max(1)).max(1)
}

/// Calls `f` with the padded plane.
#[inline(always)]
fn padded<T: Real, R>(w: &Windows, plane: &[T], f: impl FnOnce(&[T]) -> R) -> R {
    if !w.is_padded() {
        return f(plane);
    }
    scratch(w.padded_plane(), |padded: &mut [T]| {
        w.pad_plane(plane, padded);
        f(padded)
    })
}

/// `each` outputs per channel.
pub(super) fn forward<T: Real>(
    w: &Windows,
    each: usize,
    x: &[T],
    weights: &[T],
    end: &Ending<T>,
    y: &mut [T],
) {
    let (plane, taps) = (w.plane(), w.taps.len());
    let outputs = weights.len() / taps;
    for_each_chunk(
        y,
        grain(w) * w.pixels,
        #[inline(always)]
        |offset, y| {
            for (i, y) in y.chunks_exact_mut(w.pixels).enumerate() {
                let index = offset / w.pixels + i;
                let (channel, output) = (index / each, index % outputs);
                y.fill(T::zero());
                padded(w, &x[channel * plane..][..plane], |x| {
                    let weights = &weights[output * taps..][..taps];
                    for (line, y) in y.chunks_exact_mut(w.line).enumerate() {
                        for (block, y) in y.chunks_mut(BLOCK).enumerate() {
                            add_taps(&w.taps, weights, &x[w.starts[line] + block * BLOCK..], y);
                            y.iter_mut().for_each(|y| *y = end.apply(output, *y));
                        }
                    }
                });
            }
        },
    );
}

pub(super) fn backward_data<T: Real>(w: &Windows, each: usize, weights: &[T], dy: &[T], dx: &mut [T]) {
    let (plane, taps) = (w.plane(), w.taps.len());
    let channels = weights.len() / taps / each;
    for_each_chunk(
        dx,
        grain(w) * plane,
        #[inline(always)]
        |offset, dx| {
            scratch(w.padded_plane(), |padded: &mut [T]| {
                for (i, dx) in dx.chunks_exact_mut(plane).enumerate() {
                    let index = offset / plane + i;
                    padded.fill(T::zero());
                    for o in 0..each {
                        let weights = &weights[(index % channels * each + o) * taps..];
                        let dy = dy[(index * each + o) * w.pixels..][..w.pixels].chunks_exact(w.line);
                        for (line, dy) in dy.enumerate() {
                            for (&tap, &a) in w.taps.iter().zip(weights) {
                                let dx = &mut padded[w.starts[line] + tap..];
                                dx.iter_mut().zip(dy).for_each(|(dx, &dy)| *dx += a * dy);
                            }
                        }
                    }
                    w.unpad(padded, dx);
                }
            });
        },
    );
}

pub(super) fn backward_weights<T: Real>(w: &Windows, each: usize, x: &[T], dy: &[T], dw: &mut [T]) {
    let (plane, taps) = (w.plane(), w.taps.len());
    let outputs = dw.len() / taps;
    let channels = outputs / each;
    let samples = x.len() / (channels * plane).max(1);
    for_each_chunk(
        dw,
        taps,
        #[inline(always)]
        |offset, dw| {
            let output = offset / taps;
            for sample in 0..samples {
                let dy = &dy[(sample * outputs + output) * w.pixels..][..w.pixels];
                padded(w, &x[(sample * channels + output / each) * plane..][..plane], |x| {
                    for (dw, &tap) in dw.iter_mut().zip(&w.taps) {
                        let mut sum = T::zero();
                        for (line, dy) in dy.chunks_exact(w.line).enumerate() {
                            sum += line_dot(dy, &x[w.starts[line] + tap..]);
                        }
                        *dw += sum;
                    }
                });
            }
        },
    );
}

/// `Σ dyᵢ · xᵢ`, sixteen sums side by side.
#[inline(always)]
fn line_dot<T: Real>(dy: &[T], x: &[T]) -> T {
    let mut sums = [T::zero(); 16];
    let (dys, xs) = (dy.chunks_exact(16), x[..dy.len()].chunks_exact(16));
    let rest = dys.remainder().iter().zip(xs.remainder()).map(|(&dy, &x)| dy * x).sum::<T>();
    for (dy, x) in dys.zip(xs) {
        for (sum, (&dy, &x)) in sums.iter_mut().zip(dy.iter().zip(x)) {
            *sum += dy * x;
        }
    }
    sums.into_iter().sum::<T>() + rest
}
