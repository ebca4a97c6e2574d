//! Norm on a GPU.

use super::{EPS, Norm};
use crate::device::{Arg, Context, Gpu, Grid, Memory, Source};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward};
use crate::math::Real;

pub(crate) static KERNELS: Source = Source { name: "norm.cu", parts: &[include_str!("norm.cu")] };

impl<T: Real> DeviceCode<T> for Norm<T> {
    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (x, y) = io.on_device()?;
        let places = y.len / self.channels.max(1);
        let lengths = Memory::ready(&mut self.device, gpu, places)?.view();
        let [channels, inner] = [self.channels, self.inner].map(Arg::from);
        let args = [channels, inner, x.into(), EPS.into(), lengths.into(), y.into()];
        gpu.launch::<T>(&KERNELS, "normalise", Grid::Rows(places), &args)
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let (Some(lengths), true) = (&self.device, io.propagate[0]) else { return Ok(()) };
        let (y, (dy, dx)) = (io.top.device(0)?, io.diffs_on_device()?);
        let [channels, inner] = [self.channels, self.inner].map(Arg::from);
        let args = [channels, inner, y.into(), dy.into(), EPS.into(), lengths.view().into(), dx.into()];
        gpu.launch::<T>(&KERNELS, "gradient", Grid::Rows(dx.len / self.channels.max(1)), &args)
    }
}
