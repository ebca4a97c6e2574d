//! Stand-in until the engine lands.
#![allow(missing_docs)]
use super::Real;
use crate::error::{Error, Kind, Result};
#[derive(Clone, Debug, PartialEq)]
pub struct Geometry {
    pub batch: usize,
    pub groups: usize,
    pub channels: usize,
    pub num_output: usize,
    pub input: Vec<usize>,
    pub kernel: Vec<usize>,
    pub pad: Vec<usize>,
    pub stride: Vec<usize>,
    pub dilation: Vec<usize>,
}
pub struct Convolution {
    g: Geometry,
    out: Vec<usize>,
}
impl Convolution {
    pub fn new(g: &Geometry) -> Result<Self> {
        let mut out = Vec::new();
        for i in 0..g.input.len() {
            let k = g.dilation[i] * (g.kernel[i] - 1) + 1;
            let size = g.input[i] + 2 * g.pad[i];
            if size < k {
                return Err(Error::new(Kind::Shape, "the kernel is larger than the padded input"));
            }
            out.push((size - k) / g.stride[i] + 1);
        }
        Ok(Convolution { g: g.clone(), out })
    }
    pub fn output(&self) -> &[usize] {
        &self.out
    }
    /// Calls f(x index, w index, y index) for every product.
    fn each(&self, mut f: impl FnMut(usize, usize, usize)) {
        let g = &self.g;
        let (n_out, n_k, n_in): (usize, usize, usize) =
            (self.out.iter().product(), g.kernel.iter().product(), g.input.iter().product());
        let (ci, co) = (g.channels / g.groups, g.num_output / g.groups);
        for n in 0..g.batch {
            for o in 0..g.num_output {
                let grp = o / co;
                for c in 0..ci {
                    for k in 0..n_k {
                        for p in 0..n_out {
                            let (mut kk, mut pp, mut x, mut step, mut inside) = (k, p, 0, 1, true);
                            for d in (0..self.out.len()).rev() {
                                let at =
                                    (pp % self.out[d]) * g.stride[d] + (kk % g.kernel[d]) * g.dilation[d];
                                pp /= self.out[d];
                                kk /= g.kernel[d];
                                if at < g.pad[d] || at - g.pad[d] >= g.input[d] {
                                    inside = false;
                                    break;
                                }
                                x += (at - g.pad[d]) * step;
                                step *= g.input[d];
                            }
                            if inside {
                                f(
                                    (n * g.channels + grp * ci + c) * n_in + x,
                                    (o * ci + c) * n_k + k,
                                    (n * g.num_output + o) * n_out + p,
                                )
                            }
                        }
                    }
                }
            }
        }
    }
    pub fn forward<T: Real>(&self, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
        let n_out: usize = self.out.iter().product();
        for (i, y) in y.iter_mut().enumerate() {
            *y = bias.map_or(T::zero(), |b| b[i / n_out % self.g.num_output])
        }
        self.each(|i, j, k| y[k] += x[i] * w[j]);
    }
    pub fn backward_data<T: Real>(&self, w: &[T], dy: &[T], dx: &mut [T]) {
        dx.fill(T::zero());
        self.each(|i, j, k| dx[i] += dy[k] * w[j]);
    }
    pub fn backward_weights<T: Real>(&self, x: &[T], dy: &[T], dw: &mut [T]) {
        self.each(|i, j, k| dw[j] += dy[k] * x[i]);
    }
    pub fn backward_bias<T: Real>(&self, dy: &[T], db: &mut [T]) {
        let n_out: usize = self.out.iter().product();
        for (i, &d) in dy.iter().enumerate() {
            db[i / n_out % self.g.num_output] += d
        }
    }
}
