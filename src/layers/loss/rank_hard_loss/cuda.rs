//! RankHardLoss on a GPU: distances by a product, then everything else in a few kernels, with the choice that the CPU makes.

use super::RankHardLoss;
use crate::device::{Arg, Context, Gpu, Grid, Memory, Source};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward, Inputs};
use crate::math::Real;

pub(crate) static KERNELS: Source =
    Source { name: "rank_hard_loss.cu", parts: &[include_str!("rank_hard_loss.cu")] };

/// What the layer keeps on a device.
#[derive(Default)]
pub(super) struct Room<T> {
    distances: Option<Memory<T>>,
    coefficients: Option<Memory<T>>,
    /// Four words for each anchor and row: near, drawn word, drawn first, chosen.
    choice: Option<Memory<u32>>,
    /// Four numbers for each anchor: sum of its hinge terms, how many, active ones, negatives.
    sums: Option<Memory<T>>,
}

impl<T: Real> DeviceCode<T> for RankHardLoss<T> {
    /// An embedding that is not finite, or a wrong label that only the device has, makes the loss NaN; the net then asks again with the
    /// labels.
    fn check(&mut self, bottom: &Inputs<'_, T>) -> Result<()> {
        match bottom.get(1) {
            [] => Ok(()),
            labels => self.check_labels(labels, bottom.shape(1)),
        }
    }

    fn forward(&mut self, gpu: &Gpu, cx: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (x, labels, y) = (io.bottom.device(0)?, io.bottom.device(1)?, io.top.device(0)?);
        let (n, rules, count) = (self.rows, &self.rules, self.count());
        let anchors = n / rules.pair_size;
        let room = &mut self.device;
        let distances = Memory::ready(&mut room.distances, gpu, n * n)?.view();
        let coefficients = Memory::ready(&mut room.coefficients, gpu, n * n)?.view();
        let choice = Memory::ready(&mut room.choice, gpu, 4 * anchors * n)?.view();
        let sums = Memory::ready(&mut room.sums, gpu, 4 * anchors)?.view();
        gpu.gemm([false, true], [n, n, x.len / n], -T::one(), x, x, T::zero(), distances)?;
        let margin: Arg = rules.margin.as_f64().into();
        let [rows, group, neg_num, hard] = [n, rules.pair_size, rules.neg_num, rules.hard].map(Arg::from);
        let [d, t, c, s] = [distances.into(), labels.into(), choice.into(), sums.into()];
        let [key, key_high] = [cx.seed as u32, (cx.seed >> 32) as u32].map(Arg::from);
        let pass = cx.pass_on_device.into();
        let layer = (cx.layer & 0x00ff_ffff).into();
        let random = rules.random.into();
        gpu.launch::<T>(
            &KERNELS,
            "choose",
            Grid::Rows(anchors),
            &[rows, group, neg_num, hard, random, margin, d, t, c, s, layer, pass, key, key_high],
        )?;
        let args = [rows, group, margin, d, c, s, coefficients.into()];
        gpu.launch::<T>(&KERNELS, "coefficients", Grid::Elements(n * n), &args)?;
        let share: Arg = if io.top.len() > 1 { io.top.device(1)?.into() } else { Arg::At(0) };
        let args = [rows, group, d, t, s, (1.0 / count).into(), y.into(), share];
        gpu.launch::<T>(&KERNELS, "add_up", Grid::Rows(1), &args)
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if !io.propagate[0] {
            return Ok(());
        }
        let dx = io.bottom_diff.device(0)?;
        let (Some(coefficients), true) = (&self.device.coefficients, io.live[0]) else {
            return gpu.fill(dx, dx.len, T::zero()); // only the share of active triplets is asked for
        };
        let (x, n) = (io.bottom.device(0)?, self.rows);
        let scale = T::from_f64(1.0 / self.count());
        gpu.gemm([false; 2], [n, x.len / n, n], scale, coefficients.view(), x, T::zero(), dx)?;
        let args = [dx.len.into(), io.top_diff.device(0)?.into(), dx.into()];
        gpu.launch::<T>(&KERNELS, "times", Grid::Elements(dx.len), &args)
    }
}
