//! EuclideanLoss on a GPU.

use super::EuclideanLoss;
use crate::device::{Context, Gpu, Grid, Memory, Source};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward};
use crate::math::Real;

pub(crate) static KERNELS: Source =
    Source { name: "euclidean_loss.cu", parts: &[include_str!("euclidean_loss.cu")] };

impl<T: Real> DeviceCode<T> for EuclideanLoss<T> {
    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (a, b, y) = (io.bottom.device(0)?, io.bottom.device(1)?, io.top.device(0)?);
        let difference = Memory::ready(&mut self.device, gpu, a.len)?.view();
        let scale = 0.5 / self.batch as f64;
        let args = [a.len.into(), a.into(), b.into(), difference.into(), scale.into(), y.into()];
        gpu.launch::<T>(&KERNELS, "distance", Grid::Rows(1), &args)
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let Some(difference) = &self.device else { return Ok(()) };
        for (i, sign) in [1.0, -1.0].into_iter().enumerate().filter(|&(i, _)| io.propagate[i]) {
            let (dy, dx, scale) =
                (io.top_diff.device(0)?, io.bottom_diff.device(i)?, sign / self.batch as f64);
            let args = [dx.len.into(), difference.view().into(), dy.into(), scale.into(), dx.into()];
            gpu.launch::<T>(&KERNELS, "gradient", Grid::Elements(dx.len), &args)?;
        }
        Ok(())
    }
}
