//! The forward pass of few windows, from weights that were put in order once.
//!
//! Weights that no pass changes may lie as the kernels read them: outputs side by side, each read once, in the order of
//! memory. In a product they are the vectors then, so that no lane is empty whatever the number of windows is, and the
//! windows are the rows; in Winograd's way their transformation has nothing to transpose.

use super::Convolution;
use super::blocked;
use super::forward::is_few;
use super::windows::Columns;
use super::winograd::{Filters, Tiles};
use crate::math::Real;
use crate::math::gemm::Ending;
use crate::math::gemm::pack::{Matrix, Source, Split};
use crate::math::gemm::product::Cut;
use crate::math::layout::Layouts;
use crate::math::parallel::for_each_index;
use crate::math::scratch::scratch;
use crate::math::shared::Shared;
use crate::math::simd::{self, Kernels, Next, Sums, Tile};
use std::ops::Range;

/// Length of the sums that a tile takes at once.
const DEPTH: usize = 512;
/// Numbers to pack that are worth a thread.
const GRAIN: usize = 1 << 15;

/// How outputs are cut into panels: a tile works on one.
pub(super) fn panels<T: Real>(kernels: &Kernels<T>) -> Split {
    Split::Columns { lanes: kernels.lanes() }
}

/// How windows are cut into panels.
fn rows<T: Real>(kernels: &Kernels<T>) -> Split {
    Split::Rows { most: kernels.rows() }
}

/// What prepared weights make faster.
#[derive(Clone, Copy)]
enum Way<'a> {
    /// A 1×1 convolution of images in blocks.
    Blocks,
    /// Winograd's way for images in blocks.
    TilesOfBlocks(&'a Tiles),
    /// Winograd's way for few tiles.
    Tiles(&'a Tiles),
    /// The product for few windows.
    Few,
}

/// The way for images that lie so, if there is one.
fn way<T: Real>(plan: &Convolution, layouts: Layouts) -> Option<Way<'_>> {
    if plan.depthwise.is_some() {
        return None;
    }
    if layouts != Layouts::default() {
        return Some(plan.winograd.blocks.as_ref().map_or(Way::Blocks, Way::TilesOfBlocks));
    }
    match &plan.winograd.forward {
        Some(tiles) => Some(Way::Tiles(tiles)).filter(|_| tiles.is_once()),
        None => Some(Way::Few).filter(|_| is_few::<T>(plan)),
    }
}

/// Whether there is one for images in blocks.
pub(super) fn takes_blocks<T: Real>(plan: &Convolution) -> bool {
    let (g, kernels) = (&plan.geometry, simd::kernels::<T>(plan.isa));
    // Gradients of weights take so many outputs at once.
    let outputs = kernels.lanes().max(kernels.outer_rows());
    let whole = g.channels.is_multiple_of(kernels.lanes()) && g.num_output.is_multiple_of(outputs);
    let ways = plan.winograd.blocks.is_some() || plan.windows.are_planes();
    whole && ways && g.groups == 1 && plan.depthwise.is_none() && plan.top_len() > 0
}

/// Numbers that the prepared weights of a group take; 0 where they make nothing faster.
pub(super) fn len<T: Real>(plan: &Convolution, layouts: Layouts) -> usize {
    let (g, kernels) = (&plan.geometry, simd::kernels::<T>(plan.isa));
    let (channels, outputs) = (g.channels / g.groups, g.num_output / g.groups);
    match way::<T>(plan, layouts) {
        None => 0,
        Some(Way::Tiles(_)) => Filters::ordered_len(kernels, g.kernel[0], outputs, channels),
        Some(_) => outputs.next_multiple_of(kernels.lanes()) * plan.depth(),
    }
}

/// Puts weights in order: for each panel of outputs, for each k, its outputs side by side.
pub(super) fn prepare<T: Real>(plan: &Convolution, w: &[T], layouts: Layouts, prepared: &mut [T]) {
    let (kernels, depth, groups) = (simd::kernels(plan.isa), plan.depth(), plan.geometry.groups);
    let (outputs, len) = (plan.geometry.num_output / groups, len::<T>(plan, layouts));
    assert!(len > 0 && prepared.len() >= groups * len && w.len() >= groups * outputs * depth);
    if let Some(Way::Tiles(tiles)) = way::<T>(plan, layouts) {
        for (group, prepared) in prepared.chunks_exact_mut(len).enumerate() {
            plan.filters(w, group, false).order(kernels, tiles.side(), prepared);
        }
        return;
    }
    for (w, prepared) in w.chunks_exact(outputs * depth).zip(prepared.chunks_exact_mut(len)) {
        let rows = Matrix { data: w, lane_step: depth, k_step: 1, scale: T::one() };
        order(kernels, &rows, [outputs, depth], prepared);
    }
}

/// Puts a matrix of so many lanes and columns in order: for each panel of lanes, for each column, its numbers side by side.
pub(super) fn order<T: Real>(
    kernels: &Kernels<T>,
    matrix: &Matrix<T>,
    [lanes, depth]: [usize; 2],
    out: &mut [T],
) {
    let out = Shared::new(out);
    for_each_index(panels(kernels).count(lanes), 1, |i| {
        let panel = panels(kernels).panel(i, lanes);
        // SAFETY: panels lie one after another, and no other task has this one.
        let part = unsafe { out.slice(panel.start * depth..(panel.start + panel.width) * depth) };
        if panel.len < panel.width {
            part.fill(T::zero());
        }
        matrix.panel(kernels, panel.start..panel.start + panel.len, 0..depth, panel.width, part);
    });
}

/// `y = end(w * x)` for prepared weights.
pub(super) fn forward<T: Real>(
    plan: &Convolution,
    x: &[T],
    prepared: &[T],
    layouts: Layouts,
    end: &Ending<T>,
    y: &mut [T],
) {
    let (pixels, len) = (plan.windows.pixels, len::<T>(plan, layouts));
    let outputs = plan.geometry.num_output / plan.geometry.groups;
    let way = way::<T>(plan, layouts);
    match way {
        Some(Way::Blocks) => {
            return blocked::forward(simd::kernels(plan.isa), plan.extents(), x, layouts, prepared, end, y);
        }
        Some(Way::TilesOfBlocks(tiles)) => {
            let filters = Filters { data: prepared, ordered: true, ..plan.filters(prepared, 0, false) };
            return blocked::forward_tiles(simd::kernels(plan.isa), tiles, x, layouts, &filters, end, y);
        }
        _ => {}
    }
    for (group, prepared) in prepared.chunks_exact(len).take(plan.geometry.groups).enumerate() {
        if let Some(Way::Tiles(tiles)) = way {
            let filters = Filters { data: prepared, ordered: true, ..plan.filters(prepared, 0, false) };
            plan.convolve(tiles, group, &filters, x, end, y);
            continue;
        }
        let from = group * outputs;
        let (x, end) = (plan.group_of(x, group), end.part(from..from + outputs, from * pixels));
        let columns = Columns { windows: &plan.windows, x };
        multiply(plan, &columns, prepared, &end, &mut y[from * pixels..][..outputs * pixels]);
    }
}

/// `y = end(w * windows)`.
fn multiply<T: Real>(plan: &Convolution, windows: &Columns<T>, w: &[T], end: &Ending<T>, y: &mut [T]) {
    let (kernels, pixels, depth) = (simd::kernels(plan.isa), plan.windows.pixels, plan.depth());
    let outputs = y.len() / pixels;
    assert!(w.len() >= outputs * depth && end.other.is_none_or(|other| other.len() >= y.len()));
    let taps = plan.windows.taps.len();
    let blocks = Cut::new(depth, depth, DEPTH, if taps <= DEPTH { taps } else { 1 });
    let split = rows(kernels);
    scratch(depth * pixels, |packed: &mut [T]| {
        let out = Shared::new(packed);
        // Planes are packed panel by panel; windows that overlap a block of k at once, to pad only once.
        let cuts = if plan.windows.are_planes() { split.count(pixels) } else { 1 };
        let each = GRAIN.div_ceil(pixels * blocks.block(0).len() / cuts);
        for_each_index(blocks.count() * cuts, each, |task| {
            let k = blocks.block(task / cuts);
            let row = split.panel(task % cuts, pixels);
            let lanes = if cuts == 1 { 0..pixels } else { row.start..row.start + row.len };
            let start = k.start * pixels + lanes.start * k.len();
            // SAFETY: panels of blocks lie one after another, and no other task has these.
            let part = unsafe { out.slice(start..start + lanes.len() * k.len()) };
            if cuts == 1 {
                windows.pack(kernels, lanes, k, split, part);
            } else {
                windows.panel(kernels, lanes.clone(), k, lanes.len(), part);
            }
        });
        let (packed, y) = (&*packed, Shared::new(y));
        // A task is a panel of outputs, whose weights come by once.
        for_each_index(panels(kernels).count(outputs), 1, |i| {
            let panel = panels(kernels).panel(i, outputs);
            let lines = end.rows(panel.start..panel.start + panel.len);
            let w = &w[panel.start * depth..][..panel.width * depth];
            for k in (0..blocks.count()).map(|i| blocks.block(i)) {
                let (is_last, beta) = (k.end == depth, if k.start > 0 { T::one() } else { T::zero() });
                let end = if is_last { lines } else { Ending::none() };
                for (nth, row) in split.panels(pixels).enumerate() {
                    let at = panel.start * pixels + row.start;
                    let tile = Tile {
                        k: k.len(),
                        a: packed[k.start * pixels + row.start * k.len()..].as_ptr(),
                        b: w[k.start * panel.width..].as_ptr(),
                        b_step: panel.width,
                        next: next(w, &k, panel.width, (nth, split.count(pixels))),
                        sums: Sums {
                            turned: true,
                            other: end.other.map_or(std::ptr::null(), |other| other[at..].as_ptr()),
                            ..end.sums(y.at(at), pixels, panel.len, beta)
                        },
                    };
                    // SAFETY: packed windows and weights hold k numbers of each window and output, y these windows of
                    // the panel's outputs, which no other task has.
                    unsafe { kernels.tile(row.len, panel.width, &tile) };
                }
            }
        });
    });
}

/// The part of the weights behind those of `k` that a tile, one of `count`, brings near: a share of as many weights as
/// all tiles of the block read.
fn next<T>(w: &[T], k: &Range<usize>, width: usize, (nth, count): (usize, usize)) -> Next<T> {
    let share = (k.len() * width).div_ceil(count);
    let start = w.as_ptr().wrapping_add(k.end * width + nth * share);
    Next { start, step: share.div_ceil(k.len()) }
}
