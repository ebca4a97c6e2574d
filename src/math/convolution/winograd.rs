//! Winograd's convolution: filters of 2 × 2 to 5 × 5 with stride 1, by tiles of 6 × 6.
//!
//! With U = G·g·Gᵀ of a filter and V = Bᵀ·d·B of a patch of the image, a tile of the output is Aᵀ·(Σ U⊙V)·A, summed over
//! channels: for each of the 36 points a matrix product. A filter of 3 × 3 needs 36 products for 16 outputs instead of
//! 144. The gradient of the bottom is the same with turned filters; that of the weights is Aᵀ·(Σ U⊙V)·A too, summed
//! over tiles, with U made of the top's gradient.
//!
//! Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.

use super::Geometry;
use crate::math::Real;
use crate::math::gemm::pack::Split;
use crate::math::gemm::product::Ending;
use crate::math::parallel::for_each_index;
use crate::math::scratch::scratch;
use crate::math::shared::Shared;
use crate::math::simd::{Gather, Kernels, POINTS, Place, SIDE, Spread, Tile};
use std::ops::Range;

/// Bytes of transformed tiles that are worked on together: they should stay in the second-level cache.
const BLOCK: usize = 2 << 20;
/// Tiles of a block at least and at most, in whole panels of every instruction set.
const TILES: Range<usize> = 64..512;
/// The same for gradients of weights, where each block reads and writes all sums.
const DEEP: Range<usize> = 128..512;
/// Bytes of k that a panel holds at once.
const K_BYTES: usize = 2048;
/// Multiply-adds that are worth a thread.
const GRAIN: usize = 1 << 18;
/// Numbers between the points of transformed tiles beyond those needed: powers of two would meet in the caches.
const GAP: usize = 16;

/// An image and the tiles of its convolution with filters of `size` × `size`, over a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles {
    /// Side of the filter.
    size: usize,
    /// Outputs of a tile, along each axis.
    step: usize,
    batch: usize,
    /// Height and width of a plane of the image.
    input: [usize; 2],
    pad: [usize; 2],
    /// The same of the output.
    output: [usize; 2],
    /// Tiles along each axis.
    count: [usize; 2],
}

/// Filters, and how to find them: the one from channel c to channel o is at `o·to_step + c·from_step`.
pub(super) struct Filters<'a, T> {
    pub data: &'a [T],
    pub to: usize,
    pub to_step: usize,
    pub from: usize,
    pub from_step: usize,
    /// Whether they are turned by half a turn.
    pub turned: bool,
}

/// Channels of a batch of which some (a group's) are used: those from the start of the slice on.
pub(super) struct Images<S> {
    pub data: S,
    /// Elements of a sample, all groups together.
    pub image: usize,
}

impl Tiles {
    /// The tiles of a convolution, if this way suits its kernel.
    pub(super) fn suited(g: &Geometry, output: &[usize]) -> Option<Tiles> {
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

    /// Whether this way saves time against `products` multiply-adds, from and to so many channels.
    pub(super) fn saves_time(&self, products: usize, from: usize, to: usize) -> bool {
        // Cycles of a core with vectors of 16, fitted to readings of the layers of ResNet-50 and VGG-16: products, patches
        // of tiles, and filters, whose 36 numbers leave the caches; and the packing of filters by the other way.
        let lanes = self.all().next_multiple_of(16) as f64;
        let (count, filters) = (self.all() as f64, (from * to) as f64);
        let turns = count * (from + to) as f64 * 16.0 + filters * 80.0;
        let direct = products as f64 / 22.0 + filters * (self.size * self.size) as f64 * 2.0;
        POINTS as f64 * lanes * filters / 28.0 + turns < 0.85 * direct
    }

    /// The tiles of the gradient of the bottom: a convolution of the top's with turned filters.
    pub(super) fn turned(self) -> Tiles {
        let pad = self.pad.map(|p| self.size - 1 - p);
        let count = self.input.map(|n| n.div_ceil(self.step));
        Tiles { input: self.output, output: self.input, pad, count, ..self }
    }

    /// Tiles of the batch.
    fn all(&self) -> usize {
        self.batch * self.count[0] * self.count[1]
    }

    /// Sample, row and column of each of some tiles.
    fn each(&self, tiles: &Range<usize>) -> impl Iterator<Item = [usize; 3]> {
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
    fn find(&self, tile: usize) -> [usize; 3] {
        let (row, column) = (tile / self.count[1], tile % self.count[1]);
        [row / self.count[0], row % self.count[0], column]
    }

    /// Where the outputs of some tiles go in a batch with samples of `image` elements.
    fn places(&self, tiles: &Range<usize>, image: usize) -> [Place; TILES.end] {
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
    fn patches(&self, band: &Band, tiles: &Range<usize>) -> [usize; TILES.end] {
        let mut patches = [0; TILES.end];
        for (patch, [sample, row, column]) in patches.iter_mut().zip(self.each(tiles)) {
            let y = (row - band.top) * self.step;
            *patch = (sample - band.samples.start) * band.plane + y * band.line + column * self.step;
        }
        patches
    }

    /// The band of padded planes that patches of `side` × `side` numbers of some tiles need.
    fn band(&self, tiles: &Range<usize>, side: usize) -> Band {
        let [first, top, _] = self.find(tiles.start);
        let [last, bottom, _] = self.find(tiles.end - 1);
        let rows = if first == last { top..bottom + 1 } else { 0..self.count[0] };
        let line = (self.count[1] - 1) * self.step + side;
        let height = (rows.len() - 1) * self.step + side;
        Band { samples: first..last + 1, top: rows.start, line, plane: height * line }
    }

    /// Copies a band of one channel: `pad` zeros around `size` numbers, or as many as fit.
    fn copy<T: Real>(
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

    /// `y = end(Σ filter * x)`: the forward pass, or the gradient of the bottom.
    pub(super) fn convolve<T: Real>(
        &self,
        kernels: &Kernels<T>,
        filters: &Filters<T>,
        x: &Images<&[T]>,
        y: &mut Images<&mut [T]>,
        end: &Ending<T>,
    ) {
        let (from, to) = (filters.from, filters.to);
        let plane = self.output[0] * self.output[1];
        assert!(y.data.len() >= (self.batch - 1) * y.image + to * plane);
        let step_u = from * to + GAP;
        let each = self.block::<T>(kernels, from + to, TILES);
        scratch(POINTS * step_u, |u: &mut [T]| {
            filters.spread(kernels, self.size, &Shared::new(u), step_u);
            let (u, y_out) = (&*u, Shared::new(y.data));
            for_each_index(self.all().div_ceil(each), 1, |block| {
                let tiles = block * each..((block + 1) * each).min(self.all());
                let width = tiles.len().next_multiple_of(kernels.lanes());
                let (step_v, step_m) = (from * width + GAP, to * width + GAP);
                scratch(POINTS * step_v, |v: &mut [T]| {
                    self.spread_tiles(kernels, x, from, &tiles, &Shared::new(v), step_v);
                    let v = &*v;
                    scratch(POINTS * step_m, |m: &mut [T]| {
                        let m_out = Shared::new(m);
                        let parts = (to * from * width * POINTS / GRAIN).clamp(1, to.div_ceil(64));
                        for_each_index(POINTS * parts, 1, |task| {
                            let (point, part) = (task / parts, task % parts);
                            Points { kernels, m: to, n: width, k: from, c_step: width, beta: T::zero() }
                                .multiply(
                                    &u[point * step_u..],
                                    &v[point * step_v..],
                                    m_out.part(point * step_m, to * width),
                                    (part, parts),
                                );
                        });
                        let m = &*m;
                        self.gather_tiles(kernels, m, step_m, width, &tiles, y.image, &y_out, to, end);
                    });
                });
            });
        });
    }

    /// Tiles of a block: as many as keep `channels` transformed channels in the cache.
    fn block<T: Real>(&self, kernels: &Kernels<T>, channels: usize, range: Range<usize>) -> usize {
        let fit = BLOCK / (POINTS * channels * size_of::<T>());
        let each = fit.clamp(range.start, range.end).next_multiple_of(kernels.columns());
        // Blocks of nearly equal size.
        let all = self.all();
        all.div_ceil(all.div_ceil(each)).next_multiple_of(kernels.columns())
    }

    /// Transforms the patches of some tiles, as panels of B: lanes are tiles, k is channels. Lanes that no tile has
    /// keep what they held; each lane of a product stays for itself.
    fn spread_tiles<T: Real>(
        &self,
        kernels: &Kernels<T>,
        x: &Images<&[T]>,
        channels: usize,
        tiles: &Range<usize>,
        v: &Shared<T>,
        step: usize,
    ) {
        let split = Split::Columns { lanes: kernels.lanes() };
        let band = self.band(tiles, SIDE);
        let patches = self.patches(&band, tiles);
        let size = band.samples.len() * band.plane;
        let grain = (GRAIN / (tiles.len() * 512)).max(1);
        for_each_index(channels.div_ceil(grain), 1, |task| {
            scratch(size, |copy: &mut [T]| {
                for channel in task * grain..((task + 1) * grain).min(channels) {
                    self.copy(&band, x, channel, self.input, self.pad, copy);
                    for panel in split.panels(tiles.len()) {
                        let spread = Spread {
                            data: copy.as_ptr(),
                            lanes: &patches[panel.start..][..panel.len],
                            starts: &[0],
                            size: SIDE,
                            row: band.line,
                            turned: false,
                            out: v.at(panel.start * channels + channel * panel.width),
                            blocks: &[0, kernels.lanes()],
                            width: 0,
                            step,
                        };
                        // SAFETY: patches lie in the band; each task writes the rows of its channels in each of the
                        // 36 matrices, `step` apart, all of which `v` holds.
                        unsafe { kernels.spread(&spread) };
                    }
                }
            });
        });
    }

    /// Transforms sums back to some tiles of the output.
    #[allow(clippy::too_many_arguments)]
    fn gather_tiles<T: Real>(
        &self,
        kernels: &Kernels<T>,
        m: &[T],
        step: usize,
        width: usize,
        tiles: &Range<usize>,
        image: usize,
        y: &Shared<T>,
        channels: usize,
        end: &Ending<T>,
    ) {
        let plane = self.output[0] * self.output[1];
        let places = self.places(tiles, image);
        let grain = (GRAIN / (tiles.len() * 512)).max(1);
        for_each_index(channels.div_ceil(grain), 1, |task| {
            for channel in task * grain..((task + 1) * grain).min(channels) {
                let gather = Gather {
                    data: m[channel * width..].as_ptr(),
                    step,
                    size: self.step,
                    places: &places[..tiles.len()],
                    out: y.at(channel * plane),
                    row: self.output[1],
                    scale: end.scale.map_or(T::one(), |s| s[channel]),
                    bias: end.bias.map_or(T::zero(), |b| b[channel]),
                    floor: end.floor,
                    add: false,
                };
                // SAFETY: the 36 matrices, `step` apart, hold the row of this channel; places lie in the output,
                // whose length was checked, and no other task has this channel of these tiles.
                unsafe { kernels.gather(&gather) };
            }
        });
    }

    /// `dw += Σ dy * x` over tiles; filters from `channels` to `outputs` channels, dense.
    pub(super) fn weights<T: Real>(
        &self,
        kernels: &Kernels<T>,
        x: &Images<&[T]>,
        channels: usize,
        dy: &Images<&[T]>,
        outputs: usize,
        dw: &mut [T],
    ) {
        assert!(dw.len() >= outputs * channels * self.size * self.size);
        let each = self.block::<T>(kernels, channels + outputs, DEEP);
        let width = channels.next_multiple_of(kernels.lanes());
        let step_m = outputs * width + GAP;
        scratch(POINTS * step_m, |m: &mut [T]| {
            for block in 0..self.all().div_ceil(each) {
                let tiles = block * each..((block + 1) * each).min(self.all());
                let (step_u, step_v) = (outputs * tiles.len() + GAP, width * tiles.len() + GAP);
                let beta = if block == 0 { T::zero() } else { T::one() };
                scratch(POINTS * (step_u + step_v), |uv: &mut [T]| {
                    let (u, v) = uv.split_at_mut(POINTS * step_u);
                    let rows = Split::Rows { most: kernels.rows() };
                    let columns = Split::Columns { lanes: kernels.lanes() };
                    self.spread_channels(
                        kernels,
                        dy,
                        outputs,
                        &tiles,
                        self.step,
                        rows,
                        &Shared::new(u),
                        step_u,
                    );
                    self.spread_channels(
                        kernels,
                        x,
                        channels,
                        &tiles,
                        SIDE,
                        columns,
                        &Shared::new(v),
                        step_v,
                    );
                    let (u, v, m_out) = (&*u, &*v, Shared::new(m));
                    let parts =
                        (outputs * width * tiles.len() * POINTS / GRAIN).clamp(1, outputs.div_ceil(64));
                    for_each_index(POINTS * parts, 1, |task| {
                        let (point, part) = (task / parts, task % parts);
                        Points { kernels, m: outputs, n: width, k: tiles.len(), c_step: width, beta }
                            .multiply(
                                &u[point * step_u..],
                                &v[point * step_v..],
                                m_out.part(point * step_m, outputs * width),
                                (part, parts),
                            );
                    });
                });
            }
            let (m, area) = (&*m, self.size * self.size);
            let dw = Shared::new(dw);
            for_each_index(outputs, 1, |output| {
                let mut places = [Place { at: 0, rows: self.size as u8, columns: self.size as u8 }; 64];
                for first in (0..channels).step_by(places.len()) {
                    let places = &mut places[..(channels - first).min(64)];
                    for (i, place) in places.iter_mut().enumerate() {
                        place.at = (output * channels + first + i) * area;
                    }
                    let gather = Gather {
                        data: m[output * width + first..].as_ptr(),
                        step: step_m,
                        size: self.size,
                        places,
                        out: dw.at(0),
                        row: self.size,
                        scale: T::one(),
                        bias: T::zero(),
                        floor: T::neg_infinity(),
                        add: true,
                    };
                    // SAFETY: the 36 matrices, `step_m` apart, hold the row of this output; its filters lie in `dw`,
                    // whose length was checked, and no other task has them.
                    unsafe { kernels.gather(&gather) };
                }
            });
        });
    }

    /// Transforms patches of some tiles, as panels whose lanes are channels and whose k is tiles: of the image (`side` 6) or of
    /// the output (`side` as many as a tile has).
    #[allow(clippy::too_many_arguments)]
    fn spread_channels<T: Real>(
        &self,
        kernels: &Kernels<T>,
        images: &Images<&[T]>,
        channels: usize,
        tiles: &Range<usize>,
        side: usize,
        split: Split,
        out: &Shared<T>,
        step: usize,
    ) {
        let (size, pad) = if side == SIDE { (self.input, self.pad) } else { (self.output, [0, 0]) };
        let band = self.band(tiles, side);
        let patches = self.patches(&band, tiles);
        let one = band.samples.len() * band.plane;
        for_each_index(split.count(channels), 1, |panel| {
            let panel = split.panel(panel, channels);
            // A short row at the very end is read as four numbers.
            scratch(one * panel.len + 4, |copy: &mut [T]| {
                let mut lanes = [0; 64];
                for (i, copy) in copy.chunks_exact_mut(one).enumerate().take(panel.len) {
                    lanes[i] = i * one;
                    self.copy(&band, images, panel.start + i, size, pad, copy);
                }
                let lanes_of = kernels.lanes();
                let spread = Spread {
                    data: copy.as_ptr(),
                    lanes: &lanes[..panel.len],
                    starts: &patches[..tiles.len()],
                    size: side,
                    row: band.line,
                    turned: false,
                    out: out.at(panel.start * tiles.len()),
                    blocks: &std::array::from_fn::<usize, 16, _>(|i| i * lanes_of),
                    width: panel.width,
                    step,
                };
                // SAFETY: patches lie in the bands of the panel's channels; each task writes its panel in each of
                // the 36 matrices, `step` apart, all of which `out` holds.
                unsafe { kernels.spread(&spread) };
            });
        });
    }
}

/// A part of padded planes that some tiles need: lines of `line` numbers, from tile row `top` on.
struct Band {
    samples: Range<usize>,
    top: usize,
    line: usize,
    plane: usize,
}

impl<T: Real> Filters<'_, T> {
    /// Transforms all filters, as panels of A: lanes are channels they go to, k is channels they come from.
    fn spread(&self, kernels: &Kernels<T>, size: usize, u: &Shared<T>, step: usize) {
        let area = size * size;
        let last = (self.to - 1) * self.to_step + (self.from - 1) * self.from_step;
        assert!(last + area <= self.data.len());
        let split = Split::Rows { most: kernels.rows() };
        for_each_index(split.count(self.to), 1, |panel| {
            let panel = split.panel(panel, self.to);
            let mut lanes = [0; 64];
            for (i, lane) in lanes.iter_mut().enumerate().take(panel.len) {
                *lane = (panel.start + i) * self.to_step;
            }
            let mut starts = [0; 64];
            for first in (0..self.from).step_by(starts.len()) {
                let starts = &mut starts[..(self.from - first).min(64)];
                for (i, start) in starts.iter_mut().enumerate() {
                    *start = (first + i) * self.from_step;
                }
                let lanes_of = kernels.lanes();
                let spread = Spread {
                    data: self.data.as_ptr(),
                    lanes: &lanes[..panel.len],
                    starts,
                    size,
                    row: size,
                    turned: self.turned,
                    out: u.at(panel.start * self.from + first * panel.width),
                    blocks: &std::array::from_fn::<usize, 16, _>(|i| i * lanes_of),
                    width: panel.width,
                    step,
                };
                // SAFETY: the last filter ends inside the data, as was checked; each task writes its panel in each of
                // the 36 matrices, `step` apart, all of which `u` holds.
                unsafe { kernels.spread(&spread) };
            }
        });
    }
}

/// The product at one point: `C = U·V + beta·C`.
struct Points<'a, T: 'static> {
    kernels: &'a Kernels<T>,
    m: usize,
    n: usize,
    k: usize,
    c_step: usize,
    beta: T,
}

impl<T: Real> Points<'_, T> {
    /// Computes part `part.0` of `part.1` of the rows; `n` is in whole vectors.
    fn multiply(&self, u: &[T], v: &[T], c: Shared<T>, part: (usize, usize)) {
        let rows = Split::Rows { most: self.kernels.rows() };
        let columns = Split::Columns { lanes: self.kernels.lanes() };
        assert!(u.len() >= self.m * self.k && v.len() >= self.n * self.k);
        assert!(c.len() >= (self.m - 1) * self.c_step + self.n);
        let panels = rows.count(self.m);
        let panels = panels * part.0 / part.1..panels * (part.0 + 1) / part.1;
        let most = K_BYTES / size_of::<T>();
        let each = self.k.div_ceil(self.k.div_ceil(most));
        for first in (0..self.k).step_by(each) {
            let k = each.min(self.k - first);
            let beta = if first == 0 { self.beta } else { T::one() };
            for a in panels.clone().map(|i| rows.panel(i, self.m)) {
                for b in columns.panels(self.n) {
                    let tile = Tile {
                        k,
                        a: u[a.start * self.k + first * a.width..].as_ptr(),
                        b: v[b.start * self.k + first * b.width..].as_ptr(),
                        b_step: b.width,
                        c: c.at(a.start * self.c_step + b.start),
                        c_step: self.c_step,
                        columns: b.width,
                        beta,
                        scale: std::ptr::null(),
                        bias: std::ptr::null(),
                        floor: T::neg_infinity(),
                    };
                    // SAFETY: the panels hold k groups from the first on, C the tile, as the lines above checked; no other
                    // task has these rows.
                    unsafe { self.kernels.tile(a.len, b.width, &tile) };
                }
            }
        }
    }
}
