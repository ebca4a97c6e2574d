//! Gradient of the bottom.

use super::direct::{Batch, Direct};
use super::operands::{PixelColumns, Turned};
use super::windows::{Columns, Windows};
use super::{Convolution, Geometry, spread};
use crate::math::Real;
use crate::math::gemm::Ending;
use crate::math::gemm::pack::Matrix;
use crate::math::gemm::product::{Output, Product};
use crate::math::parallel::for_each_chunk;
use crate::math::scratch::scratch;
use crate::math::simd::{self, Fold, Kernels};

/// How the gradient of the bottom is computed.
#[derive(Debug)]
pub(super) enum DataForm {
    /// As a convolution of the top's gradient with the turned weights: for stride 1.
    Gather(Box<Gather>),
    /// As tiles of products that are added into place, for outputs whose planes lie there.
    Spread(Vec<usize>),
    /// As a product that gives windows, which are added into place.
    Scatter,
}

/// Windows of the top's gradient.
#[derive(Debug)]
pub(super) struct Gather {
    pub windows: Windows,
    /// Set where they can be read where they lie.
    pub direct: Option<Direct>,
}

/// Rows of the window matrix that are computed and put into place together.
const ROWS: usize = 128;
/// Elements of the window matrix computed at once.
const BLOCK: usize = 1 << 15;
/// Offsets of taps that are added into a line together differ by this at most.
const NEAR: usize = 15;

impl DataForm {
    pub(super) fn choose(g: &Geometry, output: &[usize], windows: &Windows) -> DataForm {
        let pad: Option<Vec<usize>> =
            (0..output.len()).map(|i| ((g.kernel[i] - 1) * g.dilation[i]).checked_sub(g.pad[i])).collect();
        match pad {
            // A gather computes as many products per pixel of the bottom as a scatter per pixel of the top, and
            // needs enough channels to pay for packing.
            Some(pad)
                if g.stride.iter().all(|&s| s == 1)
                    && g.channels / g.groups >= 8
                    && windows.plane() * 4 <= windows.pixels * 5 =>
            {
                let turned = Geometry {
                    channels: g.num_output,
                    num_output: g.channels,
                    input: output.to_vec(),
                    pad,
                    ..g.clone()
                };
                let t = &turned;
                let windows =
                    Windows::new(t.channels, &t.input, &g.input, &t.kernel, &t.pad, &t.stride, &t.dilation);
                let depth = g.num_output / g.groups * windows.taps.len();
                let direct = Direct::suited(t, &g.input)
                    .filter(|direct| direct.saves_time(&windows, depth, g.channels / g.groups).is_some());
                DataForm::Gather(Box::new(Gather { windows, direct }))
            }
            _ if spread::suits(g, windows) => DataForm::Spread(spread::planes(g, windows)),
            _ => DataForm::Scatter,
        }
    }
}

/// `dx = wᵀ * dy` for slices of the right lengths.
pub(super) fn backward<T: Real>(plan: &Convolution, w: &[T], dy: &[T], dx: &mut [T]) {
    match &plan.data {
        DataForm::Gather(form) => gather(plan, form, w, dy, dx),
        DataForm::Spread(planes) => spread::spread(plan, planes, w, dy, dx),
        DataForm::Scatter => scatter(plan, w, dy, dx),
    }
}

fn gather<T: Real>(plan: &Convolution, form: &Gather, w: &[T], dy: &[T], dx: &mut [T]) {
    let (g, windows) = (&plan.geometry, &form.windows);
    let (channels, outputs) = (g.channels / g.groups, g.num_output / g.groups);
    let (taps, size, plane) = (windows.taps.len(), outputs * plan.depth(), plan.windows.plane());
    for group in 0..g.groups {
        let a = Turned { weights: &w[group * size..][..size], channels, taps };
        let x = dy.get(group * outputs * windows.plane()..).unwrap_or_default();
        if let Some(direct) = &form.direct {
            let (kernels, image) = (simd::kernels(plan.isa), g.num_output * windows.plane());
            let x = Batch { data: x, image, samples: g.batch, channels: outputs };
            let dx = &mut dx[group * channels * plane..];
            direct.convolve(kernels, windows, &a, channels, &x, &Ending::none(), dx, g.channels * plane);
            continue;
        }
        let b = Columns { windows, x };
        let product = Product {
            kernels: simd::kernels(plan.isa),
            m: channels,
            n: g.batch * plane,
            k: outputs * taps,
            k_unit: taps,
            k_image: outputs * taps,
            a: &a,
            b: &b,
            beta: T::zero(),
            end: Ending::none(),
        };
        let dx = dx.get_mut(group * channels * plane..).unwrap_or_default();
        product.run(&Output::images(dx, channels, g.batch * plane, plane, plane, g.channels * plane));
    }
}

fn scatter<T: Real>(plan: &Convolution, w: &[T], dy: &[T], dx: &mut [T]) {
    let (g, windows) = (&plan.geometry, &plan.windows);
    let (channels, outputs) = (g.channels / g.groups, g.num_output / g.groups);
    let (taps, depth, pixels, plane) = (windows.taps.len(), plan.depth(), windows.pixels, windows.plane());
    // Some whole channels at a time, and several samples where they are small.
    let some = channels.div_ceil(channels.div_ceil(ROWS.div_ceil(taps)));
    let columns = (BLOCK / (some * taps)).max(32);
    let samples = (columns / pixels).max(1);
    let columns = match pixels <= columns {
        true => samples * pixels,
        // Whole lines, in equal blocks.
        false => {
            let lines = pixels / windows.line;
            let blocks = lines.div_ceil((columns / windows.line).max(1));
            lines.div_ceil(blocks) * windows.line
        }
    };
    let kernels = simd::kernels(plan.isa);
    let image = g.channels * plane;
    for group in 0..g.groups {
        let w = &w[group * outputs * depth..][..outputs * depth];
        let product =
            |first: usize, rows: usize, n: usize, pixel: usize, run: &mut dyn FnMut(&Part<'_, T>)| {
                let a = Matrix { data: &w[first * taps..], lane_step: 1, k_step: depth, scale: T::one() };
                let data = dy.get(group * outputs * pixels..).unwrap_or_default();
                let b = PixelColumns { data, image: g.num_output * pixels, pixels, first: pixel };
                run(&Product {
                    kernels: simd::kernels(plan.isa),
                    m: rows,
                    n,
                    k: outputs,
                    k_unit: 1,
                    k_image: outputs,
                    a: &a,
                    b: &b,
                    beta: T::zero(),
                    end: Ending::none(),
                });
            };
        scratch(outputs * depth, |packed: &mut [T]| {
            for_each_chunk(packed, some * taps * outputs, |offset, packed| {
                let rows = packed.len() / outputs;
                product(offset / (taps * outputs), rows, columns, 0, &mut |p| {
                    let blocks = p.blocks(columns);
                    p.pack_a(&blocks, &(0..rows), &blocks.all(), packed);
                });
            });
            let packed = &*packed;
            for_each_chunk(dx, samples * image, |offset, dx| {
                let (sample, count) = (offset / image, dx.len() / image);
                // Channels first.. of the group, for `count` samples from `sample` on; `dx` starts at the first of
                // these channels in the first sample, and samples are `image` apart.
                let channels_of = |first: usize, n: usize, dx: &mut [T]| {
                    let rows = n * taps;
                    let packed = &packed[first * taps * outputs..][..rows * outputs];
                    scratch(rows * columns + windows.padded_plane() * n * count, |buffer: &mut [T]| {
                        let (buffer, padded) = buffer.split_at_mut(rows * columns);
                        padded.fill(T::zero());
                        for pixel in (0..count * pixels).step_by(columns) {
                            let len = columns.min(count * pixels - pixel);
                            product(first, rows, len, sample * pixels + pixel, &mut |p| {
                                let blocks = p.blocks(len).whole();
                                let c = Output::matrix(&mut buffer[..rows * len], rows, len);
                                p.piece(&blocks, &(0..rows), &blocks.all(), 0..len, packed, &c);
                            });
                            put(kernels, windows, &buffer[..rows * len], pixel, len, n, padded);
                        }
                        for (i, padded) in padded.chunks_exact(windows.padded_plane()).enumerate() {
                            windows.unpad(padded, &mut dx[i / n * image + i % n * plane..][..plane]);
                        }
                    });
                };
                let dx = &mut dx[group * channels * plane..];
                if count == 1 {
                    for_each_chunk(&mut dx[..channels * plane], some * plane, |offset, dx| {
                        channels_of(offset / plane, dx.len() / plane, dx);
                    });
                } else {
                    for first in (0..channels).step_by(some) {
                        channels_of(first, some.min(channels - first), &mut dx[first * plane..]);
                    }
                }
            });
        });
    }
}

type Part<'a, T> = Product<'a, T, Matrix<'a, T>, PixelColumns<'a, T>>;

/// Adds columns `pixel..pixel + len` of the window matrix (`n` channels × taps rows) into padded planes, those of a
/// sample one after another.
fn put<T: Real>(
    kernels: &Kernels<T>,
    w: &Windows,
    columns: &[T],
    pixel: usize,
    len: usize,
    n: usize,
    padded: &mut [T],
) {
    let (taps, plane) = (w.taps.len(), w.padded_plane());
    let mut at = 0;
    while at < len {
        // Whole lines of one sample.
        let (sample, p) = ((pixel + at) / w.pixels, (pixel + at) % w.pixels);
        let here = (w.pixels - p).min(len - at);
        let lines = p / w.line..(p + here) / w.line;
        for (row, taps_row) in w.taps.chunks_exact(w.taps_line).enumerate() {
            // Taps of a row that are near each other: all of them, or those of a phase.
            let mut first = 0;
            while first < taps_row.len() {
                let base = taps_row[first];
                let near = taps_row[first..]
                    .iter()
                    .take_while(|&&t| t.checked_sub(base).is_some_and(|d| d <= NEAR))
                    .count();
                let mut shifts = [0; NEAR + 1];
                let shifts = &mut shifts[..near];
                shifts.iter_mut().zip(&taps_row[first..]).for_each(|(s, &t)| *s = t - base);
                let fold = Fold {
                    windows: columns,
                    from: (row * w.taps_line + first) * len + at,
                    rows: taps * len,
                    row: len,
                    line: w.line,
                    planes: n,
                    image: std::ptr::null_mut(),
                    to: sample * n * plane + base,
                    plane,
                    starts: &w.starts[lines.clone()],
                    shifts,
                };
                kernels.fold(&fold, padded);
                first += near;
            }
        }
        at += here;
    }
}
