//! Pooling on a GPU.

use super::{PoolMethod, Pooling};
use crate::device::{Arg, Context, Gpu, Grid, Memory, Source, View};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward};
use crate::math::Real;

pub(crate) static KERNELS: Source = Source { name: "pooling.cu", parts: &[include_str!("pooling.cu")] };

impl Pooling {
    /// The sizes that all kernels take, behind the number of elements.
    fn sizes(&self, n: usize) -> Result<[Arg; 11]> {
        let axes = self.axes()?;
        let [h, w] = axes.map(|a| [a.input, a.output, a.kernel, a.stride, a.pad].map(Arg::from));
        Ok([n.into(), h[0], w[0], h[1], w[1], h[2], w[2], h[3], w[3], h[4], w[4]])
    }
}

impl<T: Real> DeviceCode<T> for Pooling {
    fn forward(&mut self, gpu: &Gpu, cx: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (x, y) = (io.bottom.device(0)?, io.top.device(0)?);
        let at = match self.takes_one() {
            true => Memory::ready(&mut self.device, gpu, y.len)?.view(),
            false => View::NONE,
        };
        let mask = if io.top.len() > 1 { io.top.device(1)? } else { View::NONE };
        let s = self.sizes(y.len)?;
        let [x, y, at, mask] = [x.into(), y.into(), at.into(), mask.into()];
        let [key, key_high] = [cx.seed as u32, (cx.seed >> 32) as u32].map(Arg::from);
        let layer = (cx.layer & 0x00ff_ffff).into();
        let (name, rest) = match (self.method, self.training) {
            (PoolMethod::Max, _) => ("largest", [x, y, at, mask, mask, mask]),
            (PoolMethod::Ave, _) => ("mean", [x, y, at, mask, mask, mask]),
            (PoolMethod::Stochastic, true) => ("draw", [x, y, at, layer, cx.pass_on_device.into(), key]),
            (PoolMethod::Stochastic, false) => ("expect", [x, y, at, mask, mask, mask]),
        };
        let [a, b, c, d, e, f] = rest;
        let args =
            [s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], a, b, c, d, e, f, key_high];
        gpu.launch::<T>(&KERNELS, name, Grid::Elements(io.top.shape(0).count()), &args)
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if !io.propagate[0] {
            return Ok(());
        }
        let (dy, dx) = (io.top_diff.device(0)?, io.bottom_diff.device(0)?);
        let s = self.sizes(dx.len)?;
        let (name, extra) = match (self.takes_one(), self.method, &self.device) {
            (true, _, Some(at)) => ("send_back", at.view().into()),
            (_, PoolMethod::Stochastic, _) => ("expect_gradient", io.bottom.device(0)?.into()),
            _ => ("mean_gradient", View::<T>::NONE.into()),
        };
        let args =
            [s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], dy.into(), extra, dx.into()];
        gpu.launch::<T>(&KERNELS, name, Grid::Elements(dx.len), &args)
    }
}
