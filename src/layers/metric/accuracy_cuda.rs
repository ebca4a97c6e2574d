//! Accuracy on a GPU.

use super::Accuracy;
use crate::device::{Arg, Context, Gpu, Grid, Memory, Source};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward, Inputs};
use crate::math::Real;

pub(crate) static KERNELS: Source = Source { name: "accuracy.cu", parts: &[include_str!("accuracy.cu")] };

impl<T: Real> DeviceCode<T> for Accuracy {
    /// At no transfer. Of labels that only the device has, a wrong one makes the share NaN.
    fn check(&mut self, bottom: &Inputs<'_, T>) -> Result<()> {
        match bottom.get(1) {
            [] => Ok(()),
            labels => self.labels.read(labels, bottom.shape(1)).map(|_| ()),
        }
    }

    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (x, labels) = (io.bottom.device(0)?, io.bottom.device(1)?);
        let right = Memory::ready(&mut self.device, gpu, labels.len)?.view();
        let [n, classes, inner, top_k] = [labels.len, self.classes, self.inner, self.top_k].map(Arg::from);
        let (has_ignored, ignored) = (self.labels.ignored().is_some(), self.labels.ignored().unwrap_or(0));
        let tail = [top_k, has_ignored.into(), ignored.into(), right.into()];
        let args = [n, classes, inner, x.into(), labels.into(), tail[0], tail[1], tail[2], tail[3]];
        gpu.launch::<T>(&KERNELS, "compare", Grid::Elements(labels.len), &args)?;
        let y = io.top.device(0)?;
        gpu.launch::<T>(&KERNELS, "share", Grid::Rows(1), &[n, right.into(), y.into()])?;
        if io.top.len() > 1 {
            let args = [classes, n, right.into(), labels.into(), io.top.device(1)?.into()];
            gpu.launch::<T>(&KERNELS, "share_by_class", Grid::Elements(self.classes), &args)?;
        }
        Ok(())
    }

    fn backward(&mut self, _: &Gpu, _: &Context<T>, _: Backward<T>) -> Result<()> {
        Ok(())
    }
}
