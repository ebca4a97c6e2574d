//! Where the tiles of a convolution lie.

use super::super::Geometry;
use crate::math::Real;
use crate::math::simd::{Corner, POINTS, Place, SIDE};
use std::ops::Range;

/// Tiles of a block at least and at most, in whole panels of every instruction set.
pub(super) const TILES: Range<usize> = 64..512;
/// Numbers of an image, before and after, that is turned into blocks aside at most.
const TURNED: usize = 1 << 20;

/// An image and the tiles of its convolution with filters of `size` × `size`, over a batch.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Tiles {
    /// Side of the filter.
    pub(super) size: usize,
    /// Outputs of a tile, along each axis.
    pub(super) step: usize,
    pub(super) batch: usize,
    /// Height and width of a plane of the image.
    pub(in super::super) input: [usize; 2],
    pub(super) pad: [usize; 2],
    /// The same of the output.
    pub(in super::super) output: [usize; 2],
    /// Tiles along each axis.
    pub(super) count: [usize; 2],
}

/// Channels of a batch of which some (a group's) are used: those from the start of the slice on.
pub(in super::super) struct Images<S> {
    pub data: S,
    /// Elements of a sample, all groups together.
    pub image: usize,
}

impl Tiles {
    /// The tiles of a convolution, if this way suits its kernel.
    pub(in super::super) fn suited(g: &Geometry, output: &[usize]) -> Option<Tiles> {
        let (&[height, width], &[rows, columns]) = (g.input.as_slice(), output) else { return None };
        let size = g.kernel[0];
        let suits = (2..=5).contains(&size)
            && g.kernel[1] == size
            && g.stride.iter().chain(&g.dilation).all(|&s| s == 1)
            && g.pad.iter().all(|&p| p < size);
        if !suits {
            return None;
        }
        let step = SIDE + 1 - size;
        Some(Tiles {
            size,
            step,
            batch: g.batch,
            input: [height, width],
            pad: [g.pad[0], g.pad[1]],
            output: [rows, columns],
            count: [rows.div_ceil(step), columns.div_ceil(step)],
        })
    }

    /// Whether this way saves time against one of so many cycles, from and to so many channels.
    pub(in super::super) fn saves_time(&self, cycles: f64, from: usize, to: usize) -> bool {
        self.way_cycles(from, to) < 0.95 * cycles
    }

    /// Cycles of this way, from and to so many channels.
    pub(in super::super) fn way_cycles(&self, from: usize, to: usize) -> f64 {
        // What goes back from a tile goes to its outputs one by one.
        let back = 40.0 + 3.0 * (self.step * self.step) as f64;
        self.cycles(from, to, [40.0, back])
    }

    /// The same for images in blocks and prepared filters, in single precision.
    pub(in super::super) fn saves_time_in_blocks(&self, cycles: f64, from: usize, to: usize) -> bool {
        let (count, from, to) = (self.all() as f64, from as f64, to as f64);
        let patches = count * (from + to) * 16.0;
        POINTS as f64 * count * from * to / 30.0 + patches + from * to * 18.0 < 0.95 * cycles
    }

    /// The same for the gradient of the weights.
    pub(in super::super) fn saves_time_for_weights(&self, cycles: f64, from: usize, to: usize) -> bool {
        self.cycles(from.next_multiple_of(16), to, [45.0; 2]) < 0.95 * cycles
    }

    /// The same for images that are turned into blocks, some at a time, in single precision.
    pub(in super::super) fn saves_time_for_turned_weights(
        &self,
        cycles: f64,
        from: usize,
        to: usize,
    ) -> bool {
        let others = cycles.min(self.cycles(from.next_multiple_of(16), to, [45.0; 2]));
        let plane = |of: [usize; 2]| of[0] * of[1];
        let image = from * plane(self.input) + to * plane(self.output);
        // Products leave out rows that fill up a vector, patches do not.
        let [from, whole] = [from, to].map(|n| n.next_multiple_of(16) as f64);
        let (count, to) = (self.all() as f64, to as f64);
        let patches = count * (from + whole) * (15.0 + (self.step * self.step) as f64);
        let turned = POINTS as f64 * count * from * to / 30.0 + patches + from * to * 80.0;
        image <= TURNED && turned < 0.95 * others
    }

    /// Cycles of a core with vectors of 16, fitted to readings of the layers of ResNet-50, SqueezeNet and nets of 5 × 5 windows: products,
    /// patches of tiles, which take `turns` cycles a channel from and to, and filters, whose 36 numbers leave the caches.
    fn cycles(&self, from: usize, to: usize, turns: [f64; 2]) -> f64 {
        let lanes = self.all().next_multiple_of(16) as f64;
        let (count, from, to) = (self.all() as f64, from as f64, to as f64);
        POINTS as f64 * lanes * from * to / 28.0
            + count * (from * turns[0] + to * turns[1])
            + from * to * if self.is_once() { 25.0 } else { 80.0 }
    }

    /// The tiles of the gradient of the bottom: a convolution of the top's with turned filters.
    pub(in super::super) fn turned(self) -> Tiles {
        let pad = self.pad.map(|p| self.size - 1 - p);
        let count = self.input.map(|n| n.div_ceil(self.step));
        Tiles { input: self.output, output: self.input, pad, count, ..self }
    }

    /// Side of the filter.
    pub(in super::super) fn side(&self) -> usize {
        self.size
    }

    /// Tiles of the batch.
    pub(super) fn all(&self) -> usize {
        self.batch * self.count[0] * self.count[1]
    }

    /// Sample, row and column of each of some tiles.
    pub(super) fn each(&self, tiles: &Range<usize>) -> impl Iterator<Item = [usize; 3]> {
        let [rows, columns] = self.count;
        let [mut sample, mut row, mut column] = self.find(tiles.start);
        tiles.clone().map(move |_| {
            let here = [sample, row, column];
            column += 1;
            if column == columns {
                (column, row) = (0, row + 1);
            }
            if row == rows {
                (row, sample) = (0, sample + 1);
            }
            here
        })
    }

    /// Sample, row and column of a tile.
    pub(super) fn find(&self, tile: usize) -> [usize; 3] {
        let (row, column) = (tile / self.count[1], tile % self.count[1]);
        [row / self.count[0], row % self.count[0], column]
    }

    /// Where the outputs of some tiles go in a batch with samples of `image` elements.
    pub(super) fn places(&self, tiles: &Range<usize>, image: usize) -> [Place; TILES.end] {
        let mut places = [Place { at: 0, rows: 0, columns: 0 }; TILES.end];
        let most = |n: usize| n.min(self.step) as u8;
        for (place, [sample, row, column]) in places.iter_mut().zip(self.each(tiles)) {
            let (y, x) = (row * self.step, column * self.step);
            *place = Place {
                at: sample * image + y * self.output[1] + x,
                rows: most(self.output[0] - y),
                columns: most(self.output[1] - x),
            };
        }
        places
    }

    /// Offsets of the patches of some tiles in a band.
    pub(super) fn patches(&self, band: &Band, tiles: &Range<usize>) -> [usize; TILES.end] {
        let mut patches = [0; TILES.end];
        for (patch, [sample, row, column]) in patches.iter_mut().zip(self.each(tiles)) {
            let y = (row - band.top) * self.step;
            *patch = (sample - band.samples.start) * band.plane + y * band.line + column * self.step;
        }
        patches
    }

    /// The patches of up to 16 tiles in images whose channels lie in blocks of so many lanes, `image` numbers apart: of the image (`side` 6)
    /// or of the output (`side` as many as a tile has).
    pub(super) fn corners(
        &self,
        tiles: &Range<usize>,
        side: usize,
        image: usize,
        lanes: usize,
    ) -> [Corner; 16] {
        let ([height, width], pad) =
            if side == SIDE { (self.input, self.pad) } else { (self.output, [0, 0]) };
        let inside = |at: usize, pad: usize, size: usize| {
            [pad.saturating_sub(at).min(side) as u8, (size + pad).saturating_sub(at).min(side) as u8]
        };
        let mut corners = [Corner::default(); 16];
        for (corner, [sample, row, column]) in corners.iter_mut().zip(self.each(tiles)) {
            let (y, x) = (row * self.step, column * self.step);
            // Those before the image are so many less than none.
            let pixel = y.wrapping_sub(pad[0]).wrapping_mul(width).wrapping_add(x.wrapping_sub(pad[1]));
            *corner = Corner {
                at: (sample * image).wrapping_add(pixel.wrapping_mul(lanes)),
                rows: inside(y, pad[0], height),
                columns: inside(x, pad[1], width),
            };
        }
        corners
    }

    /// The band of padded planes that patches of `side` × `side` numbers of some tiles need.
    pub(super) fn band(&self, tiles: &Range<usize>, side: usize) -> Band {
        let [first, top, _] = self.find(tiles.start);
        let [last, bottom, _] = self.find(tiles.end - 1);
        let rows = if first == last { top..bottom + 1 } else { 0..self.count[0] };
        let line = (self.count[1] - 1) * self.step + side;
        let height = (rows.len() - 1) * self.step + side;
        Band { samples: first..last + 1, top: rows.start, line, plane: height * line }
    }

    /// Copies a band of one channel: `pad` zeros around `size` numbers, or as many as fit.
    pub(super) fn copy<T: Real>(
        &self,
        band: &Band,
        from: &Images<&[T]>,
        channel: usize,
        size: [usize; 2],
        pad: [usize; 2],
        to: &mut [T],
    ) {
        let [height, width] = size;
        for (sample, to) in band.samples.clone().zip(to.chunks_exact_mut(band.plane)) {
            let plane = &from.data[sample * from.image + channel * height * width..][..height * width];
            for (i, line) in to.chunks_exact_mut(band.line).enumerate() {
                let from = (band.top * self.step + i).checked_sub(pad[0]).filter(|&y| y < height);
                let Some(y) = from else {
                    line.fill(T::zero());
                    continue;
                };
                let (before, rest) = line.split_at_mut(pad[1].min(band.line));
                let (middle, after) = rest.split_at_mut(width.min(rest.len()));
                before.fill(T::zero());
                middle.copy_from_slice(&plane[y * width..][..middle.len()]);
                after.fill(T::zero());
            }
        }
    }
}

/// A part of padded planes that some tiles need: lines of `line` numbers, from tile row `top` on.
pub(super) struct Band {
    pub(super) samples: Range<usize>,
    pub(super) top: usize,
    pub(super) line: usize,
    pub(super) plane: usize,
}
