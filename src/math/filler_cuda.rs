//! The fillers on a GPU.

use super::{Recipe, bilinear_factors};
use crate::device::{Arg, Gpu, Grid, Source, View};
use crate::error::Result;
use crate::math::{Real, Stream};
use crate::proto::caffe::FillerParameter;

static KERNELS: Source = Source { name: "filler.cu", parts: &[include_str!("filler.cu")] };

/// The kernels of this floor, for tests that compile every one of them.
pub fn kernels() -> Vec<&'static Source> {
    vec![&KERNELS]
}

/// [`fill`](super::fill) on a device: the same words of the same stream, and by the same arithmetic the same bits, but for `positive_unitball`,
/// whose sums are added in another order (always the same).
///
/// `pass` is where the kernels find the pass of the stream; the one that `stream` names does not count, so that a graph may hold the launches.
///
/// Errors: those of [`fill`](super::fill); what the device says.
pub fn fill_on_device<T: Real>(
    gpu: &Gpu,
    param: &FillerParameter,
    shape: &[usize],
    stream: &mut Stream,
    pass: View<u64>,
    out: View<T>,
) -> Result<()> {
    let n = out.len;
    let recipe = Recipe::new(param, shape, n)?;
    let [layer, low, high] = stream.names();
    let common: [Arg; 6] = [n.into(), out.into(), layer.into(), pass.into(), low.into(), high.into()];
    let launch = |kernel, grid, own: &[Arg]| {
        let mut args = [Arg::Int(0); 11];
        args[..6].copy_from_slice(&common);
        args[6..6 + own.len()].copy_from_slice(own);
        gpu.launch::<T>(&KERNELS, kernel, grid, &args[..6 + own.len()])
    };
    // The first block of the words that are set aside for a fill. Its number wraps, as it does in the counter.
    let mut block = || Arg::Word((stream.reserve(n as u64) / 4) as u32);
    let four = Grid::Elements(n.div_ceil(4));
    match recipe {
        Recipe::Constant(value) => gpu.fill(out, n, T::from_f64(value)),
        Recipe::Uniform { min, max } => {
            launch("fill_uniform", four, &[block(), Arg::Double(min), Arg::Double(max - min)])
        }
        Recipe::Gaussian { mean, std, keep: None } => {
            launch("fill_gaussian", four, &[block(), Arg::Double(mean), Arg::Double(std)])
        }
        Recipe::Gaussian { mean, std, keep: Some(keep) } => {
            let (first, kept) = (block(), block());
            let own = [first, Arg::Double(mean), Arg::Double(std), kept, Arg::Double(keep)];
            launch("fill_sparse_gaussian", four, &own)
        }
        Recipe::PositiveUnitball { row } => {
            launch("fill_positive_unitball", Grid::Rows(n / row), &[block(), row.into()])
        }
        Recipe::Bilinear { size } => {
            let [f, c] = bilinear_factors(size);
            let args = [n.into(), out.into(), size.into(), Arg::Double(f), Arg::Double(c)];
            gpu.launch::<T>(&KERNELS, "fill_bilinear", Grid::Elements(n), &args)
        }
    }
}
