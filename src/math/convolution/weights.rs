//! Gradient of the weights.

use super::Convolution;
use super::operands::ChannelRows;
use super::windows::Rows;
use crate::math::Real;
use crate::math::gemm::Ending;
use crate::math::gemm::product::{Output, Product};
use crate::math::gemm::{Side, Strips};
use crate::math::parallel::for_each_chunk;
use crate::math::scratch::scratch;
use crate::math::simd;
use std::ops::Range;

/// Multiply-adds that are worth a thread.
const GRAIN: usize = 1 << 18;
/// Partial sums at most.
const PARTS: usize = 32;
/// Least pixels of a plane for which images are summed one after another, each with a pass over the gradient.
const LONG: usize = 128;

/// `dw += dy * x` for images that are turned into blocks, some at a time; says whether that is the way.
pub(super) fn turned<T: Real>(plan: &Convolution, x: &[T], dy: &[T], dw: &mut [T]) -> bool {
    let g = &plan.geometry;
    let Some(tiles) = &plan.winograd.turned else { return false };
    let (channels, outputs) = (g.channels / g.groups, g.num_output / g.groups);
    for (group, dw) in dw.chunks_exact_mut(outputs * plan.depth()).enumerate() {
        let (x, dy) = (plan.images(x, group), plan.gradients(dy, group));
        tiles.weights_turned(simd::kernels(plan.isa), [channels, outputs], &x, &dy, dw);
    }
    true
}

/// `dw += dy * x` for slices of the right lengths.
pub(super) fn backward<T: Real>(plan: &Convolution, x: &[T], dy: &[T], dw: &mut [T]) {
    let g = &plan.geometry;
    let (outputs, depth) = (g.num_output / g.groups, plan.depth());
    let size = outputs * depth;
    for group in 0..g.groups {
        let dw = &mut dw[group * size..][..size];
        let dy = dy.get(group * outputs * plan.windows.pixels..).unwrap_or_default();
        let x = plan.group_of(x, group);
        let parts = parts(plan);
        if plan.windows.are_planes() && plan.windows.pixels >= LONG {
            images(plan, x, dy, dw);
        } else if parts == 1 {
            samples(plan, 0..g.batch, x, dy, T::one(), dw);
        } else {
            sums(plan, g.batch.div_ceil(parts), x, dy, dw);
        }
    }
}

/// Windows of one element: channels of both sides are rows of pixels, of which only the smaller side is packed.
fn images<T: Real>(plan: &Convolution, x: &[T], dy: &[T], dw: &mut [T]) {
    let (g, pixels) = (&plan.geometry, plan.windows.pixels);
    let (outputs, channels) = (g.num_output / g.groups, g.channels / g.groups);
    for image in 0..g.batch {
        let dy = &dy[image * g.num_output * pixels..][..outputs * pixels];
        let x = &x[image * g.channels * pixels..][..channels * pixels];
        let dy = Side { data: dy, len: outputs, step: pixels, k_step: 1 };
        let x = Side { data: x, len: channels, step: pixels, k_step: 1 };
        Strips::choose(simd::kernels(plan.isa), pixels, dy, x, T::one(), T::one()).run(dw);
    }
}

/// Sums over blocks of `each` samples, each on its own, then added in order.
fn sums<T: Real>(plan: &Convolution, each: usize, x: &[T], dy: &[T], dw: &mut [T]) {
    let (batch, size) = (plan.geometry.batch, dw.len());
    scratch(batch.div_ceil(each) * size, |sums: &mut [T]| {
        for_each_chunk(sums, size, |offset, sum| {
            let first = offset / size * each;
            samples(plan, first..(first + each).min(batch), x, dy, T::zero(), sum);
        });
        let sums = &*sums;
        for_each_chunk(
            dw,
            1 << 12,
            #[inline(always)]
            |offset, dw| {
                for sum in sums.chunks_exact(size) {
                    dw.iter_mut().zip(&sum[offset..]).for_each(|(dw, &sum)| *dw += sum);
                }
            },
        );
    });
}

/// The sum over some samples.
fn samples<T: Real>(plan: &Convolution, samples: Range<usize>, x: &[T], dy: &[T], beta: T, dw: &mut [T]) {
    let (g, pixels) = (&plan.geometry, plan.windows.pixels);
    let (outputs, depth) = (g.num_output / g.groups, plan.depth());
    let image = g.num_output * pixels;
    let a = ChannelRows { data: dy.get(samples.start * image..).unwrap_or_default(), image, pixels };
    let x = x.get(samples.start * g.channels * plan.windows.plane()..).unwrap_or_default();
    let b = Rows { windows: &plan.windows, x };
    let product = Product {
        kernels: simd::kernels(plan.isa),
        m: outputs,
        n: depth,
        k: samples.len() * pixels,
        k_unit: pixels,
        k_image: pixels,
        a: &a,
        b: &b,
        beta,
        end: Ending::none(),
    };
    product.run(&Output::matrix(dw, outputs, depth));
}

/// In how many parts the gradient is summed: one if its columns give work enough for many threads.
fn parts(plan: &Convolution) -> usize {
    let g = &plan.geometry;
    let columns = plan.depth().div_ceil(64);
    if columns >= 8 {
        return 1;
    }
    let work = plan.multiply_adds() / g.groups / GRAIN;
    g.batch.min(PARTS / columns).min(work).max(1)
}
