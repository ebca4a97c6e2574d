//! Products with a short side: only the small operand is packed, the long one is read where it lies.

use super::Ending;
use super::pack::{Matrix, Panel, Source, Split};
use crate::math::Real;
use crate::math::parallel::for_each_index;
use crate::math::scratch::scratch;
use crate::math::simd::{Kernels, Soon, Strip, Sums};
use std::ops::Range;

/// Bytes of packed vectors that one task sweeps, which should stay in the second-level cache.
const PACKED_BYTES: usize = 1 << 20;
/// Least length of k packed at once: each block of k passes over C once more.
const LEAST_DEPTH: usize = 128;
/// Length of k of a block of a long V: each of its rows may lie on a page of its own.
const DEPTH: usize = 64;
/// Most rows of S for which V passes by once and is not kept.
const FEW_ROWS: usize = 64;
/// Bytes of V that are read in place; a larger one comes from memory, which is slow to give a few columns of each row.
const NEAR_BYTES: usize = 8 << 20;
/// Tiles of C that are brought near ahead of time.
const AHEAD: usize = 4;
/// Multiply-adds that are worth a thread: about 5 microseconds.
const GRAIN: usize = 1 << 18;
/// Numbers to pack that are worth a thread.
const PACK_GRAIN: usize = 1 << 15;
/// Pieces that a product is cut into if it is large enough.
const PIECES: usize = 32;

/// A dense matrix of `len` lanes × k: element (i, l) is at `i·step + l·k_step`, and one step is 1.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a, T> {
    pub data: &'a [T],
    pub len: usize,
    pub step: usize,
    pub k_step: usize,
}

impl<'a, T> Side<'a, T> {
    /// The same for a product of packed operands.
    pub(super) fn matrix(self, scale: T) -> Matrix<'a, T> {
        Matrix { data: self.data, lane_step: self.step, k_step: self.k_step, scale }
    }
}

impl<T: Real> Source<T> for Side<'_, T> {
    fn panel(
        &self,
        kernels: &Kernels<T>,
        lanes: Range<usize>,
        k: Range<usize>,
        width: usize,
        panel: &mut [T],
    ) {
        self.matrix(T::one()).panel(kernels, lanes, k, width, panel);
    }
}

/// `D = alpha·S·Vᵀ + beta·D` for S of `s.len` × k and V of `lanes` × k, where D is C or, if `turned`, its transpose.
///
/// Numbers of S are broadcast from where they lie; neighbouring lanes of V are vectors.
pub(crate) struct Strips<'a, T: 'static, V> {
    pub kernels: &'a Kernels<T>,
    pub k: usize,
    pub s: Side<'a, T>,
    pub v: V,
    pub lanes: usize,
    pub alpha: T,
    pub beta: T,
    pub turned: bool,
    /// Distance of the rows of C.
    pub c_step: usize,
    /// What happens to the sums at their end, if D is C.
    pub end: Ending<'a, T>,
}

/// C, of which each task writes tiles of its own.
struct Target<T>(*mut T);

// SAFETY: tasks write disjoint tiles.
unsafe impl<T: Send> Sync for Target<T> {}

impl<T> Target<T> {
    fn at(&self, offset: usize) -> *mut T {
        self.0.wrapping_add(offset)
    }
}

/// Piece `i` of `len` cut into `pieces` of nearly equal length.
fn piece(i: usize, pieces: usize, len: usize) -> Range<usize> {
    len * i / pieces..len * (i + 1) / pieces
}

impl<'a, T: Real> Strips<'a, T, Side<'a, T>> {
    /// `C = alpha·L·Rᵀ + beta·C` for a dense C, in the faster of the two forms.
    pub(crate) fn choose(
        kernels: &'a Kernels<T>,
        k: usize,
        left: Side<'a, T>,
        right: Side<'a, T>,
        alpha: T,
        beta: T,
    ) -> Self {
        let (lanes, c_step) = (right.len, right.len);
        let end = Ending::none();
        let straight =
            Strips { kernels, k, s: left, v: right, lanes, alpha, beta, turned: false, c_step, end };
        let turned = Strips { s: right, v: left, lanes: left.len, turned: true, ..straight };
        if turned.cost() < straight.cost() { turned } else { straight }
    }

    /// About how many cycles it takes; for comparison of two forms of the same product.
    pub(super) fn cost(&self) -> f64 {
        let (rows, lanes, k) = (self.s.len as f64, self.lanes as f64, self.k as f64);
        let vectors = self.lanes.div_ceil(self.kernels.lanes()) as f64;
        let packing = if self.v.step != 1 { lanes * k } else { 0.1 * lanes * k };
        let writing = if self.turned { rows * lanes } else { 0.1 * rows * lanes };
        // Each step reads S on other lines.
        let reading = if self.s.k_step != 1 { rows * k } else { 0.0 };
        0.5 * rows * vectors * k + packing + writing + reading
    }

    /// Whether V passes by once and is not kept.
    fn passes(&self) -> bool {
        self.v.step == 1 && self.s.len <= FEW_ROWS
    }

    /// Whether the operands are such that packing both of them is faster.
    pub(super) fn is_far(&self) -> bool {
        self.passes() && size_of_val(self.v.data) > NEAR_BYTES
    }

    /// Computes C.
    pub(crate) fn run(&self, c: &mut [T]) {
        assert!(c.len() >= self.s.len * self.lanes);
        if self.passes() {
            self.pass_vectors(self.pieces(), &Target(c.as_mut_ptr()));
        } else {
            self.keep_vectors(c);
        }
    }

    /// S is small: V passes by where it lies, a block after another. The tiles of a block bring the next one near, along
    /// its rows, as memory is fastest.
    fn pass_vectors(&self, pieces: usize, c: &Target<T>) {
        let (strips, panels) = (self.split_s().count(self.s.len), self.panels());
        let blocks = self.k.div_ceil(DEPTH);
        let wide = pieces.min(panels);
        for_each_index(wide, 1, |task| {
            let columns = piece(task, wide, panels);
            let (first, last) = (self.panel(columns.start).start, self.panel(columns.end - 1));
            let width = last.start + last.width - first;
            scratch(self.width() * self.k.div_ceil(blocks), |packed: &mut [T]| {
                for block in 0..blocks {
                    let k = piece(block, blocks, self.k);
                    // Tiles that share a row of the next block, and what each takes of it.
                    let parts = (columns.len() * strips / k.len()).max(1);
                    let part = width.div_ceil(parts);
                    let step = part.div_ceil(k.len()).min(64 / size_of::<T>());
                    let next = self.v.data.as_ptr().wrapping_add(k.end * self.v.k_step + first);
                    for j in columns.clone() {
                        let panel = self.panel(j);
                        // What lies past the last lane is not ours to read.
                        let b = if panel.len == panel.width {
                            (self.v.data[k.start * self.v.k_step + panel.start..].as_ptr(), self.v.k_step)
                        } else {
                            self.pack(panel, k.clone(), &mut packed[..panel.width * k.len()]);
                            (packed.as_ptr(), panel.width)
                        };
                        for i in 0..strips {
                            let tile = (j - columns.start) * strips + i;
                            let start = next.wrapping_add(tile / parts * self.v.k_step + tile % parts * part);
                            self.strip(&k, i, panel, b, Soon { start, row: 0, step: 8 * step }, c);
                        }
                    }
                }
            });
        });
    }
}

impl<T: Real, V: Source<T>> Strips<'_, T, V> {
    /// Pieces that it is cut into.
    fn pieces(&self) -> usize {
        (self.s.len * self.lanes * self.k / GRAIN).clamp(1, PIECES)
    }

    /// Packs part of k of some lanes; those past the last one are zero.
    fn pack(&self, panel: Panel, k: Range<usize>, here: &mut [T]) {
        if panel.len < panel.width {
            here.fill(T::zero());
        }
        self.v.panel(self.kernels, panel.start..panel.start + panel.len, k, panel.width, here);
    }

    /// Panel `i` of the vectors, counted in lanes.
    fn panel(&self, i: usize) -> Panel {
        let width = self.width();
        let len = (self.lanes - i * width).min(width);
        Panel { start: i * width, len, width: len.next_multiple_of(self.kernels.lanes()) }
    }

    /// Lanes of a panel; the last one may have fewer.
    fn width(&self) -> usize {
        let vectors = self.lanes.div_ceil(self.kernels.lanes());
        vectors.div_ceil(vectors.div_ceil(self.kernels.strip_vectors())) * self.kernels.lanes()
    }

    /// Number of panels.
    fn panels(&self) -> usize {
        self.lanes.div_ceil(self.width())
    }

    /// Rows of tile `i`.
    fn row(&self, i: usize) -> Panel {
        self.split_s().panel(i, self.s.len)
    }

    fn split_s(&self) -> Split {
        Split::Rows { most: self.kernels.strip_rows() }
    }

    /// V is packed once; then each row of S, or of C, is passed once.
    pub(crate) fn keep_vectors(&self, c: &mut [T]) {
        let all = self.s.len * self.lanes;
        assert!(c.len() >= all && self.end.other.is_none_or(|other| other.len() >= all));
        let (pieces, c) = (self.pieces(), &Target(c.as_mut_ptr()));
        let (strips, panels) = (self.split_s().count(self.s.len), self.panels());
        let width = self.lanes.next_multiple_of(self.kernels.lanes());
        let blocks = self.k.div_ceil((PACKED_BYTES / (width * size_of::<T>())).max(LEAST_DEPTH));
        let deep = self.k.div_ceil(blocks);
        let long = pieces.min(strips);
        let wide = pieces.div_ceil(long).max(width * deep * size_of::<T>() / PACKED_BYTES).min(panels);
        scratch(width * deep, |packed: &mut [T]| {
            let packed = Target(packed.as_mut_ptr());
            for block in 0..blocks {
                let k = piece(block, blocks, self.k);
                let each = PACK_GRAIN.div_ceil(self.width() * k.len());
                for_each_index(panels, each, |i| {
                    let panel = self.panel(i);
                    // SAFETY: panels lie one after another in `packed`, which holds `width` lanes.
                    let here = unsafe {
                        let at = packed.at(panel.start * k.len());
                        std::slice::from_raw_parts_mut(at, panel.width * k.len())
                    };
                    self.pack(panel, k.clone(), here);
                });
                for_each_index(long * wide, 1, |task| {
                    let rows = piece(task % long, long, strips);
                    let columns = piece(task / long, wide, panels);
                    for i in rows.clone() {
                        for j in columns.clone() {
                            let panel = self.panel(j);
                            let b = packed.at(panel.start * k.len()).cast_const();
                            let soon = self.soon(&k, (i, &rows), (j, &columns), c);
                            self.strip(&k, i, panel, (b, panel.width), soon, c);
                        }
                    }
                });
            }
        });
    }

    /// What to bring near while tile (i, j) is computed: the next rows of S, which are read once, or C further on.
    fn soon(
        &self,
        k: &Range<usize>,
        (i, rows): (usize, &Range<usize>),
        (j, columns): (usize, &Range<usize>),
        c: &Target<T>,
    ) -> Soon<T> {
        if self.s.k_step == 1 {
            // Each tile of the strip brings its share, so that memory is asked evenly.
            let (share, next) = (columns.len().min(8), (i + 1).min(rows.end - 1));
            let at = k.start + (j - columns.start).min(share - 1) * k.len() / share;
            let start = self.s.data.as_ptr().wrapping_add(self.row(next).start * self.s.step + at);
            return Soon { start, row: self.s.step, step: 8usize.div_ceil(share) };
        }
        let panel = self.panel((j + AHEAD).min(columns.end - 1));
        let start = c.at(self.row(i).start * self.c_step + panel.start);
        Soon { start, row: self.c_step, step: 8 * panel.width.div_ceil(k.len()) }
    }

    /// Tile `i` of the rows at some lanes.
    fn strip(
        &self,
        k: &Range<usize>,
        i: usize,
        panel: Panel,
        (b, b_step): (*const T, usize),
        soon: Soon<T>,
        c: &Target<T>,
    ) {
        let rows = self.row(i);
        let (row, column) = (rows.start, panel.start);
        // Only the last block of k has the whole sums.
        let end =
            if k.end < self.k || self.turned { Ending::none() } else { self.end.rows(row..row + rows.len) };
        let at = if self.turned { column * self.c_step + row } else { row * self.c_step + column };
        let tile = Strip {
            k: k.len(),
            a: self.s.data[row * self.s.step + k.start * self.s.k_step..].as_ptr(),
            a_row: self.s.step,
            a_k: self.s.k_step,
            b,
            b_step,
            soon,
            sums: Sums {
                turned: self.turned,
                alpha: self.alpha,
                other: end.other.map_or(std::ptr::null(), |other| other[at..].as_ptr()),
                ..end.sums(c.at(at), self.c_step, panel.len, if k.start > 0 { T::one() } else { self.beta })
            },
        };
        // SAFETY: the rows lie inside S, the panel inside V or its packed copy, the tile inside C, whose length the
        // caller of `run` checked; no other task has it.
        unsafe { self.kernels.strip(rows.len, panel.width / self.kernels.lanes(), &tile) }
    }
}
