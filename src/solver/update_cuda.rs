//! Update rules on a GPU: one launch for each parameter regularises, keeps the history and applies.

use super::Step;
use crate::blob::Buffer;
use crate::device::{Gpu, Grid, Source, View};
use crate::error::Result;
use crate::math::Real;

pub(super) static SGD: Source = Source { name: "sgd.cu", parts: &[include_str!("sgd.cu")] };

pub(super) fn sgd<T: Real>(
    gpu: &Gpu,
    momentum: T,
    step: &Step<T>,
    data: View<T>,
    diff: View<T>,
    history: &mut [Buffer<T>],
) -> Result<()> {
    let Some(history) = history.first_mut() else { return Ok(()) };
    let numbers = [momentum, step.rate, step.scale, step.l1, step.l2].map(|v| v.as_f64().into());
    let [a, b, c, d, e] = numbers;
    let views = [data.into(), diff.into(), history.on_device_mut()?.into()];
    let args = [data.len.into(), views[0], views[1], views[2], a, b, c, d, e];
    gpu.launch::<T>(&SGD, "sgd", Grid::Elements(data.len), &args)
}
