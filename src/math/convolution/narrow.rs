//! Convolutions of few channels, which lie in planes, to tops in blocks: those of the first layers.
//!
//! Windows are read where they lie in padded planes, one number for a vector of outputs; nothing is packed or turned.

use super::direct::{Direct, Gradient};
use super::prepared::{order, panels};
use super::{Convolution, Geometry};
use crate::math::Real;
use crate::math::gemm::Ending;
use crate::math::gemm::pack::{Matrix, Split};
use crate::math::layout::{Layout, Layouts, to_blocks, to_planes};
use crate::math::parallel::for_each_index;
use crate::math::scratch::scratch;
use crate::math::shared::Shared;
use crate::math::simd::{self, Kernels, Narrow};

/// Most channels.
const FEW: usize = 12;

/// The way that such a convolution goes, if it is one.
pub(super) fn suited(g: &Geometry, output: &[usize]) -> Option<Direct> {
    Direct::suited(g, output).filter(|_| g.groups == 1 && g.channels <= FEW)
}

/// Whether channels are such that the bottom can only lie in planes and the top in blocks.
pub(super) fn fits<T: Real>(plan: &Convolution) -> bool {
    let (g, lanes) = (&plan.geometry, simd::kernels::<T>(plan.isa).lanes());
    !g.channels.is_multiple_of(lanes) && g.num_output.is_multiple_of(lanes) && plan.top_len() > 0
}

/// As [`Convolution::forward_laid`].
pub(super) fn forward<T: Real>(
    plan: &Convolution,
    direct: &Direct,
    x: &[T],
    w: &[T],
    layouts: Layouts,
    end: &Ending<T>,
    y: &mut [T],
) {
    if layouts.top == Layout::Blocks && end.other.is_none() {
        return convolve(plan, direct, x, w, end, y);
    }
    // A sum behind a first layer: by the way of planes.
    let kernels = simd::kernels::<T>(plan.isa);
    let sizes = [plan.geometry.num_output, plan.windows.pixels];
    let other = end.other.map(|other| &other[..y.len()]);
    let room = |layout: Layout| if layout == Layout::Blocks { y.len() } else { 0 };
    let rooms = [other.map_or(0, |_| room(layouts.other)), room(layouts.top)];
    scratch(rooms.iter().sum(), |aside: &mut [T]| {
        let (other_aside, y_aside) = aside.split_at_mut(rooms[0]);
        if let (Some(other), Layout::Blocks) = (other, layouts.other) {
            to_planes(kernels, other, sizes, other_aside);
        }
        let in_planes = other.map(|other| if rooms[0] > 0 { &*other_aside } else { other });
        let end = Ending { other: in_planes, ..*end };
        if layouts.top == Layout::Planes {
            return plan.forward(x, w, &end, y);
        }
        plan.forward(x, w, &end, y_aside);
        to_blocks(kernels, y_aside, sizes, y);
    });
}

/// `y = end(w * x)`, y in blocks.
fn convolve<T: Real>(plan: &Convolution, direct: &Direct, x: &[T], w: &[T], end: &Ending<T>, y: &mut [T]) {
    let (kernels, windows) = (simd::kernels::<T>(plan.isa), &plan.windows);
    let (g, lanes, depth) = (&plan.geometry, kernels.lanes(), plan.depth());
    let (outputs, pixels) = (g.num_output, windows.pixels);
    let (ones, zeros) = ([T::one(); 32], [T::zero(); 32]);
    let rows = Matrix { data: w, lane_step: depth, k_step: 1, scale: T::one() };
    let x = plan.batch(x, 0);
    let bands = direct.bands(windows, &x);
    let y = Shared::new(y);
    scratch(w.len(), |ordered: &mut [T]| {
        order(kernels, &rows, [outputs, depth], ordered);
        let w = &*ordered;
        for_each_index(bands.count(), 1, |task| {
            let (sample, lines) = bands.band(task);
            direct.with_band(windows, &x, sample, &lines, |band, plane| {
                for panel in panels(kernels).panels(outputs) {
                    let line = |line: Option<&[T]>, none: &[T]| {
                        line.map_or(none.as_ptr(), |line| line[panel.start..][..panel.len].as_ptr())
                    };
                    let y = y.part((sample * outputs + panel.start) * pixels, panel.len * pixels);
                    for line_of in lines.clone() {
                        let start = windows.starts[line_of] - windows.starts[lines.start];
                        for tile in (Split::Rows { most: kernels.rows() }).panels(windows.line) {
                            let narrow = Narrow {
                                x: band[start + tile.start..].as_ptr(),
                                channels: g.channels,
                                plane,
                                taps: &windows.taps,
                                w: w[panel.start * depth..].as_ptr(),
                                y: y.at((line_of * windows.line + tile.start) * lanes),
                                y_step: pixels * lanes,
                                scale: line(end.scale, &ones),
                                bias: line(end.bias, &zeros),
                                floor: end.floor,
                            };
                            // SAFETY: the band holds the windows of these lines, `w` the weights of the panel, y its blocks; no other
                            // task has these lines.
                            unsafe { kernels.narrow(tile.len, panel.width / lanes, &narrow) };
                        }
                    }
                }
            });
        });
    });
}

/// As [`Convolution::backward_data_laid`].
pub(super) fn backward_data<T: Real>(plan: &Convolution, w: &[T], dy: &[T], dx: &mut [T]) {
    scratch(dy.len(), |planes: &mut [T]| {
        let kernels = simd::kernels::<T>(plan.isa);
        to_planes(kernels, dy, [plan.geometry.num_output, plan.windows.pixels], planes);
        plan.backward_data(w, planes, dx);
    });
}

/// As [`Convolution::backward_params_laid`] or [`Convolution::backward_weights_laid`], dy in blocks.
pub(super) fn backward_weights<T: Real>(
    plan: &Convolution,
    direct: &Direct,
    x: &[T],
    dy: &[T],
    dw: &mut [T],
    db: Option<&mut [T]>,
) {
    let kernels: &Kernels<T> = simd::kernels(plan.isa);
    let dy = Gradient::Blocks { data: dy, channels: plan.geometry.num_output };
    direct.weights(kernels, &plan.windows, &plan.batch(x, 0), &dy, dw, db);
}
