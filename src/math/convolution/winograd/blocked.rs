//! The same for images whose channels lie in blocks of a vector.
//!
//! A tile's numbers are vectors of channels then, so that all 36 products are those of [1×1 convolutions](super::super::blocked)
//! whose pixels are tiles. Neither patches nor results are moved from lane to lane.

use super::{Filters, POINTS, Tiles};
use crate::math::Real;
use crate::math::gemm::Ending;
use crate::math::gemm::pack::Split;
use crate::math::gemm::product::Cut;
use crate::math::parallel::for_each_index;
use crate::math::scratch::scratch;
use crate::math::shared::Shared;
use crate::math::simd::{Blocked, GatherPixels, Kernels, Next, Place, SIDE, Spread, SpreadPixels};
use std::ops::Range;

/// Bytes of transformed filters that are worked on together.
const BYTES: usize = 1 << 19;
/// Bytes of transformed patches and of their sums that are worked on together: what leaves the second-level cache between
/// them, all threads ask the third for.
const BLOCK: usize = 800_000;
/// Multiply-adds that are worth a thread.
const GRAIN: usize = 1 << 18;
/// The same in numbers that are transformed.
const SPREAD_GRAIN: usize = 1 << 14;
/// Least tiles of a block: what is read of transformed filters serves so many.
const LEAST: usize = 48;

/// Panels of outputs that share what is read of many tiles.
const GROUP: usize = 2;

/// How transformed filters lie: numbers of a panel from point to point, and from block of channels to block.
#[derive(Clone, Copy)]
struct Steps {
    point: usize,
    block: usize,
}

/// How outputs are cut into panels.
pub(super) fn panels<T: Real>(kernels: &Kernels<T>) -> Split {
    Split::Columns { lanes: kernels.lanes() }
}

/// A convolution.
pub(super) struct Work<'a, T: 'static> {
    pub tiles: &'a Tiles,
    pub kernels: &'a Kernels<T>,
    pub filters: &'a Filters<'a, T>,
    pub x: &'a [T],
    pub end: &'a Ending<'a, T>,
    pub y: Shared<'a, T>,
}

impl Tiles {
    /// `y = end(Σ filter * x)` for x, y and what is added in blocks. Filters are in order if for each panel of outputs, for each number of a
    /// filter, those of the outputs lie side by side.
    pub(in super::super) fn convolve_blocks<T: Real>(
        &self,
        kernels: &Kernels<T>,
        filters: &Filters<T>,
        x: &[T],
        end: &Ending<T>,
        y: &mut [T],
    ) {
        let plane = |of: [usize; 2]| self.batch * of[0] * of[1];
        let len = filters.to * plane(self.output);
        assert!(x.len() >= filters.from * plane(self.input) && y.len() >= len);
        assert!(filters.data.len() >= filters.from * filters.to * self.size * self.size);
        assert!(end.other.is_none_or(|other| other.len() >= len));
        let work = Work { tiles: self, kernels, filters, x, end, y: Shared::new(&mut y[..len]) };
        if self.is_once() || filters.to >= 2 * self.all() { work.once() } else { work.in_turn() }
    }
}

impl<T: Real> Work<'_, T> {
    fn panels(&self) -> usize {
        panels(self.kernels).count(self.filters.to)
    }

    /// Outputs of a panel: two vectors, or one.
    fn width(&self, panel: usize) -> usize {
        panels(self.kernels).panel(panel, self.filters.to).width
    }

    /// Few tiles: a task takes some outputs from their filters to their end, so that transformed filters, which are used
    /// only once, never leave the cache.
    fn once(&self) {
        let (tiles, width) = (0..self.tiles.all(), self.kernels.columns());
        // Two panels share what is read of many tiles.
        let group = if tiles.len() > 2 * self.kernels.rows() { 2 } else { 1 };
        let (lanes, filters) = (self.kernels.lanes(), self.steps().block);
        let each = (BYTES / (group * filters * size_of::<T>())).max(1) * lanes;
        let depth = Cut::new(self.filters.from, self.filters.from, each, lanes);
        let deepest = (0..depth.count()).map(|i| depth.block(i).len()).max().unwrap_or(0);
        scratch(POINTS * self.filters.from * tiles.len(), |v: &mut [T]| {
            self.spread_patches(&tiles, v);
            let v = &*v;
            for_each_index(self.panels().div_ceil(group), 1, |task| {
                let panels = task * group..((task + 1) * group).min(self.panels());
                let (filters, sums) =
                    (deepest / lanes * panels.len() * filters, POINTS * panels.len() * width);
                scratch(filters + sums * tiles.len(), |um: &mut [T]| {
                    let (u, m) = um.split_at_mut(filters);
                    for k in (0..depth.count()).map(|i| depth.block(i)) {
                        self.spread_filters(&panels, &k, u);
                        self.multiply(tiles.len(), &panels, &k, u, v, m);
                    }
                    self.gather(&tiles, &panels, m);
                });
            });
        });
    }

    /// Many tiles, block by block, for filters that are transformed before.
    fn in_turn(&self) {
        scratch(self.filters_len(), |u: &mut [T]| {
            self.spread_all(u);
            self.with(u);
        });
    }

    /// Numbers of all transformed filters.
    pub(super) fn filters_len(&self) -> usize {
        self.panels() * self.filters.from / self.kernels.lanes() * self.steps().block
    }

    /// Transforms all filters.
    pub(super) fn spread_all(&self, u: &mut [T]) {
        self.spread_filters(&(0..self.panels()), &(0..self.filters.from), u);
    }

    /// Works on all tiles with filters that are [transformed](Work::spread_all).
    pub(super) fn with(&self, u: &[T]) {
        let (all, width) = (self.tiles.all(), self.kernels.columns());
        let group = GROUP.min(self.panels());
        let fit = BLOCK / (POINTS * (self.filters.from + group * width) * size_of::<T>());
        let blocks = Cut::new(all, all, fit.max(LEAST), self.kernels.rows());
        let whole = 0..self.filters.from;
        let one = self.filters.from / self.kernels.lanes() * self.steps().block;
        for_each_index(blocks.count(), 1, |block| {
            let tiles = blocks.block(block);
            let patches = POINTS * self.filters.from * tiles.len();
            let sums = POINTS * group * width * tiles.len();
            scratch(patches + sums, |vm: &mut [T]| {
                let (v, m) = vm.split_at_mut(patches);
                self.spread_patches(&tiles, v);
                for first in (0..self.panels()).step_by(GROUP) {
                    let panels = first..(first + GROUP).min(self.panels());
                    self.multiply(tiles.len(), &panels, &whole, &u[first * one..], v, m);
                    self.gather(&tiles, &panels, m);
                }
            });
        });
    }

    /// A line more than the numbers of a point: their lines would meet in the caches.
    fn steps(&self) -> Steps {
        let lanes = self.kernels.lanes();
        let point = lanes * (self.kernels.columns() + 1);
        Steps { point, block: POINTS * point }
    }

    /// How tiles are cut into the rows of a product.
    fn rows(&self) -> Split {
        Split::Rows { most: self.kernels.rows() }
    }

    /// Transforms patches: for some tiles that are rows of a product, for each block of channels, for each point, the tiles' vectors.
    fn spread_patches(&self, tiles: &Range<usize>, v: &mut [T]) {
        let (t, lanes) = (self.tiles, self.kernels.lanes());
        let ([height, width], blocks) = (t.input, self.filters.from / lanes);
        let v = Shared::new(v);
        let rows = self.rows();
        let grain = SPREAD_GRAIN.div_ceil(POINTS * self.kernels.rows() * lanes);
        for_each_index(rows.count(tiles.len()) * blocks, grain, |task| {
            let (row, block) = (rows.panel(task / blocks, tiles.len()), task % blocks);
            let first = tiles.start + row.start;
            let tiles = first..first + row.len;
            let patches = t.corners(&tiles, SIDE, self.filters.from * height * width, lanes);
            let len = POINTS * row.len * lanes;
            let spread = SpreadPixels {
                data: self.x[block * height * width * lanes..].as_ptr(),
                patches: &patches[..row.len],
                size: SIDE,
                row: width * lanes,
                out: v.part(POINTS * row.start * self.filters.from + block * len, len).at(0),
                step: row.len * lanes,
                pitch: lanes,
            };
            // SAFETY: rows and columns in use lie inside the image, whose length was checked; each task has its part of `v`.
            unsafe { self.kernels.spread_pixels(&spread) };
        });
    }

    /// Transforms some channels of the filters of some panels: for each panel, for each block of channels, for each point, for each channel the
    /// outputs' vectors. A panel of one vector has room for two.
    fn spread_filters(&self, panels: &Range<usize>, k: &Range<usize>, u: &mut [T]) {
        let (lanes, whole, area) =
            (self.kernels.lanes(), self.kernels.columns(), self.tiles.size * self.tiles.size);
        let (blocks, Steps { point, block: len }) = (k.len() / lanes, self.steps());
        let u = Shared::new(u);
        let grain = SPREAD_GRAIN.div_ceil(len);
        let filters = self.filters;
        for_each_index(panels.len() * blocks, grain, |task| {
            let (panel, block) = (panels.start + task / blocks, task % blocks);
            let (from, width) = (k.start + block * lanes, self.width(panel));
            // Those of a panel side by side, or each by itself.
            let (across, [lane, start]) = match filters.ordered {
                true => (width, [1, area * width]),
                false => (0, [filters.to_step, filters.from_step]),
            };
            let starts: [usize; 16] = std::array::from_fn(|i| i * start);
            let columns: [usize; 32] = std::array::from_fn(|i| i * lane);
            let first = match filters.ordered {
                true => (panel * whole * filters.from + from * width) * area,
                false => panel * whole * lane + from * start,
            };
            let len_of = (width - 1) * lane + (lanes - 1) * start + area;
            let len_of = if filters.ordered { lanes * area * width } else { len_of };
            let spread = Spread {
                data: filters.data[first..][..len_of].as_ptr(),
                lanes: &columns[..width],
                starts: &starts[..lanes],
                size: self.tiles.size,
                row: self.tiles.size,
                across,
                turned: filters.turned && !filters.ordered,
                out: u.part(task * len, len).at(0),
                blocks: &[0, lanes][..width / lanes],
                width,
                step: point,
            };
            // SAFETY: the filters of the block lie in the data; each task has its part of `u`.
            unsafe { self.kernels.spread(&spread) };
        });
    }

    /// The 36 products of `count` tiles and the outputs of some panels: adds up channels `k`, those before them being in `m`.
    fn multiply(&self, count: usize, panels: &Range<usize>, k: &Range<usize>, u: &[T], v: &[T], m: &mut [T]) {
        let (lanes, width, rows) = (self.kernels.lanes(), self.kernels.columns(), self.rows());
        let (steps, area) = (self.steps(), self.tiles.size * self.tiles.size);
        let one = k.len() / lanes * steps.block;
        assert!(u.len() >= panels.len() * one && v.len() >= POINTS * self.filters.from * count);
        let m = Shared::new(&mut m[..POINTS * panels.len() * width * count]);
        let grain = GRAIN.div_ceil(count * panels.len() * width * k.len());
        let vectors = |panel: usize| self.width(panels.start + panel) / lanes;
        // The filters that are transformed next, and what each tile asks for of them.
        let after = |panel: usize| {
            let next = if k.end < self.filters.from {
                panel * self.filters.from + k.end
            } else {
                (panel + panels.len()) * self.filters.from
            };
            self.filters.data.as_ptr().wrapping_add(next * area * width)
        };
        let share = if self.tiles.is_once() && self.filters.ordered {
            (k.len() * width * area).div_ceil(POINTS * rows.count(count))
        } else {
            0
        };
        let step = share.div_ceil(k.len());
        for_each_index(POINTS, grain, |point| {
            for panel in 0..panels.len() {
                let next = if share > 0 { after(panels.start + panel) } else { u.as_ptr() };
                let w = &u[panel * one + point * steps.point..];
                for (i, row) in rows.panels(count).enumerate() {
                    let nth = point * rows.count(count) + i;
                    let len = POINTS * row.len * lanes;
                    let x = &v[POINTS * row.start * self.filters.from
                        + k.start / lanes * len
                        + point * row.len * lanes..];
                    let y = POINTS * (row.start * panels.len() + row.len * panel) * width
                        + point * row.len * lanes;
                    let none = std::ptr::null();
                    let tile = Blocked {
                        blocks: k.len() / lanes,
                        x: x.as_ptr(),
                        x_step: len,
                        next: Next { start: next.wrapping_add(nth * share), step },
                        next_block: step * lanes,
                        w: w.as_ptr(),
                        w_step: steps.block,
                        y: m.at(y),
                        y_step: len,
                        adds: k.start > 0,
                        ends: false,
                        scale: none,
                        bias: none,
                        other: none,
                        other_step: 0,
                        floor: T::zero(),
                    };
                    // SAFETY: transformed patches, filters and sums lie as said above, in slices long enough; each task has its point.
                    unsafe { self.kernels.blocked(row.len, vectors(panel), &tile) };
                }
            }
        });
    }

    /// Transforms sums back to the outputs of some panels.
    fn gather(&self, tiles: &Range<usize>, panels: &Range<usize>, m: &[T]) {
        let (t, lanes, rows) = (self.tiles, self.kernels.lanes(), self.rows());
        let [height, width] = t.output;
        let (plane, room) = (height * width, 2 * panels.len());
        let vectors = room.min(self.filters.to / lanes - 2 * panels.start);
        assert!(m.len() >= POINTS * room * lanes * tiles.len());
        let (ones, zeros) = ([T::one(); 16], [T::zero(); 16]);
        let grain = SPREAD_GRAIN.div_ceil(POINTS * self.kernels.rows() * lanes);
        for_each_index(rows.count(tiles.len()) * vectors, grain, |task| {
            let (row, vector) = (rows.panel(task / vectors, tiles.len()), task % vectors);
            let output = 2 * panels.start * lanes + vector * lanes;
            let first = tiles.start + row.start;
            let most = |n: usize| n.min(t.step) as u8;
            let mut places = [Place { at: 0, rows: 0, columns: 0 }; 16];
            for (place, [sample, i, j]) in places.iter_mut().zip(t.each(&(first..first + row.len))) {
                let (y, x) = (i * t.step, j * t.step);
                *place = Place {
                    at: sample * self.filters.to * plane + (y * width + x) * lanes,
                    rows: most(height - y),
                    columns: most(width - x),
                };
            }
            let line = |line: Option<&[T]>, none: &[T]| {
                line.map_or(none.as_ptr(), |l| l[output..][..lanes].as_ptr())
            };
            let gather = GatherPixels {
                data: m[POINTS * lanes * (row.start * room + row.len * vector)..].as_ptr(),
                step: row.len * lanes,
                size: t.step,
                places: &places[..row.len],
                out: self.y.at(output * plane),
                row: width * lanes,
                scale: line(self.end.scale, &ones),
                bias: line(self.end.bias, &zeros),
                other: self.end.other.map_or(std::ptr::null(), |other| other[output * plane..].as_ptr()),
                floor: self.end.floor,
            };
            // SAFETY: sums lie as `multiply` writes them; places lie in the output, whose length was checked, as that of what is
            // added; no other task has this block of these tiles.
            unsafe { self.kernels.gather_pixels(&gather) };
        });
    }
}
