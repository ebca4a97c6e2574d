//! Concat on a GPU.

use super::Concat;
use crate::device::{Context, Gpu, Grid, Source, View};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward};
use crate::math::Real;

pub(crate) static KERNELS: Source = Source { name: "concat.cu", parts: &[include_str!("concat.cu")] };

/// Copies so many rows of `width` elements: each side says where in its rows they begin, and how long its rows are.
pub(in crate::layers) fn copy_rows<T: Real>(
    gpu: &Gpu,
    rows: usize,
    width: usize,
    (from, [from_at, from_row]): (View<T>, [usize; 2]),
    (to, [to_at, to_row]): (View<T>, [usize; 2]),
) -> Result<()> {
    let n = rows * width;
    let (from, to) = (from.from(from_at), to.from(to_at));
    let args = [n.into(), width.into(), from.into(), from_row.into(), to.into(), to_row.into()];
    gpu.launch::<T>(&KERNELS, "copy_rows", Grid::Elements(n), &args)
}

impl<T: Real> DeviceCode<T> for Concat {
    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (row, y) = (self.widths.iter().sum(), io.top.device(0)?);
        let mut at = 0;
        for (i, &width) in self.widths.iter().enumerate() {
            copy_rows(gpu, self.outer, width, (io.bottom.device(i)?, [0, width]), (y, [at, row]))?;
            at += width;
        }
        Ok(())
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let (row, dy) = (self.widths.iter().sum(), io.top_diff.device(0)?);
        let mut at = 0;
        for (i, &width) in self.widths.iter().enumerate() {
            if io.propagate[i] {
                copy_rows(gpu, self.outer, width, (dy, [at, row]), (io.bottom_diff.device(i)?, [0, width]))?;
            }
            at += width;
        }
        Ok(())
    }
}
