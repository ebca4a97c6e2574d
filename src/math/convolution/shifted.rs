//! The gradient of weights for outputs that fill no whole vectors, as the 20 of LeNet's first layer: vectors hold neighbouring pixels.
//!
//! For each tap and output there is a vector of sums, whose lanes are added up when all images are done. So the top's gradient is read where it
//! lies in planes, and with it that of the bias comes in the same pass.

use super::bias::add_lanes;
use super::direct::{Batch, Direct, in_parts};
use super::windows::Windows;
use crate::math::Real;
use crate::math::parallel::for_each_chunk;
use crate::math::shared::Shared;
use crate::math::simd::{Kernels, Shifted, vectorised};
use std::ops::Range;

/// Pixels whose gradient stays in the first-level cache for all taps.
const PIXELS: usize = 1024;
/// Bytes of sums at most, which stay in the second-level cache.
const NEAR: usize = 192 << 10;

/// The way that the gradient of weights goes with pixels side by side.
#[derive(Clone, Copy)]
pub(super) struct Way {
    /// Which of the kernels, and its taps and outputs.
    kind: usize,
    taps: usize,
    outputs: usize,
}

impl Way {
    /// The best one, if it fills vectors at least as well as outputs side by side.
    pub(super) fn choose<T: Real>(
        kernels: &Kernels<T>,
        windows: &Windows,
        depth: usize,
        outputs: usize,
    ) -> Option<Way> {
        let lanes = kernels.lanes();
        let room = |[mr, no]: [usize; 2]| depth.next_multiple_of(mr) * outputs.next_multiple_of(no);
        let (kind, size) = kernels.shifted_sizes().enumerate().min_by_key(|(_, size)| room(*size))?;
        // Two halves of vectors at the ends of lines make a whole one.
        let stretch = if 2 * (windows.line % lanes) == lanes { lanes / 2 } else { lanes };
        let lines = (room(size) * windows.line.next_multiple_of(stretch)) as f64 / windows.line.max(1) as f64;
        let fits = room(size) * lanes * size_of::<T>() <= NEAR;
        let [taps, many] = size;
        let way = Way { kind, taps, outputs: many };
        (fits && lines <= (outputs.next_multiple_of(lanes) * depth) as f64).then_some(way)
    }

    /// `dw += Σ dy * x`, and `db += Σ dy` if that is wanted.
    pub(super) fn weights<T: Real>(
        &self,
        direct: &Direct,
        kernels: &Kernels<T>,
        windows: &Windows,
        [x, dy]: [&Batch<T>; 2],
        dw: &mut [T],
        db: Option<&mut [T]>,
    ) {
        let (depth, lanes) = (x.channels * windows.taps.len(), kernels.lanes());
        let panel = depth.next_multiple_of(self.taps) * self.outputs * lanes;
        let bias = dy.channels.div_ceil(self.outputs) * panel;
        let (bands, pixels) = (direct.bands(windows, x), windows.pixels);
        let some = PIXELS.div_ceil(windows.line);
        let worth = x.samples * pixels * depth * dy.channels;
        let has_bias = db.is_some();
        let add = |item: usize, sums: &mut [T]| {
            let (sample, lines) = bands.band(item);
            direct.with_band(windows, x, sample, &lines, |band, plane| {
                let image = band.as_ptr().wrapping_sub(windows.starts[lines.start]);
                let tap = |i: usize| windows.tap(i.min(depth - 1), plane);
                let output = |i: usize| {
                    let first = sample * dy.image + i.min(dy.channels - 1) * pixels;
                    &dy.data[first..first + pixels]
                };
                let (sums, bias_sums) = sums.split_at_mut(bias);
                let sums = Shared::new(sums);
                for first_line in lines.clone().step_by(some) {
                    let starts = &windows.starts[first_line..lines.end.min(first_line + some)];
                    let here = first_line * windows.line..(first_line + starts.len()) * windows.line;
                    for (nth, first) in (0..dy.channels).step_by(self.outputs).enumerate() {
                        if has_bias {
                            // Which brings the outputs near, too.
                            let sums = &mut bias_sums[first..dy.channels.min(first + self.outputs)];
                            add_outputs(|i| output(first + i), here.clone(), sums);
                        }
                        for row in (0..depth).step_by(self.taps) {
                            let size = self.taps * self.outputs * lanes;
                            let tile = Shifted {
                                taps: std::array::from_fn(|i| tap(row + i)),
                                image,
                                starts,
                                line: windows.line,
                                dy: std::array::from_fn(|j| output(first + j)[here.clone()].as_ptr()),
                                out: sums.part(nth * panel + row * self.outputs * lanes, size).at(0),
                            };
                            // SAFETY: taps of these lines lie in the band, their pixels in `dy`; the sums are this task's own, and hold a
                            // whole tile.
                            unsafe { kernels.shifted_products(self.kind, &tile) };
                        }
                    }
                }
            });
        };
        in_parts([bands.count(), bias + dy.channels], worth, add, |sums: &[T]| {
            let (sums, bias_sums) = sums.split_at(bias);
            let vectors = |output: usize, row: usize| {
                let (nth, j) = (output / self.outputs, output % self.outputs);
                &sums[nth * panel + (row * self.outputs + j) * lanes..][..lanes]
            };
            for_each_chunk(dw, 1 << 12, |offset, dw| {
                for (i, dw) in dw.iter_mut().enumerate() {
                    *dw += vectors((offset + i) / depth, (offset + i) % depth).iter().copied().sum::<T>();
                }
            });
            if let Some(db) = db {
                db.iter_mut().zip(bias_sums).for_each(|(db, &x)| *db += x);
            }
        });
    }
}

/// Adds the sums of some pixels of each output to `sums`.
fn add_outputs<'a, T: Real>(output: impl Fn(usize) -> &'a [T], pixels: Range<usize>, sums: &mut [T]) {
    vectorised(
        #[inline(always)]
        || {
            for (i, to) in sums.iter_mut().enumerate() {
                let mut sum = [0.0];
                add_lanes(&output(i)[pixels.clone()], &mut sum);
                *to += T::from_f64(sum[0]);
            }
        },
    );
}
