//! The largest values of windows of images in blocks, where a vector holds the channels of a pixel, and the way back of their gradients.
//!
//! Each value is written once, from registers. Distances are counted in vectors.

use super::depthwise::{Series, reach};
use super::kernels::{Kernel, Kernels};
use super::lanes::Lanes;
use crate::math::Real;

/// What stands for the tap of a window whose gradient nobody gets.
pub(crate) const NOBODY: u8 = u8::MAX;

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// The largest value of each window of a plane, and the number of the tap that read it: the first one in reading order. A value that
/// is not a number counts as largest.
pub(crate) struct Largest<'a, T> {
    /// For each line of windows where the rows of taps in the image begin, which are not none: their numbers, and what they read.
    pub rows: &'a [Vec<[usize; 2]>],
    /// Windows of a line; the taps of each are neighbours, and not none.
    pub series: &'a [Series],
    pub x: &'a [T],
    /// Pixels of a line of `x`, and how many a line of windows reads for each window that no line before read.
    pub pitch: usize,
    pub fresh: usize,
    pub y: &'a mut [T],
    /// A byte for each number of `y`.
    pub taps: &'a mut [u8],
    /// Windows of a line.
    pub width: usize,
    /// Whether the taps of values that are not positive are [`NOBODY`].
    pub gated: bool,
    /// Whether `y` is written past the caches.
    pub far: bool,
}

/// The gradient of each pixel of a plane: the sum of those of the windows that read it through the tap that won.
pub(crate) struct LargestBack<'a, T> {
    /// For each line of pixels the rows of taps that read it: their numbers, and where their lines of windows begin.
    pub rows: &'a [Vec<[usize; 2]>],
    pub series: &'a [Series],
    pub dy: &'a [T],
    /// A byte for each number of `dy`.
    pub taps: &'a [u8],
    pub dx: &'a mut [T],
    /// Pixels of a line.
    pub width: usize,
    /// Room for a line, if `dx` is written past the caches.
    pub line: Option<&'a mut [T]>,
}

/// Whether a slice begins where whole vectors may be streamed to.
fn is_aligned<T: Real, S: Lanes<T>>(to: &[T]) -> bool {
    to.as_ptr().addr().is_multiple_of(S::COUNT * size_of::<T>())
}

impl<T: Real> Kernels<T> {
    /// Finds the largest values of a plane.
    pub(crate) fn largest(&self, windows: Largest<T>) {
        let Largest { rows, series, x, y, taps, width, .. } = &windows;
        let [tap, read, window] = reach(rows.iter().flatten(), series);
        assert!(tap <= 256 && read * self.lanes <= x.len() && window <= *width);
        assert!(rows.len() * width * self.lanes <= y.len().min(taps.len()));
        // SAFETY: the lines above checked every access.
        unsafe { self.run(windows) }
    }

    /// Brings the gradients of a plane of windows back.
    pub(crate) fn largest_back(&self, pixels: LargestBack<T>) {
        let LargestBack { rows, series, dy, taps, dx, width, line } = &pixels;
        let [tap, read, pixel] = reach(rows.iter().flatten(), series);
        assert!(tap <= 256 && read * self.lanes <= dy.len().min(taps.len()) && pixel <= *width);
        assert!(rows.len() * width * self.lanes <= dx.len());
        assert!(line.as_ref().is_none_or(|line| width * self.lanes <= line.len()));
        // SAFETY: the lines above checked every access.
        unsafe { self.run(pixels) }
    }
}

impl<T: Real> Largest<'_, T> {
    /// `P` windows of a series in line `p`, from the `i`th on, of `K` taps in a row; of any number if 0.
    #[inline(always)]
    unsafe fn windows<S: Lanes<T>, const P: usize, const K: usize, const FAR: bool>(
        &mut self,
        p: usize,
        series: &Series,
        i: usize,
    ) {
        let (rows, [tap, column]) = (&self.rows[p], series.taps[0]);
        // SAFETY: promised by the caller of `run`.
        unsafe {
            let step = series.from_step * S::COUNT;
            let x = self.x.as_ptr().add(i * step + column * S::COUNT);
            let number = |row: usize| S::splat(T::from_f64((row + tap) as f64));
            // Where all values are −∞ none wins: then the first one counts.
            let mut best = [S::splat(T::neg_infinity()); P];
            let mut place = [number(rows[0][0]); P];
            for &[row, line] in rows {
                let x = x.add(line * S::COUNT);
                let mut at = number(row);
                for tap in 0..if K > 0 { K } else { series.taps.len() } {
                    for k in 0..P {
                        let x = S::load(x.add(tap * S::COUNT + k * step));
                        (best[k], place[k]) = S::larger(x, at, best[k], place[k]);
                    }
                    at = S::add(at, S::splat(T::one()));
                }
            }
            // What the next line of windows reads anew lies behind the last row: several lines of the image at once are more than
            // the processor foresees.
            let next = rows[rows.len() - 1][1] + self.pitch + i * self.fresh;
            for k in 0..P * self.fresh {
                S::prefetch(self.x.as_ptr().wrapping_add((next + k) * S::COUNT));
            }
            let first = (p * self.width + series.first + i * series.step) * S::COUNT;
            if self.gated {
                let nobody = S::splat(T::from_f64(NOBODY.into()));
                let zero = S::splat(T::zero());
                for k in 0..P {
                    // 0 in place of what is not a number.
                    place[k] = S::larger(S::max(best[k], zero), place[k], zero, nobody).1;
                }
            }
            for k in 0..P {
                let to = first + k * series.step * S::COUNT;
                let y = self.y.as_mut_ptr().add(to);
                if FAR {
                    S::stream(y, best[k])
                } else {
                    S::store(y, best[k])
                }
                S::store_bytes(self.taps.as_mut_ptr().add(to), place[k]);
            }
        }
    }

    /// The windows of a series in line `p`.
    #[inline(always)]
    unsafe fn line<S: Lanes<T>, const K: usize, const FAR: bool>(&mut self, p: usize, series: &Series) {
        let mut i = 0;
        // SAFETY: promised by the caller of `run`.
        unsafe {
            while i + 4 <= series.count {
                self.windows::<S, 4, K, FAR>(p, series, i);
                i += 4;
            }
            while i < series.count {
                self.windows::<S, 1, K, FAR>(p, series, i);
                i += 1;
            }
        }
    }

    #[inline(always)]
    unsafe fn plane<S: Lanes<T>, const FAR: bool>(&mut self) {
        let series = self.series;
        for (p, series) in (0..self.rows.len()).flat_map(|p| series.iter().map(move |series| (p, series))) {
            // SAFETY: promised by the caller of `run`.
            unsafe {
                match series.taps.len() {
                    2 => self.line::<S, 2, FAR>(p, series),
                    3 => self.line::<S, 3, FAR>(p, series),
                    _ => self.line::<S, 0, FAR>(p, series),
                }
            }
        }
    }
}

impl<T: Real> Kernel<T> for Largest<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(mut self) {
        let far = self.far && is_aligned::<T, S>(self.y);
        // SAFETY: promised by the caller.
        unsafe { if far { self.plane::<S, true>() } else { self.plane::<S, false>() } }
    }
}

impl<T: Real> LargestBack<'_, T> {
    /// `P` pixels of a series in line `row`, from the `i`th on, of `K` taps in a row, or of any number if 0; they go to the line at `to`.
    #[inline(always)]
    unsafe fn pixels<S: Lanes<T>, const P: usize, const K: usize, const FAR: bool>(
        &self,
        row: usize,
        series: &Series,
        i: usize,
        to: *mut T,
    ) {
        // SAFETY: promised by the caller of `run`.
        unsafe {
            let step = series.from_step * S::COUNT;
            let mut sums = [S::splat(T::zero()); P];
            for &[first, line] in &self.rows[row] {
                for &[tap, column] in if K > 0 { &series.taps[..K] } else { &series.taps } {
                    let at = (line + column) * S::COUNT + i * step;
                    for (k, sum) in sums.iter_mut().enumerate() {
                        let dy = S::load(self.dy.as_ptr().add(at + k * step));
                        let taps = self.taps.as_ptr().add(at + k * step);
                        *sum = S::add_where(*sum, dy, taps, (first + tap) as u8);
                    }
                }
            }
            for (k, &sum) in sums.iter().enumerate() {
                let to = to.add((series.first + (i + k) * series.step) * S::COUNT);
                if FAR { S::stream(to, sum) } else { S::store(to, sum) }
            }
        }
    }

    /// The pixels of a series in line `row`.
    #[inline(always)]
    unsafe fn series<S: Lanes<T>, const K: usize, const FAR: bool>(
        &self,
        row: usize,
        series: &Series,
        to: *mut T,
    ) {
        let mut i = 0;
        // SAFETY: promised by the caller of `run`.
        unsafe {
            while i + 4 <= series.count {
                self.pixels::<S, 4, K, FAR>(row, series, i, to);
                i += 4;
            }
            while i < series.count {
                self.pixels::<S, 1, K, FAR>(row, series, i, to);
                i += 1;
            }
        }
    }

    /// The pixels of line `row`.
    #[inline(always)]
    unsafe fn line<S: Lanes<T>, const FAR: bool>(&self, row: usize, to: *mut T) {
        for series in self.series {
            // SAFETY: promised by the caller of `run`.
            unsafe {
                match series.taps.len() {
                    1 => self.series::<S, 1, FAR>(row, series, to),
                    2 => self.series::<S, 2, FAR>(row, series, to),
                    3 => self.series::<S, 3, FAR>(row, series, to),
                    _ => self.series::<S, 0, FAR>(row, series, to),
                }
            }
        }
    }
}

/// Vectors that are whole lines of the cache are streamed as they come. Parts of lines must come in order, or each goes to memory alone:
/// so a line of pixels is put together first.
impl<T: Real> Kernel<T> for LargestBack<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(mut self) {
        let room = self.line.take().filter(|_| is_aligned::<T, S>(self.dx)).map(|line| line.as_mut_ptr());
        let width = self.width * S::COUNT;
        let dx = self.dx.as_mut_ptr();
        for row in 0..self.rows.len() {
            // SAFETY: promised by the caller.
            unsafe {
                let to = dx.add(row * width);
                match room {
                    None => self.line::<S, false>(row, to),
                    Some(_) if S::COUNT * size_of::<T>() == LINE => self.line::<S, true>(row, to),
                    Some(room) => {
                        self.line::<S, false>(row, room);
                        for at in (0..width).step_by(S::COUNT) {
                            S::stream(to.add(at), S::load(room.add(at)));
                        }
                    }
                }
            }
        }
    }
}
