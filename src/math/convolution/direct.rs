//! Convolutions of planes whose windows are read where they lie in padded images.
//!
//! A product of packed operands writes each number of an image as often as there are taps and reads it again; with few
//! channels that costs as much as the sums. Here an image is copied once, with its padding, and a tile's vectors are
//! loaded from it for each tap: stretches of a line are neighbours in memory.

use super::Geometry;
use super::products::{Pixels, Products, turn};
use super::windows::Windows;
use crate::math::Real;
use crate::math::gemm::Ending;
use crate::math::gemm::pack::{Source, Split};
use crate::math::parallel::{for_each_chunk, for_each_index};
use crate::math::scratch::scratch;
use crate::math::shared::Shared;
use crate::math::simd::{Kernels, Patch, TAPS};
use std::ops::Range;

/// Bytes of a band of all channels, which should stay in the second-level cache.
const BAND: usize = 384 << 10;
/// Bands that a batch is cut into if it is large enough.
const TASKS: usize = 32;
/// Lines that are worth a band.
const LINES: usize = 8;
/// Bytes of sums that stay in the second-level cache beside a band.
const NEAR: usize = 256 << 10;
/// Partial sums of a weight gradient at most, multiply-adds that are worth one, and bytes of all of them.
const PARTS: usize = 16;
const GRAIN: usize = 1 << 21;
const SUMS: usize = 4 << 20;

/// How the windows of a plane lie along the outermost axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direct {
    /// Lines of the output.
    lines: usize,
    /// Rows of a padded plane.
    rows: usize,
    /// Rows from window to window, and of a window.
    stride: usize,
    reach: usize,
}

/// A batch of images of which some channels are used.
#[derive(Clone, Copy)]
pub(super) struct Batch<'a, T> {
    /// From the first channel that is used on.
    pub data: &'a [T],
    /// Elements of a sample.
    pub image: usize,
    pub samples: usize,
    pub channels: usize,
}

/// The gradient of a top.
pub(super) enum Gradient<'a, T> {
    Planes(Batch<'a, T>),
    /// In blocks, of so many channels in all.
    Blocks {
        data: &'a [T],
        channels: usize,
    },
}

impl<T> Gradient<'_, T> {
    fn channels(&self) -> usize {
        match self {
            Gradient::Planes(planes) => planes.channels,
            Gradient::Blocks { channels, .. } => *channels,
        }
    }
}

/// How a batch is cut into bands of lines.
pub(super) struct Bands {
    samples: usize,
    each: usize,
    lines: usize,
}

impl Bands {
    /// Number of bands.
    pub(super) fn count(&self) -> usize {
        self.samples * self.lines.div_ceil(self.each)
    }

    /// The sample and the lines of one.
    pub(super) fn band(&self, nth: usize) -> (usize, Range<usize>) {
        let bands = self.lines.div_ceil(self.each);
        let first = nth % bands * self.each;
        (nth / bands, first..(first + self.each).min(self.lines))
    }
}

impl Direct {
    /// The plan for planes, if there is more than one tap.
    pub(super) fn suited(g: &Geometry, output: &[usize]) -> Option<Direct> {
        let (&[height, _], &[lines, _]) = (g.input.as_slice(), output) else { return None };
        let taps: usize = g.kernel.iter().product();
        (taps > 1 && g.batch > 0).then_some(Direct {
            lines,
            rows: height + 2 * g.pad[0],
            stride: g.stride[0],
            reach: (g.kernel[0] - 1) * g.dilation[0] + 1,
        })
    }

    /// Cycles of a multiply-add on a core with vectors of 16, in sums of length `depth`, if they are fewer than those of
    /// packed operands.
    pub(super) fn saves_time(&self, windows: &Windows, depth: usize, outputs: usize) -> Option<f64> {
        let line = windows.line as f64;
        let halves = halves(16, windows.line);
        let stretch = if halves { 8 } else { 16 };
        let waste = windows.line.next_multiple_of(stretch) as f64 / line;
        // Sums, and what it takes to start a tile and to write it.
        let cycles = waste / if halves { 26.0 } else { 28.0 } + 0.2 / depth as f64;
        (cycles < packed_cycles(outputs as f64)).then_some(cycles)
    }

    /// The same for the gradient of the weights.
    pub(super) fn saves_time_for_weights(&self, depth: usize, outputs: usize) -> Option<f64> {
        let width = outputs.next_multiple_of(16);
        let cycles = width as f64 / outputs as f64 / 27.0;
        let fits = width * depth * 4 <= NEAR;
        (fits && cycles < 1.0 / 27.0 + 1.2 / outputs as f64).then_some(cycles)
    }

    /// How a batch is cut.
    pub(super) fn bands<T>(&self, windows: &Windows, x: &Batch<T>) -> Bands {
        // Numbers of a row over all channels.
        let (samples, row) = (x.samples, x.channels * windows.padded_plane() / self.rows);
        let fit = (BAND / (row * size_of::<T>())).saturating_sub(self.reach) / self.stride + 1;
        let spread = self.lines.div_ceil(TASKS.div_ceil(samples)).max(LINES);
        let each = self.lines.div_ceil(self.lines.div_ceil(fit.min(spread)));
        Bands { samples, each, lines: self.lines }
    }

    /// Calls `f` with a band of all channels, padded, each channel in `size` numbers, and with some numbers behind it.
    pub(super) fn with_band<T: Real>(
        &self,
        windows: &Windows,
        x: &Batch<T>,
        sample: usize,
        lines: &Range<usize>,
        f: impl FnOnce(&[T], usize),
    ) {
        let (plane, inner) = (windows.plane(), windows.padded_plane() / self.rows);
        let outer = lines.start * self.stride..(lines.end - 1) * self.stride + self.reach;
        let size = outer.len() * inner;
        scratch(x.channels * size + 32, |band: &mut [T]| {
            let image = &x.data[sample * x.image..];
            for (channel, band) in band.chunks_exact_mut(size).enumerate().take(x.channels) {
                windows.pad(&image[channel * plane..][..plane], outer.clone(), band);
            }
            f(band, size);
        });
    }

    /// `y = end(A * x)` for A of `outputs` rows, k being (channel, tap).
    #[allow(clippy::too_many_arguments)]
    pub(super) fn convolve<T: Real>(
        &self,
        kernels: &Kernels<T>,
        windows: &Windows,
        a: &impl Source<T>,
        outputs: usize,
        x: &Batch<T>,
        end: &Ending<T>,
        y: &mut [T],
        y_image: usize,
    ) {
        let (k, pixels) = (x.channels * windows.taps.len(), windows.pixels);
        assert!(y.len() >= (x.samples - 1) * y_image + outputs * pixels);
        let split = Split::Rows { most: kernels.rows() };
        let bands = self.bands(windows, x);
        let y = Shared::new(y);
        scratch(outputs * k, |packed: &mut [T]| {
            a.pack(kernels, 0..outputs, 0..k, split, packed);
            let packed = &*packed;
            for_each_index(bands.count(), 1, |task| {
                let (sample, lines) = bands.band(task);
                self.with_band(windows, x, sample, &lines, |band, size| {
                    for panel in split.panels(outputs) {
                        let end = end.rows(panel.start..panel.start + panel.len);
                        let all = |of: Option<&[T]>| of.map_or(std::ptr::null(), <[T]>::as_ptr);
                        let tile = Patch {
                            rows: panel.len,
                            a: packed[panel.start * k..][..panel.len * k].as_ptr(),
                            image: band.as_ptr(),
                            channels: x.channels,
                            plane: size,
                            offsets: &windows.taps,
                            halves: halves(kernels.lanes(), windows.line),
                            starts: [0; 4],
                            places: [0; 4],
                            lens: [0; 4],
                            y: y.part(sample * y_image + panel.start * pixels, panel.len * pixels).at(0),
                            y_step: pixels,
                            scale: all(end.scale),
                            bias: all(end.bias),
                            floor: end.floor,
                            add: false,
                        };
                        each_tile(kernels.lanes(), windows, &lines, tile, |tile| {
                            // SAFETY: stretches start in the band, behind which there are two vectors of numbers; the
                            // panel and y were checked above; no other task has the rows of these lines.
                            unsafe { kernels.patch(tile) }
                        });
                    }
                });
            });
        });
    }

    /// `dw += Σ dy * x` for dense filters of `dy.channels` outputs, and `db += Σ dy` if that is wanted, for a gradient in blocks.
    pub(super) fn weights<T: Real>(
        &self,
        kernels: &Kernels<T>,
        windows: &Windows,
        x: &Batch<T>,
        dy: &Gradient<T>,
        dw: &mut [T],
        db: Option<&mut [T]>,
    ) {
        let (lanes, taps) = (kernels.lanes(), windows.taps.len());
        let (depth, outputs, pixels) = (x.channels * taps, dy.channels(), windows.pixels);
        let (width, line) = (outputs.next_multiple_of(lanes), windows.line);
        // Rows for taps that are not there, to fill the last tile; then that of the bias.
        let size = (depth + TAPS + 1) * width;
        let last = db.is_some().then_some((depth + TAPS) * width);
        let bands = self.bands(windows, x);
        let add = |item: usize, sums: &mut [T]| {
            let (sample, lines) = bands.band(item);
            let sums = Shared::new(sums);
            let add = |dy: Pixels<T>| {
                self.with_band(windows, x, sample, &lines, |band, plane| {
                    let (lines, channels) = (lines.clone(), x.channels);
                    let products = Products { kernels, windows, lines, band, plane, channels, dy, width };
                    products.add_taps(&sums, last);
                });
            };
            match dy {
                Gradient::Planes(planes) => {
                    // A part of the outputs starts within the first pixel, and is as long as the others.
                    scratch((lines.len() * line + 1) * width, |turned: &mut [T]| {
                        turn(kernels, windows, planes, sample, &lines, width, turned);
                        add(Pixels { data: turned, step: width, vector: lanes });
                    });
                }
                Gradient::Blocks { data, .. } => {
                    let at = sample * outputs * pixels + lines.start * line * lanes;
                    add(Pixels { data: &data[at..], step: lanes, vector: pixels * lanes });
                }
            }
        };
        in_parts([bands.count(), size], x.samples * pixels * size, add, |sums: &[T]| {
            if let (Some(db), Some(last)) = (db, last) {
                db.iter_mut().zip(&sums[last..]).for_each(|(db, &x)| *db += x);
            }
            for_each_chunk(dw, depth * usize::div_ceil(1 << 12, depth), |offset, dw| {
                for (i, dw) in dw.chunks_exact_mut(depth).enumerate() {
                    let column = sums[offset / depth + i..].iter().step_by(width);
                    dw.iter_mut().zip(column).for_each(|(dw, &x)| *dw += x);
                }
            });
        });
    }
}

/// Calls `add` for each of some items with sums of length `size`, in as many parts as so many multiply-adds are worth, each with sums of its own;
/// then `done` with the sums of all parts, which are added one after another.
pub(super) fn in_parts<T: Real>(
    [items, size]: [usize; 2],
    multiply_adds: usize,
    add: impl Fn(usize, &mut [T]) + Sync,
    done: impl FnOnce(&[T]),
) {
    let worth = multiply_adds / GRAIN;
    let parts = worth.min(items).min(SUMS / (size * size_of::<T>())).clamp(1, PARTS);
    scratch(parts * size, |sums: &mut [T]| {
        for_each_chunk(sums, size, |offset, sums| {
            let part = offset / size;
            sums.fill(T::zero());
            (items * part / parts..items * (part + 1) / parts).for_each(|item| add(item, sums));
        });
        let (sums, others) = sums.split_at_mut(size);
        for_each_chunk(
            sums,
            1 << 12,
            #[inline(always)]
            |offset, sums| {
                for other in others.chunks_exact(size) {
                    sums.iter_mut().zip(&other[offset..]).for_each(|(sum, &x)| *sum += x);
                }
            },
        );
        done(sums);
    });
}

/// Cycles of a multiply-add of packed operands with `m` rows: packing is paid for by all rows together.
pub(super) fn packed_cycles(m: f64) -> f64 {
    1.0 / 22.0 + 0.1 / m
}

/// Whether lines are cut into halves of vectors: where that leaves fewer lanes without a pixel.
pub(super) fn halves(lanes: usize, line: usize) -> bool {
    lanes >= 8 && (1..=lanes / 2).contains(&(line % lanes))
}

/// Calls `f` with the tiles of some lines, one after another: `starts` in the padded image, `places` in the output.
pub(super) fn each_tile<T: Real>(
    lanes: usize,
    windows: &Windows,
    lines: &Range<usize>,
    mut tile: Patch<T>,
    mut f: impl FnMut(&mut Patch<T>),
) {
    let (stretch, count) = if tile.halves { (lanes / 2, 4) } else { (lanes, 2) };
    let (skipped, length) = (windows.starts[lines.start], windows.line);
    let (mut line, mut column) = (lines.start, 0);
    while line < lines.end {
        (tile.starts, tile.places, tile.lens) = ([0; 4], [0; 4], [0; 4]);
        for i in 0..count {
            if line == lines.end {
                break;
            }
            tile.starts[i] = windows.starts[line] - skipped + column;
            tile.places[i] = line * length + column;
            tile.lens[i] = stretch.min(length - column);
            column += stretch;
            if column >= length {
                (line, column) = (line + 1, 0);
            }
        }
        f(&mut tile);
    }
}
