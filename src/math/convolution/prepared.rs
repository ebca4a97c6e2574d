//! The forward pass of few windows, from weights that were put in order once.
//!
//! Weights that no pass changes may lie as the kernels read them: outputs side by side, each read once, in the order of
//! memory. In a product they are the vectors then, so that no lane is empty whatever the number of windows is, and the
//! windows are the rows; in Winograd's way their transformation has nothing to transpose.

use super::Convolution;
use super::forward::is_few;
use super::windows::Columns;
use super::winograd::Filters;
use crate::math::Real;
use crate::math::gemm::pack::{Matrix, Panel, Source, Split};
use crate::math::gemm::product::Ending;
use crate::math::parallel::for_each_index;
use crate::math::scratch::scratch;
use crate::math::shared::Shared;
use crate::math::simd::{self, Kernels, Soon, Strip};
use std::ops::Range;

/// Length of the sums that a tile takes at once: so many numbers of each of its windows stay in the first-level cache.
const DEPTH: usize = 512;
/// Numbers to pack that are worth a thread.
const GRAIN: usize = 1 << 15;

/// Neighbouring outputs that one tile works on, in whole vectors: as few panels as possible, of nearly equal width.
fn panel<T: Real>(kernels: &Kernels<T>, outputs: usize, i: usize) -> Panel {
    let vectors = outputs.div_ceil(kernels.lanes());
    let width = vectors.div_ceil(vectors.div_ceil(kernels.strip_vectors())) * kernels.lanes();
    let len = (outputs - i * width).min(width);
    Panel { start: i * width, len, width: len.next_multiple_of(kernels.lanes()) }
}

fn panels<T: Real>(kernels: &Kernels<T>, outputs: usize) -> usize {
    outputs.div_ceil(panel(kernels, outputs, 0).width)
}

/// Numbers that the prepared weights of a group take; 0 where they make nothing faster.
pub(super) fn len<T: Real>(plan: &Convolution) -> usize {
    let (g, kernels) = (&plan.geometry, simd::kernels::<T>(plan.isa));
    let (channels, outputs) = (g.channels / g.groups, g.num_output / g.groups);
    match &plan.winograd.forward {
        _ if plan.depthwise.is_some() => 0,
        Some(tiles) if tiles.is_once() => Filters::ordered_len(kernels, g.kernel[0], outputs, channels),
        None if is_few::<T>(plan) => outputs.next_multiple_of(kernels.lanes()) * plan.depth(),
        _ => 0,
    }
}

/// Puts weights in order: for each panel of outputs, for each k, its outputs side by side.
pub(super) fn prepare<T: Real>(plan: &Convolution, w: &[T], prepared: &mut [T]) {
    let (kernels, depth, groups) = (simd::kernels(plan.isa), plan.depth(), plan.geometry.groups);
    let (outputs, len) = (plan.geometry.num_output / groups, len::<T>(plan));
    assert!(len > 0 && prepared.len() >= groups * len && w.len() >= groups * outputs * depth);
    if plan.winograd.forward.is_some() {
        for (group, prepared) in prepared.chunks_exact_mut(len).enumerate() {
            plan.filters(w, group, false).order(kernels, plan.geometry.kernel[0], prepared);
        }
        return;
    }
    for (w, prepared) in w.chunks_exact(outputs * depth).zip(prepared.chunks_exact_mut(len)) {
        let (a, out) =
            (Matrix { data: w, lane_step: depth, k_step: 1, scale: T::one() }, Shared::new(prepared));
        for_each_index(panels(kernels, outputs), 1, |i| {
            let panel = panel(kernels, outputs, i);
            let part = out.part(panel.start * depth, panel.width * depth);
            // SAFETY: panels lie one after another, and no other task has this one.
            let part = unsafe { std::slice::from_raw_parts_mut(part.at(0), part.len()) };
            part.fill(T::zero());
            a.panel(kernels, panel.start..panel.start + panel.len, 0..depth, panel.width, part);
        });
    }
}

/// `y = end(w * x)` for prepared weights.
pub(super) fn forward<T: Real>(plan: &Convolution, x: &[T], prepared: &[T], end: &Ending<T>, y: &mut [T]) {
    let (pixels, len) = (plan.windows.pixels, len::<T>(plan));
    let (outputs, depth) = (plan.geometry.num_output / plan.geometry.groups, plan.depth());
    for (group, prepared) in prepared.chunks_exact(len).take(plan.geometry.groups).enumerate() {
        if let Some(tiles) = &plan.winograd.forward {
            let filters = Filters { data: prepared, ordered: true, ..plan.filters(prepared, 0, false) };
            plan.convolve(tiles, group, &filters, x, end, y);
            continue;
        }
        let from = group * outputs;
        let (x, end) = (plan.group_of(x, group), end.part(from..from + outputs, from * pixels));
        let y = &mut y[from * pixels..][..outputs * pixels];
        if plan.windows.are_planes() {
            multiply(plan, &x[..depth * pixels], prepared, &end, y);
            continue;
        }
        scratch(depth * pixels, |rows: &mut [T]| {
            let (columns, out) = (Columns { windows: &plan.windows, x }, Shared::new(rows));
            // Whole channels, whose taps read the same numbers.
            let taps = plan.windows.taps.len();
            let each = GRAIN.div_ceil(pixels * taps) * taps;
            for_each_index(depth.div_ceil(each), 1, |task| {
                let k = task * each..((task + 1) * each).min(depth);
                let part = out.part(k.start * pixels, k.len() * pixels);
                // SAFETY: tasks write rows of their own.
                let part = unsafe { std::slice::from_raw_parts_mut(part.at(0), part.len()) };
                columns.panel(simd::kernels(plan.isa), 0..pixels, k, pixels, part);
            });
            multiply(plan, rows, prepared, &end, y);
        });
    }
}

/// `y = end(w * rows)` for `rows` of k × windows. A task is a panel of outputs, whose weights come by once.
fn multiply<T: Real>(plan: &Convolution, rows: &[T], prepared: &[T], end: &Ending<T>, y: &mut [T]) {
    let (kernels, pixels, depth) = (simd::kernels(plan.isa), plan.windows.pixels, plan.depth());
    let outputs = y.len() / pixels;
    assert!(rows.len() >= depth * pixels && prepared.len() >= len::<T>(plan));
    assert!(end.other.is_none_or(|other| other.len() >= y.len()));
    let (split, y) = (Split::Rows { most: kernels.strip_rows() }, Shared::new(y));
    let blocks = depth.div_ceil(DEPTH);
    let block = |i: usize| depth * i / blocks..depth * (i + 1) / blocks;
    for_each_index(panels(kernels, outputs), 1, |i| {
        let panel = panel(kernels, outputs, i);
        let lines = end.rows(panel.start..panel.start + panel.len);
        let w = &prepared[panel.start * depth..][..panel.width * depth];
        for i in 0..blocks {
            let k = block(i);
            let count = split.count(pixels);
            for (nth, windows) in split.panels(pixels).enumerate() {
                let at = panel.start * pixels + windows.start;
                let is_last = k.end == depth;
                let end = if is_last { lines } else { Ending::none() };
                let all = |of: Option<&[T]>| of.map_or(std::ptr::null(), <[T]>::as_ptr);
                let strip = Strip {
                    k: k.len(),
                    a: rows[k.start * pixels + windows.start..].as_ptr(),
                    a_row: 1,
                    a_k: pixels,
                    b: w[k.start * panel.width..].as_ptr(),
                    b_step: panel.width,
                    soon: soon(w, &k, panel.width, (nth, count)),
                    c: y.at(at),
                    c_step: pixels,
                    turned: true,
                    columns: panel.len,
                    alpha: T::one(),
                    beta: if k.start > 0 { T::one() } else { T::zero() },
                    scale: all(end.scale),
                    bias: all(end.bias),
                    other: end.other.map_or(std::ptr::null(), |other| other[at..].as_ptr()),
                    floor: end.floor,
                };
                // SAFETY: rows and weights hold k numbers of each window and output, y these windows of the panel's
                // outputs, which no other task has.
                unsafe { kernels.strip(windows.len, panel.width / kernels.lanes(), &strip) };
            }
        }
    });
}

/// The part of the weights behind those of `k` that a tile, one of `count`, brings near: a share of as many weights as
/// all tiles of the block read.
fn soon<T>(w: &[T], k: &Range<usize>, width: usize, (nth, count): (usize, usize)) -> Soon<T> {
    let share = (k.len() * width).div_ceil(count);
    let start = w.as_ptr().wrapping_add(k.end * width + nth * share);
    // One line after the other; rows of `Soon` are not used.
    Soon { start, row: 0, step: 8 * share.div_ceil(k.len()) }
}
