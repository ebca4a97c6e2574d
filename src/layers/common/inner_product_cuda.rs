//! InnerProduct on a GPU.

use super::InnerProduct;
use crate::device::{Context, Gpu, Grid, Source};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward};
use crate::math::Real;

pub(crate) static KERNELS: Source =
    Source { name: "inner_product.cu", parts: &[include_str!("inner_product.cu")] };

impl<T: Real> DeviceCode<T> for InnerProduct {
    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let [m, n, k] = self.sizes;
        let (x, w, y) = (io.bottom.device(0)?, io.params.device(0)?, io.top.device(0)?);
        gpu.gemm([false, !self.param.transpose()], [m, n, k], T::one(), x, w, T::zero(), y)?;
        if !self.param.bias_term() {
            return Ok(());
        }
        let args = [(m * n).into(), n.into(), io.params.device(1)?.into(), y.into()];
        gpu.launch::<T>(&KERNELS, "add_bias", Grid::Elements(m * n), &args)
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let ([m, n, k], one) = (self.sizes, T::one());
        let (x, dy, transpose) = (io.bottom.device(0)?, io.top_diff.device(0)?, self.param.transpose());
        if io.params.learned(0) {
            let dw = io.params.device_diff(0)?;
            match transpose {
                true => gpu.gemm([true, false], [k, n, m], one, x, dy, one, dw)?,
                false => gpu.gemm([true, false], [n, k, m], one, dy, x, one, dw)?,
            }
        }
        if self.param.bias_term() && io.params.learned(1) {
            let args = [m.into(), n.into(), dy.into(), io.params.device_diff(1)?.into()];
            gpu.launch::<T>(&KERNELS, "bias_gradient", Grid::Elements(n), &args)?;
        }
        if io.propagate[0] {
            let (w, dx) = (io.params.device(0)?, io.bottom_diff.device(0)?);
            gpu.gemm([false, transpose], [m, k, n], one, dy, w, T::zero(), dx)?;
        }
        Ok(())
    }
}
