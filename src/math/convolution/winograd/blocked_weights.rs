//! Gradients of weights for images whose channels lie in blocks of a vector.
//!
//! Tiles of the top's gradient and patches of the image are transformed without moving a lane. What they give at a point is a sum
//! of outer products of channels over tiles: numbers of the one to broadcast, vectors of the other.

use super::{GRAIN, POINTS, Tiles};
use crate::math::Real;
use crate::math::gemm::pack::Split;
use crate::math::gemm::product::Cut;
use crate::math::parallel::for_each_index;
use crate::math::scratch::scratch;
use crate::math::shared::Shared;
use crate::math::simd::{GatherFilters, Kernels, Next, Outer, SIDE, SpreadPixels};
use std::ops::Range;

/// Channels of the gradient that lie side by side, a tile after another.
const ROWS: usize = 64;
/// Channels of the image whose sums with ROWS others stay in the second-level cache.
const COLUMNS: usize = 128;
/// Tiles that a product sums up at once: their numbers stay in the first-level cache.
const DEPTH: usize = 128;
/// Bytes of sums that stay in the second-level cache, and of the tiles that are worked on together beside them.
const SUMS: usize = 5 << 18;
const BYTES: usize = 1 << 20;
/// Most bytes of transformed tiles where sums are too many for that, and least tiles that are worked on together then.
const FAR_BYTES: usize = 8 << 20;
const LEAST: usize = 128;
/// Partial sums at most, multiply-adds that are worth one.
const PARTS: usize = 4;
const PART: usize = 1 << 24;
/// Numbers to transform that are worth a thread.
const SPREAD_GRAIN: usize = 1 << 14;
/// Tiles that are transformed in one go.
const FEW: usize = 16;
/// Numbers between points: powers of two would meet in the caches.
const GAP: usize = 16;

/// How channels of transformed tiles lie: chunk by chunk, in each point by point, tile by tile, channel by channel.
struct Laid {
    chunks: Cut,
    channels: usize,
    tiles: usize,
}

/// Where a chunk lies: its first number, channels, and numbers from point to point.
struct Chunk {
    at: usize,
    channels: Range<usize>,
    step: usize,
}

impl Laid {
    fn len(&self) -> usize {
        POINTS * (self.channels * self.tiles + self.chunks.count() * GAP)
    }

    fn chunk(&self, i: usize) -> Chunk {
        let channels = self.chunks.block(i);
        let at = POINTS * (channels.start * self.tiles + i * GAP);
        Chunk { at, step: channels.len() * self.tiles + GAP, channels }
    }
}

/// Sums of some chunks: for each point, for each channel of the gradient those of the image.
pub(super) struct Sums<'a, T> {
    data: Shared<'a, T>,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl<T> Sums<'_, T> {
    /// Numbers from point to point.
    fn step(&self) -> usize {
        self.rows.len() * self.columns.len() + GAP
    }
}

/// A gradient of weights.
pub(super) struct Work<'a, T: 'static> {
    pub tiles: &'a Tiles,
    pub kernels: &'a Kernels<T>,
    /// Channels in use, and in memory, where they fill whole vectors.
    pub channels: usize,
    pub outputs: usize,
    pub from: usize,
    pub to: usize,
    pub x: &'a [T],
    pub dy: &'a [T],
}

impl Tiles {
    /// `dw += Σ dy * x` over tiles, from and to so many channels, both in whole vectors; x and dy lie in blocks, dw as always.
    pub(in super::super) fn weights_blocks<T: Real>(
        &self,
        kernels: &Kernels<T>,
        [from, to]: [usize; 2],
        x: &[T],
        dy: &[T],
        dw: &mut [T],
    ) {
        let work = Work { tiles: self, kernels, channels: from, outputs: to, from, to, x, dy };
        let (all, dw) = (self.all(), work.filters(dw));
        if all == 0 {
            return;
        }
        if work.is_few() {
            return work.once(&dw);
        }
        let groups = Cut::new(all, all, work.group_len(), 1);
        work.in_turn(groups.count(), &dw, |i, sums, adds| work.group(&groups.block(i), sums, adds));
    }
}

impl<T: Real> Work<'_, T> {
    /// The filters.
    pub(super) fn filters<'b>(&self, dw: &'b mut [T]) -> Shared<'b, T> {
        let lanes = self.kernels.lanes();
        assert!(self.from.is_multiple_of(lanes) && self.to.is_multiple_of(lanes));
        Shared::new(&mut dw[..self.channels * self.outputs * self.tiles.size * self.tiles.size])
    }

    /// Whether all sums stay near.
    fn is_near(&self) -> bool {
        POINTS * self.from * self.to * size_of::<T>() <= SUMS
    }

    /// Whether tiles are few for so many sums.
    pub(super) fn is_few(&self) -> bool {
        !self.is_near() && self.tiles.all() <= LEAST
    }

    /// Tiles that are worked on together.
    pub(super) fn group_len(&self) -> usize {
        let fit = |bytes: usize| bytes / (POINTS * (self.from + self.to) * size_of::<T>());
        if self.is_near() { fit(BYTES).max(FEW) } else { fit(FAR_BYTES).max(LEAST) }
    }

    /// How the transformed gradient of some tiles lies.
    fn rows(&self, tiles: usize) -> Laid {
        Laid { chunks: Cut::new(self.to, self.to, ROWS, self.kernels.lanes()), channels: self.to, tiles }
    }

    /// The same of the image: panels of the products.
    fn columns(&self, tiles: usize) -> Laid {
        let chunks = Cut::new(self.from, self.from, self.kernels.columns(), self.kernels.lanes());
        Laid { chunks, channels: self.from, tiles }
    }

    /// Few tiles and many channels: all tiles at once, and a task takes some sums from their start to their end in the cache.
    pub(super) fn once(&self, dw: &Shared<T>) {
        let all = 0..self.tiles.all();
        self.with_tiles(&all, |u, v| {
            let (rows, columns) =
                (self.rows(all.len()).chunks.count(), self.columns(all.len()).chunks.count());
            let each = COLUMNS / self.kernels.columns();
            let wide = columns.div_ceil(each);
            for_each_index(rows * wide, 1, |task| {
                let (row, first) = (task / wide, task % wide * each);
                let (rows, columns) = (row..row + 1, first..(first + each).min(columns));
                let channels = self.channels(&rows, &columns);
                scratch(POINTS * (channels[0].len() * channels[1].len() + GAP), |room: &mut [T]| {
                    let [rows_of, columns_of] = channels;
                    let sums = Sums { data: Shared::new(room), rows: rows_of, columns: columns_of };
                    for point in 0..POINTS {
                        self.multiply(all.len(), point, &rows, &columns, (u, v), &sums, false);
                    }
                    self.gather(&sums, sums.rows.clone(), (1, 0), dw);
                });
            });
        });
    }

    /// Many tiles, in so many groups, and all sums beside them; a few of which, where they are near, once for each of some parts of the groups.
    pub(super) fn in_turn(
        &self,
        groups: usize,
        dw: &Shared<T>,
        group: impl Fn(usize, &Sums<T>, bool) + Sync,
    ) {
        let worth = self.tiles.all() * POINTS * self.from * self.to / PART;
        let parts = if self.is_near() { worth.min(groups).clamp(1, PARTS) } else { 1 };
        let one = POINTS * (self.from * self.to + GAP);
        scratch(parts * one, |room: &mut [T]| {
            let whole = Shared::new(room);
            for_each_index(parts, 1, |part| {
                let sums =
                    Sums { data: whole.part(part * one, one), rows: 0..self.to, columns: 0..self.from };
                let mine = groups * part / parts..groups * (part + 1) / parts;
                for i in mine.clone() {
                    group(i, &sums, i > mine.start);
                }
            });
            let sums = Sums { data: whole, rows: 0..self.to, columns: 0..self.from };
            let each = SPREAD_GRAIN.div_ceil(POINTS * parts * self.from);
            for_each_index(self.to.div_ceil(each), 1, |task| {
                let rows = task * each..((task + 1) * each).min(self.to);
                self.gather(&sums, rows, (parts, one), dw);
            });
        });
    }

    /// The products of some tiles at all points.
    pub(super) fn group(&self, tiles: &Range<usize>, sums: &Sums<T>, adds: bool) {
        self.with_tiles(tiles, |u, v| {
            let count = tiles.len();
            let (rows, columns) = (self.rows(count).chunks, 0..self.columns(count).chunks.count());
            let grain = GRAIN.div_ceil(count * rows.block(0).len() * self.from);
            for_each_index(POINTS * rows.count(), grain, |task| {
                let (point, row) = (task / rows.count(), task % rows.count());
                self.multiply(count, point, &(row..row + 1), &columns, (u, v), sums, adds);
            });
        });
    }

    /// Calls `f` with some tiles of the gradient and of the image, transformed.
    fn with_tiles(&self, tiles: &Range<usize>, f: impl FnOnce(&[T], &[T])) {
        let (rows, columns) = (self.rows(tiles.len()), self.columns(tiles.len()));
        scratch(rows.len() + columns.len(), |uv: &mut [T]| {
            let (u, v) = uv.split_at_mut(rows.len());
            self.spread(tiles, &rows, (self.dy, self.tiles.output, self.tiles.step), u);
            self.spread(tiles, &columns, (self.x, self.tiles.input, SIDE), v);
            f(u, v);
        });
    }

    /// Transforms patches of `side` × `side` pixels of some tiles.
    fn spread(
        &self,
        tiles: &Range<usize>,
        laid: &Laid,
        (data, of, side): (&[T], [usize; 2], usize),
        out: &mut [T],
    ) {
        let (lanes, plane, out) = (self.kernels.lanes(), of[0] * of[1], Shared::new(out));
        let chunks = laid.chunks.count();
        assert!(data.len() >= self.tiles.batch * laid.channels * plane);
        let grain = SPREAD_GRAIN.div_ceil(POINTS * FEW * laid.channels / chunks);
        for_each_index(tiles.len().div_ceil(FEW) * chunks, grain, |task| {
            let (first, Chunk { at, channels, step }) = (task / chunks * FEW, laid.chunk(task % chunks));
            let few = tiles.start + first..(tiles.start + first + FEW).min(tiles.end);
            let patches = self.tiles.corners(&few, side, laid.channels * plane, lanes);
            for block in (0..channels.len()).step_by(lanes) {
                let at = at + first * channels.len() + block;
                let len = (POINTS - 1) * step + (few.len() - 1) * channels.len() + lanes;
                let spread = SpreadPixels {
                    data: data[(channels.start + block) * plane..].as_ptr(),
                    patches: &patches[..few.len()],
                    size: side,
                    row: of[1] * lanes,
                    out: out.part(at, len).at(0),
                    step,
                    pitch: channels.len(),
                };
                // SAFETY: rows and columns in use lie inside the image, whose length was checked; each task has the lines of its tiles
                // and channels in each of the 36 matrices.
                unsafe { self.kernels.spread_pixels(&spread) };
            }
        });
    }

    /// Channels of some chunks of the gradient, and of the image.
    fn channels(&self, rows: &Range<usize>, columns: &Range<usize>) -> [Range<usize>; 2] {
        let of = |laid: Laid, chunks: &Range<usize>| {
            laid.chunk(chunks.start).channels.start..laid.chunk(chunks.end - 1).channels.end
        };
        [of(self.rows(0), rows), of(self.columns(0), columns)]
    }

    /// The products of some chunks at a point, added to what the sums have or not.
    #[allow(clippy::too_many_arguments)]
    fn multiply(
        &self,
        tiles: usize,
        point: usize,
        rows: &Range<usize>,
        columns: &Range<usize>,
        (u, v): (&[T], &[T]),
        sums: &Sums<T>,
        adds: bool,
    ) {
        let (left, right) = (self.rows(tiles), self.columns(tiles));
        let (depth, c_step) = (Cut::new(tiles, tiles, DEPTH, 1), sums.columns.len());
        assert!(u.len() >= left.len() && v.len() >= right.len());
        for a in rows.clone().map(|i| left.chunk(i)) {
            let a_step = a.channels.len();
            let split = Split::Rows { most: self.kernels.rows() };
            let used = self.outputs.min(a.channels.end).saturating_sub(a.channels.start);
            let panels = split.count(used);
            for i in columns.clone() {
                let b = right.chunk(i);
                let (b_step, vectors) = (b.channels.len(), b.channels.len() / self.kernels.lanes());
                // What comes next: the other chunk of the image, and the gradient's next point, of which each has a share.
                let after = if i + 1 < columns.end {
                    right.chunk(i + 1).at + point * b.step
                } else {
                    right.chunk(columns.start).at + (point + 1) * b.step
                };
                let share = |len: usize, tasks: usize| len.div_ceil(tasks * tiles);
                let steps = [share(tiles * a_step, panels * columns.len()), share(tiles * b_step, panels)];
                let ahead =
                    [(i - columns.start) * panels * tiles * steps[0] + a.at + (point + 1) * a.step, after];
                let data = [u.as_ptr(), v.as_ptr()];
                let row = a.channels.start - sums.rows.start;
                let c = point * sums.step() + row * c_step + b.channels.start - sums.columns.start;
                let c = sums.data.part(c, (used - 1) * c_step + b_step);
                for k in (0..depth.count()).map(|i| depth.block(i)) {
                    let a = &u[a.at + point * a.step + k.start * a_step..][..k.len() * a_step];
                    let b = &v[b.at + point * b.step + k.start * b_step..][..k.len() * b_step];
                    for (nth, panel) in split.panels(used).enumerate() {
                        let next = |i: usize| Next {
                            start: data[i]
                                .wrapping_add(ahead[i] + (k.start * panels + nth * k.len()) * steps[i]),
                            step: steps[i],
                        };
                        let tile = Outer {
                            k: k.len(),
                            a: a[panel.start..].as_ptr(),
                            a_step,
                            b: b.as_ptr(),
                            b_step,
                            c: c.at(panel.start * c_step),
                            c_step,
                            adds: adds || k.start > 0,
                            next: [next(0), next(1)],
                        };
                        // SAFETY: both slices hold k tiles, C the panel's rows; the sums of a point and these channels are
                        // this task's own.
                        unsafe { self.kernels.outer(panel.len, vectors, &tile) };
                    }
                }
            }
        }
    }

    /// Transforms sums of some channels of the gradient back, added up over some parts a number of numbers apart.
    fn gather(&self, sums: &Sums<T>, rows: Range<usize>, (parts, part_step): (usize, usize), dw: &Shared<T>) {
        let (area, columns) = (self.tiles.size * self.tiles.size, &sums.columns);
        let used = (self.channels.min(columns.end) - columns.start) * area;
        assert!(sums.data.len() >= (parts - 1) * part_step + POINTS * sums.step());
        let len = if used < columns.len() * area { columns.len() * area } else { 0 };
        scratch(len, |aside: &mut [T]| {
            for row in rows.start..rows.end.min(self.outputs) {
                let to = dw.part((row * self.channels + columns.start) * area, used);
                aside.fill(T::zero());
                let gather = GatherFilters {
                    data: sums.data.at((row - sums.rows.start) * columns.len()),
                    step: sums.step(),
                    parts,
                    part_step,
                    size: self.tiles.size,
                    vectors: columns.len() / self.kernels.lanes(),
                    out: if len > 0 { aside.as_mut_ptr() } else { to.at(0) },
                };
                // SAFETY: each part has the row of this channel at each point, as was checked; no other task has its filters.
                unsafe { self.kernels.gather_filters(&gather) };
                for (i, &sum) in aside.iter().enumerate().take(used) {
                    // SAFETY: as above.
                    unsafe { *to.at(i) += sum };
                }
            }
        });
    }
}
