//! InnerProduct on a GPU.

use super::InnerProduct;
use crate::device::{Batch, Context, Gpu, Grid, Source, View};
use crate::error::Result;
use crate::layers::{Backward, Channels, DeviceCode, Forward, Step, ending};
use crate::math::Real;

pub(crate) static KERNELS: Source =
    Source { name: "inner_product.cu", parts: &[include_str!("inner_product.cu")] };

/// One product.
const ONE: Batch = Batch { count: 1, strides: [0; 3] };

impl InnerProduct {
    fn channels(&self) -> Channels {
        let [m, n, _] = self.sizes;
        Channels { outer: m, dim: n, inner: 1 }
    }
}

impl<T: Real> DeviceCode<T> for InnerProduct {
    fn leads(&self, tail: &[Step]) -> bool {
        !tail.contains(&Step::Add) && ending::takes(tail, self.channels())
    }

    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let ([m, n, k], [rw, rx, _]) = (self.sizes, &mut self.rounded);
        let (w, x) = (gpu.operand(rw, io.params.device(0)?)?, gpu.operand(rx, io.bottom.device(0)?)?);
        let (y, has_bias, transpose) =
            (io.top.device(0)?, self.param.bias_term(), [false, !self.param.transpose()]);
        let bias = if has_bias { io.params.device(1)? } else { View::NONE };
        let relu = *io.tail == [Step::Relu { slope: 0.0 }];
        let done = self.fused.run(gpu, transpose, [m, n, k], [x, w], y, bias, relu)?;
        if done.is_none() {
            gpu.product(transpose, [m, n, k], T::one(), x, w, T::zero(), y, ONE)?;
        }
        // What is left.
        let bias = (has_bias && done.is_none()).then_some(1);
        let tail = if done == Some(true) { &[] } else { io.tail };
        let own = 1 + usize::from(has_bias);
        ending::launch(gpu, self.channels(), (&io.params, own, bias), tail, View::NONE, y)
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let ([m, n, k], one, transpose) = (self.sizes, T::one(), self.param.transpose());
        let ([rw, rx, rdy], dy) = (&mut self.rounded, io.top_diff.device(0)?);
        if self.param.bias_term() && io.params.learned(1) {
            let args = [m.into(), n.into(), dy.into(), io.params.device_diff(1)?.into()];
            gpu.launch::<T>(&KERNELS, "bias_gradient", Grid::Elements(n), &args)?;
        }
        let dy = gpu.operand(rdy, dy)?;
        if io.params.learned(0) {
            let (x, dw) = (gpu.operand_again(rx, io.bottom.device(0)?)?, io.params.device_diff(0)?);
            match transpose {
                true => gpu.product([true, false], [k, n, m], one, x, dy, one, dw, ONE)?,
                false => gpu.product([true, false], [n, k, m], one, dy, x, one, dw, ONE)?,
            }
        }
        if io.propagate[0] {
            let (w, dx) = (gpu.operand_again(rw, io.params.device(0)?)?, io.bottom_diff.device(0)?);
            gpu.product([false, transpose], [m, k, n], one, dy, w, T::zero(), dx, ONE)?;
        }
        Ok(())
    }
}
