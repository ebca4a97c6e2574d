//! Update rules on a GPU: one launch for each parameter regularises, keeps the history and applies.

use super::Step;
use crate::blob::Buffer;
use crate::device::{DeviceMemory, Gpu, Grid, Memory, Source, View};
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

pub(super) static NORM: Source =
    Source { name: "norm_of_gradients.cu", parts: &[include_str!("norm_of_gradients.cu")] };

/// Blocks that share a parameter.
const PARTS: usize = 64;

/// Room for the sums of squares of all gradients.
pub(in crate::solver) struct Squares<T> {
    device: Option<Memory<T>>,
    host: Vec<T>,
}

impl<T: Real> Squares<T> {
    /// No room yet.
    pub fn new() -> Squares<T> {
        Squares { device: None, host: Vec::new() }
    }

    /// The sum of the squares of all values: one transfer of a few numbers for each gradient.
    pub fn sum(&mut self, gpu: &Gpu, gradients: &[View<T>]) -> Result<f64> {
        let len = PARTS * gradients.len();
        let sums = Memory::ready(&mut self.device, gpu, len)?;
        for (i, gradient) in gradients.iter().enumerate() {
            let args = [gradient.len.into(), (*gradient).into(), sums.view().from(i * PARTS).into()];
            gpu.launch::<T>(&NORM, "squares", Grid::Rows(PARTS), &args)?;
        }
        self.host.resize(len, T::zero());
        sums.download(&mut self.host)?;
        Ok(self.host.iter().map(|v| v.as_f64()).sum())
    }
}
