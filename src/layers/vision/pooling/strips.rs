//! An image plane laid out so that all its windows are reduced together by loops over neighbours, however narrow the
//! plane and whatever the stride.
//!
//! A band of rows is copied with its pad, sorted by row and column modulo the stride. Then element (r, k) of window
//! (p, q) lies at the place p · pitch + q of one block, shifted by the same amount for all windows. A few places at the
//! right end of each row belong to no window; they are computed and dropped.

use super::axis::Axis;
use crate::math::{Isa, Real, scratch};

/// Windows that are reduced at once, in fast memory.
pub(super) const STRIP: usize = 512;
/// Windows whose values stay in registers while the taps pass by; the buffer has as many numbers more than it needs.
pub(super) const BLOCK: usize = 32;
/// Taps that are listed at once.
const TAPS: usize = 16;
/// Places that a band should have, so that it stays in fast memory.
const BAND: usize = 2048;

/// Some neighbouring windows of a plane.
pub(super) struct Strip<'a, T> {
    axes: &'a [Axis; 2],
    values: &'a [T],
    pitch: usize,
    /// Places of a block.
    block: usize,
    /// First row of windows of the band.
    row: usize,
    /// First place in the band, and how many.
    first: usize,
    len: usize,
}

/// Calls `f` for strips that make up plane `x`; what lies in the pad is `outside`.
#[inline(always)]
pub(super) fn each<T: Real>(
    x: &[T],
    axes: &[Axis; 2],
    outside: T,
    buffer: &mut [T],
    mut f: impl FnMut(&Strip<T>),
) {
    let [h, w] = axes;
    let (pitch, rows) = (pitch(w), band(axes));
    for row in (0..h.output).step_by(rows) {
        let rows = rows.min(h.output - row);
        let block = (rows + (h.kernel - 1) / h.stride) * pitch;
        let used = h.stride.min(h.kernel) * w.stride.min(w.kernel) * block;
        let values = &mut buffer[..used + BLOCK];
        lay_out(x, axes, outside, row, pitch, block, &mut values[..used]);
        let places = rows * pitch - (w.kernel - 1) / w.stride;
        for first in (0..places).step_by(STRIP) {
            f(&Strip { axes, values, pitch, block, row, first, len: STRIP.min(places - first) });
        }
    }
}

/// Calls `f` with the buffer that [`each`] needs.
pub(super) fn with_buffer<T: Real>(axes: &[Axis; 2], f: impl FnOnce(&mut [T])) {
    let [h, w] = axes;
    let block = (band(axes).min(h.output) + (h.kernel - 1) / h.stride) * pitch(w);
    scratch(h.stride.min(h.kernel) * w.stride.min(w.kernel) * block + BLOCK, f);
}

/// Whether most places belong to a window: not where one window is nearly the whole image.
pub(super) fn suits([h, w]: &[Axis; 2]) -> bool {
    (h.kernel - 1) / h.stride <= h.output && (w.kernel - 1) / w.stride <= w.output
}

/// Places of a row.
fn pitch(w: &Axis) -> usize {
    w.output + (w.kernel - 1) / w.stride
}

/// Rows of windows that are done together.
fn band([_, w]: &[Axis; 2]) -> usize {
    (BAND / pitch(w)).max(1)
}

/// Copies the rows of a band to their blocks.
#[inline(always)]
fn lay_out<T: Real>(
    x: &[T],
    [h, w]: &[Axis; 2],
    outside: T,
    row: usize,
    pitch: usize,
    block: usize,
    values: &mut [T],
) {
    let columns = w.stride.min(w.kernel);
    if (w.stride, columns) == (2, 2) {
        return lay_out_pairs(x, [h, w], outside, row, pitch, block, values);
    }
    for (i, values) in values.chunks_exact_mut(block).enumerate() {
        let (r, k) = (i / columns, i % columns);
        // Places whose column lies in the image.
        let begin = w.pad.saturating_sub(k).div_ceil(w.stride).min(pitch);
        let end = (w.input + w.pad).saturating_sub(k).div_ceil(w.stride).clamp(begin, pitch);
        for (p, to) in values.chunks_exact_mut(pitch).enumerate() {
            let from = ((row + p) * h.stride + r).checked_sub(h.pad).filter(|&from| from < h.input);
            let Some(from) = from.filter(|_| begin < end) else {
                to.fill(outside);
                continue;
            };
            let from = &x[from * w.input..][..w.input];
            to[..begin].fill(outside);
            to[end..].fill(outside);
            let (from, to) = (&from[begin * w.stride + k - w.pad..], &mut to[begin..end]);
            match w.stride {
                1 => to.iter_mut().zip(from).for_each(|(to, &from)| *to = from),
                2 => every::<T, 2>(from, to),
                3 => every::<T, 3>(from, to),
                stride => to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, &from)| *to = from),
            }
        }
    }
}

/// [`lay_out`] for windows two columns apart: both kinds of columns at once.
#[inline(always)]
fn lay_out_pairs<T: Real>(
    x: &[T],
    [h, w]: [&Axis; 2],
    outside: T,
    row: usize,
    pitch: usize,
    block: usize,
    values: &mut [T],
) {
    let kernels = T::kernels(Isa::detect());
    // Where the pad is odd the first column is of the second kind.
    let begins = [w.pad.div_ceil(2), w.pad / 2];
    let ends = [(w.input + w.pad).div_ceil(2), (w.input + w.pad) / 2].map(|end| end.min(pitch));
    for (r, values) in values.chunks_exact_mut(2 * block).enumerate() {
        let (even, odd) = values.split_at_mut(block);
        for (p, (even, odd)) in even.chunks_exact_mut(pitch).zip(odd.chunks_exact_mut(pitch)).enumerate() {
            let from = ((row + p) * h.stride + r).checked_sub(h.pad).filter(|&from| from < h.input);
            let Some(from) = from else {
                even.fill(outside);
                odd.fill(outside);
                continue;
            };
            for (line, (begin, end)) in [&mut *even, &mut *odd].into_iter().zip(begins.into_iter().zip(ends))
            {
                line[..begin].iter_mut().for_each(|x| *x = outside);
                line[end..].iter_mut().for_each(|x| *x = outside);
            }
            let from = &x[from * w.input..][..w.input];
            let (even, odd) = (&mut even[begins[0]..ends[0]], &mut odd[begins[1]..ends[1]]);
            let (first, second) = if w.pad % 2 == 1 { (odd, even) } else { (even, odd) };
            kernels.deal(from, first, second);
        }
    }
}

/// Every `STRIDE`-th element.
#[inline(always)]
fn every<T: Real, const STRIDE: usize>(from: &[T], to: &mut [T]) {
    // The last one apart: behind it there may be less than a stride.
    let last = to.len() - 1;
    to[..last].iter_mut().zip(from.chunks_exact(STRIDE)).for_each(|(to, from)| *to = from[0]);
    to[last] = from[last * STRIDE];
}

impl<T: Real> Strip<'_, T> {
    /// How many places it has.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Calls `f` with the taps, in reading order, some at a time: where [`Strip::block`] finds the first window's value, and its
    /// index in the plane from the window's corner.
    #[inline(always)]
    pub fn taps(&self, mut f: impl FnMut(&[(u32, u32)])) {
        let [h, w] = self.axes;
        let columns = w.stride.min(w.kernel);
        let (mut taps, mut count) = ([(0, 0); TAPS], 0);
        // Remainders and quotients modulo the stride, counted along: divisions take long.
        let (mut row, mut down) = (0, 0);
        for r in 0..h.kernel {
            let (mut column, mut across) = (0, 0);
            for k in 0..w.kernel {
                let block = row * columns + column;
                let at = block * self.block + down * self.pitch + across + self.first;
                taps[count] = (at as u32, (r * w.input + k) as u32);
                count += 1;
                if count == TAPS {
                    f(&taps);
                    count = 0;
                }
                column += 1;
                if column == w.stride {
                    (column, across) = (0, across + 1);
                }
            }
            row += 1;
            if row == h.stride {
                (row, down) = (0, down + 1);
            }
        }
        if count > 0 {
            f(&taps[..count]);
        }
    }

    /// A tap's values for a block of windows; those past the last window mean nothing.
    #[inline(always)]
    pub fn block(&self, tap: u32, block: usize) -> &[T] {
        &self.values[tap as usize + block * BLOCK..][..BLOCK]
    }

    /// Calls `f(p, q, place, n)` for runs of `n` windows (p, q), (p, q + 1), ... at neighbouring places of the strip.
    #[inline(always)]
    pub fn windows(&self, mut f: impl FnMut(usize, usize, usize, usize)) {
        let output = self.axes[1].output;
        let mut place = 0;
        while place < self.len {
            let (p, q) = ((self.first + place) / self.pitch, (self.first + place) % self.pitch);
            let len = (self.pitch - q).min(self.len - place);
            if q < output {
                f(self.row + p, q, place, len.min(output - q));
            }
            place += len;
        }
    }
}
