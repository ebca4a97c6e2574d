//! Winograd's convolution: filters of 2 × 2 to 5 × 5 with stride 1, by tiles of 6 × 6.
//!
//! With U = G·g·Gᵀ of a filter and V = Bᵀ·d·B of a patch of the image, a tile of the output is Aᵀ·(Σ U⊙V)·A, summed over
//! channels: for each of the 36 points a matrix product. A filter of 3 × 3 needs 36 products for 16 outputs instead of
//! 144. The gradient of the bottom is the same with turned filters; that of the weights is Aᵀ·(Σ U⊙V)·A too, summed
//! over tiles, with U made of the top's gradient.
//!
//! Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.

mod blocked;
mod blocked_weights;
mod filters;
mod points;
mod small;
mod tiles;
mod turned;

pub(super) use filters::Filters;
pub(super) use tiles::{Images, Tiles};

use crate::math::Real;
use crate::math::gemm::Ending;
use crate::math::gemm::pack::Split;
use crate::math::parallel::for_each_index;
use crate::math::scratch::scratch;
use crate::math::shared::Shared;
use crate::math::simd::{Gather, Kernels, POINTS, Place, SIDE, Spread};
use points::Points;
use std::ops::Range;
use tiles::TILES;

/// Bytes of transformed tiles that are worked on together: they should stay in the second-level cache.
const BLOCK: usize = 2 << 20;
/// The same for gradients of weights, where each block reads and writes all sums.
const DEEP: Range<usize> = 128..512;
/// Multiply-adds that are worth a thread.
const GRAIN: usize = 1 << 18;
/// Numbers between the points of transformed tiles beyond those needed: powers of two would meet in the caches.
const GAP: usize = 16;

impl Tiles {
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
        let reach = (self.batch - 1) * y.image + to * plane;
        assert!(y.data.len() >= reach && end.other.is_none_or(|other| other.len() >= reach));
        let step_u = from * to + GAP;
        let each = self.block::<T>(kernels, from + to, TILES);
        if self.is_once() {
            return self.convolve_once(kernels, filters, x, y, end);
        }
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

    /// Whether tiles are so few that they are worked on all at once.
    pub(super) fn is_once(&self) -> bool {
        self.all() <= TILES.start
    }

    /// The same for few tiles, worked on all at once: a task takes some outputs from their filters to their end, so that
    /// transformed filters, which are used only once, never leave the cache.
    fn convolve_once<T: Real>(
        &self,
        kernels: &Kernels<T>,
        filters: &Filters<T>,
        x: &Images<&[T]>,
        y: &mut Images<&mut [T]>,
        end: &Ending<T>,
    ) {
        let (from, to) = (filters.from, filters.to);
        let plane = self.output[0] * self.output[1];
        let (tiles, rows) = (0..self.all(), Split::Rows { most: kernels.rows() });
        let width = tiles.len().next_multiple_of(kernels.lanes());
        let (step_v, image, y_out) = (from * width + GAP, y.image, Shared::new(&mut *y.data));
        scratch(POINTS * step_v, |v: &mut [T]| {
            self.spread_tiles(kernels, x, from, &tiles, &Shared::new(v), step_v);
            let v = &*v;
            for_each_index(rows.count(to), 1, |i| {
                let (panel, filters) = (rows.panel(i, to), filters.panel(kernels, self.size, i));
                let (step_u, step_m) = (from * panel.len + GAP, panel.len * width + GAP);
                scratch(POINTS * (step_u + step_m), |um: &mut [T]| {
                    let (u, m) = um.split_at_mut(POINTS * step_u);
                    filters.spread(kernels, self.size, &Shared::new(u), step_u);
                    let m_out = Shared::new(&mut *m);
                    for point in 0..POINTS {
                        Points { kernels, m: panel.len, n: width, k: from, c_step: width, beta: T::zero() }
                            .multiply(
                                &u[point * step_u..],
                                &v[point * step_v..],
                                m_out.part(point * step_m, panel.len * width),
                                (0, 1),
                            );
                    }
                    let end = end.part(panel.start..panel.start + panel.len, panel.start * plane);
                    let part = y_out.part(panel.start * plane, y_out.len() - panel.start * plane);
                    self.gather_tiles(kernels, m, step_m, width, &tiles, image, &part, panel.len, &end);
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
                            across: 0,
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
                    other: end.other.map_or(std::ptr::null(), |other| other[channel * plane..].as_ptr()),
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
                        other: std::ptr::null(),
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
                    across: 0,
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
