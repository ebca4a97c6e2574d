//! Plain code on arrays of 16 bytes, which every compiler turns into the vectors its target has.

use super::blocked::pixels;
use super::kernels::{Kernels, Tile, micro};
use super::lanes::Lanes;
use super::lines::{blend_taps, deal_pairs, dot_taps, join_pairs, lay_lines};
use super::moves::{copy_rows, fold_rows, stream_all, turn_rows};
use super::narrow::few_channels;
use super::outer::{gather_dense, products};
use super::outer_pixels::pixel_products;
use super::patch::patch_rows;
use super::pixels::{gather_places, spread_corners};
use super::rows::{ROWS, Rows, side_by_side};
use super::shifted::shifted_products;
use super::strip::{Strip, walk};
use super::taps::tap_products;
use super::winograd::{gather_tiles, spread_patches};
use super::{
    Blend, Blocked, Copy, Dots, Fold, Gather, GatherFilters, GatherPixels, Isa, Lines, Narrow, Outer,
    OuterPixels, Patch, Shifted, Spread, SpreadPixels, Taps, Turn,
};
use crate::math::Real;

pub(super) struct Plain;

impl<T: Real> Lanes<T> for Plain {
    type V = [T; 4];
    const COUNT: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: T) -> [T; 4] {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const T) -> [T; 4] {
        // SAFETY: four numbers are good at `p`.
        unsafe { p.cast::<[T; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut T, v: [T; 4]) {
        // SAFETY: four numbers are good at `p`.
        unsafe { p.cast::<[T; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn add(a: [T; 4], b: [T; 4]) -> [T; 4] {
        [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]]
    }
    // Two roundings: without an FMA instruction `mul_add` would be a library call for each number.
    #[inline(always)]
    unsafe fn mul_add(a: [T; 4], b: [T; 4], c: [T; 4]) -> [T; 4] {
        [a[0] * b[0] + c[0], a[1] * b[1] + c[1], a[2] * b[2] + c[2], a[3] * b[3] + c[3]]
    }
    #[inline(always)]
    unsafe fn max(a: [T; 4], b: [T; 4]) -> [T; 4] {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
}

unsafe fn tile<T: Real, const MR: usize, const NV: usize>(t: &Tile<T>) {
    // SAFETY: the caller keeps the contract of `micro`; plain code runs everywhere.
    unsafe { micro::<T, Plain, MR, NV>(t) }
}

unsafe fn blocked<T: Real, const MR: usize, const NV: usize>(t: &Blocked<T>) {
    // SAFETY: the caller keeps the contract of `pixels`; plain code runs everywhere.
    unsafe { pixels::<T, Plain, MR, NV>(t) }
}

/// Rows of a tile of outer products of pixels.
const OUTER_ROWS: usize = 4;

unsafe fn outer_pixels<T: Real, const NV: usize>(t: &OuterPixels<T>) {
    // SAFETY: the caller keeps the contract of `pixel_products`; plain code runs everywhere.
    unsafe { pixel_products::<T, Plain, OUTER_ROWS, NV>(t) }
}

unsafe fn taps<T: Real, const MR: usize, const NV: usize>(t: &Taps<T>) {
    // SAFETY: the caller keeps the contract of `tap_products`; plain code runs everywhere.
    unsafe { tap_products::<T, Plain, MR, NV>(t) }
}

unsafe fn narrow<T: Real, const MR: usize, const NV: usize>(t: &Narrow<T>) {
    // SAFETY: the caller keeps the contract of `few_channels`; plain code runs everywhere.
    unsafe { few_channels::<T, Plain, MR, NV>(t) }
}

unsafe fn strip<T: Real, const MR: usize, const NV: usize>(t: &Strip<T>) {
    // SAFETY: the caller keeps the contract of `walk`; plain code runs everywhere.
    unsafe { walk::<T, Plain, MR, NV>(t) }
}

unsafe fn stream<T: Real>(from: &[T], to: &mut [T]) {
    // SAFETY: plain code runs everywhere.
    unsafe { stream_all::<T, Plain>(from, to) }
}

unsafe fn fence() {}

unsafe fn copy<T: Real>(c: &Copy<T>) {
    // SAFETY: the caller keeps the contract of `copy_rows`; plain code runs everywhere.
    unsafe { copy_rows::<T, Plain>(c) }
}

unsafe fn turn<T: Real>(t: &Turn<T>) {
    // SAFETY: the caller keeps the contract of `turn_rows`; plain code runs everywhere.
    unsafe { turn_rows::<T, Plain>(t) }
}

unsafe fn fold<T: Real>(t: &Fold<T>) {
    // SAFETY: the caller keeps the contract of `fold_rows`; plain code runs everywhere.
    unsafe { fold_rows::<T, Plain>(t) }
}

unsafe fn spread<T: Real>(t: &Spread<T>) {
    // SAFETY: the caller keeps the contract of `spread_patches`; plain code runs everywhere.
    unsafe { spread_patches::<T, Plain>(t) }
}

unsafe fn gather<T: Real>(t: &Gather<T>) {
    // SAFETY: the caller keeps the contract of `gather_tiles`; plain code runs everywhere.
    unsafe { gather_tiles::<T, Plain>(t) }
}

unsafe fn dot_rows<T: Real>(t: &Rows<T>) -> [T; ROWS] {
    // SAFETY: the caller keeps the contract of `side_by_side`; plain code runs everywhere.
    unsafe { side_by_side::<T, Plain>(t) }
}

unsafe fn spread_pixels<T: Real>(t: &SpreadPixels<T>) {
    // SAFETY: the caller keeps the contract of `spread_corners`; plain code runs everywhere.
    unsafe { spread_corners::<T, Plain>(t) }
}

unsafe fn gather_pixels<T: Real>(t: &GatherPixels<T>) {
    // SAFETY: the caller keeps the contract of `gather_places`; plain code runs everywhere.
    unsafe { gather_places::<T, Plain>(t) }
}

unsafe fn outer<T: Real, const MR: usize, const NV: usize>(t: &Outer<T>) {
    // SAFETY: the caller keeps the contract of `products`; plain code runs everywhere.
    unsafe { products::<T, Plain, MR, NV>(t) }
}

unsafe fn gather_filters<T: Real>(t: &GatherFilters<T>) {
    // SAFETY: the caller keeps the contract of `gather_dense`; plain code runs everywhere.
    unsafe { gather_dense::<T, Plain>(t) }
}

unsafe fn blend<T: Real>(b: &Blend<T>, out: &mut [T]) {
    // SAFETY: the caller keeps the contract of `blend_taps`; plain code runs everywhere.
    unsafe { blend_taps::<T, Plain>(b, out) }
}

unsafe fn dots<T: Real>(d: &Dots<T>, sums: &mut [T]) {
    // SAFETY: the caller keeps the contract of `dot_taps`; plain code runs everywhere.
    unsafe { dot_taps::<T, Plain>(d, sums) }
}

unsafe fn lines<T: Real>(l: &Lines<T>, to: &mut [T]) {
    // SAFETY: the caller keeps the contract of `lay_lines`; plain code runs everywhere.
    unsafe { lay_lines::<T, Plain>(l, to) }
}

unsafe fn patches<T: Real>(p: &Patch<T>) {
    // SAFETY: the caller keeps the contract of `patch_rows`; plain code runs everywhere.
    unsafe { patch_rows::<T, Plain, 4>(p) }
}

unsafe fn shifted<T: Real, const MR: usize, const NO: usize>(t: &Shifted<T>) {
    // SAFETY: the caller keeps the contract of `shifted_products`; plain code runs everywhere.
    unsafe { shifted_products::<T, Plain, MR, NO>(t) }
}

unsafe fn deal<T: Real>(from: &[T], even: &mut [T], odd: &mut [T]) {
    // SAFETY: the kernel stays inside of the slices; plain code runs everywhere.
    unsafe { deal_pairs::<T, Plain>(from, even, odd) }
}

unsafe fn join<T: Real>(even: &[T], odd: &[T], to: &mut [T]) {
    // SAFETY: the kernel stays inside of the slices; plain code runs everywhere.
    unsafe { join_pairs::<T, Plain>(even, odd, to) }
}

pub(super) struct Table<T>(std::marker::PhantomData<T>);

impl<T: Real> Table<T> {
    pub(super) const KERNELS: Kernels<T> = Kernels {
        isa: Isa::Plain,
        lanes: 4,
        wide: &[tile::<T, 1, 2>, tile::<T, 2, 2>, tile::<T, 3, 2>, tile::<T, 4, 2>],
        narrow: &[tile::<T, 1, 1>, tile::<T, 2, 1>, tile::<T, 3, 1>, tile::<T, 4, 1>],
        blocked: [
            &[blocked::<T, 1, 1>, blocked::<T, 2, 1>, blocked::<T, 3, 1>, blocked::<T, 4, 1>],
            &[blocked::<T, 1, 2>, blocked::<T, 2, 2>, blocked::<T, 3, 2>, blocked::<T, 4, 2>],
        ],
        strips: &[
            &[strip::<T, 1, 1>, strip::<T, 2, 1>, strip::<T, 3, 1>, strip::<T, 4, 1>],
            &[strip::<T, 1, 2>, strip::<T, 2, 2>, strip::<T, 3, 2>, strip::<T, 4, 2>],
        ],
        outer_pixels: [outer_pixels::<T, 1>, outer_pixels::<T, 2>, outer_pixels::<T, 3>],
        outer_rows: OUTER_ROWS,
        few_channels: [
            &[narrow::<T, 1, 1>, narrow::<T, 2, 1>, narrow::<T, 3, 1>, narrow::<T, 4, 1>],
            &[narrow::<T, 1, 2>, narrow::<T, 2, 2>, narrow::<T, 3, 2>, narrow::<T, 4, 2>],
        ],
        taps: &[(4, taps::<T, 4, 1>), (2, taps::<T, 2, 2>), (2, taps::<T, 2, 3>), (2, taps::<T, 2, 4>)],
        copy: copy::<T>,
        stream: stream::<T>,
        fence,
        turn: turn::<T>,
        fold: fold::<T>,
        spread: spread::<T>,
        gather: gather::<T>,
        dot_rows: dot_rows::<T>,
        spread_pixels: spread_pixels::<T>,
        gather_pixels: gather_pixels::<T>,
        outer: &[
            &[outer::<T, 1, 1>, outer::<T, 2, 1>, outer::<T, 3, 1>, outer::<T, 4, 1>],
            &[outer::<T, 1, 2>, outer::<T, 2, 2>, outer::<T, 3, 2>, outer::<T, 4, 2>],
        ],
        gather_filters: gather_filters::<T>,
        blend: blend::<T>,
        dots: dots::<T>,
        lines: lines::<T>,
        deal: deal::<T>,
        join: join::<T>,
        patches: patches::<T>,
        shifted: &[([5, 2], shifted::<T, 5, 2>), ([3, 3], shifted::<T, 3, 3>)],
    };
}
