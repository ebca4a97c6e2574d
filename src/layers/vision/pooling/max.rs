//! Largest value of each window, one image plane at a time.

use super::axis::Axis;
use super::strips::{self, BLOCK, STRIP, Strip};
use crate::math::{Real, vectorised};
use std::hint::select_unpredictable;

/// Windows of small planes that are done together.
const SMALL: usize = 256;
/// No element of the window found yet.
const NONE: u32 = u32::MAX;

/// `y` is the largest value of each window of the planes `x`, `at` its index in its plane: the first one in reading
/// order. A NaN counts as largest, so that it is not hidden.
pub(super) fn forward<T: Real>(x: &[T], axes: &[Axis; 2], y: &mut [T], at: &mut [u32]) {
    let [h, w] = axes;
    let planes = || x.chunks_exact(h.input * w.input);
    let windows = h.output * w.output;
    if [h, w].iter().all(|a| (a.kernel, a.stride, a.pad, a.input % 2) == (2, 2, 0, 0)) {
        return vectorised(
            #[inline(always)]
            || match windows <= SMALL {
                true => small_two_by_two(x, axes, y, at),
                false => two_by_two(x, axes, y, at),
            },
        );
    }
    let tops = y.chunks_exact_mut(windows).zip(at.chunks_exact_mut(windows));
    if strips::suits(axes) {
        strips::with_buffer(axes, |buffer| {
            vectorised(
                #[inline(always)]
                || {
                    let mut best = [T::zero(); STRIP];
                    let mut found = [NONE; STRIP];
                    for (x, (y, at)) in planes().zip(tops) {
                        strips::each(
                            x,
                            axes,
                            T::neg_infinity(),
                            buffer,
                            #[inline(always)]
                            |strip| strip_of(strip, axes, (&mut best, &mut found), y, at),
                        );
                    }
                },
            );
        });
    } else {
        planes().zip(tops).for_each(|(x, (y, at))| one_by_one(x, axes, y, at));
    }
}

/// Whether [`values`] gives what [`forward`] does, faster.
pub(super) fn has_values(axes: &[Axis; 2]) -> bool {
    strips::suits(axes)
}

/// The largest value of each window of the planes `x`, for who does not ask where it was.
pub(super) fn values<T: Real>(x: &[T], axes: &[Axis; 2], y: &mut [T]) {
    let [h, w] = axes;
    let tops = y.chunks_exact_mut(h.output * w.output);
    strips::with_buffer(axes, |buffer| {
        vectorised(
            #[inline(always)]
            || {
                for (x, y) in x.chunks_exact(h.input * w.input).zip(tops) {
                    strips::each(
                        x,
                        axes,
                        T::neg_infinity(),
                        buffer,
                        #[inline(always)]
                        |strip| values_of(strip, w, y),
                    );
                }
            },
        );
    });
}

/// The values of a strip's windows.
#[inline(always)]
fn values_of<T: Real>(strip: &Strip<T>, w: &Axis, y: &mut [T]) {
    let mut best = [T::neg_infinity(); STRIP];
    strip.taps(
        #[inline(always)]
        |taps| {
            for (block, best) in
                best.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate().take(strip.len().div_ceil(BLOCK))
            {
                let mut most = *best;
                for &(tap, _) in taps {
                    for (most, &x) in most.iter_mut().zip(strip.block(tap, block)) {
                        *most = select_unpredictable(wins(x, *most), x, *most);
                    }
                }
                *best = most;
            }
        },
    );
    strip.windows(
        #[inline(always)]
        |p, q, place, n| y[p * w.output + q..][..n].copy_from_slice(&best[place..][..n]),
    );
}

/// The windows of a strip.
#[inline(always)]
fn strip_of<T: Real>(
    strip: &Strip<T>,
    [h, w]: &[Axis; 2],
    (best, found): (&mut [T; STRIP], &mut [u32; STRIP]),
    y: &mut [T],
    at: &mut [u32],
) {
    best.fill(T::neg_infinity());
    found.fill(NONE);
    strip.taps(
        #[inline(always)]
        |taps| {
            let blocks = best.as_chunks_mut::<BLOCK>().0.iter_mut().zip(found.as_chunks_mut::<BLOCK>().0);
            for (block, (best, found)) in blocks.enumerate().take(strip.len().div_ceil(BLOCK)) {
                // In registers while the taps pass by.
                let (mut most, mut place) = (*best, *found);
                for &(tap, here) in taps {
                    for ((most, place), &x) in most.iter_mut().zip(&mut place).zip(strip.block(tap, block)) {
                        take(x, here, most, place);
                    }
                }
                (*best, *found) = (most, place);
            }
        },
    );
    strip.windows(
        #[inline(always)]
        |p, q, place, n| {
            let to = p * w.output + q;
            y[to..][..n].copy_from_slice(&best[place..][..n]);
            let corner = (p * h.stride * w.input + q * w.stride) as u32;
            let corner = corner.wrapping_sub((h.pad * w.input + w.pad) as u32);
            // Where all values are -∞ none has won: then the first one counts.
            let top = (h.range(p).start * w.input) as u32;
            let found = at[to..][..n].iter_mut().zip(&found[place..][..n]);
            for (i, (at, &found)) in (0..n as u32).zip(found) {
                let column = (q as u32 + i) * w.stride as u32;
                let first = top + column.saturating_sub(w.pad as u32);
                let index = corner.wrapping_add(i * w.stride as u32).wrapping_add(found);
                *at = if found == NONE { first } else { index };
            }
        },
    );
}

/// Windows of 2 by 2 side by side, which tile the planes.
#[inline(always)]
fn two_by_two<T: Real>(x: &[T], [h, w]: &[Axis; 2], y: &mut [T], at: &mut [u32]) {
    let tops = y.chunks_exact_mut(w.output).zip(at.chunks_exact_mut(w.output));
    for (row, (x, (y, at))) in x.chunks_exact(2 * w.input).zip(tops).enumerate() {
        let first = (row % h.output * 2 * w.input) as u32;
        let (upper, lower) = x.split_at(w.input);
        two_rows(upper, lower, w, (0..).map(|i| first + 2 * i), y, at);
    }
}

/// The same for planes of at most [`SMALL`] windows, many at once: in their own rows there is little to vectorise.
#[inline(always)]
fn small_two_by_two<T: Real>(x: &[T], [h, w]: &[Axis; 2], y: &mut [T], at: &mut [u32]) {
    let windows = h.output * w.output;
    let planes = SMALL / windows;
    let mut corners = [0; SMALL];
    for (i, corner) in corners.iter_mut().enumerate() {
        let place = i % windows;
        *corner = (2 * place + place / w.output * w.input) as u32;
    }
    let (mut upper, mut lower) = ([T::zero(); 2 * SMALL], [T::zero(); 2 * SMALL]);
    let tops = y.chunks_mut(planes * windows).zip(at.chunks_mut(planes * windows));
    for (x, (y, at)) in x.chunks(planes * windows * 4).zip(tops) {
        let rows = upper.chunks_exact_mut(w.input).zip(lower.chunks_exact_mut(w.input));
        for ((upper, lower), x) in rows.zip(x.chunks_exact(2 * w.input)) {
            upper.copy_from_slice(&x[..w.input]);
            lower.copy_from_slice(&x[w.input..]);
        }
        two_rows(&upper, &lower, w, corners.iter().copied(), y, at);
    }
}

/// Windows of 2 by 2 over two rows; `corners` are the indices of their first elements.
#[inline(always)]
fn two_rows<T: Real>(
    upper: &[T],
    lower: &[T],
    w: &Axis,
    corners: impl Iterator<Item = u32>,
    y: &mut [T],
    at: &mut [u32],
) {
    let below = w.input as u32;
    let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
    for (((y, at), (u, l)), corner) in y.iter_mut().zip(at).zip(pairs).zip(corners) {
        let (mut best, mut index) = (u[0], corner);
        take(u[1], corner + 1, &mut best, &mut index);
        take(l[0], corner + below, &mut best, &mut index);
        take(l[1], corner + below + 1, &mut best, &mut index);
        (*y, *at) = (best, index);
    }
}

/// Takes `x` at `index` if it is larger. Which one is larger cannot be foreseen, so a jump would cost much.
#[inline(always)]
fn take<T: Real>(x: T, index: u32, best: &mut T, found: &mut u32) {
    let wins = wins(x, *best);
    *best = select_unpredictable(wins, x, *best);
    *found = select_unpredictable(wins, index, *found);
}

/// Whether `x` takes the place of the largest value so far.
#[inline(always)]
#[allow(clippy::eq_op)] // x ≠ x is NaN, which wins and stays
fn wins<T: Real>(x: T, largest: T) -> bool {
    (x > largest) | (x != x)
}

/// Large windows, of which there are few.
#[inline(always)]
fn one_by_one<T: Real>(x: &[T], [h, w]: &[Axis; 2], y: &mut [T], at: &mut [u32]) {
    for (i, (y, at)) in y.iter_mut().zip(at).enumerate() {
        let (rows, columns) = (h.range(i / w.output), w.range(i % w.output));
        let mut index = rows.start * w.input + columns.start;
        let mut best = x[index];
        for row in rows {
            let first = row * w.input + columns.start;
            for (i, &x) in (first..).zip(&x[first..][..columns.len()]) {
                if wins(x, best) {
                    (best, index) = (x, i);
                }
            }
        }
        (*y, *at) = (best, index as u32);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::caffe::pooling_parameter::RoundMode;

    /// Whole numbers, so that many are equal, with some NaN and -∞.
    fn values(n: usize) -> Vec<f32> {
        let value = |i: usize| match i * 7919 % 101 {
            0 => f32::NAN,
            1..40 => f32::NEG_INFINITY,
            v => (v % 7) as f32,
        };
        (0..n).map(value).collect()
    }

    #[test]
    fn all_ways_agree() {
        let mut ways = [0; 3];
        for (input, kernel, stride, pad) in [
            (8, 2, 2, 0),
            (7, 2, 2, 0),
            (13, 3, 2, 0),
            (14, 3, 1, 1),
            (28, 3, 2, 1),
            (9, 3, 3, 2),
            (40, 5, 4, 0),
            (9, 2, 3, 0),
            (5, 5, 1, 4),
            (6, 6, 1, 0),
            (70, 3, 1, 1),
        ] {
            for width in [input, input + 2, 4 * input] {
                let axis = |n| Axis::new(n, kernel, stride, pad, RoundMode::Ceil);
                let (Ok(h), Ok(w)) = (axis(input), axis(width)) else { continue };
                let axes = [h, w];
                let (inside, outside) = (h.input * w.input, h.output * w.output);
                let x = values(3 * inside);
                let (mut y, mut at) = (vec![0.0; 3 * outside], vec![0; 3 * outside]);
                forward(&x, &axes, &mut y, &mut at);
                let (mut y1, mut at1) = (y.clone(), at.clone());
                for i in 0..3 {
                    let windows = i * outside..(i + 1) * outside;
                    one_by_one(&x[i * inside..], &axes, &mut y1[windows.clone()], &mut at1[windows]);
                }
                let what = format!("{h:?} {w:?}");
                assert_eq!(at, at1, "{what}");
                assert!(y.iter().zip(&y1).all(|(a, b)| a.to_bits() == b.to_bits()), "{what}");
                if has_values(&axes) {
                    let mut y2 = vec![0.0; y.len()];
                    super::values(&x, &axes, &mut y2);
                    assert!(y.iter().zip(&y2).all(|(a, b)| a.to_bits() == b.to_bits()), "{what}: values");
                }
                ways[if kernel == 2 && stride == 2 { 0 } else { 1 + usize::from(strips::suits(&axes)) }] += 1;
            }
        }
        assert!(ways.iter().all(|&n| n > 1), "{ways:?}");
    }
}
