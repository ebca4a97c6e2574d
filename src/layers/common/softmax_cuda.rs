//! Softmax on a GPU.

use super::Softmax;
use crate::device::{Arg, Context, Gpu, Grid, Source, View};
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward};
use crate::math::{Real, softmax};

/// The kernels along one axis, which `SoftmaxWithLoss` uses too.
pub(crate) const TEXT: &str = include_str!("softmax.cu");
pub(crate) static KERNELS: Source = Source { name: "softmax.cu", parts: &[TEXT] };

/// How the vectors along an axis are shared among threads: which of three kernels, by one thread, a warp or a block for each, and how many
/// threads run it.
pub(crate) fn teams(
    kernels: [&'static str; 3],
    vectors: usize,
    along: softmax::Softmax,
) -> (&'static str, Grid) {
    let softmax::Softmax { classes, inner } = along;
    // Where vectors lie side by side, neighbouring threads read neighbouring elements of theirs. Short ones are not worth a team.
    let (kernel, team) = match (inner >= 32 || classes <= 4, classes <= 1024) {
        (true, _) => (kernels[0], 1),
        (false, true) => (kernels[1], 32),
        (false, false) => (kernels[2], 256),
    };
    (kernel, Grid::Elements(vectors * team))
}

/// Launches y = softmax x, of vectors along an axis, from the softmax text in `source`.
pub(crate) fn launch_forward<T: Real>(
    gpu: &Gpu,
    source: &'static Source,
    along: softmax::Softmax,
    x: View<T>,
    y: View<T>,
) -> Result<()> {
    let vectors = y.len / along.classes.max(1);
    let names = ["softmax_by_thread", "softmax_by_warp", "softmax_by_block"];
    let (kernel, grid) = teams(names, vectors, along);
    let args = [vectors.into(), along.classes.into(), along.inner.into(), x.into(), y.into()];
    gpu.launch::<T>(source, kernel, grid, &args)
}

/// Launches dx = y · (dy − Σ dy·y), added to dx where `add` says so.
pub(crate) fn launch_backward<T: Real>(
    gpu: &Gpu,
    source: &'static Source,
    along: softmax::Softmax,
    [y, dy, dx]: [View<T>; 3],
    add: bool,
) -> Result<()> {
    let vectors = y.len / along.classes.max(1);
    let names = ["softmax_backward_by_thread", "softmax_backward_by_warp", "softmax_backward_by_block"];
    let (kernel, grid) = teams(names, vectors, along);
    let [n, classes, inner] = [vectors, along.classes, along.inner].map(Arg::from);
    gpu.launch::<T>(source, kernel, grid, &[n, classes, inner, y.into(), dy.into(), dx.into(), add.into()])
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
