//! Gradients of bottoms, spread out in place.
//!
//! A tile holds the sums over all outputs of one tap, for some channels and pixels, and is added at once where that tap
//! of those pixels lies in the padded image: no matrix of windows is written and read again, and only products that
//! somebody needs are computed.

use super::direct::{each_tile, halves};
use super::windows::Windows;
use super::{Convolution, Geometry};
use crate::math::Real;
use crate::math::gemm::pack::Split;
use crate::math::parallel::for_each_index;
use crate::math::scratch::scratch;
use crate::math::shared::Shared;
use crate::math::simd::{self, Patch};

/// Channels that fill a tile well enough, and outputs whose sums are long enough for the adding at their end.
const LEAST: [usize; 2] = [5, 24];
/// Bytes of a sample's gradients of top and bottom, which stay in the second-level cache.
const NEAR: usize = 256 << 10;
/// Tasks that a batch is cut into.
const TASKS: usize = 32;
/// Numbers behind an image that vectors at its end reach.
const BEHIND: usize = 32;

/// Whether that is faster than a matrix of windows.
pub(super) fn suits(g: &Geometry, windows: &Windows) -> bool {
    let (channels, outputs) = (g.channels / g.groups, g.num_output / g.groups);
    let numbers = outputs * windows.pixels + channels * windows.padded_plane();
    let stretch = if in_halves(16, windows.line) { 8 } else { 16 };
    let is_full = is_full(stretch, windows.line);
    channels >= LEAST[0] && outputs >= LEAST[1] && is_full && numbers * size_of::<f32>() <= NEAR
}

/// Whether at most an eighth of the lanes has no pixel.
fn is_full(stretch: usize, line: usize) -> bool {
    line * 8 >= line.next_multiple_of(stretch) * 7
}

/// Whether lines are cut into halves of vectors: those cost more to load and to add.
fn in_halves(lanes: usize, line: usize) -> bool {
    halves(lanes, line) && !is_full(lanes, line)
}

/// Where the planes of the outputs lie in a sample's gradient.
pub(super) fn planes(g: &Geometry, windows: &Windows) -> Vec<usize> {
    (0..g.num_output / g.groups).map(|i| i * windows.pixels).collect()
}

/// `dx = wᵀ * dy` for slices of the right lengths and the [`planes`] of dy.
pub(super) fn spread<T: Real>(plan: &Convolution, planes: &[usize], w: &[T], dy: &[T], dx: &mut [T]) {
    let (g, windows, kernels) = (&plan.geometry, &plan.windows, simd::kernels::<T>(plan.isa));
    let (channels, outputs) = (g.channels / g.groups, g.num_output / g.groups);
    let (taps, depth, pixels) = (windows.taps.len(), plan.depth(), windows.pixels);
    let (plane, padded) = (windows.plane(), windows.padded_plane());
    let split = Split::Rows { most: kernels.rows() };
    let panels = split.count(channels);
    let parts = TASKS.div_ceil(g.batch.max(1)).min(panels);
    for group in 0..g.groups {
        let w = &w[group * outputs * depth..][..outputs * depth];
        scratch(outputs * depth, |ordered: &mut [T]| {
            order(w, channels, taps, split, ordered);
            let (ordered, dx) = (&*ordered, Shared::new(&mut *dx));
            for_each_index(g.batch * parts, 1, |task| {
                let (sample, part) = (task / parts, task % parts);
                let at = (sample * g.num_output + group * outputs) * pixels;
                with_room(dy.get(at..).unwrap_or_default(), outputs * pixels, |dy| {
                    for panel in panels * part / parts..panels * (part + 1) / parts {
                        let panel = split.panel(panel, channels);
                        scratch(panel.len * padded + BEHIND, |image: &mut [T]| {
                            image.fill(T::zero());
                            let filters = &ordered[panel.start * taps * outputs..];
                            let tile = Patch {
                                rows: panel.len,
                                a: filters.as_ptr(),
                                image: dy.as_ptr(),
                                channels: 1,
                                plane: 0,
                                offsets: planes,
                                halves: in_halves(kernels.lanes(), windows.line),
                                starts: [0; 4],
                                places: [0; 4],
                                lens: [0; 4],
                                y: image.as_mut_ptr(),
                                y_step: padded,
                                scale: std::ptr::null(),
                                bias: std::ptr::null(),
                                floor: T::neg_infinity(),
                                add: true,
                            };
                            each_tile(kernels.lanes(), windows, &(0..windows.starts.len()), tile, |tile| {
                                // Read from the output, added to the padded image.
                                std::mem::swap(&mut tile.starts, &mut tile.places);
                                let filters = filters.chunks_exact(outputs * panel.len);
                                for (&tap, filters) in windows.taps.iter().zip(filters) {
                                    (tile.a, tile.y) = (filters.as_ptr(), image[tap..].as_mut_ptr());
                                    // SAFETY: behind what is read and added to there are numbers for two vectors; the
                                    // filters are those of a panel and a tap.
                                    unsafe { kernels.patch(tile) }
                                }
                            });
                            for (i, image) in image.chunks_exact(padded).enumerate().take(panel.len) {
                                let channel = group * channels + panel.start + i;
                                let at = (sample * g.channels + channel) * plane;
                                // SAFETY: each task writes channels of a sample that no other has.
                                windows.unpad(image, unsafe { dx.slice(at..at + plane) });
                            }
                        });
                    }
                });
            });
        });
    }
}

/// Calls `f` with the first `len` numbers and some behind them: those that are there, or a copy.
fn with_room<T: Real>(data: &[T], len: usize, f: impl FnOnce(&[T])) {
    if data.len() >= len + BEHIND {
        return f(data);
    }
    scratch(len + BEHIND, |copy: &mut [T]| {
        copy[..len].copy_from_slice(&data[..len]);
        f(copy);
    });
}

/// Puts filters of (output, channel, tap) in the order of (panel of channels, tap, output, channel).
fn order<T: Real>(w: &[T], channels: usize, taps: usize, split: Split, ordered: &mut [T]) {
    let (depth, all) = (channels * taps, w.len() / channels);
    let outputs = all / taps;
    let ordered = Shared::new(ordered);
    for_each_index(split.count(channels), 1, |panel| {
        let panel = split.panel(panel, channels);
        // SAFETY: panels lie one after another; each is one task's.
        let ordered = unsafe { ordered.slice(panel.start * all..(panel.start + panel.len) * all) };
        for (output, w) in w.chunks_exact(depth).enumerate() {
            for (channel, w) in w[panel.start * taps..].chunks_exact(taps).enumerate().take(panel.len) {
                let to = ordered[output * panel.len + channel..].iter_mut();
                to.step_by(outputs * panel.len).zip(w).for_each(|(to, &w)| *to = w);
            }
        }
    });
}
