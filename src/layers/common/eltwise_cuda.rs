//! Eltwise on a GPU.

use super::{Eltwise, EltwiseOp};
use crate::device::{Context, Gpu, Grid, Memory, Source, View};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward, Step, Tail};
use crate::math::Real;

pub(crate) static KERNELS: Source = Source { name: "eltwise.cu", parts: &[include_str!("eltwise.cu")] };

impl<T: Real> DeviceCode<T> for Eltwise<T> {
    fn leads(&self, tail: &[Step]) -> bool {
        self.operation == EltwiseOp::Sum && self.coeff.len() > 1 && Tail::length(tail, None) == tail.len()
    }

    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let y = io.top.device(0)?;
        let grid = Grid::Elements(y.len);
        for i in 1..io.bottom.len() {
            // The first two bottoms give y, each further one joins it.
            let a = if i == 1 { io.bottom.device(0)? } else { y };
            let b = io.bottom.device(i)?;
            let views = [a.into(), b.into(), y.into()];
            let [a, b, out] = views;
            match self.operation {
                EltwiseOp::Sum => {
                    let first = if i == 1 { self.coeff[0].as_f64() } else { 1.0 };
                    let factors = [first.into(), self.coeff[i].as_f64().into()];
                    let slope = if i + 1 == io.bottom.len() { Tail::new(io.tail, 0).slope } else { 1.0 };
                    let args = [y.len.into(), a, b, out, factors[0], factors[1], slope.into()];
                    gpu.launch::<T>(&KERNELS, "sum", grid, &args)?;
                }
                EltwiseOp::Prod => gpu.launch::<T>(&KERNELS, "product", grid, &[y.len.into(), a, b, out])?,
                EltwiseOp::Max => {
                    let from = Memory::ready(&mut self.device, gpu, y.len)?.view();
                    gpu.launch::<T>(
                        &KERNELS,
                        "largest",
                        grid,
                        &[y.len.into(), a, b, out, from.into(), i.into()],
                    )?;
                }
            }
        }
        Ok(())
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let last = io.bottom.len() - 1;
        // Of a sum the last bottom's gradient may be the top's, which is then right as it is.
        let shared = io.top_diff.in_place(0);
        let dy = if shared { io.bottom_diff.device(last)? } else { io.top_diff.device(0)? };
        let grid = Grid::Elements(dy.len);
        for i in (0..=last).filter(|&i| io.propagate[i] && !(shared && i == last)) {
            let dx = io.bottom_diff.device(i)?;
            let n = dy.len.into();
            match self.operation {
                EltwiseOp::Sum => {
                    let factor = self.coeff[i].as_f64();
                    gpu.launch::<T>(&KERNELS, "scale", grid, &[n, dy.into(), dx.into(), factor.into()])?;
                }
                // The exact product, whatever `stable_prod_grad` says: a device has no cheap look for zeros.
                EltwiseOp::Prod => {
                    let mut from: View<T> = dy;
                    for j in (0..=last).filter(|&j| j != i) {
                        let b = io.bottom.device(j)?;
                        gpu.launch::<T>(&KERNELS, "product", grid, &[n, from.into(), b.into(), dx.into()])?;
                        from = dx;
                    }
                }
                EltwiseOp::Max => {
                    let Some(from) = &self.device else { continue };
                    let from = from.view();
                    gpu.launch::<T>(
                        &KERNELS,
                        "where",
                        grid,
                        &[n, dy.into(), from.into(), dx.into(), i.into()],
                    )?;
                }
            }
        }
        Ok(())
    }
}
