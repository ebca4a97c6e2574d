//! Operands that are not windows: gradients of tops as they stand, and turned weights.

use crate::math::Real;
use crate::math::gemm::pack::{CHUNK_OF_ROWS, Source, copy_planes, transpose};
use crate::math::simd::{Kernels, Run};
use std::ops::Range;

/// The top as it stands: lanes are pixels over all samples, k is channels.
pub(super) struct PixelColumns<'a, T> {
    /// The batch, from the first channel of the group on.
    pub data: &'a [T],
    /// Elements of a sample.
    pub image: usize,
    /// Pixels of a plane.
    pub pixels: usize,
    /// The pixel that is lane 0.
    pub first: usize,
}

impl<T: Real> Source<T> for PixelColumns<'_, T> {
    fn chunk(&self) -> usize {
        CHUNK_OF_ROWS
    }

    fn panel(
        &self,
        kernels: &Kernels<T>,
        lanes: Range<usize>,
        k: Range<usize>,
        width: usize,
        panel: &mut [T],
    ) {
        let mut runs = [Run::default(); 64];
        let (mut lane, mut count) = (0, 0);
        while lane < lanes.len() {
            let at = self.first + lanes.start + lane;
            let pixel = at % self.pixels;
            let len = (self.pixels - pixel).min(lanes.len() - lane);
            let start = at / self.pixels * self.image + pixel;
            runs[count] = Run { lane, len, start, plane: self.pixels };
            count += 1;
            lane += len;
        }
        copy_planes(kernels, self.data, &runs[..count], k, width, panel);
    }
}

/// The top transposed: lanes are channels, k is pixels over all samples.
pub(super) struct ChannelRows<'a, T> {
    /// The batch, from the first channel of the group on.
    pub data: &'a [T],
    /// Elements of a sample.
    pub image: usize,
    /// Pixels of a plane.
    pub pixels: usize,
}

impl<T: Real> Source<T> for ChannelRows<'_, T> {
    fn panel(
        &self,
        kernels: &Kernels<T>,
        lanes: Range<usize>,
        k: Range<usize>,
        width: usize,
        panel: &mut [T],
    ) {
        let (mut at, mut rest) = (k.start, panel);
        while at < k.end {
            let pixel = at % self.pixels;
            let len = (self.pixels - pixel).min(k.end - at);
            let (here, next) = rest.split_at_mut(len * width);
            let from = &self.data[at / self.pixels * self.image + lanes.start * self.pixels + pixel..];
            transpose(kernels, from, self.pixels, lanes.len(), len, width, here);
            rest = next;
            at += len;
        }
    }
}

/// The weights turned by half a turn: lanes are input channels, k is (output channel, tap from the last to the
/// first).
pub(super) struct Turned<'a, T> {
    /// Weights of the group.
    pub weights: &'a [T],
    /// Input channels of the group.
    pub channels: usize,
    /// Taps of the kernel.
    pub taps: usize,
}

impl<T: Real> Source<T> for Turned<'_, T> {
    fn panel(
        &self,
        kernels: &Kernels<T>,
        lanes: Range<usize>,
        k: Range<usize>,
        width: usize,
        panel: &mut [T],
    ) {
        if self.taps == 1 {
            let run = Run { lane: 0, len: lanes.len(), start: lanes.start, plane: self.channels };
            return copy_planes(kernels, self.weights, &[run], k, width, panel);
        }
        for (k, group) in k.zip(panel.chunks_exact_mut(width)) {
            let from = k / self.taps * self.channels * self.taps + self.taps - 1 - k % self.taps;
            let lanes = self.weights[from + lanes.start * self.taps..].iter().step_by(self.taps);
            group.iter_mut().zip(lanes).for_each(|(x, &w)| *x = w);
        }
    }
}
