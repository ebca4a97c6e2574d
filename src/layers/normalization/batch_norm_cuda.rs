//! BatchNorm on a GPU.

use super::BatchNorm;
use crate::device::{Arg, Context, Gpu, Grid, Memory, Source, View};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward, Step, Tail};
use crate::math::Real;

pub(crate) static KERNELS: Source = Source { name: "batch_norm.cu", parts: &[include_str!("batch_norm.cu")] };

impl<T> BatchNorm<T> {
    fn shape_args(&self) -> [Arg; 3] {
        [self.shape.outer, self.shape.dim, self.shape.inner].map(Arg::from)
    }
}

/// Parameters of its own.
const OWN: usize = 3;

impl<T: Real> DeviceCode<T> for BatchNorm<T> {
    fn leads(&self, tail: &[Step]) -> bool {
        Tail::length(tail, Some(self.shape)) == tail.len()
    }

    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let ((x, y), keep, eps) = (io.on_device()?, self.keep, self.eps);
        let [outer, dim, inner] = self.shape_args();
        let [mean, inverse, saved] = &mut self.device;
        if self.in_place && io.need_backward && !self.global {
            gpu.copy(x, Memory::ready(saved, gpu, x.len)?.view())?;
        }
        let mean = Memory::ready(mean, gpu, self.shape.dim)?.view();
        let inverse = Memory::ready(inverse, gpu, self.shape.dim)?.view();
        let (rows, elements) = (Grid::Rows(self.shape.dim), Grid::Elements(self.shape.dim));
        if self.global {
            let [m, v, f] = [io.params.device(0)?, io.params.device(1)?, io.params.device(2)?];
            let args = [dim, m.into(), v.into(), f.into(), eps.into(), mean.into(), inverse.into()];
            gpu.launch::<T>(&KERNELS, "gathered", elements, &args)?;
        } else if x.len > 0 {
            let [m, v, f] = [io.params.device_mut(0)?, io.params.device_mut(1)?, io.params.device_mut(2)?];
            let statistics =
                [m.into(), v.into(), f.into(), keep.into(), eps.into(), mean.into(), inverse.into()];
            let [a, b, c, d, e, g, h] = statistics;
            gpu.launch::<T>(
                &KERNELS,
                "statistics",
                rows,
                &[outer, dim, inner, x.into(), a, b, c, d, e, g, h],
            )?;
        }
        let tail = Tail::new(io.tail, OWN);
        let param = |id: Option<usize>| id.map_or(Ok(View::NONE), |id| io.params.device(id));
        let [s, b] = [param(tail.scale.map(|t| t.0))?, param(tail.scale.and_then(|t| t.1))?].map(Arg::from);
        let means = [x, mean, inverse].map(Arg::from);
        let args =
            [y.len.into(), dim, inner, means[0], means[1], means[2], s, b, tail.slope.into(), y.into()];
        gpu.launch::<T>(&KERNELS, "normalise", Grid::Elements(y.len), &args)
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let ([Some(mean), Some(inverse), saved], true) = (&self.device, io.propagate[0]) else {
            return Ok(());
        };
        let (dy, dx) = io.diffs_on_device()?;
        let ([outer, dim, inner], mean, inverse) = (self.shape_args(), mean.view(), inverse.view());
        if self.global {
            let args = [dx.len.into(), dim, inner, inverse.into(), dy.into(), dx.into()];
            return gpu.launch::<T>(&KERNELS, "global_gradient", Grid::Elements(dx.len), &args);
        }
        let x = match saved {
            Some(saved) if self.in_place => saved.view(),
            _ => io.bottom.device(0)?,
        };
        let args = [outer, dim, inner, x.into(), mean.into(), inverse.into(), dy.into(), dx.into()];
        gpu.launch::<T>(&KERNELS, "gradient", Grid::Rows(if dx.len > 0 { self.shape.dim } else { 0 }), &args)
    }
}
