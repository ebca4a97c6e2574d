//! Tiles of a convolution of few channels in planes whose outputs lie side by side.

use super::kernels::Kernels;
use super::lanes::Lanes;
use crate::math::Real;

/// A tile: some neighbouring pixels times one or two vectors of outputs, `y = max(scale·Σ w·x + bias, floor)`.
#[derive(Clone, Copy)]
pub(crate) struct Narrow<'a, T> {
    /// The first pixel's first number in the first channel; those of the next pixels are its neighbours.
    pub x: *const T,
    pub channels: usize,
    /// Numbers from channel to channel.
    pub plane: usize,
    /// What each tap is away from a pixel's first number.
    pub taps: &'a [usize],
    /// For each channel, for each tap as many vectors, one weight per output.
    pub w: *const T,
    /// The first pixel of the first vector of outputs; the next pixels are vectors behind it.
    pub y: *mut T,
    /// Numbers from one vector of outputs to the other.
    pub y_step: usize,
    /// As many vectors of factors, and of summands.
    pub scale: *const T,
    pub bias: *const T,
    /// The least result.
    pub floor: T,
}

/// `[v - 1][i]` computes tiles of `i + 1` pixels and `v` vectors of outputs.
pub(super) type Table<T> = [&'static [unsafe fn(&Narrow<T>)]; 2];

impl<T: Real> Kernels<T> {
    /// Computes a tile of so many pixels and vectors; there are as many pixels at most as [`Kernels::rows`] says.
    ///
    /// # Safety
    /// The pointers of `tile` are good for what it describes, and nobody else writes or reads its part of y.
    pub(crate) unsafe fn narrow(&self, rows: usize, vectors: usize, tile: &Narrow<T>) {
        // SAFETY: promised by the caller; a table is only handed out where the processor has its features.
        unsafe { self.few_channels[vectors - 1][rows - 1](tile) }
    }
}

/// Body of the kernels: `MR` pixels and `NV` vectors in registers.
///
/// # Safety
/// As [`Kernels::narrow`], and only inside a function compiled for the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn few_channels<T: Real, S: Lanes<T>, const MR: usize, const NV: usize>(t: &Narrow<T>) {
    // SAFETY: promised by the caller.
    unsafe {
        let at = |i: usize, j: usize| i * S::COUNT + j * t.y_step;
        // Tops of first layers are large: their lines are on their way by the time the sums are done.
        for i in 0..NV * MR {
            S::prefetch(t.y.wrapping_add(at(i / NV, i % NV)));
        }
        let mut sums = [[S::splat(T::zero()); NV]; MR];
        let mut w = t.w;
        for channel in 0..t.channels {
            let plane = t.x.wrapping_add(channel * t.plane);
            for &tap in t.taps {
                let x = plane.wrapping_add(tap);
                let mut right = [S::splat(T::zero()); NV];
                for (j, v) in right.iter_mut().enumerate() {
                    *v = S::load(w.add(j * S::COUNT));
                }
                for (i, row) in sums.iter_mut().enumerate() {
                    let left = S::splat(*x.add(i));
                    for (sum, &v) in row.iter_mut().zip(&right) {
                        *sum = S::mul_add(left, v, *sum);
                    }
                }
                w = w.wrapping_add(NV * S::COUNT);
            }
        }
        let floor = S::splat(t.floor);
        for j in 0..NV {
            let (scale, bias) = (S::load(t.scale.add(j * S::COUNT)), S::load(t.bias.add(j * S::COUNT)));
            for (i, row) in sums.iter().enumerate() {
                S::store(t.y.add(at(i, j)), S::max(floor, S::mul_add(scale, row[j], bias)));
            }
        }
    }
}
