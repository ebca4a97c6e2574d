//! The windows of images as a matrix that is never stored: row (channel, tap), column (image, pixel).

use crate::math::Real;
use crate::math::gemm::pack::{CHUNK_OF_ROWS, Panel, Source, Split, each_panel};
use crate::math::scratch::scratch;
use crate::math::simd::{Copy, Kernels, Run, Turn};
use std::ops::Range;

/// Where the windows lie in the planes of a batch.
///
/// Planes that need padding or a step along their lines are copied, a band at a time, into padded ones whose lines
/// hold first the elements at multiples of the step, then those one further, and so on: so neighbouring windows are
/// neighbours in memory for any step. There window p starts at `starts[p / line] + p % line`, and its tap t is
/// `taps[t]` further.
#[derive(Debug)]
pub(super) struct Windows {
    /// Elements of a sample, all groups together.
    image: usize,
    /// Input sizes, two axes at least.
    input: Vec<usize>,
    /// Zeros before each axis.
    pad: Vec<usize>,
    /// Sizes with padding (those of the input if there is none), the last rounded up to whole steps.
    padded: Vec<usize>,
    /// Output pixels of a sample.
    pub pixels: usize,
    /// Output pixels of a line (the last axis).
    pub line: usize,
    /// Step from pixel to pixel along a line of the input.
    step: usize,
    /// Start of the first window of each line in a padded plane.
    pub starts: Vec<usize>,
    /// Offset of each tap in a padded plane.
    pub taps: Vec<usize>,
    /// Taps of a line of the kernel.
    pub taps_line: usize,
    /// Which phases of the step along lines any tap needs.
    phases: Vec<bool>,
    /// Step along the outermost axis.
    stride: usize,
    /// Indices of the outermost axis that a window covers.
    reach: usize,
    /// Input index of the outermost axis, per output line.
    outer: Vec<usize>,
}

/// A part of some planes, padded, and where it came from.
pub(super) struct Band<'a, T> {
    data: &'a [T],
    /// First sample in `data`, its offset there, and the distance of samples.
    first: usize,
    origin: usize,
    image: usize,
    /// Distance of channels.
    plane: usize,
    /// Elements of a plane that were left out before the band.
    skipped: usize,
}

impl Windows {
    /// Windows of `kernel` at all of `output`; the lists have equal lengths.
    pub(super) fn new(
        channels: usize,
        input: &[usize],
        output: &[usize],
        kernel: &[usize],
        pad: &[usize],
        stride: &[usize],
        dilation: &[usize],
    ) -> Windows {
        // Two axes at least: the outermost one is cut into bands, the innermost one into runs.
        let widen = |x: &[usize], with: usize| {
            let mut all = vec![with; 2usize.saturating_sub(x.len())];
            all.extend_from_slice(x);
            all
        };
        let (input, output, kernel) = (widen(input, 1), widen(output, 1), widen(kernel, 1));
        let (pad, stride, dilation) = (widen(pad, 0), widen(stride, 1), widen(dilation, 1));
        // Windows of one element that lie side by side: the plane is one line, and runs are as long as can be.
        let all = |x: &[usize], is: usize| x.iter().all(|&x| x == is);
        let flat = all(&kernel, 1) && all(&stride, 1) && all(&pad, 0);
        let line = |x: Vec<usize>| if flat { vec![1, x.iter().product()] } else { x };
        let ones = |x: Vec<usize>| if flat { x[..2].to_vec() } else { x };
        let (input, output) = (line(input), line(output));
        let (kernel, pad, stride, dilation) = (ones(kernel), ones(pad), ones(stride), ones(dilation));
        let last = input.len() - 1;
        let step = stride[last];
        let mut padded: Vec<usize> = input.iter().zip(&pad).map(|(n, p)| n + 2 * p).collect();
        padded[last] = padded[last].next_multiple_of(step);
        let phase = padded[last] / step;
        let rows = offsets(&kernel[..last], &dilation, &padded);
        // Taps along a line, those of a phase together, so that they can be put back together.
        let along = (0..kernel[last]).map(|i| i * dilation[last]).map(|at| at % step * phase + at / step);
        let taps = rows.iter().flat_map(|row| along.clone().map(move |at| row + at)).collect();
        let starts = offsets(&output[..last], &stride, &padded);
        let outer_lines = starts.len() / output[0].max(1);
        Windows {
            image: channels * input.iter().product::<usize>(),
            pixels: output.iter().product(),
            line: output[last],
            step,
            phases: (0..step).map(|i| (0..kernel[last]).any(|k| k * dilation[last] % step == i)).collect(),
            stride: stride[0],
            taps,
            taps_line: kernel[last],
            reach: (kernel[0] - 1) * dilation[0] + 1,
            outer: (0..starts.len()).map(|line| line / outer_lines * stride[0]).collect(),
            starts,
            input,
            pad,
            padded,
        }
    }

    /// Elements of a plane.
    pub(super) fn plane(&self) -> usize {
        self.input.iter().product()
    }

    /// How far a row of the matrix, channels that are `plane` elements apart, is from the first.
    pub(super) fn tap(&self, row: usize, plane: usize) -> usize {
        row / self.taps.len() * plane + self.taps[row % self.taps.len()]
    }

    /// Elements of a plane with padding.
    pub(super) fn padded_plane(&self) -> usize {
        self.padded.iter().product()
    }

    /// Whether windows are single elements side by side, so that planes are what the product reads.
    pub(super) fn are_planes(&self) -> bool {
        self.taps.len() == 1 && !self.is_padded() && self.pixels == self.plane()
    }

    /// Whether planes must be copied.
    pub(super) fn is_padded(&self) -> bool {
        self.padded != self.input || self.step > 1
    }

    /// Copies indices `outer` of the outermost padded axis of a plane, with zeros around it.
    pub(super) fn pad<T: Real>(&self, plane: &[T], outer: Range<usize>, padded: &mut [T]) {
        let inner: usize = self.padded[1..].iter().product();
        let step: usize = self.input[1..].iter().product();
        for (index, to) in outer.zip(padded.chunks_exact_mut(inner)) {
            // Between windows of a large stride there are lines that nobody reads.
            if index % self.stride >= self.reach {
                continue;
            }
            match index.checked_sub(self.pad[0]).filter(|&i| i < self.input[0]) {
                Some(i) => self.pad_axis(1, &plane[i * step..][..step], to),
                None => to.fill(T::zero()),
            }
        }
    }

    fn pad_axis<T: Real>(&self, axis: usize, from: &[T], to: &mut [T]) {
        let pad = self.pad[axis];
        if axis + 1 == self.input.len() && self.step > 1 {
            let phase = to.len() / self.step;
            for (i, to) in to.chunks_exact_mut(phase).enumerate() {
                if !self.phases[i] {
                    continue;
                }
                let skip = pad.saturating_sub(i).div_ceil(self.step);
                let (before, rest) = to.split_at_mut(skip.min(phase));
                before.fill(T::zero());
                let from = from.get(i + skip * self.step - pad..).unwrap_or_default();
                let count = from.len().div_ceil(self.step).min(rest.len());
                rest[count..].fill(T::zero());
                take_each(from, self.step, &mut rest[..count]);
            }
            return;
        }
        let inner: usize = self.padded[axis + 1..].iter().product();
        let step: usize = self.input[axis + 1..].iter().product();
        let (before, rest) = to.split_at_mut(pad * inner);
        let (middle, after) = rest.split_at_mut(self.input[axis] * inner);
        before.fill(T::zero());
        after.fill(T::zero());
        if axis + 1 == self.input.len() {
            middle.copy_from_slice(from);
        } else {
            for (to, from) in middle.chunks_exact_mut(inner).zip(from.chunks_exact(step)) {
                self.pad_axis(axis + 1, from, to);
            }
        }
    }

    /// Copies what `padded` holds inside its padding to a plane.
    pub(super) fn unpad<T: Real>(&self, padded: &[T], plane: &mut [T]) {
        fn go<T: Real>(w: &Windows, axis: usize, from: &[T], to: &mut [T]) {
            let inner: usize = w.padded[axis + 1..].iter().product();
            let step: usize = w.input[axis + 1..].iter().product();
            if axis + 1 == w.input.len() && w.step > 1 {
                let phase = from.len() / w.step;
                for (i, from) in from.chunks_exact(phase).enumerate() {
                    // The first element of this phase that is not padding.
                    let skip = w.pad[axis].saturating_sub(i).div_ceil(w.step);
                    let to = to.get_mut(i + skip * w.step - w.pad[axis]..).unwrap_or_default();
                    let from = from.get(skip..).unwrap_or_default();
                    to.iter_mut().step_by(w.step).zip(from).for_each(|(to, &x)| *to = x);
                }
                return;
            }
            let from = &from[w.pad[axis] * inner..][..w.input[axis] * inner];
            if axis + 1 == w.input.len() {
                to.copy_from_slice(from);
            } else {
                let lines = to.chunks_exact_mut(step).zip(from.chunks_exact(inner));
                lines.for_each(|(to, from)| go(w, axis + 1, from, to));
            }
        }
        go(self, 0, padded, plane);
    }

    /// Calls `f` with the band that the windows of `pixels` (over all samples) need of some channels.
    fn band<T: Real>(&self, x: &[T], channels: Range<usize>, pixels: Range<usize>, f: impl FnOnce(&Band<T>)) {
        let plane = self.plane();
        if !self.is_padded() {
            let origin = channels.start * plane;
            return f(&Band { data: x, first: 0, origin, image: self.image, plane, skipped: 0 });
        }
        let samples = pixels.start / self.pixels..(pixels.end - 1) / self.pixels + 1;
        let outer = if samples.len() == 1 {
            let first = pixels.start % self.pixels / self.line;
            let last = (pixels.end - 1) % self.pixels / self.line;
            self.outer[first]..self.outer[last] + self.reach
        } else {
            0..self.padded[0]
        };
        let inner: usize = self.padded[1..].iter().product();
        let size = outer.len() * inner;
        scratch(samples.len() * channels.len() * size, |data: &mut [T]| {
            let mut bands = data.chunks_exact_mut(size);
            for sample in samples.clone() {
                for channel in channels.clone() {
                    if let Some(band) = bands.next() {
                        let from = &x[sample * self.image + channel * plane..][..plane];
                        self.pad(from, outer.clone(), band);
                    }
                }
            }
            f(&Band {
                data,
                first: samples.start,
                origin: 0,
                image: channels.len() * size,
                plane: size,
                skipped: outer.start * inner,
            });
        });
    }

    /// The first runs of `pixels` in a band, as many as `runs` holds; returns how many, and how many pixels.
    fn runs<T>(&self, band: &Band<T>, pixels: Range<usize>, runs: &mut [Run]) -> (usize, usize) {
        let (mut sample, pixel) = (pixels.start / self.pixels, pixels.start % self.pixels);
        let (mut line, mut column) = (pixel / self.line, pixel % self.line);
        let (mut lane, mut count) = (0, 0);
        while lane < pixels.len() && count < runs.len() {
            let len = (self.line - column).min(pixels.len() - lane);
            let start = band.origin + (sample - band.first) * band.image + self.starts[line] - band.skipped;
            runs[count] = Run { lane, len, start: start + column, plane: band.plane };
            count += 1;
            lane += len;
            column = 0;
            line += 1;
            if line == self.starts.len() {
                (line, sample) = (0, sample + 1);
            }
        }
        (count, lane)
    }
}

/// Every `step`-th element. Steps that are constants become shuffles of whole vectors.
pub(super) fn take_each<T: Real>(from: &[T], step: usize, to: &mut [T]) {
    fn constant<T: Real, const STEP: usize>(from: &[T], to: &mut [T]) {
        let (groups, rest) = from.as_chunks::<STEP>();
        to.iter_mut().zip(groups).for_each(|(to, group)| *to = group[0]);
        if let (Some(to), Some(&x)) = (to.get_mut(groups.len()), rest.first()) {
            *to = x;
        }
    }
    match step {
        2 => constant::<T, 2>(from, to),
        4 => constant::<T, 4>(from, to),
        _ => to.iter_mut().zip(from.iter().step_by(step)).for_each(|(to, &x)| *to = x),
    }
}

/// Offsets in an array of sizes `sizes` of all indices below `counts`, taken `steps` apart.
pub(super) fn offsets(counts: &[usize], steps: &[usize], sizes: &[usize]) -> Vec<usize> {
    let mut all = vec![0];
    for (axis, (&count, &step)) in counts.iter().zip(steps).enumerate() {
        let inner: usize = sizes[axis + 1..].iter().product();
        all = all.iter().flat_map(|&at| (0..count).map(move |i| at + i * step * inner)).collect();
    }
    all
}

/// Columns of B are pixels, k is (channel, tap): the forward pass.
pub(super) struct Columns<'a, T> {
    pub windows: &'a Windows,
    /// The batch, from the first channel of the group on.
    pub x: &'a [T],
}

impl<T: Real> Source<T> for Columns<'_, T> {
    fn pack(
        &self,
        kernels: &Kernels<T>,
        lanes: Range<usize>,
        k: Range<usize>,
        split: Split,
        block: &mut [T],
    ) {
        let w = self.windows;
        let taps = w.taps.len();
        let channels = k.start / taps..(k.end - 1) / taps + 1;
        let rows = k.start - channels.start * taps..k.end - channels.start * taps;
        w.band(self.x, channels, lanes.clone(), |band| {
            each_panel(
                split,
                lanes.len(),
                rows,
                CHUNK_OF_ROWS,
                block,
                |Panel { start, len, width }, rows, panel| {
                    let mut runs = [Run::default(); 64];
                    let first = lanes.start + start;
                    let (count, _) = w.runs(band, first..first + len, &mut runs);
                    let copy = Copy {
                        image: band.data,
                        runs: &runs[..count],
                        offsets: &w.taps,
                        rows,
                        width,
                        panel: std::ptr::null_mut(),
                    };
                    kernels.copy(&copy, panel);
                },
            );
        });
    }

    fn panel(
        &self,
        kernels: &Kernels<T>,
        lanes: Range<usize>,
        k: Range<usize>,
        width: usize,
        panel: &mut [T],
    ) {
        self.pack(kernels, lanes, k, Split::Columns { lanes: width }, panel);
    }
}

/// Columns of B are (channel, tap), k is pixels: the gradient of the weights.
pub(super) struct Rows<'a, T> {
    pub windows: &'a Windows,
    /// The batch, from the first channel of the group on.
    pub x: &'a [T],
}

impl<T: Real> Source<T> for Rows<'_, T> {
    fn pack(
        &self,
        kernels: &Kernels<T>,
        lanes: Range<usize>,
        k: Range<usize>,
        split: Split,
        block: &mut [T],
    ) {
        let w = self.windows;
        let taps = w.taps.len();
        let channels = lanes.start / taps..(lanes.end - 1) / taps + 1;
        w.band(self.x, channels.clone(), k.clone(), |band| {
            let panels = |Panel { start, len, width }: Panel, k: Range<usize>, panel: &mut [T]| {
                let mut offsets = [0; 64];
                let offsets = &mut offsets[..len];
                for (i, offset) in offsets.iter_mut().enumerate() {
                    let lane = lanes.start + start + i;
                    *offset = (lane / taps - channels.start) * band.plane + w.taps[lane % taps];
                }
                let mut groups = &mut *panel;
                let mut pixel = k.start;
                while pixel < k.end {
                    let mut runs = [Run::default(); 64];
                    let (count, len) = w.runs(band, pixel..k.end, &mut runs);
                    let (here, next) = groups.split_at_mut(len * width);
                    let turn = Turn {
                        data: band.data,
                        lanes: offsets,
                        runs: &runs[..count],
                        width,
                        panel: std::ptr::null_mut(),
                    };
                    kernels.turn(&turn, here);
                    groups = next;
                    pixel += len;
                }
            };
            each_panel(split, lanes.len(), k.clone(), usize::MAX, block, panels);
        });
    }

    fn panel(
        &self,
        kernels: &Kernels<T>,
        lanes: Range<usize>,
        k: Range<usize>,
        width: usize,
        panel: &mut [T],
    ) {
        self.pack(kernels, lanes, k, Split::Columns { lanes: width }, panel);
    }
}
