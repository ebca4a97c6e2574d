//! Kernels that move numbers: windows into panels, rows into panels with a transposition, windows back into images.

use super::kernels::{Kernel, Kernels};
use super::lanes::Lanes;
use crate::math::Real;
use std::ops::Range;

/// A stretch of neighbouring lanes of one panel that are neighbours in the image.
#[derive(Clone, Copy, Default)]
pub(crate) struct Run {
    /// First lane of the panel.
    pub lane: usize,
    /// Lanes.
    pub len: usize,
    /// Where the window of the first pixel starts in the first channel.
    pub start: usize,
    /// Distance of channels.
    pub plane: usize,
}

/// Fills a panel with rows `rows` of the window matrix: row `c·offsets.len() + t` holds, for each lane, element
/// `start + c·plane + offsets[t] + i` of `image`, where the lane is lane i of its run.
pub(crate) struct Copy<'a, T> {
    pub image: &'a [T],
    pub runs: &'a [Run],
    pub offsets: &'a [usize],
    pub rows: Range<usize>,
    pub width: usize,
    /// `rows.len() · width` numbers.
    pub panel: *mut T,
}

/// Fills a panel with a transposition: run after run, group i of a run holds `data[start + lanes[lane] + i]`, where
/// lanes and planes of runs count for nothing.
pub(crate) struct Turn<'a, T> {
    pub data: &'a [T],
    pub lanes: &'a [usize],
    pub runs: &'a [Run],
    pub width: usize,
    /// As many groups as the runs are long, `width` numbers each.
    pub panel: *mut T,
}

/// Adds windows into planes: for each plane p, line l and tap t of a row of taps,
/// `image[to + p·plane + starts[l] + shift[t] + i] += windows[from + p·rows + t·row + l·line + i]` for `i < line`.
pub(crate) struct Fold<'a, T> {
    pub windows: &'a [T],
    pub from: usize,
    /// Distance of the windows of planes.
    pub rows: usize,
    /// Distance of taps.
    pub row: usize,
    pub line: usize,
    pub planes: usize,
    pub image: *mut T,
    pub to: usize,
    pub plane: usize,
    pub starts: &'a [usize],
    pub shifts: &'a [usize],
}

/// Copies one slice into the other, past the caches.
struct Stream<'a, T> {
    from: &'a [T],
    to: &'a mut [T],
}

/// Puts streamed numbers in order.
struct Fence;

impl<T: Real> Kernels<T> {
    /// Copies windows into a panel.
    pub(crate) fn copy(&self, copy: &Copy<T>, panel: &mut [T]) {
        let taps = copy.offsets.len();
        let reach = copy.offsets.iter().max().copied().unwrap_or(0);
        let channel = copy.rows.end.saturating_sub(1) / taps.max(1);
        assert!(panel.len() >= copy.rows.len() * copy.width);
        for run in copy.runs {
            let last = run.start + channel * run.plane + reach + run.len - 1;
            assert!(run.lane + run.len <= copy.width && last < copy.image.len());
        }
        let copy = Copy { panel: panel.as_mut_ptr(), rows: copy.rows.clone(), ..*copy };
        // SAFETY: the lines above checked every access; a table is only handed out where the processor has its
        // features.
        unsafe { self.run(&copy) }
    }

    /// `to = from`, past the caches where the processor can. [`Kernels::fence`] comes before anybody else reads it.
    pub(crate) fn stream(&self, from: &[T], to: &mut [T]) {
        // SAFETY: a table is only handed out where the processor has its features.
        unsafe { self.run(Stream { from, to }) }
    }

    /// Puts what was streamed in order before what is written next.
    pub(crate) fn fence(&self) {
        // SAFETY: as above.
        unsafe { self.run(Fence) }
    }

    /// Transposes rows into a panel.
    pub(crate) fn turn(&self, turn: &Turn<T>, panel: &mut [T]) {
        let last = turn.lanes.iter().max().copied().unwrap_or(0);
        let groups: usize = turn.runs.iter().map(|run| run.len).sum();
        assert!(turn.lanes.len() <= turn.width && panel.len() >= groups * turn.width);
        assert!(turn.runs.iter().all(|run| last + run.start + run.len <= turn.data.len()));
        // SAFETY: the lines above checked every access; a table is only handed out where the processor has its
        // features.
        unsafe { self.run(&Turn { panel: panel.as_mut_ptr(), ..*turn }) }
    }

    /// The same into the panel that `turn` names.
    ///
    /// # Safety
    /// What it describes is good in its data and in its panel, of which nobody else writes or reads these places.
    pub(crate) unsafe fn turn_at(&self, turn: &Turn<T>) {
        // SAFETY: promised by the caller; a table is only handed out where the processor has its features.
        unsafe { self.run(turn) }
    }

    /// Adds windows into planes.
    pub(crate) fn fold(&self, fold: &Fold<T>, image: &mut [T]) {
        if fold.planes == 0 || fold.line == 0 || fold.starts.is_empty() || fold.shifts.is_empty() {
            return;
        }
        let most = |x: &[usize]| x.iter().max().copied().unwrap_or(0);
        let taps = fold.shifts.len();
        let read =
            fold.from + (fold.planes - 1) * fold.rows + (taps - 1) * fold.row + fold.starts.len() * fold.line;
        assert!(read <= fold.windows.len());
        let written = (fold.planes - 1) * fold.plane + most(fold.starts) + most(fold.shifts) + fold.line;
        assert!(fold.to + written <= image.len());
        // SAFETY: the lines above checked every access; a table is only handed out where the processor has its
        // features.
        unsafe { self.run(&Fold { image: image.as_mut_ptr(), ..*fold }) }
    }
}

impl<T: Real> Kernel<T> for &Copy<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) {
        let taps = self.offsets.len();
        let (first, begin) = (self.rows.start / taps, self.rows.start % taps);
        for run in self.runs {
            let mut lane = 0;
            while lane < run.len {
                let n = (run.len - lane).min(S::COUNT);
                // SAFETY: promised by the caller.
                unsafe {
                    let mut to = self.panel.add(run.lane + lane);
                    let mut from = self.image.as_ptr().wrapping_add(run.start + first * run.plane + lane);
                    let mut tap = begin;
                    // What the next panel copies of the same rows: lines of many pages, which the processor does not foresee.
                    let ahead = if taps == 1 { 2 * S::COUNT } else { 0 };
                    for _ in 0..self.rows.len() {
                        S::prefetch(from.wrapping_add(ahead));
                        let window = from.wrapping_add(*self.offsets.get_unchecked(tap));
                        if n == S::COUNT {
                            S::store(to, S::load(window));
                        } else {
                            S::store_first(to, S::load_first(window, n), n);
                        }
                        to = to.wrapping_add(self.width);
                        tap += 1;
                        if tap == taps {
                            tap = 0;
                            from = from.wrapping_add(run.plane);
                        }
                    }
                }
                lane += n;
            }
        }
    }
}

impl<T: Real> Kernel<T> for Stream<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) {
        let Stream { from, to } = self;
        let n = from.len().min(to.len());
        let (from, to) = (&from[..n], &mut to[..n]);
        let head = to.as_ptr().align_offset(S::COUNT * size_of::<T>()).min(n);
        let tail = head + (n - head) / S::COUNT * S::COUNT;
        to[..head].copy_from_slice(&from[..head]);
        to[tail..].copy_from_slice(&from[tail..]);
        for i in (head..tail).step_by(S::COUNT) {
            // SAFETY: whole vectors lie before `tail` in both, and those of `to` are aligned from `head` on.
            unsafe { S::stream(to.as_mut_ptr().add(i), S::load(from.as_ptr().add(i))) }
        }
    }
}

impl<T: Real> Kernel<T> for Fence {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) {
        // SAFETY: the caller's function is compiled for the instruction set.
        unsafe { S::fence() }
    }
}

impl<T: Real> Kernel<T> for &Turn<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) {
        for (block, lanes) in self.lanes.chunks(S::COUNT).enumerate() {
            let far = matches!(*lanes, [first, second, ..] if second.abs_diff(first) * size_of::<T>() >= 256);
            // Lanes past the last one repeat it; they are not stored.
            let mut rows = [self.data.as_ptr(); 16];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = self.data.as_ptr().wrapping_add(lanes[i.min(lanes.len() - 1)]);
            }
            let mut panel = self.panel.wrapping_add(block * S::COUNT);
            let n = lanes.len();
            for run in self.runs {
                // Whole vectors of rows that overlap, the taps of windows, would mostly cross lines of the cache.
                let squares =
                    if far { run.len - run.len.checked_rem(S::SQUARE).unwrap_or(run.len) } else { 0 };
                let whole = run.len / S::TURN * S::TURN;
                // SAFETY: promised by the caller.
                unsafe {
                    for at in (0..squares).step_by(S::SQUARE.max(1)) {
                        S::turn_square(&rows, run.start + at, |i, v| {
                            let to = panel.add((at + i) * self.width);
                            if n == S::COUNT { S::store(to, v) } else { S::store_first(to, v, n) }
                        });
                    }
                    for at in (squares..whole).step_by(S::TURN) {
                        S::turn(&rows, run.start + at, |i, v| {
                            let to = panel.add((at + i) * self.width);
                            if n == S::COUNT { S::store(to, v) } else { S::store_first(to, v, n) }
                        });
                    }
                    for at in whole..run.len {
                        for (i, row) in rows.iter().enumerate().take(n) {
                            *panel.add(at * self.width + i) = *row.add(run.start + at);
                        }
                    }
                }
                panel = panel.wrapping_add(run.len * self.width);
            }
        }
    }
}

/// A line of the image is loaded once for a whole row of taps. Were each tap added on its own, each load would
/// overlap the store before it, and wait for it.
impl<T: Real> Kernel<T> for &Fold<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) {
        let mut first = 0;
        while first < self.shifts.len() {
            // SAFETY: promised by the caller.
            first += unsafe {
                match self.shifts.len() - first {
                    5.. => fold_taps::<T, S, 5>(self, first),
                    3..5 => fold_taps::<T, S, 3>(self, first),
                    2 => fold_taps::<T, S, 2>(self, first),
                    _ => fold_taps::<T, S, 1>(self, first),
                }
            };
        }
    }
}

/// Adds `N` taps from the `first` on; returns `N`.
///
/// # Safety
/// As its [`run`](Kernel::run).
#[inline(always)]
unsafe fn fold_taps<T: Real, S: Lanes<T>, const N: usize>(fold: &Fold<T>, first: usize) -> usize {
    let mut shifts = [0; N];
    shifts.copy_from_slice(&fold.shifts[first..first + N]);
    let reach = shifts.iter().max().copied().unwrap_or(0) + fold.line;
    for x in (0..reach).step_by(S::COUNT) {
        let n = (reach - x).min(S::COUNT);
        // Which lanes of each tap fall on numbers x.. of the line, and where they start.
        let mut masks = [0u32; N];
        let mut steps = [0usize; N];
        for (i, (mask, &shift)) in masks.iter_mut().zip(&shifts).enumerate() {
            steps[i] = (i * fold.row).wrapping_sub(shift);
            for lane in 0..n {
                *mask |= u32::from((shift..shift + fold.line).contains(&(x + lane))) << lane;
            }
        }
        let from = fold.windows.as_ptr().wrapping_add(fold.from + first * fold.row + x);
        let image = fold.image.wrapping_add(fold.to + x);
        // Plane by plane within a line: a masked store delays loads of what lies right behind it, the next line.
        for (line, &start) in fold.starts.iter().enumerate() {
            let mut to = image.wrapping_add(start);
            let mut from = from.wrapping_add(line * fold.line);
            for _ in 0..fold.planes {
                // SAFETY: promised by the caller; masked lanes are not touched.
                unsafe {
                    let mut sum = S::load_first(to, n);
                    for i in 0..N {
                        sum = S::add(sum, S::load_masked(from.wrapping_add(steps[i]), masks[i]));
                    }
                    S::store_first(to, sum, n);
                }
                to = to.wrapping_add(fold.plane);
                from = from.wrapping_add(fold.rows);
            }
        }
    }
    N
}
