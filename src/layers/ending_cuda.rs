//! What layers do behind a product of matrices on a GPU: the bias, and the steps of the layers that they do along, in one pass.

use super::{Params, Step};
use crate::device::{Gpu, Grid, Source, View};
use crate::error::Result;
use crate::layers::normalization::Channels;
use crate::math::Real;

pub(crate) static KERNELS: Source = Source { name: "ending.cu", parts: &[include_str!("ending.cu")] };

/// Whether the pass can do these steps: each at most once, in this order, over the product's own channels.
pub(crate) fn takes(tail: &[Step], mine: Channels) -> bool {
    let rank = |step: &Step| match step {
        Step::Normalise { channels, .. } if *channels == mine => Some(0),
        Step::Scale { channels, .. } if *channels == mine => Some(1),
        Step::Add => Some(2),
        Step::Relu { .. } => Some(3),
        _ => None,
    };
    tail.iter().all(|step| rank(step).is_some()) && tail.is_sorted_by(|a, b| rank(a) < rank(b))
}

/// Launches the pass over the product `y`. `bias` is the number of the layer's own bias among its parameters, of which it has `own`; those of
/// the steps come behind. `other` is what [`Step::Add`] adds. Nothing is launched where there is nothing to do.
pub(crate) fn launch<T: Real>(
    gpu: &Gpu,
    channels: Channels,
    (params, own, bias): (&Params<T>, usize, Option<usize>),
    tail: &[Step],
    other: View<T>,
    y: View<T>,
) -> Result<()> {
    if bias.is_none() && tail.is_empty() {
        return Ok(());
    }
    let none = View::NONE;
    let ([mut m, mut v, mut f], [mut s, mut b], mut added) = ([none; 3], [none; 2], none);
    let (mut epsilon, mut slope, mut next) = (0.0, 1.0, own);
    for step in tail {
        match *step {
            Step::Normalise { eps, .. } => {
                [m, v, f] = [params.device(next)?, params.device(next + 1)?, params.device(next + 2)?];
                (epsilon, next) = (eps, next + 3);
            }
            Step::Scale { bias, .. } => {
                s = params.device(next)?;
                b = if bias { params.device(next + 1)? } else { none };
                next += 1 + usize::from(bias);
            }
            Step::Add => added = other,
            Step::Relu { slope: by } => slope = by,
        }
    }
    let bias = bias.map_or(Ok(none), |bias| params.device(bias))?;
    let [n, dim, inner] = [y.len, channels.dim, channels.inner].map(Into::into);
    let [bias, m, v, f, s, b, added] = [bias, m, v, f, s, b, added].map(Into::into);
    let args = [n, dim, inner, bias, m, v, f, epsilon.into(), s, b, added, slope.into(), y.into()];
    gpu.launch::<T>(&KERNELS, "ending", Grid::Elements(y.len), &args)
}
