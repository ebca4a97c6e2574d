//! Largest values where the channels of a pixel lie side by side: a line of windows is worked on as one long vector.
//!
//! Lines of the image are laid out modulo the stride, with their padding, so that what a tap reads for neighbouring windows are neighbours
//! in memory. Here `taps` holds the number of the tap that won, not an index in the plane: a byte instead of four to write and to read.

use super::axis::Axis;
use crate::math::{Far, Real, scratch, vectorised};
use std::hint::select_unpredictable;
use std::ops::Range;

/// Numbers that stay in registers while the taps pass by.
const BLOCK: usize = 64;
/// Longest sides of windows.
const MOST: usize = 8;

/// Whether windows are of this kind.
pub(super) fn suits(axes: &[Axis; 2]) -> bool {
    axes.iter().all(|a| a.kernel <= MOST && a.stride <= a.kernel)
}

/// `y` = the largest value of each window of the blocks `x`, of so many channels each; `taps` says where it was: the first one in reading
/// order. A NaN counts as largest, so that it is not hidden.
pub(super) fn forward<T: Real>(
    lanes: usize,
    x: &[T],
    axes: &[Axis; 2],
    far: &Far<T>,
    y: &mut [T],
    taps: &mut [u8],
) {
    match lanes {
        2 => Lines::<2>::new(axes).forward(x, far, y, taps),
        4 => Lines::<4>::new(axes).forward(x, far, y, taps),
        8 => Lines::<8>::new(axes).forward(x, far, y, taps),
        _ => Lines::<16>::new(axes).forward(x, far, y, taps),
    }
}

/// `dx` = the gradient `dy` of each window at the value that forward took.
pub(super) fn backward<T: Real>(
    lanes: usize,
    dy: &[T],
    axes: &[Axis; 2],
    far: &Far<T>,
    taps: &[u8],
    dx: &mut [T],
) {
    match lanes {
        2 => Lines::<2>::new(axes).backward(dy, far, taps, dx),
        4 => Lines::<4>::new(axes).backward(dy, far, taps, dx),
        8 => Lines::<8>::new(axes).backward(dy, far, taps, dx),
        _ => Lines::<16>::new(axes).backward(dy, far, taps, dx),
    }
}

/// Lets the first `K` taps of a line, the first of which has a number, win where they are larger than what won before; how many there were.
#[inline(always)]
fn take<T: Real, const K: usize>(
    line: &[T],
    taps: &[usize],
    first: u32,
    most: &mut [T; BLOCK],
    found: &mut [u32; BLOCK],
) -> usize {
    let from: [&[T]; K] = std::array::from_fn(|k| &line[taps[k]..][..BLOCK]);
    for i in 0..BLOCK {
        let (mut value, mut place) = (most[i], found[i]);
        for (k, from) in from.iter().enumerate() {
            let x = from[i];
            #[allow(clippy::eq_op)] // x ≠ x is NaN, which wins and stays
            let wins = (x > value) | (x != x);
            value = select_unpredictable(wins, x, value);
            place = select_unpredictable(wins, first + k as u32, place);
        }
        (most[i], found[i]) = (value, place);
    }
    K
}

/// How lines are laid out: as many as a window has, one after the other, again and again.
struct Lines<const L: usize> {
    h: Axis,
    w: Axis,
    /// Numbers of a phase of the stride, and of a line.
    phase: usize,
    line: usize,
    /// Where each tap along a line reads for the first window.
    taps: [usize; MOST],
}

impl<const L: usize> Lines<L> {
    fn new(&[h, w]: &[Axis; 2]) -> Self {
        let phase = (w.output + (w.kernel - 1) / w.stride) * L;
        let taps = std::array::from_fn(|tap| tap % w.stride * phase + tap / w.stride * L);
        Lines { h, w, phase, line: phase * w.stride, taps }
    }

    /// Numbers of all lines, and some that are read and not used.
    fn room(&self) -> usize {
        self.h.kernel * self.line + BLOCK
    }

    /// Calls `f` for each phase of a laid line with its first pixel that is one of the image's, how many there are, and the first one's
    /// column there; those before and behind them are padding.
    #[inline(always)]
    fn phases<T>(&self, laid: &mut [T], mut f: impl FnMut(&mut [[T; L]], Range<usize>, usize)) {
        let Axis { input, pad, stride, .. } = self.w;
        for (i, phase) in laid.chunks_exact_mut(self.phase).enumerate() {
            let pixels = phase.as_chunks_mut::<L>().0;
            let first = pad.saturating_sub(i).div_ceil(stride).min(pixels.len());
            let column = first * stride + i - pad.min(first * stride + i);
            let count = input.saturating_sub(column).div_ceil(stride).min(pixels.len() - first);
            f(pixels, first..first + count, column);
        }
    }

    fn forward<T: Real>(&self, x: &[T], far: &Far<T>, y: &mut [T], at: &mut [u8]) {
        let Lines { h, w, .. } = self;
        let out = h.output * w.output * L;
        let tops = y.chunks_exact_mut(out).zip(at.chunks_exact_mut(out));
        scratch(self.room(), |laid: &mut [T]| {
            vectorised(
                #[inline(always)]
                || {
                    for (x, (y, at)) in x.chunks_exact(h.input * w.input * L).zip(tops) {
                        let mut next = 0;
                        let lines = y.chunks_exact_mut(w.output * L).zip(at.chunks_exact_mut(w.output * L));
                        for (p, (y, at)) in lines.enumerate() {
                            let rows = h.range(p);
                            for row in rows.start.max(next)..rows.end {
                                let from = x[row * w.input * L..][..w.input * L].as_chunks::<L>().0;
                                let to = &mut laid[row % h.kernel * self.line..][..self.line];
                                self.phases(
                                    to,
                                    #[inline(always)]
                                    |to, inside, column| {
                                        to[..inside.start].fill([T::neg_infinity(); L]);
                                        to[inside.end..].fill([T::neg_infinity(); L]);
                                        let from = from.get(column..).unwrap_or_default();
                                        let pixels = to[inside].iter_mut().zip(from.iter().step_by(w.stride));
                                        pixels.for_each(|(to, from)| *to = *from);
                                    },
                                );
                            }
                            next = rows.end;
                            self.line_of_windows(laid, p, far, y, at);
                        }
                    }
                },
            );
        });
    }

    /// The windows of a line.
    #[inline(always)]
    fn line_of_windows<T: Real>(&self, laid: &[T], p: usize, far: &Far<T>, y: &mut [T], at: &mut [u8]) {
        let Lines { h, w, .. } = self;
        let rows = h.range(p);
        let lines: [usize; MOST] = std::array::from_fn(|i| (rows.start + i) % h.kernel * self.line);
        let skipped = rows.start + h.pad - p * h.stride;
        let parts = y.chunks_mut(BLOCK).zip(at.chunks_mut(BLOCK));
        for (begin, (y, at)) in (0..).step_by(BLOCK).zip(parts) {
            // Where all values are -∞ none wins: then the first one in the image counts.
            let mut found = [(skipped * w.kernel) as u32; BLOCK];
            if begin / L * w.stride < w.pad {
                for (i, found) in found.iter_mut().enumerate() {
                    *found += w.pad.saturating_sub((begin + i) / L * w.stride) as u32;
                }
            }
            let mut most = [T::neg_infinity(); BLOCK];
            for (i, line) in lines[..rows.len()].iter().enumerate() {
                let here = (skipped + i) * w.kernel;
                // As many taps as can be at once: results are in memory in between.
                let mut tap = 0;
                while tap < w.kernel {
                    let from = &laid[line + begin..];
                    let (taps, first) = (&self.taps[tap..w.kernel], (here + tap) as u32);
                    tap += match taps.len() {
                        1 => take::<T, 1>(from, taps, first, &mut most, &mut found),
                        2 => take::<T, 2>(from, taps, first, &mut most, &mut found),
                        _ => take::<T, 3>(from, taps, first, &mut most, &mut found),
                    };
                }
            }
            far.copy(&most[..y.len()], y);
            at.iter_mut().zip(found).for_each(|(at, found)| *at = found as u8);
        }
    }

    fn backward<T: Real>(&self, dy: &[T], far: &Far<T>, at: &[u8], dx: &mut [T]) {
        let Lines { h, w, .. } = self;
        let out = h.output * w.output * L;
        let tops = dy.chunks_exact(out).zip(at.chunks_exact(out));
        scratch(self.room() + w.input * L, |laid: &mut [T]| {
            let (laid, whole) = laid.split_at_mut(self.room());
            vectorised(
                #[inline(always)]
                || {
                    for (dx, (dy, at)) in dx.chunks_exact_mut(h.input * w.input * L).zip(tops) {
                        let mut next = 0;
                        let lines = dy.chunks_exact(w.output * L).zip(at.chunks_exact(w.output * L));
                        for (p, (dy, at)) in lines.enumerate() {
                            let rows = h.range(p);
                            for row in rows.start.max(next)..rows.end {
                                laid[row % h.kernel * self.line..][..self.line].fill(T::zero());
                            }
                            next = rows.end;
                            self.spread_line(laid, p, dy, at);
                            // Rows that no later window reads are whole.
                            let end = if p + 1 < h.output { h.range(p + 1).start } else { rows.end };
                            for row in rows.start..end {
                                self.put(&mut laid[row % h.kernel * self.line..][..self.line], whole);
                                far.copy(whole, &mut dx[row * w.input * L..][..w.input * L]);
                            }
                        }
                        dx[next * w.input * L..].fill(T::zero());
                    }
                },
            );
        });
    }

    /// Adds the gradients of a line of windows where they go.
    #[inline(always)]
    fn spread_line<T: Real>(&self, laid: &mut [T], p: usize, dy: &[T], at: &[u8]) {
        let Lines { h, w, .. } = self;
        let rows = h.range(p);
        let lines: [usize; MOST] = std::array::from_fn(|i| (rows.start + i) % h.kernel * self.line);
        let skipped = rows.start + h.pad - p * h.stride;
        for (begin, (dy, at)) in (0..).step_by(BLOCK).zip(dy.chunks(BLOCK).zip(at.chunks(BLOCK))) {
            let (mut gradient, mut taken) = ([T::zero(); BLOCK], [u32::MAX; BLOCK]);
            gradient[..dy.len()].copy_from_slice(dy);
            taken.iter_mut().zip(at).for_each(|(taken, &at)| *taken = at.into());
            for (i, line) in lines[..rows.len()].iter().enumerate() {
                for (tap, at) in self.taps[..w.kernel].iter().enumerate() {
                    let here = ((skipped + i) * w.kernel + tap) as u32;
                    let to = &mut laid[line + at + begin..][..BLOCK];
                    for (to, (&dy, &taken)) in to.iter_mut().zip(gradient.iter().zip(&taken)) {
                        *to += select_unpredictable(taken == here, dy, T::zero());
                    }
                }
            }
        }
    }

    /// Puts a laid line back in order; what no window reads is 0.
    #[inline(always)]
    fn put<T: Real>(&self, laid: &mut [T], to: &mut [T]) {
        let to = to.as_chunks_mut::<L>().0;
        // Columns behind the last window.
        let covered = (self.line / L).saturating_sub(self.w.pad).min(to.len());
        to[covered..].iter_mut().for_each(|to| *to = [T::zero(); L]);
        self.phases(
            laid,
            #[inline(always)]
            |from, inside, column| {
                let to = to.get_mut(column..).unwrap_or_default();
                let pixels = to.iter_mut().step_by(self.w.stride).zip(&from[inside]);
                pixels.for_each(|(to, from)| *to = *from);
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::max;
    use super::super::tests::{WINDOWS, shape, turn};
    use super::*;
    use crate::proto::caffe::pooling_parameter::RoundMode;

    #[test]
    fn blocks_agree_with_planes() {
        for (lanes, axes) in WINDOWS.map(shape) {
            if !suits(&axes) {
                continue;
            }
            let [(height, kernel, stride, pad), (width, ..)] =
                axes.map(|a| (a.input, a.kernel, a.stride, a.pad));
            let (pixels, windows) = (height * width, axes[0].output * axes[1].output);
            let channels = 2 * lanes;
            // Equal values, and whole windows of -∞.
            let value = |i: usize| ((i * 37 + i / 13) % 19) as f64 - 9.0;
            let x: Vec<f64> = (0..channels * pixels)
                .map(|i| if i / pixels % 3 == 1 { f64::NEG_INFINITY } else { value(i) })
                .collect();
            let (mut y, mut at) = (vec![0.0; channels * windows], vec![0; channels * windows]);
            max::forward(&x, &axes, &mut y, &mut at);
            let dy: Vec<f64> = (0..y.len()).map(value).collect();
            let mut dx = vec![f64::NAN; x.len()];
            for i in 0..channels {
                let windows = i * windows..(i + 1) * windows;
                max::backward(&dy[windows.clone()], &at[windows], &mut dx[i * pixels..][..pixels]);
            }
            let what = format!("{lanes} lanes, {height} x {width}, window {kernel}/{stride}/{pad}");
            // Through the caches and past them, as large blobs are written.
            for far in [Far::of(0), Far::of(1 << 20)] {
                let (mut y_laid, mut taps) = (vec![0.0; y.len()], vec![0; y.len()]);
                forward(lanes, &turn(&x, lanes, pixels, true), &axes, &far, &mut y_laid, &mut taps);
                let mut dx_laid = vec![f64::NAN; x.len()];
                backward(lanes, &turn(&dy, lanes, windows, true), &axes, &far, &taps, &mut dx_laid);
                assert_eq!(turn(&y_laid, lanes, windows, false), y, "{what}");
                assert_eq!(turn(&dx_laid, lanes, pixels, false), dx, "{what}");
                let taps = turn(&taps, lanes, windows, false);
                for (i, (&tap, &at)) in taps.iter().zip(&at).enumerate() {
                    let (p, q) = (i % windows / axes[1].output, i % axes[1].output);
                    let (row, column) = (tap as usize / kernel, tap as usize % kernel);
                    let index = (p * stride + row - pad) * width + q * stride + column - pad;
                    assert_eq!(index, at as usize, "{what}");
                }
            }
        }
    }

    #[test]
    fn a_nan_is_not_hidden() {
        let axes = [2, 2].map(|size| Axis::new(size, 2, 2, 0, RoundMode::Ceil).expect("a valid window"));
        let mut x = vec![1.0; 8];
        (x[4], x[3]) = (f64::NAN, f64::INFINITY);
        let (mut y, mut at) = (vec![0.0; 2], vec![0; 2]);
        forward(2, &x, &axes, &Far::of(0), &mut y, &mut at);
        assert!(y[0].is_nan() && y[1] == f64::INFINITY && at == [2, 1], "{y:?} {at:?}");
    }
}
