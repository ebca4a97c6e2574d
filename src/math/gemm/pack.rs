//! Operands of a product and how they are packed.
//!
//! A panel is what one tile reads: for each k, one number per *lane* (a row of A or a column of B), lanes side by
//! side.

use crate::math::Real;
use crate::math::simd::{Copy, Kernels, Run, Turn};
use std::ops::Range;

/// Where the lanes of a block are cut into panels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Split {
    /// Rows of A: as few panels as possible, of nearly equal size, so that no tile computes rows nobody needs.
    Rows {
        /// Most rows of a panel.
        most: usize,
    },
    /// Columns of B: whole tiles of two vectors; the last panel may be one vector; what is left over is zero.
    Columns {
        /// Numbers in a vector.
        lanes: usize,
    },
}

/// Some neighbouring lanes that one tile works on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Panel {
    /// First lane, counted from the start of the block.
    pub start: usize,
    /// Lanes in use.
    pub len: usize,
    /// Lanes in memory.
    pub width: usize,
}

impl Split {
    /// Number of panels of a block of `len` lanes.
    pub(crate) fn count(self, len: usize) -> usize {
        match self {
            Split::Rows { most } => len.div_ceil(most),
            Split::Columns { lanes } => len.div_ceil(2 * lanes),
        }
    }

    /// Panel `i` of a block of `len` lanes.
    pub(crate) fn panel(self, i: usize, len: usize) -> Panel {
        match self {
            Split::Rows { .. } => {
                let count = self.count(len);
                rows(i, len / count, len % count)
            }
            Split::Columns { lanes } => {
                let start = i * 2 * lanes;
                let len = (len - start).min(2 * lanes);
                Panel { start, len, width: len.div_ceil(lanes) * lanes }
            }
        }
    }

    /// Lanes that a block of `len` lanes takes in memory.
    pub(crate) fn width(self, len: usize) -> usize {
        match self {
            Split::Rows { .. } => len,
            Split::Columns { lanes } => len.div_ceil(lanes) * lanes,
        }
    }

    /// All panels of a block of `len` lanes.
    pub(crate) fn panels(self, len: usize) -> impl Iterator<Item = Panel> {
        let count = self.count(len);
        // Divided once for all.
        let (each, more) = (len / count.max(1), len % count.max(1));
        (0..count).map(move |i| match self {
            Split::Rows { .. } => rows(i, each, more),
            Split::Columns { .. } => self.panel(i, len),
        })
    }
}

/// Panel `i` of rows, of which the first `more` have one more than `each`.
fn rows(i: usize, each: usize, more: usize) -> Panel {
    let len = each + usize::from(i < more);
    Panel { start: i * each + i.min(more), len, width: len }
}

/// Part of k to pack for all panels of a block if the lanes are neighbours in memory: few rows at a time, so that the
/// lines that two panels share are still near, and few pages are in use at once.
pub(crate) const CHUNK_OF_ROWS: usize = 32;

/// Calls `f(panel, part of k, memory)` for all panels of a block and all parts of at most `chunk` of k. Lanes of the
/// memory that the panel does not use are zero.
pub(crate) fn each_panel<T: Real>(
    split: Split,
    len: usize,
    k: Range<usize>,
    chunk: usize,
    block: &mut [T],
    mut f: impl FnMut(Panel, Range<usize>, &mut [T]),
) {
    let mut begin = k.start;
    while begin < k.end {
        let end = begin.saturating_add(chunk).min(k.end);
        for panel in split.panels(len) {
            let at = panel.start * k.len() + (begin - k.start) * panel.width;
            let here = &mut block[at..][..(end - begin) * panel.width];
            if panel.len < panel.width {
                here.fill(T::zero());
            }
            f(panel, begin..end, here);
        }
        begin = end;
    }
}

/// An operand that can be packed.
pub(crate) trait Source<T: Real>: Sync {
    /// Packs block `lanes` × `k`: the panels of `split` one after another, panel p at `p.start · k.len()`, each
    /// `k.len()` groups of `p.width` numbers, the unused ones zero.
    fn pack(
        &self,
        kernels: &Kernels<T>,
        lanes: Range<usize>,
        k: Range<usize>,
        split: Split,
        block: &mut [T],
    ) {
        each_panel(split, lanes.len(), k, self.chunk(), block, |panel, k, here| {
            let first = lanes.start + panel.start;
            self.panel(kernels, first..first + panel.len, k, panel.width, here);
        });
    }

    /// How much of k is packed for all panels before the next part is.
    fn chunk(&self) -> usize {
        usize::MAX
    }

    /// Packs one panel; lanes past the end of `lanes` are left alone.
    fn panel(
        &self,
        kernels: &Kernels<T>,
        lanes: Range<usize>,
        k: Range<usize>,
        width: usize,
        panel: &mut [T],
    );
}

/// A dense matrix times a factor; element (lane, k) is at `lane·lane_step + k·k_step`, and one step is 1.
pub(crate) struct Matrix<'a, T> {
    pub data: &'a [T],
    pub lane_step: usize,
    pub k_step: usize,
    pub scale: T,
}

impl<T: Real> Source<T> for Matrix<'_, T> {
    fn chunk(&self) -> usize {
        if self.lane_step == 1 { CHUNK_OF_ROWS } else { usize::MAX }
    }

    fn panel(
        &self,
        kernels: &Kernels<T>,
        lanes: Range<usize>,
        k: Range<usize>,
        width: usize,
        panel: &mut [T],
    ) {
        if self.lane_step == 1 {
            let run = Run { lane: 0, len: lanes.len(), start: lanes.start, plane: self.k_step };
            copy_planes(kernels, self.data, &[run], k, width, panel);
        } else {
            transpose(
                kernels,
                &self.data[lanes.start * self.lane_step + k.start..],
                self.lane_step,
                lanes.len(),
                k.len(),
                width,
                panel,
            );
        }
        if self.scale != T::one() {
            panel.iter_mut().for_each(|x| *x *= self.scale);
        }
    }
}

/// Lanes are neighbours in memory: k-th group from `start + k·plane` of each run.
pub(crate) fn copy_planes<T: Real>(
    kernels: &Kernels<T>,
    image: &[T],
    runs: &[Run],
    k: Range<usize>,
    width: usize,
    panel: &mut [T],
) {
    kernels.copy(&Copy { image, runs, offsets: &[0], rows: k, width, panel: std::ptr::null_mut() }, panel);
}

/// Neighbours in memory are neighbours in k: `panel[k·width + lane] = data[lane·step + k]`.
pub(crate) fn transpose<T: Real>(
    kernels: &Kernels<T>,
    data: &[T],
    step: usize,
    lanes: usize,
    len: usize,
    width: usize,
    panel: &mut [T],
) {
    let mut starts = [0; 64];
    starts.iter_mut().enumerate().for_each(|(i, start)| *start = i * step);
    let runs = &[Run { len, ..Run::default() }];
    kernels.turn(&Turn { data, lanes: &starts[..lanes], runs, width, panel: std::ptr::null_mut() }, panel);
}
