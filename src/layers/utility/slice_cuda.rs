//! Slice on a GPU.

use super::super::concat::cuda::copy_rows;
use super::Slice;
use crate::device::{Context, Gpu};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward};
use crate::math::Real;

impl<T: Real> DeviceCode<T> for Slice {
    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (row, x): (usize, _) = (self.widths.iter().sum(), io.bottom.device(0)?);
        let (outer, mut at) = (x.len / row.max(1), 0);
        for (i, &width) in self.widths.iter().enumerate() {
            copy_rows(gpu, outer, width, (x, [at, row]), (io.top.device(i)?, [0, width]))?;
            at += width;
        }
        Ok(())
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if !io.propagate[0] {
            return Ok(());
        }
        let (row, dx): (usize, _) = (self.widths.iter().sum(), io.bottom_diff.device(0)?);
        if io.live.contains(&false) {
            gpu.fill(dx, dx.len, T::zero())?;
        }
        let (outer, mut at) = (dx.len / row.max(1), 0);
        for (i, &width) in self.widths.iter().enumerate() {
            if io.live[i] {
                copy_rows(gpu, outer, width, (io.top_diff.device(i)?, [0, width]), (dx, [at, row]))?;
            }
            at += width;
        }
        Ok(())
    }
}
