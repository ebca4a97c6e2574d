//! Dropout on a GPU.

use super::Dropout;
use crate::device::{Context, Gpu, Grid, Source, View};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward};
use crate::math::Real;

pub(crate) static KERNELS: Source = Source { name: "dropout.cu", parts: &[include_str!("dropout.cu")] };

impl<T: Real> Dropout<T> {
    /// `to` = `from` where kept, scaled. Backward draws the same numbers again: the pass is the same.
    fn apply_cuda(&self, gpu: &Gpu, cx: &Context<T>, from: View<T>, to: View<T>) -> Result<()> {
        if !self.training {
            return gpu.copy(from, to);
        }
        gpu.launch::<T>(
            &KERNELS,
            "dropout",
            Grid::Elements(to.len),
            &[
                to.len.into(),
                from.into(),
                to.into(),
                self.threshold.into(),
                self.scale.as_f64().into(),
                (cx.layer & 0x00ff_ffff).into(),
                cx.pass_on_device.into(),
                (cx.seed as u32).into(),
                ((cx.seed >> 32) as u32).into(),
            ],
        )
    }
}

impl<T: Real> DeviceCode<T> for Dropout<T> {
    fn forward(&mut self, gpu: &Gpu, cx: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (x, y) = io.on_device()?;
        self.apply_cuda(gpu, cx, x, y)
    }

    fn backward(&mut self, gpu: &Gpu, cx: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if !io.propagate[0] {
            return Ok(());
        }
        let (dy, dx) = io.diffs_on_device()?;
        self.apply_cuda(gpu, cx, dy, dx)
    }
}
