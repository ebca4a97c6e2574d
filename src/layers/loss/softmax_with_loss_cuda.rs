//! SoftmaxWithLoss on a GPU.

use super::{Kept, NormalizationMode, SoftmaxWithLoss};
use crate::device::{Arg, Context, Gpu, Grid, Memory, Source};
use crate::error::Result;
use crate::layers::common::softmax::cuda::{TEXT, launch_backward, launch_forward};
use crate::layers::{Backward, DeviceCode, Forward, Inputs};
use crate::math::Real;

pub(crate) static KERNELS: Source =
    Source { name: "softmax_with_loss.cu", parts: &[TEXT, include_str!("softmax_with_loss.cu")] };

/// Labels that a block adds up, and most blocks.
const PART: usize = 4096;
const BLOCKS: usize = 1024;

impl<T: Real> DeviceCode<T> for SoftmaxWithLoss<T> {
    /// Of labels that only the device has, a wrong one makes the loss NaN, and the net asks again with the labels.
    fn check(&mut self, bottom: &Inputs<'_, T>) -> Result<()> {
        match bottom.get(1) {
            [] => Ok(()),
            labels => self.labels.read(labels, bottom.shape(1)).map(|_| ()),
        }
    }

    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (x, labels, y) = (io.bottom.device(0)?, io.bottom.device(1)?, io.top.device(0)?);
        let Kept { prob, normalizer, labels: kept, parts } = &mut self.device;
        gpu.copy(labels, Memory::ready(kept, gpu, labels.len)?.view())?;
        let prob = Memory::ready(prob, gpu, x.len)?.view();
        let normalizer = Memory::ready(normalizer, gpu, 1)?.view();
        launch_forward(gpu, &KERNELS, self.along, x, prob)?;
        let blocks = labels.len.div_ceil(PART).clamp(1, BLOCKS);
        let parts = Memory::ready(parts, gpu, 2 * blocks)?.view();
        let fixed: Arg = match self.mode {
            NormalizationMode::Valid => 0.0, // counted by the kernel
            _ => self.normalizer(0),
        }
        .into();
        let [n, classes, inner] = [labels.len, self.along.classes, self.along.inner].map(Arg::from);
        let (has_ignored, ignored) = (self.labels.ignored().is_some(), self.labels.ignored().unwrap_or(0));
        let [p, t, parts, y, normalizer] = [prob, labels, parts, y, normalizer].map(Arg::from);
        let args = [n, classes, inner, p, t, has_ignored.into(), ignored.into(), parts, fixed, y, normalizer];
        gpu.launch::<T>(&KERNELS, "losses", Grid::Rows(blocks), &args)?;
        if blocks > 1 {
            gpu.launch::<T>(&KERNELS, "loss", Grid::Rows(1), &[blocks.into(), parts, fixed, y, normalizer])?;
        }
        if io.top.len() > 1 { gpu.copy(prob, io.top.device(1)?) } else { Ok(()) }
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let Kept { prob: Some(prob), normalizer: Some(normalizer), labels: Some(labels), .. } = &self.device
        else {
            return Ok(());
        };
        if !io.propagate[0] {
            return Ok(());
        }
        let (labels, dx) = (labels.view(), io.bottom_diff.device(0)?);
        let prob = prob.view().to(dx.len);
        if io.live[0] {
            let counts = [dx.len, self.along.classes, self.along.inner].map(Arg::from);
            let (has_ignored, ignored) =
                (self.labels.ignored().is_some(), self.labels.ignored().unwrap_or(0));
            gpu.launch::<T>(
                &KERNELS,
                "gradient",
                Grid::Elements(dx.len),
                &[
                    counts[0],
                    counts[1],
                    counts[2],
                    prob.into(),
                    labels.into(),
                    has_ignored.into(),
                    ignored.into(),
                    io.top_diff.device(0)?.into(),
                    normalizer.view().into(),
                    dx.into(),
                ],
            )?;
        }
        if io.live.get(1) == Some(&true) {
            let views = [prob, io.top_diff.device(1)?, dx];
            launch_backward(gpu, &KERNELS, self.along, views, io.live[0])?;
        }
        Ok(())
    }
}
