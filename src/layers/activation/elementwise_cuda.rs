//! Element-wise layers on a GPU.

use super::{Elementwise, Formula, Function};
use crate::device::{Arg, Context, Gpu, Grid, View};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward};
use crate::math::Real;

impl<T: Real, F: Function<T>> DeviceCode<T> for Elementwise<F> {
    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let Some(Formula { source, numbers }) = self.0.cuda() else { return Ok(()) };
        let (x, y) = io.on_device()?;
        let [a, b, c, d] = numbers.map(|v| Arg::from(v.as_f64()));
        gpu.launch::<T>(
            source,
            "forward",
            Grid::Elements(y.len),
            &[y.len.into(), x.into(), y.into(), a, b, c, d],
        )
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let (Some(Formula { source, numbers }), true) = (self.0.cuda(), io.propagate[0]) else {
            return Ok(());
        };
        let reads = self.0.reads();
        let x = if reads.bottom { io.bottom.device(0)? } else { View::NONE };
        let y = if reads.top { io.top.device(0)? } else { x };
        let x = if reads.bottom { x } else { y };
        let (dy, dx) = io.diffs_on_device()?;
        let [a, b, c, d] = numbers.map(|v| Arg::from(v.as_f64()));
        let args = [dx.len.into(), x.into(), y.into(), dy.into(), dx.into(), a, b, c, d];
        gpu.launch::<T>(source, "backward", Grid::Elements(dx.len), &args)
    }
}
