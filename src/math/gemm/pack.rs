//! Operands of a product and how they are packed.
//!
//! A panel is what one tile reads: for each k, one number per *lane* (a row of A or a column of B), lanes side by
//! side.

use crate::math::Real;
use crate::math::simd::{Copy, Kernels, Run};
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
                let (each, more) = (len / count, len % count);
                let len = each + usize::from(i < more);
                Panel { start: i * each + i.min(more), len, width: len }
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
        (0..self.count(len)).map(move |i| self.panel(i, len))
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
        let mut rest = block;
        for panel in split.panels(lanes.len()) {
            let (here, next) = rest.split_at_mut(panel.width * k.len());
            let first = lanes.start + panel.start;
            if panel.len < panel.width {
                here.fill(T::zero());
            }
            self.panel(kernels, first..first + panel.len, k.clone(), panel.width, here);
            rest = next;
        }
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
    let panel_len = panel.len();
    kernels.copy(
        &Copy { image, runs, offsets: &[0], step: 1, rows: k, width, panel: std::ptr::null_mut() },
        &mut panel[..panel_len],
    );
}

/// Neighbours in memory are neighbours in k: `panel[k·width + lane] = data[lane·step + k]`.
#[allow(clippy::too_many_arguments)]
pub(crate) fn transpose<T: Real>(
    _: &Kernels<T>,
    data: &[T],
    step: usize,
    lanes: usize,
    k: usize,
    width: usize,
    panel: &mut [T],
) {
    // Sixteen groups at a time stay in the first-level cache.
    for (block, groups) in panel[..k * width].chunks_mut(16 * width).enumerate() {
        for lane in 0..lanes {
            let row = &data[lane * step + block * 16..];
            for (group, &x) in groups.chunks_exact_mut(width).zip(row) {
                group[lane] = x;
            }
        }
    }
}
