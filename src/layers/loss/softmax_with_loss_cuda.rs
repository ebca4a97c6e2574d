//! SoftmaxWithLoss on a GPU.

use super::{NormalizationMode, SoftmaxWithLoss};
use crate::device::{Arg, Context, Gpu, Grid, Memory, Source};
use crate::error::Result;
use crate::layers::common::softmax::cuda::{TEXT, launch_backward, launch_forward};
use crate::layers::{Backward, DeviceCode, Forward, Inputs};
use crate::math::Real;

pub(crate) static KERNELS: Source =
    Source { name: "softmax_with_loss.cu", parts: &[TEXT, include_str!("softmax_with_loss.cu")] };

impl<T: Real> DeviceCode<T> for SoftmaxWithLoss<T> {
    /// At no transfer. Of labels that only the device has, a wrong one makes the loss NaN.
    fn check(&mut self, bottom: &Inputs<'_, T>) -> Result<()> {
        match bottom.get(1) {
            [] => Ok(()),
            labels => self.labels.read(labels, bottom.shape(1)).map(|_| ()),
        }
    }

    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (x, labels, y) = (io.bottom.device(0)?, io.bottom.device(1)?, io.top.device(0)?);
        let [prob, normalizer, kept] = &mut self.device;
        gpu.copy(labels, Memory::ready(kept, gpu, labels.len)?.view())?;
        let prob = Memory::ready(prob, gpu, x.len)?.view();
        let normalizer = Memory::ready(normalizer, gpu, 1)?.view();
        launch_forward(gpu, &KERNELS, self.along, x, prob)?;
        let fixed = match self.mode {
            NormalizationMode::Valid => T::zero(), // counted by the kernel
            _ => T::from_f64(self.normalizer(0)),
        };
        let counts = [labels.len, self.along.classes, self.along.inner].map(Arg::from);
        let (has_ignored, ignored) = (self.labels.ignored().is_some(), self.labels.ignored().unwrap_or(0));
        gpu.launch::<T>(
            &KERNELS,
            "loss",
            Grid::Rows(1),
            &[
                counts[0],
                counts[1],
                counts[2],
                prob.into(),
                labels.into(),
                has_ignored.into(),
                ignored.into(),
                fixed.as_f64().into(),
                y.into(),
                normalizer.into(),
            ],
        )?;
        if io.top.len() > 1 { gpu.copy(prob, io.top.device(1)?) } else { Ok(()) }
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let ([Some(prob), Some(normalizer), Some(labels)], true) = (&self.device, io.propagate[0]) else {
            return Ok(());
        };
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
