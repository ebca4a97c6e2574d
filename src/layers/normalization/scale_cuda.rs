//! Scale on a GPU.

use super::Scale;
use crate::device::{Arg, Context, Gpu, Grid, Memory, Source, View};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward, Step, Tail};
use crate::math::Real;

pub(crate) static KERNELS: Source = Source { name: "scale.cu", parts: &[include_str!("scale.cu")] };

impl<T> Scale<T> {
    fn shape_args(&self) -> [Arg; 3] {
        [self.shape.outer, self.shape.dim, self.shape.inner].map(Arg::from)
    }
}

impl<T: Real> DeviceCode<T> for Scale<T> {
    fn leads(&self, tail: &[Step]) -> bool {
        Tail::length(tail, None) == tail.len()
    }

    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (x, y) = io.on_device()?;
        let s = if self.two { io.bottom.device(1)? } else { io.params.device(0)? };
        if self.in_place && io.need_backward {
            let [saved, factor] = &mut self.device;
            if self.two {
                gpu.copy(s, Memory::ready(factor, gpu, s.len)?.view())?;
            }
            if self.two || io.params.learned(0) {
                gpu.copy(x, Memory::ready(saved, gpu, x.len)?.view())?;
            }
        }
        let b = self.bias().map_or(Ok(View::NONE), |b| io.params.device(b))?;
        let [_, dim, inner] = self.shape_args();
        let slope = Tail::new(io.tail, 0).slope.into();
        let args = [y.len.into(), dim, inner, x.into(), s.into(), b.into(), slope, y.into()];
        gpu.launch::<T>(&KERNELS, "scale", Grid::Elements(y.len), &args)
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let shared = io.top_diff.in_place(0);
        let dy = if shared { io.bottom_diff.device(0)? } else { io.top_diff.device(0)? };
        let [outer, dim, inner] = self.shape_args();
        let [saved, kept] = &self.device;
        let kept_or = |kept: &Option<Memory<T>>, len: usize| kept.as_ref().map(|m| m.view().to(len));
        let factor = if self.two { io.propagate[1] } else { io.params.learned(0) };
        let bias = self.bias().filter(|&b| io.params.learned(b));
        if factor || bias.is_some() {
            // The factor's sums read x: without them it was not kept.
            let x = match (factor, self.in_place) {
                (false, _) => View::NONE,
                (true, true) => kept_or(saved, dy.len).unwrap_or(View::NONE),
                (true, false) => io.bottom.device(0)?,
            };
            let ds = match (factor, self.two) {
                (false, _) => View::NONE,
                (true, true) => io.bottom_diff.device(1)?,
                (true, false) => io.params.device_diff(0)?,
            };
            let db = bias.map_or(Ok(View::NONE), |b| io.params.device_diff(b))?;
            let args = [outer, dim, inner, dy.into(), x.into(), ds.into(), self.two.into(), db.into()];
            gpu.launch::<T>(&KERNELS, "sums", Grid::Rows(self.shape.dim), &args)?;
        }
        if !io.propagate[0] {
            return Ok(());
        }
        let s = match (self.two, self.in_place) {
            (false, _) => io.params.device(0)?,
            (true, true) => kept_or(kept, self.shape.dim).unwrap_or(View::NONE),
            (true, false) => io.bottom.device(1)?,
        };
        let dx = io.bottom_diff.device(0)?;
        let none = View::<T>::NONE.into();
        let args = [dx.len.into(), dim, inner, dy.into(), s.into(), none, 1.0.into(), dx.into()];
        gpu.launch::<T>(&KERNELS, "scale", Grid::Elements(dx.len), &args)
    }
}
