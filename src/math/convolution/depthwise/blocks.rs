//! The same where the channels of a pixel lie side by side: a tap is a vector of weights, one for each channel of a block.
//!
//! Pixels that read the same taps at equal distances are computed some at a time, in registers; those at the border read fewer taps.

use crate::math::Real;
use crate::math::gemm::Ending;
use crate::math::parallel::for_each_chunk;
use crate::math::scratch::scratch;
use std::array::from_fn;

/// Multiply-adds of a task.
const GRAIN: usize = 1 << 17;
/// Tasks that a gradient of weights is cut into if there are images enough.
const TASKS: usize = 32;

/// What the pixels of one image read of another through the taps.
#[derive(Debug)]
pub(super) struct Walk {
    to: [usize; 2],
    from: [usize; 2],
    /// Taps of a row, and rows of them.
    kernel: [usize; 2],
    /// For each row that is written the rows of taps that count, each with the row it reads.
    rows: Vec<Vec<[usize; 2]>>,
    columns: Vec<Run>,
}

/// Columns at equal distances that read the same taps.
#[derive(Debug)]
struct Run {
    first: usize,
    step: usize,
    count: usize,
    /// Each tap with the column that it reads for the first one, and how far on it reads for the next.
    taps: Vec<[usize; 2]>,
    from_step: usize,
}

impl Walk {
    /// `place` says where on an axis the tap `k` of a pixel reads, if in the image; every `step`th pixel reads `from_step` further on.
    pub(super) fn new(
        to: [usize; 2],
        from: [usize; 2],
        kernel: [usize; 2],
        [step, from_step]: [[usize; 2]; 2],
        place: impl Fn(usize, usize, usize) -> Option<usize>,
    ) -> Walk {
        let reads = |axis: usize, pixel: usize| -> Vec<[usize; 2]> {
            let inside = |k: usize| place(axis, pixel, k).filter(|&at| at < from[axis]);
            (0..kernel[axis]).filter_map(|k| inside(k).map(|at| [k, at])).collect()
        };
        let mut columns: Vec<Run> = Vec::new();
        for phase in 0..step[1].min(to[1]) {
            let mut of: Vec<Run> = Vec::new();
            for first in (phase..to[1]).step_by(step[1]) {
                let taps = reads(1, first);
                let goes_on = |run: &&mut Run| {
                    let moved = run.taps.iter().map(|&[k, at]| [k, at + run.count * run.from_step]);
                    moved.eq(taps.iter().copied())
                };
                match of.last_mut().filter(goes_on) {
                    Some(run) => run.count += 1,
                    None => of.push(Run { first, step: step[1], count: 1, taps, from_step: from_step[1] }),
                }
            }
            columns.append(&mut of);
        }
        Walk { to, from, kernel, rows: (0..to[0]).map(|row| reads(0, row)).collect(), columns }
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Sums of `P` pixels of a run from the one on that reads `at` further than the first; they read within `N` neighbours.
    #[inline(always)]
    fn sums<T: Real, const L: usize, const P: usize, const N: usize>(
        &self,
        rows: &[[usize; 2]],
        run: &Run,
        at: usize,
        weights: &[[T; L]],
        from: &[[T; L]],
    ) -> [[T; L]; P] {
        let step = if P > 1 { (N - 1) / (P - 1) } else { 0 };
        let mut sums = [[T::zero(); L]; P];
        for &[tap_row, row] in rows {
            let weights = &weights[tap_row * self.kernel[1]..][..self.kernel[1]];
            let line = &from[row * self.from[1]..][..self.from[1]];
            for &[tap, column] in &run.taps {
                let (weight, x) = (&weights[tap], &line[column + at..][..N]);
                for p in 0..P {
                    for l in 0..L {
                        sums[p][l] += weight[l] * x[p * step][l];
                    }
                }
            }
        }
        sums
    }

    /// A row: calls `write(column, sum)` for each of its pixels.
    #[inline(always)]
    fn row<T: Real, const L: usize>(
        &self,
        row: usize,
        weights: &[[T; L]],
        from: &[[T; L]],
        mut write: impl FnMut(usize, [T; L]),
    ) {
        let rows = &self.rows[row];
        for run in &self.columns {
            let mut i = 0;
            while i < run.count {
                let (at, column) = (i * run.from_step, run.first + i * run.step);
                let four = match run.from_step {
                    1 if i + 4 <= run.count => self.sums::<T, L, 4, 4>(rows, run, at, weights, from),
                    2 if i + 4 <= run.count => self.sums::<T, L, 4, 7>(rows, run, at, weights, from),
                    _ => {
                        let [one] = self.sums::<T, L, 1, 1>(rows, run, at, weights, from);
                        write(column, one);
                        i += 1;
                        continue;
                    }
                };
                for (p, sum) in four.into_iter().enumerate() {
                    write(column + p * run.step, sum);
                }
                i += 4;
            }
        }
    }

    /// `to = end(w * from)` for batches in blocks of so many lanes, `blocks` to an image; weights lie as an image of the taps.
    pub(super) fn run<T: Real>(
        &self,
        lanes: usize,
        blocks: usize,
        from: &[T],
        weights: &[T],
        end: &Ending<T>,
        to: &mut [T],
    ) {
        match lanes {
            2 => self.pass::<T, 2>(blocks, from, weights, end, to),
            4 => self.pass::<T, 4>(blocks, from, weights, end, to),
            8 => self.pass::<T, 8>(blocks, from, weights, end, to),
            _ => self.pass::<T, 16>(blocks, from, weights, end, to),
        }
    }

    /// [`Walk::run`] for blocks of `L` lanes.
    fn pass<T: Real, const L: usize>(
        &self,
        blocks: usize,
        from: &[T],
        weights: &[T],
        end: &Ending<T>,
        to: &mut [T],
    ) {
        let ([height, width], plane, taps) = (self.to, self.from[0] * self.from[1], self.taps());
        let (from, weights) = (from.as_chunks::<L>().0, weights.as_chunks::<L>().0);
        let grain = (GRAIN / (width * L * taps)).max(1);
        for_each_chunk(
            to.as_chunks_mut::<L>().0,
            grain * width,
            #[inline(always)]
            |at, to| {
                for (i, to) in to.chunks_exact_mut(width).enumerate() {
                    let row = at / width + i;
                    let (image, row) = (row / height, row % height);
                    let block = image % blocks;
                    let lines = |of: Option<&[T]>, none: T| -> [T; L] {
                        from_fn(|l| of.map_or(none, |of| of[block * L + l]))
                    };
                    let (scale, bias) = (lines(end.scale, T::one()), lines(end.bias, T::zero()));
                    let other = end.other.map(|other| &other.as_chunks::<L>().0[at + i * width..][..width]);
                    let (weights, from) = (&weights[block * taps..][..taps], &from[image * plane..][..plane]);
                    self.row(
                        row,
                        weights,
                        from,
                        #[inline(always)]
                        |column, sum| {
                            let mut sum: [T; L] = from_fn(|l| scale[l] * sum[l] + bias[l]);
                            if let Some(other) = other {
                                sum = from_fn(|l| sum[l] + other[column][l]);
                            }
                            // A NaN stays.
                            to[column] = from_fn(|l| if sum[l] < end.floor { end.floor } else { sum[l] });
                        },
                    );
                }
            },
        );
    }

    /// `dw += Σ dy * x` for batches in blocks of so many lanes, `blocks` to an image; weights lie as an image of the taps.
    pub(super) fn weights<T: Real>(&self, lanes: usize, blocks: usize, x: &[T], dy: &[T], dw: &mut [T]) {
        match lanes {
            2 => self.products::<T, 2>(blocks, x, dy, dw),
            4 => self.products::<T, 4>(blocks, x, dy, dw),
            8 => self.products::<T, 8>(blocks, x, dy, dw),
            _ => self.products::<T, 16>(blocks, x, dy, dw),
        }
    }

    /// [`Walk::weights`] for blocks of `L` lanes.
    fn products<T: Real, const L: usize>(&self, blocks: usize, x: &[T], dy: &[T], dw: &mut [T]) {
        let (x, dy, dw) = (x.as_chunks::<L>().0, dy.as_chunks::<L>().0, dw.as_chunks_mut::<L>().0);
        let (taps, plane, pixels) = (self.taps(), self.from[0] * self.from[1], self.to[0] * self.to[1]);
        let images = dy.len() / (blocks * pixels).max(1);
        let parts = TASKS.div_ceil(blocks).min(images).max(1);
        scratch(parts * blocks * taps * L, |sums: &mut [T]| {
            for_each_chunk(
                sums.as_chunks_mut::<L>().0,
                taps,
                #[inline(always)]
                |at, sums| {
                    let (part, block) = (at / taps / blocks, at / taps % blocks);
                    sums.fill([T::zero(); L]);
                    for image in images * part / parts..images * (part + 1) / parts {
                        let nth = image * blocks + block;
                        self.add_products(&x[nth * plane..][..plane], &dy[nth * pixels..][..pixels], sums);
                    }
                },
            );
            // The parts one after another.
            let sums = sums.as_chunks::<L>().0;
            for (i, dw) in dw.iter_mut().enumerate() {
                for sums in sums.chunks_exact(blocks * taps) {
                    *dw = from_fn(|l| dw[l] + sums[i][l]);
                }
            }
        });
    }

    /// Adds the products of a block of an image with its gradient, tap by tap.
    #[inline(always)]
    fn add_products<T: Real, const L: usize>(&self, x: &[[T; L]], dy: &[[T; L]], sums: &mut [[T; L]]) {
        for (rows, dy) in self.rows.iter().zip(dy.chunks_exact(self.to[1])) {
            for &[tap_row, row] in rows {
                let line = &x[row * self.from[1]..][..self.from[1]];
                for run in &self.columns {
                    let dy = &dy[run.first..][..run.count];
                    for &[tap, column] in &run.taps {
                        let x = &line[column..];
                        let sum = match run.from_step {
                            1 => dot::<T, L, 4>(x, dy, 1),
                            2 => dot::<T, L, 7>(x, dy, 2),
                            step => dot::<T, L, 0>(x, dy, step),
                        };
                        let to = &mut sums[tap_row * self.kernel[1] + tap];
                        *to = from_fn(|l| to[l] + sum[l]);
                    }
                }
            }
        }
    }
}

/// `Σ dy·x` over neighbours of one and every `step`th of the other; four at a time, where they lie within `N`.
#[inline(always)]
fn dot<T: Real, const L: usize, const N: usize>(x: &[[T; L]], dy: &[[T; L]], step: usize) -> [T; L] {
    let mut four = [[T::zero(); L]; 4];
    let (many, _) = dy.as_chunks::<4>();
    let many = if N > 0 { many } else { &[] };
    for (i, dy) in many.iter().enumerate() {
        let x = &x[4 * i * step..][..N];
        for p in 0..4 {
            for l in 0..L {
                four[p][l] += dy[p][l] * x[p * (N.max(1) - 1) / 3][l];
            }
        }
    }
    let mut sum: [T; L] = from_fn(|l| (four[0][l] + four[1][l]) + (four[2][l] + four[3][l]));
    for (i, dy) in dy.iter().enumerate().skip(4 * many.len()) {
        sum = from_fn(|l| sum[l] + dy[l] * x[i * step][l]);
    }
    sum
}
