//! LRN on a GPU.

use super::{Lrn, NormRegion};
use crate::device::{Arg, Context, Gpu, Grid, Memory, Source};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward};
use crate::math::Real;

pub(crate) static KERNELS: Source = Source { name: "lrn.cu", parts: &[include_str!("lrn.cu")] };

impl<T> Lrn<T> {
    /// The sizes that all kernels take.
    fn window(&self, n: usize) -> [Arg; 6] {
        let [channels, height, width] = self.image.map(Arg::from);
        [
            n.into(),
            channels,
            height,
            width,
            self.reach.into(),
            (self.region == NormRegion::WithinChannel).into(),
        ]
    }
}

impl<T: Real> DeviceCode<T> for Lrn<T> {
    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (x, y) = (io.bottom.device(0)?, io.top.device(0)?);
        let sums = Memory::ready(&mut self.device[0], gpu, x.len)?.view();
        let [n, channels, height, width, reach, within] = self.window(x.len);
        let numbers = [self.alpha, self.beta, self.k].map(|v| Arg::from(v.as_f64()));
        let args = [
            n,
            channels,
            height,
            width,
            reach,
            within,
            x.into(),
            sums.into(),
            y.into(),
            numbers[0],
            numbers[1],
            numbers[2],
        ];
        gpu.launch::<T>(&KERNELS, "normalise", Grid::Elements(x.len), &args)
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let (Some(sums), true) = (&self.device[0], io.propagate[0]) else { return Ok(()) };
        let (sums, x, dy, dx) =
            (sums.view(), io.bottom.device(0)?, io.top_diff.device(0)?, io.bottom_diff.device(0)?);
        let [n, channels, height, width, reach, within] = self.window(x.len);
        let ratios = Memory::ready(&mut self.device[1], gpu, x.len)?.view();
        let [x, dy, dx, sums, ratios] = [x, dy, dx, sums, ratios].map(Arg::from);
        let (beta, grid) = (self.beta.as_f64(), Grid::Elements(io.bottom.shape(0).count()));
        gpu.launch::<T>(&KERNELS, "ratio", grid, &[n, x, dy, sums, beta.into(), ratios])?;
        let slope = -2.0 * self.alpha.as_f64() * beta;
        let args =
            [n, channels, height, width, reach, within, x, dy, sums, ratios, beta.into(), slope.into(), dx];
        gpu.launch::<T>(&KERNELS, "gradient", grid, &args)
    }
}
