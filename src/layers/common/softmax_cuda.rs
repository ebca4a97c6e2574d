//! Softmax on a GPU.

use super::Softmax;
use crate::device::{Arg, Context, Gpu, Grid, Source, View};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward};
use crate::math::{Real, softmax};

/// The kernels along one axis, which `SoftmaxWithLoss` uses too.
pub(crate) const TEXT: &str = include_str!("softmax.cu");
pub(crate) static KERNELS: Source = Source { name: "softmax.cu", parts: &[TEXT] };

/// Launches y = softmax x, of so many vectors along an axis, from the softmax text in `source`.
pub(crate) fn launch_forward<T: Real>(
    gpu: &Gpu,
    source: &'static Source,
    softmax::Softmax { classes, inner }: softmax::Softmax,
    x: View<T>,
    y: View<T>,
) -> Result<()> {
    let vectors = y.len / classes.max(1);
    let args = [vectors.into(), classes.into(), inner.into(), x.into(), y.into()];
    // Long vectors that lie in one piece have a block of threads each, others one thread.
    match inner == 1 && classes >= 64 {
        true => gpu.launch::<T>(source, "softmax_rows", Grid::Rows(vectors), &args),
        false => gpu.launch::<T>(source, "softmax_columns", Grid::Elements(vectors), &args),
    }
}

/// Launches dx = y · (dy − Σ dy·y), added to dx where `add` says so.
pub(crate) fn launch_backward<T: Real>(
    gpu: &Gpu,
    source: &'static Source,
    softmax::Softmax { classes, inner }: softmax::Softmax,
    [y, dy, dx]: [View<T>; 3],
    add: bool,
) -> Result<()> {
    let vectors = y.len / classes.max(1);
    let counts = [vectors, classes, inner].map(Arg::from);
    let args = [counts[0], counts[1], counts[2], y.into(), dy.into(), dx.into(), add.into()];
    gpu.launch::<T>(source, "softmax_backward", Grid::Elements(vectors), &args)
}

impl<T: Real> DeviceCode<T> for Softmax {
    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (x, y) = io.on_device()?;
        launch_forward(gpu, &KERNELS, self.along, x, y)
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if !io.propagate[0] {
            return Ok(());
        }
        let (dy, dx) = io.diffs_on_device()?;
        launch_backward(gpu, &KERNELS, self.along, [io.top.device(0)?, dy, dx], false)
    }
}
