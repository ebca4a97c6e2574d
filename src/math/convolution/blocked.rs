//! 1×1 convolutions of weights that were put in order, over images whose channels lie in blocks.
//!
//! Where channels of a pixel lie side by side in memory, as many as a vector holds, a tile reads its windows where they lie,
//! and writes its results in two runs: nothing is packed, and few rows are under way at once. Images in planes, as all
//! others read and write them, are turned bit by bit on their way in or out.

use super::prepared::panels;
use super::winograd::{Filters, Tiles};
use crate::math::Real;
use crate::math::gemm::Ending;
use crate::math::gemm::pack::{Panel, Split, transpose};
use crate::math::gemm::product::Cut;
use crate::math::layout::{Layout, Layouts, to_blocks, to_planes, turn_back};
use crate::math::parallel::for_each_index;
use crate::math::scratch::scratch;
use crate::math::shared::Shared;
use crate::math::simd::{Blocked, Kernels, Next};
use std::ops::Range;

/// Bytes of weights from which on tasks share out outputs rather than pixels.
const LARGE_BYTES: usize = 512 << 10;
/// Channels that a tile sums at once: their weights stay in the first-level cache.
const DEPTH: usize = 256;
/// Tasks that a pass is cut into if it is large enough.
const PIECES: usize = 32;
/// Multiply-adds that are worth a thread.
const GRAIN: usize = 1 << 18;

/// Images in blocks: all of a blob, or some pixels laid out aside.
#[derive(Clone, Copy)]
struct Images<T> {
    data: *mut T,
    /// The pixel it starts with, counted through the batch.
    first: usize,
    /// Pixels of an image, and numbers from image to image.
    pixels: usize,
    image: usize,
    /// Numbers from block to block.
    block: usize,
    lanes: usize,
}

impl<T> Images<T> {
    /// A blob.
    fn whole(data: *mut T, channels: usize, pixels: usize, lanes: usize) -> Self {
        Images { data, first: 0, pixels, image: channels * pixels, block: pixels * lanes, lanes }
    }

    /// Some pixels.
    fn part(data: *mut T, pixels: &Range<usize>, lanes: usize) -> Self {
        let (first, block) = (pixels.start, pixels.len() * lanes);
        Images { data, first, pixels: usize::MAX, image: 0, block, lanes }
    }

    /// A pixel of a block.
    fn at(&self, pixel: usize, block: usize) -> *mut T {
        let pixel = pixel - self.first;
        let at = pixel / self.pixels * self.image + pixel % self.pixels * self.lanes;
        self.data.wrapping_add(at + block * self.block)
    }
}

// SAFETY: tasks write pixels and blocks of their own, through exclusive borrows that outlive them.
unsafe impl<T: Send> Sync for Images<T> {}

/// A forward pass.
struct Pass<'a, T: 'static> {
    kernels: &'static Kernels<T>,
    /// Pixels of an image.
    pixels: usize,
    channels: usize,
    outputs: usize,
    layouts: Layouts,
    /// Whether there are more weights than a task should read for a few pixels.
    is_large: bool,
    x: &'a [T],
    w: &'a [T],
    end: &'a Ending<'a, T>,
    y: Shared<'a, T>,
}

/// The extents of a 1×1 convolution.
#[derive(Clone, Copy)]
pub(super) struct Extents {
    pub batch: usize,
    /// Pixels of an image.
    pub pixels: usize,
    pub channels: usize,
    pub outputs: usize,
}

/// `y = end(w * x)` for weights in order: for each panel of outputs, for each channel, those of the outputs side by side.
pub(super) fn forward<T: Real>(
    kernels: &'static Kernels<T>,
    Extents { batch, pixels, channels, outputs }: Extents,
    x: &[T],
    layouts: Layouts,
    w: &[T],
    end: &Ending<T>,
    y: &mut [T],
) {
    let lanes = kernels.lanes();
    let all = batch * pixels;
    assert!(x.len() >= all * channels && y.len() >= all * outputs && w.len() >= channels * outputs);
    assert!(end.other.is_none_or(|other| other.len() >= all * outputs));
    let size = size_of::<T>();
    let is_large = channels * outputs * size > LARGE_BYTES;
    let y = Shared::new(&mut y[..all * outputs]);
    let pass = Pass { kernels, pixels, channels, outputs, layouts, is_large, x, w, end, y };
    // A task reads its pixels again and again.
    let most = (kernels.near_bytes() / (channels * size)).max(kernels.rows());
    // Whole tiles and whole vectors of pixels.
    let unit = if pixels > 4 * kernels.rows() * lanes { kernels.rows() * lanes / 2 } else { kernels.rows() };
    let each = if is_large { most } else { most.min(all.div_ceil(PIECES)).max(4 * kernels.rows()) };
    let chunks = Cut::new(all, pixels, each, unit);
    let count = panels(kernels).count(outputs);
    let parts = if is_large { PIECES.div_ceil(chunks.count()).min(count) } else { 1 };
    let tasks = chunks.count() * parts;
    let run = |pass: &Pass<T>| {
        for_each_index(tasks, GRAIN.div_ceil(all * channels * outputs / tasks), |task| {
            let part = task % parts;
            pass.run(&chunks.block(task / parts), count * part / parts..count * (part + 1) / parts);
        });
    };
    if parts == 1 || layouts.bottom == Layout::Blocks {
        return run(&pass);
    }
    // Several tasks read the same pixels, which are turned once for all.
    scratch(all * channels, |turned: &mut [T]| {
        let blocks = Images::whole(Shared::new(turned).at(0), channels, pixels, lanes);
        for_each_index(chunks.count() * channels / lanes, 4, |task| {
            let (chunk, block) = (task / (channels / lanes), task % (channels / lanes));
            pass.turn(
                x,
                channels,
                &chunks.block(chunk),
                block..block + 1,
                &Images { data: blocks.at(0, block), ..blocks },
            );
        });
        run(&Pass { x: turned, layouts: Layouts { bottom: Layout::Blocks, ..layouts }, ..pass });
    });
}

/// The same by Winograd's way, for which images in planes are turned before and after.
pub(super) fn forward_tiles<T: Real>(
    kernels: &Kernels<T>,
    tiles: &Tiles,
    x: &[T],
    layouts: Layouts,
    filters: &Filters<T>,
    end: &Ending<T>,
    y: &mut [T],
) {
    let [plane, pixels] = [tiles.input, tiles.output].map(|of| of[0] * of[1]);
    let [bottom, top] = [[filters.from, plane], [filters.to, pixels]];
    let turned = |of: &[T], layout: Layout, sizes, to: &mut [T]| {
        if layout == Layout::Planes {
            to_blocks(kernels, of, sizes, to);
        }
    };
    let room = |layout: Layout, len: usize| if layout == Layout::Planes { len } else { 0 };
    let other = end.other.unwrap_or_default();
    let lens = [
        room(layouts.bottom, x.len()),
        room(layouts.other, other.len().min(y.len())),
        room(layouts.top, y.len()),
    ];
    scratch(lens.iter().sum(), |aside: &mut [T]| {
        let (x_aside, aside) = aside.split_at_mut(lens[0]);
        let (other_aside, y_aside) = aside.split_at_mut(lens[1]);
        turned(x, layouts.bottom, bottom, x_aside);
        turned(other, layouts.other, top, other_aside);
        let x = if layouts.bottom == Layout::Planes { x_aside } else { x };
        let aside = if layouts.other == Layout::Planes { &*other_aside } else { other };
        let end = Ending { other: end.other.map(|_| aside), ..*end };
        if layouts.top == Layout::Blocks {
            return tiles.convolve_blocks(kernels, filters, x, &end, y);
        }
        tiles.convolve_blocks(kernels, filters, x, &end, y_aside);
        to_planes(kernels, y_aside, top, y);
    });
}

impl<T: Real> Pass<'_, T> {
    /// Some pixels and panels of outputs.
    fn run(&self, pixels: &Range<usize>, panels: Range<usize>) {
        let lanes = self.kernels.lanes();
        if self.layouts.bottom == Layout::Blocks {
            let x = Images::whole(self.x.as_ptr().cast_mut(), self.channels, self.pixels, lanes);
            return self.multiply(pixels, panels, &x);
        }
        scratch(pixels.len() * self.channels, |turned: &mut [T]| {
            let x = Images::part(turned.as_mut_ptr(), pixels, lanes);
            self.turn(self.x, self.channels, pixels, 0..self.channels / lanes, &x);
            self.multiply(pixels, panels, &x);
        });
    }

    /// The same, of a bottom in blocks.
    fn multiply(&self, pixels: &Range<usize>, panels: Range<usize>, x: &Images<T>) {
        let lanes = self.kernels.lanes();
        let room = pixels.len() * self.kernels.columns();
        let y = Images::whole(self.y.at(0), self.outputs, self.pixels, lanes);
        let aside = |is: Layout| if is == Layout::Planes { room } else { 0 };
        let added = if self.end.other.is_some() { aside(self.layouts.other) } else { 0 };
        scratch(aside(self.layouts.top) + added, |aside: &mut [T]| {
            let (added, results) = aside.split_at_mut(added);
            for panel in panels {
                let Panel { start: first, width, .. } = self::panels(self.kernels).panel(panel, self.outputs);
                let (block, vectors) = (first / lanes, width / lanes);
                let other = self.end.other.map(|other| {
                    if self.layouts.other == Layout::Blocks {
                        let all = Images::whole(other.as_ptr().cast_mut(), self.outputs, self.pixels, lanes);
                        return Images { data: all.at(0, block), ..all };
                    }
                    let part = Images::part(added.as_mut_ptr(), pixels, lanes);
                    self.turn(other, self.outputs, pixels, block..block + vectors, &part);
                    part
                });
                if self.layouts.top == Layout::Blocks {
                    let y = Images { data: y.at(0, block), ..y };
                    self.panel(pixels, first..first + width, x, other.as_ref(), &y);
                } else {
                    let part = Images::part(results.as_mut_ptr(), pixels, lanes);
                    self.panel(pixels, first..first + width, x, other.as_ref(), &part);
                    self.turn_back(&part, pixels, block..block + vectors);
                }
            }
        });
    }

    /// All tiles of some pixels and the outputs of a panel.
    fn panel(
        &self,
        pixels: &Range<usize>,
        outputs: Range<usize>,
        x: &Images<T>,
        other: Option<&Images<T>>,
        y: &Images<T>,
    ) {
        let (lanes, first, width) = (self.kernels.lanes(), outputs.start, outputs.len());
        let (ones, zeros) = ([T::one(); 32], [T::zero(); 32]);
        let line = |line: Option<&[T]>, none: &[T]| {
            line.map_or(none.as_ptr(), |line| line[first..][..width].as_ptr())
        };
        let (scale, bias) = (line(self.end.scale, &ones), line(self.end.bias, &zeros));
        let w = &self.w[first * self.channels..][..width * self.channels];
        let depth = Cut::new(self.channels, self.channels, DEPTH, lanes);
        for k in (0..depth.count()).map(|i| depth.block(i)) {
            let split = Split::Rows { most: self.kernels.rows() };
            let tiles: usize = self.runs(pixels).map(|run| split.count(run.len())).sum();
            // Where several panels read the same pixels the first one brings them; else weights are what is new.
            let share = (k.len() * width).div_ceil(tiles);
            let (step, next_block) = match (self.is_large, first) {
                (true, _) => (share.div_ceil(k.len()), share.div_ceil(k.len()) * lanes),
                (false, 0) => (lanes, x.block),
                (false, _) => (0, 0),
            };
            let mut weights = w.as_ptr().wrapping_add(k.end * width);
            let mut of = Blocked {
                blocks: k.len() / lanes,
                x: std::ptr::null(),
                x_step: x.block,
                next: Next { start: std::ptr::null(), step },
                next_block,
                w: w[k.start * width..].as_ptr(),
                w_step: lanes * width,
                y: std::ptr::null_mut(),
                y_step: y.block,
                adds: k.start > 0,
                ends: k.end == self.channels,
                scale,
                bias,
                other: std::ptr::null(),
                other_step: other.map_or(0, |other| other.block),
                floor: self.end.floor,
            };
            for run in self.runs(pixels) {
                // Divisions are for the run alone: some tiles are not much longer than one.
                of.x = x.at(run.start, k.start / lanes).cast_const();
                of.y = y.at(run.start, 0);
                of.other = other.map_or(std::ptr::null(), |other| other.at(run.start, 0).cast_const());
                for tile in split.panels(run.len()) {
                    let numbers = tile.len * lanes;
                    of.next.start = match (self.is_large, first) {
                        (true, _) => weights,
                        (false, 0) => of.x.wrapping_add(numbers),
                        (false, _) => of.x,
                    };
                    // SAFETY: x, w, y and other hold these pixels and outputs; no other task has them in y.
                    unsafe { self.kernels.blocked(tile.len, width / lanes, &of) };
                    weights = weights.wrapping_add(share);
                    of.x = of.x.wrapping_add(numbers);
                    of.y = of.y.wrapping_add(numbers);
                    if !of.other.is_null() {
                        of.other = of.other.wrapping_add(numbers);
                    }
                }
            }
        }
    }

    /// The stretches of `pixels` within an image.
    fn runs(&self, pixels: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let (mut at, end, image) = (pixels.start, pixels.end, self.pixels);
        std::iter::from_fn(move || {
            let run = at..((at / image + 1) * image).min(end);
            at = run.end;
            (!run.is_empty()).then_some(run)
        })
    }

    /// Turns some pixels of blocks of channels, in planes in `from`, into blocks.
    fn turn(&self, from: &[T], channels: usize, pixels: &Range<usize>, blocks: Range<usize>, to: &Images<T>) {
        let lanes = self.kernels.lanes();
        for run in self.runs(pixels) {
            let start = run.start / self.pixels * channels * self.pixels + run.start % self.pixels;
            for (i, block) in blocks.clone().enumerate() {
                let from = &from[start + block * lanes * self.pixels..];
                // SAFETY: `to` holds these pixels of the blocks, which no other task has.
                let to = unsafe { std::slice::from_raw_parts_mut(to.at(run.start, i), run.len() * lanes) };
                transpose(self.kernels, from, self.pixels, lanes, run.len(), lanes, to);
            }
        }
    }

    /// Writes the results of a panel into the planes of y.
    fn turn_back(&self, from: &Images<T>, pixels: &Range<usize>, blocks: Range<usize>) {
        let lanes = self.kernels.lanes();
        for run in self.runs(pixels) {
            let start = run.start / self.pixels * self.outputs * self.pixels + run.start % self.pixels;
            for (i, block) in blocks.clone().enumerate() {
                let to = start + block * lanes * self.pixels;
                let last = to + (lanes - 1) * self.pixels + run.len();
                assert!(last <= self.y.len());
                // SAFETY: `from` holds these pixels, and y, as was checked, their places; no other task has them.
                unsafe {
                    let from = std::slice::from_raw_parts(from.at(run.start, i), run.len() * lanes);
                    turn_back(self.kernels, from, lanes, self.pixels, self.y.at(to));
                }
            }
        }
    }
}
