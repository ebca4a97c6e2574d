//! Depthwise convolutions of images in blocks: a vector holds the channels of a pixel, and a tap is a vector of weights.
//!
//! Distances are counted in vectors.

use super::kernels::{Kernel, Kernels};
use super::lanes::Lanes;
use crate::math::Real;

/// Pixels of a line at equal distances that read the same taps.
#[derive(Debug)]
pub(crate) struct Series {
    pub first: usize,
    pub step: usize,
    pub count: usize,
    /// Each tap of a row with the column that it reads for the first pixel, and how far on it reads for the next.
    pub taps: Vec<[usize; 2]>,
    pub from_step: usize,
}

impl Series {
    /// The series of so many pixels. `reads` lists the taps of a pixel with the columns that they read; those `step` apart read
    /// `from_step` further on.
    pub(crate) fn list(
        pixels: usize,
        step: usize,
        from_step: usize,
        reads: impl Fn(usize) -> Vec<[usize; 2]>,
    ) -> Vec<Series> {
        let mut list = Vec::new();
        for phase in 0..step.min(pixels) {
            let mut of: Vec<Series> = Vec::new();
            for first in (phase..pixels).step_by(step) {
                let taps = reads(first);
                let goes_on = |series: &&mut Series| {
                    let moved = series.taps.iter().map(|&[k, at]| [k, at + series.count * series.from_step]);
                    moved.eq(taps.iter().copied())
                };
                match of.last_mut().filter(goes_on) {
                    Some(series) => series.count += 1,
                    None => of.push(Series { first, step, count: 1, taps, from_step }),
                }
            }
            list.append(&mut of);
        }
        list
    }

    /// The first tap and column that nothing reads or writes any more, and the first pixel.
    fn ends(&self) -> [usize; 3] {
        let last = self.count.saturating_sub(1);
        let of = |i: usize| self.taps.iter().map(|tap| tap[i] + 1).max().unwrap_or(0);
        [of(0), of(1) + last * self.from_step, self.first + last * self.step + 1]
    }
}

/// A line of sums: `to = max(scale·Σ weights·from + bias + other, floor)`.
pub(crate) struct PixelLine<'a, T> {
    /// Where the rows of taps that count begin: in the weights, and in what they read.
    pub rows: &'a [[usize; 2]],
    pub series: &'a [Series],
    pub weights: &'a [T],
    pub from: &'a [T],
    /// A vector each, where given.
    pub scale: Option<&'a [T]>,
    pub bias: Option<&'a [T]>,
    /// As long as `to`, if given.
    pub other: Option<&'a [T]>,
    pub floor: T,
    pub to: &'a mut [T],
}

/// Gradients of the taps: `sums += Σ dy·x` over the pixels of some lines.
pub(crate) struct PixelDots<'a, T> {
    /// For each line, where the rows of taps that count begin: in the sums, and in `x`.
    pub rows: &'a [Vec<[usize; 2]>],
    pub series: &'a [Series],
    pub x: &'a [T],
    /// The lines, so many pixels each.
    pub dy: &'a [T],
    pub width: usize,
    pub sums: &'a mut [T],
}

/// The first places of both that rows and series do not reach, and the first pixel.
pub(super) fn reach<'a>(rows: impl IntoIterator<Item = &'a [usize; 2]>, series: &[Series]) -> [usize; 3] {
    let most = rows.into_iter().fold([0; 2], |a, row| [0, 1].map(|i| a[i].max(row[i])));
    let ends = series.iter().map(Series::ends).fold([0; 3], |a, b| [0, 1, 2].map(|i| a[i].max(b[i])));
    [most[0] + ends[0], most[1] + ends[1], ends[2]]
}

impl<T: Real> Kernels<T> {
    /// Computes a line.
    pub(crate) fn pixel_line(&self, line: PixelLine<T>) {
        let ends = reach(line.rows, line.series).map(|n| n * self.lanes);
        assert!(ends[0] <= line.weights.len() && ends[1] <= line.from.len() && ends[2] <= line.to.len());
        assert!(line.other.is_none_or(|other| other.len() >= line.to.len()));
        assert!([line.scale, line.bias].into_iter().flatten().all(|v| v.len() >= self.lanes));
        // SAFETY: the lines above checked every access.
        unsafe { self.run(line) }
    }

    /// Adds products to the sums.
    pub(crate) fn pixel_dots(&self, dots: PixelDots<T>) {
        assert!(dots.dy.len() >= dots.rows.len() * dots.width * self.lanes);
        let ends = reach(dots.rows.iter().flatten(), dots.series);
        assert!(ends[0] * self.lanes <= dots.sums.len() && ends[1] * self.lanes <= dots.x.len());
        assert!(ends[2] <= dots.width);
        // SAFETY: the lines above checked every access.
        unsafe { self.run(dots) }
    }
}

impl<T: Real> PixelLine<'_, T> {
    /// `P` pixels of a series from the one on that reads `at` further than the first.
    #[inline(always)]
    unsafe fn pixels<S: Lanes<T>, const P: usize>(&mut self, series: &Series, i: usize, ends: [S::V; 3]) {
        // SAFETY: promised by the caller of `run`.
        unsafe {
            let step = series.from_step * S::COUNT;
            let from = self.from.as_ptr().add(i * step);
            let mut sums = [S::splat(T::zero()); P];
            for &[weights, line] in self.rows {
                for &[tap, column] in &series.taps {
                    let weight = S::load(self.weights.as_ptr().add((weights + tap) * S::COUNT));
                    let x = from.add((line + column) * S::COUNT);
                    for (p, sum) in sums.iter_mut().enumerate() {
                        *sum = S::mul_add(weight, S::load(x.add(p * step)), *sum);
                    }
                }
            }
            let [scale, bias, floor] = ends;
            for (p, &sum) in sums.iter().enumerate() {
                let at = (series.first + (i + p) * series.step) * S::COUNT;
                let sum = S::mul_add(scale, sum, bias);
                let sum = self.other.map_or(sum, |other| S::add(sum, S::load(other.as_ptr().add(at))));
                S::store(self.to.as_mut_ptr().add(at), S::max(floor, sum));
            }
        }
    }
}

impl<T: Real> Kernel<T> for PixelLine<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(mut self) {
        // SAFETY: promised by the caller.
        unsafe {
            let of = |v: Option<&[T]>, none| v.map_or(S::splat(none), |v| S::load(v.as_ptr()));
            let ends = [of(self.scale, T::one()), of(self.bias, T::zero()), S::splat(self.floor)];
            for series in self.series {
                let mut i = 0;
                while i + 8 <= series.count {
                    self.pixels::<S, 8>(series, i, ends);
                    i += 8;
                }
                while i + 3 <= series.count {
                    self.pixels::<S, 3>(series, i, ends);
                    i += 3;
                }
                while i < series.count {
                    self.pixels::<S, 1>(series, i, ends);
                    i += 1;
                }
            }
        }
    }
}

/// `sums[i] += Σ dy·x` for `N` taps that read `columns` away from `x`.
#[inline(always)]
unsafe fn add_taps<T: Real, S: Lanes<T>, const N: usize>(
    x: [*const T; N],
    step: usize,
    dy: *const T,
    count: usize,
    sums: [*mut T; N],
) {
    // SAFETY: promised by the caller of `PixelDots::run`.
    unsafe {
        let zero = S::splat(T::zero());
        let mut four = [[zero; N]; 4];
        let mut p = 0;
        while p + 4 <= count {
            for (k, some) in four.iter_mut().enumerate() {
                let left = S::load(dy.add((p + k) * S::COUNT));
                for (sum, x) in some.iter_mut().zip(x) {
                    *sum = S::mul_add(left, S::load(x.add((p + k) * step)), *sum);
                }
            }
            p += 4;
        }
        while p < count {
            let left = S::load(dy.add(p * S::COUNT));
            for (sum, x) in four[0].iter_mut().zip(x) {
                *sum = S::mul_add(left, S::load(x.add(p * step)), *sum);
            }
            p += 1;
        }
        for (i, to) in sums.into_iter().enumerate() {
            let sum = S::add(S::add(four[0][i], four[1][i]), S::add(four[2][i], four[3][i]));
            S::store(to, S::add(S::load(to), sum));
        }
    }
}

impl<T: Real> Kernel<T> for PixelDots<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) {
        let sums = self.sums.as_mut_ptr();
        for (i, rows) in self.rows.iter().enumerate() {
            for (series, &[taps, line]) in
                self.series.iter().flat_map(|s| rows.iter().map(move |row| (s, row)))
            {
                let (step, count) = (series.from_step * S::COUNT, series.count);
                // SAFETY: promised by the caller.
                unsafe {
                    let dy = self.dy.as_ptr().add((i * self.width + series.first) * S::COUNT);
                    let x = |&[_, column]: &[usize; 2]| self.x.as_ptr().add((line + column) * S::COUNT);
                    let to = |&[tap, _]: &[usize; 2]| sums.add((taps + tap) * S::COUNT);
                    let (threes, rest) = series.taps.as_chunks::<3>();
                    for three in threes {
                        add_taps::<T, S, 3>(
                            three.each_ref().map(x),
                            step,
                            dy,
                            count,
                            three.each_ref().map(to),
                        );
                    }
                    for one in rest {
                        add_taps::<T, S, 1>([x(one)], step, dy, count, [to(one)]);
                    }
                }
            }
        }
    }
}
