//! ContrastiveLoss on a GPU.

use super::{ContrastiveLoss, NEAR, label};
use crate::device::{Arg, Context, Gpu, Grid, Memory, Source};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward, Inputs};
use crate::math::Real;

pub(crate) static KERNELS: Source =
    Source { name: "contrastive_loss.cu", parts: &[include_str!("contrastive_loss.cu")] };

impl<T: Real> DeviceCode<T> for ContrastiveLoss<T> {
    /// Of marks that only the device has, a wrong one makes the loss NaN, and the net asks again with the marks.
    fn check(&mut self, bottom: &Inputs<'_, T>) -> Result<()> {
        let marks = bottom.get(2);
        match marks.iter().position(|v| label::integer(*v).is_none()) {
            None => Ok(()),
            Some(i) => Err(label::not_an_integer(marks[i], i, bottom.shape(2)).in_field("bottom[2]")),
        }
    }

    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (a, b, similar, y) =
            (io.bottom.device(0)?, io.bottom.device(1)?, io.bottom.device(2)?, io.top.device(0)?);
        let [difference, factor, term] = &mut self.device;
        let difference = Memory::ready(difference, gpu, a.len)?.view();
        let factor = Memory::ready(factor, gpu, self.batch)?.view();
        let term = Memory::ready(term, gpu, self.batch)?.view();
        let numbers = [self.margin, NEAR].map(Arg::from);
        let views = [a, b, similar, difference, factor, term].map(Arg::from);
        let [size, legacy] = [(a.len / self.batch).into(), self.legacy.into()];
        let [p, q, r, s, t, u] = views;
        gpu.launch::<T>(
            &KERNELS,
            "pairs",
            Grid::Rows(self.batch),
            &[size, legacy, numbers[0], numbers[1], p, q, r, s, t, u],
        )?;
        let scale = 0.5 / self.batch as f64;
        gpu.launch::<T>(&KERNELS, "add_up", Grid::Rows(1), &[self.batch.into(), u, scale.into(), y.into()])
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let [Some(difference), Some(factor), _] = &self.device else { return Ok(()) };
        for (i, sign) in [1.0, -1.0].into_iter().enumerate().filter(|&(i, _)| io.propagate[i]) {
            let (dy, dx) = (io.top_diff.device(0)?, io.bottom_diff.device(i)?);
            let [n, size] = [dx.len, dx.len / self.batch].map(Arg::from);
            let scale = (sign / self.batch as f64).into();
            let args = [n, size, difference.view().into(), factor.view().into(), dy.into(), scale, dx.into()];
            gpu.launch::<T>(&KERNELS, "gradient", Grid::Elements(dx.len), &args)?;
        }
        Ok(())
    }
}
