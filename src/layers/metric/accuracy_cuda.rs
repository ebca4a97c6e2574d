//! Accuracy on a GPU.

use super::Accuracy;
use crate::device::{Arg, Context, Gpu, Grid, Memory, Source};
use crate::error::Result;
use crate::layers::common::softmax::cuda::teams;
use crate::layers::{Backward, DeviceCode, Forward, Inputs};
use crate::math::{Real, softmax::Softmax};

pub(crate) static KERNELS: Source = Source { name: "accuracy.cu", parts: &[include_str!("accuracy.cu")] };

/// Labels that a block counts, and most blocks.
const PART: usize = 4096;
const BLOCKS: usize = 1024;

impl<T: Real> DeviceCode<T> for Accuracy {
    /// Of labels that only the device has, a wrong one makes the share NaN, and the net asks again with the labels.
    fn check(&mut self, bottom: &Inputs<'_, T>) -> Result<()> {
        match bottom.get(1) {
            [] => Ok(()),
            labels => self.labels.read(labels, bottom.shape(1)).map(|_| ()),
        }
    }

    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (x, labels, y) = (io.bottom.device(0)?, io.bottom.device(1)?, io.top.device(0)?);
        let [right, parts] = &mut self.device;
        let right = Memory::ready(right, gpu, labels.len)?.view();
        let blocks = labels.len.div_ceil(PART).clamp(1, BLOCKS);
        let parts = Memory::ready(parts, gpu, 3 * blocks)?.view();
        let [n, classes, inner, top_k] = [labels.len, self.classes, self.inner, self.top_k].map(Arg::from);
        let (has_ignored, ignored) = (self.labels.ignored().is_some(), self.labels.ignored().unwrap_or(0));
        let names = ["compare_by_thread", "compare_by_warp", "compare_by_block"];
        let (kernel, grid) = teams(names, labels.len, Softmax { classes: self.classes, inner: self.inner });
        let [r, t] = [right.into(), labels.into()];
        let args = [n, classes, inner, x.into(), t, top_k, has_ignored.into(), ignored.into(), r];
        gpu.launch::<T>(&KERNELS, kernel, grid, &args)?;
        let [p, y] = [parts.into(), y.into()];
        gpu.launch::<T>(&KERNELS, "counts", Grid::Rows(blocks), &[n, r, p, y])?;
        if blocks > 1 {
            gpu.launch::<T>(&KERNELS, "share", Grid::Rows(1), &[blocks.into(), p, y])?;
        }
        if io.top.len() > 1 {
            let args = [n, r, t, io.top.device(1)?.into()];
            gpu.launch::<T>(&KERNELS, "share_by_class", Grid::Rows(self.classes), &args)?;
        }
        Ok(())
    }

    fn backward(&mut self, _: &Gpu, _: &Context<T>, _: Backward<T>) -> Result<()> {
        Ok(())
    }
}
