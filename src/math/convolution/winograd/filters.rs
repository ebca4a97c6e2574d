//! Filters and their transformation.

use crate::math::Real;
use crate::math::gemm::pack::Split;
use crate::math::parallel::{for_each_chunk, for_each_index};
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
    /// Whether they lie as [`Filters::order`] puts them; the steps count for nothing then.
    pub ordered: bool,
}

/// How channels that filters go to are cut into panels of A.
fn panels<T: Real>(kernels: &Kernels<T>) -> Split {
    Split::Rows { most: kernels.rows() }
}

/// Lanes that such a panel has in ordered filters, in whole vectors.
fn width<T: Real>(kernels: &Kernels<T>) -> usize {
    kernels.rows().next_multiple_of(kernels.lanes())
}

impl<T: Real> Filters<'_, T> {
    /// Those of one panel of the channels they go to.
    pub(super) fn panel(&self, kernels: &Kernels<T>, size: usize, i: usize) -> Filters<'_, T> {
        let panel = panels(kernels).panel(i, self.to);
        let at = if self.ordered {
            i * self.from * size * size * width(kernels)
        } else {
            panel.start * self.to_step
        };
        Filters { data: &self.data[at..], to: panel.len, ..*self }
    }

    /// Numbers that ordered filters take.
    pub(in super::super) fn ordered_len(kernels: &Kernels<T>, size: usize, to: usize, from: usize) -> usize {
        panels(kernels).count(to) * from * size * size * width(kernels)
    }

    /// Puts filters in order: for each panel of channels they go to, for each channel they come from, for each of their
    /// numbers the channels of the panel side by side.
    pub(in super::super) fn order(&self, kernels: &Kernels<T>, size: usize, out: &mut [T]) {
        let (area, width) = (size * size, width(kernels));
        for_each_chunk(out, self.from * area * width, |at, out| {
            let panel = panels(kernels).panel(at / (self.from * area * width), self.to);
            for (i, lanes) in out.chunks_exact_mut(width).enumerate() {
                let number = if self.turned { area - 1 - i % area } else { i % area };
                let first = panel.start * self.to_step + i / area * self.from_step + number;
                lanes.fill(T::zero());
                let filters = self.data[first..].iter().step_by(self.to_step);
                lanes[..panel.len].iter_mut().zip(filters).for_each(|(lane, &x)| *lane = x);
            }
        });
    }

    /// Transforms all filters, as panels of A: lanes are channels they go to, k is channels they come from.
    pub(super) fn spread(&self, kernels: &Kernels<T>, size: usize, u: &Shared<T>, step: usize) {
        let area = size * size;
        let split = panels(kernels);
        let across = if self.ordered { width(kernels) } else { 0 };
        let last = if self.ordered {
            assert!(split.count(self.to) == 1, "one panel at a time");
            (self.from - 1) * area * across + area * (across - 1)
        } else {
            (self.to - 1) * self.to_step + (self.from - 1) * self.from_step
        };
        assert!(last + area <= self.data.len());
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
                    *start = (first + i) * if self.ordered { area * across } else { self.from_step };
                }
                let lanes_of = kernels.lanes();
                let spread = Spread {
                    data: self.data.as_ptr(),
                    lanes: &lanes[..panel.len],
                    starts,
                    size,
                    row: size,
                    across,
                    turned: self.turned && !self.ordered,
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
