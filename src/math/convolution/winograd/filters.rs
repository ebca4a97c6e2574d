//! Filters and their transformation.

use crate::math::Real;
use crate::math::gemm::pack::Split;
use crate::math::parallel::for_each_index;
use crate::math::shared::Shared;
use crate::math::simd::{Kernels, Spread};

/// Filters, and how to find them: the one from channel c to channel o is at `o·to_step + c·from_step`.
pub(in super::super) struct Filters<'a, T> {
    pub data: &'a [T],
    pub to: usize,
    pub to_step: usize,
    pub from: usize,
    pub from_step: usize,
    /// Whether they are turned by half a turn.
    pub turned: bool,
}

impl<T: Real> Filters<'_, T> {
    /// Transforms all filters, as panels of A: lanes are channels they go to, k is channels they come from.
    pub(super) fn spread(&self, kernels: &Kernels<T>, size: usize, u: &Shared<T>, step: usize) {
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
