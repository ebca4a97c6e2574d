//! The same where the channels of a pixel lie side by side: a tap is a vector of weights, one for each channel of a block.
//!
//! Pixels that read the same taps at equal distances are computed some at a time, in registers; those at the border read fewer taps.

use crate::math::Real;
use crate::math::gemm::Ending;
use crate::math::parallel::for_each_chunk;
use crate::math::scratch::scratch;
use crate::math::simd::{Kernels, PixelDots, PixelLine, Series};

/// Multiply-adds of a task.
const GRAIN: usize = 1 << 17;
/// Tasks that a gradient of weights is cut into if there are images enough.
const TASKS: usize = 32;

/// What the pixels of one image read of another through the taps.
#[derive(Debug)]
pub(super) struct Walk {
    to: [usize; 2],
    from: [usize; 2],
    taps: usize,
    /// For each row that is written where the rows of taps that count begin: in the weights, and in the image that is read.
    rows: Vec<Vec<[usize; 2]>>,
    columns: Vec<Series>,
}

impl Walk {
    /// `place` says where on an axis the tap `k` of a pixel reads, if in the image; every `step`th pixel reads `from_step` further on.
    pub(super) fn new(
        to: [usize; 2],
        from: [usize; 2],
        kernel: [usize; 2],
        [step, from_step]: [[usize; 2]; 2],
        place: impl Fn(usize, usize, usize) -> Option<usize>,
    ) -> Walk {
        let reads = |axis: usize, pixel: usize| -> Vec<[usize; 2]> {
            let inside = |k: usize| place(axis, pixel, k).filter(|&at| at < from[axis]);
            (0..kernel[axis]).filter_map(|k| inside(k).map(|at| [k, at])).collect()
        };
        let columns = Series::list(to[1], step[1], from_step[1], |pixel| reads(1, pixel));
        let begin = |[k, at]: [usize; 2]| [k * kernel[1], at * from[1]];
        let rows = (0..to[0]).map(|row| reads(0, row).into_iter().map(begin).collect()).collect();
        Walk { to, from, taps: kernel[0] * kernel[1], rows, columns }
    }

    /// `to = end(w * from)` for batches in blocks, so many to an image; weights lie as an image of the taps.
    pub(super) fn run<T: Real>(
        &self,
        kernels: &Kernels<T>,
        blocks: usize,
        from: &[T],
        weights: &[T],
        end: &Ending<T>,
        to: &mut [T],
    ) {
        let lanes = kernels.lanes();
        let (height, width, plane) = (self.to[0], self.to[1] * lanes, self.from[0] * self.from[1] * lanes);
        let rows = (GRAIN / (width * self.taps)).max(1);
        for_each_chunk(to, rows * width, |at, to| {
            for (i, to) in to.chunks_exact_mut(width).enumerate() {
                let row = at / width + i;
                let (image, row) = (row / height, row % height);
                let block = image % blocks;
                let channels = block * lanes..(block + 1) * lanes;
                kernels.pixel_line(PixelLine {
                    rows: &self.rows[row],
                    series: &self.columns,
                    weights: &weights[block * self.taps * lanes..][..self.taps * lanes],
                    from: &from[image * plane..][..plane],
                    scale: end.scale.map(|scale| &scale[channels.clone()]),
                    bias: end.bias.map(|bias| &bias[channels]),
                    other: end.other.map(|other| &other[at + i * width..][..width]),
                    floor: end.floor,
                    to,
                });
            }
        });
    }

    /// `dw += Σ dy * x` for batches in blocks, so many to an image; weights lie as an image of the taps.
    pub(super) fn weights<T: Real>(
        &self,
        kernels: &Kernels<T>,
        blocks: usize,
        x: &[T],
        dy: &[T],
        dw: &mut [T],
    ) {
        let lanes = kernels.lanes();
        let (plane, pixels) = (self.from[0] * self.from[1] * lanes, self.to[0] * self.to[1] * lanes);
        let (images, block) = (dy.len() / (blocks * pixels).max(1), self.taps * lanes);
        let parts = TASKS.div_ceil(blocks).min(images).max(1);
        scratch(parts * blocks * block, |sums: &mut [T]| {
            for_each_chunk(sums, block, |at, sums| {
                let (part, block) = (at / block / blocks, at / block % blocks);
                sums.fill(T::zero());
                for image in images * part / parts..images * (part + 1) / parts {
                    let nth = image * blocks + block;
                    kernels.pixel_dots(PixelDots {
                        rows: &self.rows,
                        series: &self.columns,
                        x: &x[nth * plane..][..plane],
                        dy: &dy[nth * pixels..][..pixels],
                        width: self.to[1],
                        sums,
                    });
                }
            });
            // The parts one after another.
            for sums in sums.chunks_exact(blocks * block) {
                dw.iter_mut().zip(sums).for_each(|(dw, &sum)| *dw += sum);
            }
        });
    }
}
