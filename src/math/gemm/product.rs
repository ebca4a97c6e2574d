//! The loops around the tiles.

use super::Ending;
use super::pack::{Panel, Source, Split};
use crate::math::Real;
use crate::math::parallel::for_each_index;
use crate::math::scratch::scratch;
use crate::math::simd::{Kernels, Next, Tile};
use std::marker::PhantomData;
use std::ops::Range;

/// Bytes of k that a panel holds at once: 512 single or 256 double numbers, a panel of B of at most 64 KB.
const K_BYTES: usize = 2048;
/// Bytes of a packed block of B, which should stay in the second-level cache.
const B_BYTES: usize = 512 << 10;
/// Bytes of A packed before the work is spread.
const A_BYTES: usize = 8 << 20;
/// Most rows of A packed at once.
const ROWS: usize = 2048;
/// Multiply-adds that are worth a thread: about 5 microseconds.
const GRAIN: usize = 1 << 18;
/// Least rows of a part of a task.
const LEAST_ROWS: usize = 56;
/// Pieces that a product is cut into if it is large enough.
const PIECES: usize = 32;

/// Where C lies: element (i, j) at `i·row + (j / columns)·image + j % columns`.
///
/// A plain matrix is one image; the output of a convolution is one per sample.
pub(crate) struct Output<'a, T> {
    data: *mut T,
    row: usize,
    columns: usize,
    image: usize,
    m: usize,
    n: usize,
    /// One more than the last element's place.
    reach: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: tasks write disjoint tiles of what the exclusive borrow covers.
unsafe impl<T: Send> Sync for Output<'_, T> {}

impl<'a, T> Output<'a, T> {
    /// A dense m × n matrix.
    pub(crate) fn matrix(data: &'a mut [T], m: usize, n: usize) -> Self {
        Output::images(data, m, n, n, n, 0)
    }

    /// m rows of `n / columns` images; panics if `data` is too short.
    pub(crate) fn images(
        data: &'a mut [T],
        m: usize,
        n: usize,
        columns: usize,
        row: usize,
        image: usize,
    ) -> Self {
        let mut reach = 0;
        if m > 0 && n > 0 {
            let last = n - 1;
            reach = (m - 1) * row + last / columns * image + last.min(columns - 1) + 1;
            assert!(reach <= data.len());
        }
        Output { data: data.as_mut_ptr(), row, columns, image, m, n, reach, lifetime: PhantomData }
    }

    /// Where it starts.
    fn data(&self) -> *mut T {
        self.data
    }
}

/// `C = end(A·B + beta·C)`, where A is m × k and B is k × n.
pub(crate) struct Product<'a, T: 'static, A, B> {
    pub kernels: &'a Kernels<T>,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Blocks of k are cut at multiples of this where that is not too coarse.
    pub k_unit: usize,
    /// Length of k that belongs together in memory (an image): larger ones are not crossed by a block.
    pub k_image: usize,
    pub a: &'a A,
    pub b: &'a B,
    pub beta: T,
    pub end: Ending<'a, T>,
}

/// How an index is cut into blocks: within each `period` (an image), every `each`.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    len: usize,
    period: usize,
    each: usize,
}

impl Cut {
    /// Blocks of about `each`, multiples of `unit`, which do not cross images larger than they are.
    pub(crate) fn new(len: usize, image: usize, each: usize, unit: usize) -> Cut {
        let period = if image <= each { len } else { image };
        let even = period.div_ceil(period.div_ceil(each)).next_multiple_of(unit);
        Cut { len, period, each: even.min(period) }
    }

    fn per_period(&self) -> usize {
        self.period.div_ceil(self.each)
    }

    pub(crate) fn count(&self) -> usize {
        self.len.div_ceil(self.period) * self.per_period()
    }

    pub(crate) fn block(&self, i: usize) -> Range<usize> {
        let (period, i) = (i / self.per_period() * self.period, i % self.per_period());
        let end = (period + self.period).min(self.len);
        (period + i * self.each).min(end)..(period + (i + 1) * self.each).min(end)
    }
}

/// Blocks of a product; they depend on its size and the kernels only.
pub(crate) struct Blocks {
    /// Rows packed at once.
    rows: usize,
    /// Blocks of k.
    k: Cut,
    /// How many of them are packed at once.
    deep: usize,
    /// Columns of each task.
    columns: Cut,
    /// Parts of the rows that are tasks of their own.
    parts: usize,
}

impl Blocks {
    /// All blocks of k.
    pub(crate) fn all(&self) -> Range<usize> {
        0..self.k.count()
    }

    /// The same with all rows in one task.
    pub(crate) fn whole(self) -> Blocks {
        Blocks { parts: 1, ..self }
    }
}

impl<T: Real, A: Source<T>, B: Source<T>> Product<'_, T, A, B> {
    /// Its blocks, where images of C have `image` columns.
    pub(crate) fn blocks(&self, image: usize) -> Blocks {
        let size = size_of::<T>();
        let most = K_BYTES / size;
        let unit = if self.k_unit <= most { self.k_unit } else { 1 };
        let k = Cut::new(self.k, self.k_image, most, unit);
        let rows = self.m.div_ceil(self.m.div_ceil(ROWS));
        let deep = (A_BYTES / (size * rows * k.each)).max(1);
        let work = rows * self.k.min(deep * k.each);
        let cached = (B_BYTES / (size * k.each)).min(2048);
        // Rows are cut first: all parts share a packed block of B, and each packed A that its task reads is read for many
        // columns.
        let most = (rows / LEAST_ROWS).clamp(1, PIECES);
        let shared = (self.n * most).div_ceil(PIECES).max(GRAIN.div_ceil(work));
        let columns = cached.min(shared).next_multiple_of(self.kernels.columns());
        let columns = Cut::new(self.n, image, columns, self.kernels.columns());
        let worth = work * self.n.min(columns.each) / GRAIN;
        let parts = worth.min(PIECES.div_ceil(columns.count())).clamp(1, most);
        Blocks { rows, k, deep, columns, parts }
    }

    /// Computes C.
    pub(crate) fn run(&self, c: &Output<T>) {
        let long = |rows: Option<&[T]>| rows.is_none_or(|rows| rows.len() >= self.m);
        assert!(c.m == self.m && c.n == self.n && long(self.end.scale) && long(self.end.bias));
        assert!(self.end.other.is_none_or(|other| other.len() >= c.reach));
        if self.m == 0 || self.n == 0 || self.k == 0 {
            return;
        }
        // Most tiles would span small images, and be put together and taken apart for each block of k.
        let small = c.columns < self.n && c.columns < 2 * self.kernels.columns();
        if !small || self.k <= K_BYTES / size_of::<T>() || !self.beta.is_zero() {
            return self.run_on(c);
        }
        let lines = Product { end: self.end.lines(), ..*self };
        scratch(self.m * self.n, |whole: &mut [T]| {
            lines.run_on(&Output::matrix(whole, self.m, self.n));
            let whole = &*whole;
            for_each_index(self.m, GRAIN.div_ceil(8 * self.n), |row| {
                for (image, from) in whole[row * self.n..][..self.n].chunks(c.columns).enumerate() {
                    let at = row * c.row + image * c.image;
                    // SAFETY: `Output` checked that its rows and images lie inside C; no other task has this row.
                    let to = unsafe { std::slice::from_raw_parts_mut(c.data.add(at), from.len()) };
                    to.copy_from_slice(from);
                    self.end.finish(at, to);
                }
            });
        });
    }

    /// Computes C where it lies.
    fn run_on(&self, c: &Output<T>) {
        let blocks = self.blocks(c.columns);
        let pieces = blocks.columns.count();
        for top in (0..self.m).step_by(blocks.rows) {
            let rows = top..(top + blocks.rows).min(self.m);
            for first in (0..blocks.k.count()).step_by(blocks.deep) {
                let deep = first..(first + blocks.deep).min(blocks.k.count());
                let len = blocks.k.block(deep.end - 1).end - blocks.k.block(first).start;
                scratch(rows.len() * len, |packed: &mut [T]| {
                    self.pack_a(&blocks, &rows, &deep, packed);
                    for_each_index(pieces, 1, |piece| {
                        self.piece(&blocks, &rows, &deep, blocks.columns.block(piece), packed, c);
                    });
                });
            }
        }
    }

    fn split_a(&self) -> Split {
        Split::Rows { most: self.kernels.rows() }
    }

    fn split_b(&self) -> Split {
        Split::Columns { lanes: self.kernels.lanes() }
    }

    /// Packs blocks `deep` of A, one block of k after another; `packed` holds exactly them.
    pub(crate) fn pack_a(&self, blocks: &Blocks, rows: &Range<usize>, deep: &Range<usize>, packed: &mut [T]) {
        let origin = blocks.k.block(deep.start).start;
        let end = blocks.k.block(deep.end - 1).end;
        let packed = Output::matrix(packed, 1, rows.len() * (end - origin));
        for_each_index(deep.len(), 1, |i| {
            let k = blocks.k.block(deep.start + i);
            // SAFETY: the blocks lie one after another inside `packed`, whose length was checked.
            let block = unsafe {
                let at = packed.data().add((k.start - origin) * rows.len());
                std::slice::from_raw_parts_mut(at, k.len() * rows.len())
            };
            self.a.pack(self.kernels, rows.clone(), k, self.split_a(), block);
        });
    }

    /// One task: some columns. Parts of the rows are tasks of their own.
    pub(crate) fn piece(
        &self,
        blocks: &Blocks,
        rows: &Range<usize>,
        deep: &Range<usize>,
        columns: Range<usize>,
        packed: &[T],
        c: &Output<T>,
    ) {
        let panels = self.split_a().count(rows.len());
        let width = self.split_b().width(columns.len());
        let origin = blocks.k.block(deep.start).start;
        scratch(width * blocks.k.each, |right: &mut [T]| {
            for i in deep.clone() {
                let k = blocks.k.block(i);
                let right = &mut right[..width * k.len()];
                self.b.pack(self.kernels, columns.clone(), k.clone(), self.split_b(), right);
                let (left, right) =
                    (&packed[(k.start - origin) * rows.len()..][..rows.len() * k.len()], &*right);
                for_each_index(blocks.parts, 1, |part| {
                    let panels = panels * part / blocks.parts..panels * (part + 1) / blocks.parts;
                    self.sweep(rows, &panels, &columns, k.clone(), left, right, c);
                });
            }
        });
    }

    /// All tiles of one block: packed A times packed B.
    #[allow(clippy::too_many_arguments)]
    fn sweep(
        &self,
        rows: &Range<usize>,
        panels: &Range<usize>,
        columns: &Range<usize>,
        k: Range<usize>,
        left: &[T],
        right: &[T],
        c: &Output<T>,
    ) {
        // A panel of A in the first-level cache meets all panels of B, which stay in the second level; so A is read
        // once, and C is written along its rows.
        for i in panels.clone() {
            let a = self.split_a().panel(i, rows.len());
            let left = &left[a.start * k.len()..][..a.width * k.len()];
            let i = rows.start + a.start;
            let beta = if k.start > 0 { T::one() } else { self.beta };
            // Only the last block of k has the whole sums.
            let end = if k.end < self.k { Ending::none() } else { self.end.rows(i..i + a.len) };
            for b in self.split_b().panels(columns.len()) {
                let right = &right[b.start * k.len()..][..b.width * k.len()];
                self.tile(k.len(), (i, a), (columns.start + b.start, b), left, right, beta, &end, c);
            }
        }
    }

    /// One tile, at row `i` and column `j`.
    #[allow(clippy::too_many_arguments)]
    fn tile(
        &self,
        k: usize,
        (i, a): (usize, Panel),
        (j, b): (usize, Panel),
        left: &[T],
        right: &[T],
        beta: T,
        end: &Ending<T>,
        c: &Output<T>,
    ) {
        debug_assert!(i + a.len <= c.m && j + b.len <= c.n);
        let (image, column) = (j / c.columns, j % c.columns);
        let mut tile = Tile {
            k,
            a: left.as_ptr(),
            b: right.as_ptr(),
            b_step: b.width,
            next: Next::NONE,
            sums: end.sums(std::ptr::null_mut(), c.row, b.len, beta),
        };
        if column + b.len <= c.columns {
            // SAFETY: rows i.. and columns j.. lie inside C, whose bounds `Output` checked; the panels hold
            // k · width numbers; no other task has this tile.
            unsafe {
                let at = i * c.row + image * c.image + column;
                tile.sums.c = c.data.add(at);
                tile.sums.other = end.other.map_or(std::ptr::null(), |other| other.as_ptr().add(at));
                self.kernels.tile(a.len, b.width, &tile);
            }
            return;
        }
        // The tile spans images: computed aside, where the old numbers are brought first.
        let mut aside = [T::zero(); 512];
        assert!(a.len * b.width <= aside.len());
        tile.sums.c = aside.as_mut_ptr();
        tile.sums.c_step = b.width;
        if end.other.is_some() {
            tile.sums.floor = T::neg_infinity();
        }
        // SAFETY: as above, and the tile aside is long enough.
        unsafe {
            let parts = || {
                let mut lane = 0;
                std::iter::from_fn(move || {
                    let (from, at) = (lane, j + lane);
                    let len = (c.columns - at % c.columns).min(b.len - from);
                    lane += len;
                    (len > 0).then(|| (from, len, i * c.row + at / c.columns * c.image + at % c.columns))
                })
            };
            if !beta.is_zero() {
                for (row, values) in aside.chunks_exact_mut(b.width).take(a.len).enumerate() {
                    for (lane, len, at) in parts() {
                        let old = c.data.add(at + row * c.row);
                        values[lane..][..len].copy_from_slice(std::slice::from_raw_parts(old, len));
                    }
                }
            }
            self.kernels.tile(a.len, b.width, &tile);
            for (row, values) in aside.chunks_exact(b.width).take(a.len).enumerate() {
                for (lane, len, at) in parts() {
                    let at = at + row * c.row;
                    let to = std::slice::from_raw_parts_mut(c.data.add(at), len);
                    to.copy_from_slice(&values[lane..][..len]);
                    if end.other.is_some() {
                        end.finish(at, to);
                    }
                }
            }
        }
    }
}
