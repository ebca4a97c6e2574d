//! Depthwise convolutions: each channel has kernels of its own, so there is no matrix product worth the name.
//!
//! A plane is laid out with its pad, rows and columns sorted modulo the stride, in lines of one pitch. Then a tap meets
//! all pixels of a plane in one shifted line, however narrow the plane and whatever the stride. Places between the lines
//! of the output are computed and dropped; where sums run over them, the gradient there is zero.

mod blocks;

use super::Geometry;
use crate::math::Real;
use crate::math::gemm::Ending;
use crate::math::layout::{to_blocks, to_planes};
use crate::math::parallel::for_each_chunk;
use crate::math::scratch::scratch;
use crate::math::simd::{Blend, Dots, Kernels, Lines, vectorised};
use blocks::Walk;

/// Multiply-adds of a task.
const GRAIN: usize = 1 << 17;

/// The plan of a depthwise convolution.
#[derive(Debug)]
pub(super) struct Depthwise {
    /// Outputs of a channel.
    each: usize,
    channels: usize,
    /// Height and width.
    input: [usize; 2],
    output: [usize; 2],
    pad: [usize; 2],
    stride: [usize; 2],
    /// Distance of lines in the layout.
    pitch: usize,
    /// Elements of a phase: the rows and columns of one remainder modulo the stride.
    phase: usize,
    /// Offset of each tap in the layout.
    taps: Vec<usize>,
    /// For each phase its taps, and their offsets in a gradient laid out behind `margin` zeros.
    back: Vec<(Vec<usize>, Vec<usize>)>,
    /// For each phase of the rows, and of the columns: the first one of the image, its place, and how many there are.
    rows: Vec<[usize; 3]>,
    columns: Vec<[usize; 3]>,
    margin: usize,
    /// The same for images in blocks: what outputs read of the image, and gradients of the image of those of the outputs.
    ahead: Walk,
    home: Walk,
}

impl Depthwise {
    /// The plan, if each channel is a group and there are one or two spatial axes.
    pub(super) fn suited(g: &Geometry, output: &[usize]) -> Option<Depthwise> {
        if g.groups != g.channels || g.groups < 2 || !(1..=2).contains(&output.len()) {
            return None;
        }
        let widen = |x: &[usize], with: usize| if let &[a, b] = x { [a, b] } else { [with, x[0]] };
        let (input, output) = (widen(&g.input, 1), widen(output, 1));
        let (kernel, pad) = (widen(&g.kernel, 1), widen(&g.pad, 0));
        let (stride, dilation) = (widen(&g.stride, 1), widen(&g.dilation, 1));
        // Places of a line, and lines: all windows, and all of the image.
        let places = |i: usize| {
            let windows = output[i] + (kernel[i] - 1) * dilation[i] / stride[i];
            windows.max((input[i] + pad[i]).div_ceil(stride[i]))
        };
        let (lines, pitch) = (places(0), places(1));
        let (phase, phases) = (lines * pitch, stride[0] * stride[1]);
        let mut taps = Vec::new();
        let mut back = vec![(Vec::new(), Vec::new()); phases];
        for y in (0..kernel[0]).map(|k| k * dilation[0]) {
            for x in (0..kernel[1]).map(|k| k * dilation[1]) {
                let of = y % stride[0] * stride[1] + x % stride[1];
                let shift = y / stride[0] * pitch + x / stride[1];
                back[of].0.push(taps.len());
                back[of].1.push(shift);
                taps.push(of * phase + shift);
            }
        }
        let shifts = |back: &[(Vec<usize>, Vec<usize>)]| back.iter().flat_map(|b| b.1.clone()).max();
        let margin = shifts(&back).unwrap_or(0);
        back.iter_mut().flat_map(|b| &mut b.1).for_each(|shift| *shift = margin - *shift);
        let inside = |i: usize| {
            let of = |phase: usize| {
                let place = pad[i].saturating_sub(phase).div_ceil(stride[i]);
                let first = place * stride[i] + phase - pad[i];
                [first, place, input[i].saturating_sub(first).div_ceil(stride[i])]
            };
            (0..stride[i]).map(of).collect()
        };
        let (rows, columns) = (inside(0), inside(1));
        let each = g.num_output / g.channels;
        let ahead = Walk::new(output, input, kernel, [[1, 1], stride], |axis, at, tap| {
            (at * stride[axis] + tap * dilation[axis]).checked_sub(pad[axis])
        });
        let home = Walk::new(input, output, kernel, [stride, [1, 1]], |axis, at, tap| {
            let place = (at + pad[axis]).checked_sub(tap * dilation[axis])?;
            place.is_multiple_of(stride[axis]).then(|| place / stride[axis])
        });
        Some(Depthwise {
            each,
            channels: g.channels,
            input,
            output,
            pad,
            stride,
            pitch,
            phase,
            taps,
            back,
            rows,
            columns,
            margin,
            ahead,
            home,
        })
    }

    /// Whether passes may have images in blocks of so many channels.
    pub(super) fn takes_blocks(&self, lanes: usize) -> bool {
        self.each == 1 && self.channels.is_multiple_of(lanes)
    }

    fn plane(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Elements of a plane's layout.
    fn layout(&self) -> usize {
        self.phase * self.back.len()
    }

    /// From the first pixel of the output to the last one, in the layout.
    fn span(&self) -> usize {
        (self.output[0] - 1) * self.pitch + self.output[1]
    }

    /// Planes of a task.
    fn grain(&self) -> usize {
        (GRAIN / (self.layout() * 4 + self.span() * self.taps.len())).max(1)
    }

    /// Lays out a plane of the image.
    #[inline(always)]
    fn lay_out<T: Real>(&self, kernels: &Kernels<T>, plane: &[T], to: &mut [T]) {
        let ([_, width], [down, across], pitch) = (self.input, self.stride, self.pitch);
        for (to, &[first, top, count]) in to.chunks_exact_mut(across * self.phase).zip(&self.rows) {
            for to in to.chunks_exact_mut(self.phase) {
                to[..top * pitch].fill(T::zero());
                to[(top + count) * pitch..].fill(T::zero());
            }
            if count == 0 {
                continue;
            }
            let from = &plane[first * width..];
            if let [[_, before, len]] = self.columns[..] {
                let (from_step, end) = (down * width, None);
                let lines = Lines { from, from_step, len, before, width: pitch, to_step: pitch, count, end };
                kernels.lines(&lines, &mut to[top * pitch..]);
                continue;
            }
            if let [even, odd] = self.columns[..] {
                // Where the pad is odd the first column goes to the second phase.
                let turned = self.pad[1] % 2;
                let (first, second) = to.split_at_mut(self.phase);
                let lines = first[top * pitch..]
                    .chunks_exact_mut(pitch)
                    .zip(second[top * pitch..].chunks_exact_mut(pitch));
                for ((first, second), from) in lines.zip(from.chunks(down * width)).take(count) {
                    for (line, [_, before, len]) in [(&mut *first, even), (&mut *second, odd)] {
                        line[..before].iter_mut().for_each(|x| *x = T::zero());
                        line[before + len..].iter_mut().for_each(|x| *x = T::zero());
                    }
                    let (first, second) =
                        (&mut first[even[1]..even[1] + even[2]], &mut second[odd[1]..odd[1] + odd[2]]);
                    let (first, second) = if turned == 1 { (second, first) } else { (first, second) };
                    kernels.deal(&from[..width], first, second);
                }
                continue;
            }
            for (to, &[left, before, len]) in to.chunks_exact_mut(self.phase).zip(&self.columns) {
                let lines = to[top * pitch..].chunks_exact_mut(pitch).zip(from.chunks(down * width));
                for (line, from) in lines.take(count) {
                    line[..before].fill(T::zero());
                    line[before + len..].fill(T::zero());
                    let from = from[..width].iter().skip(left).step_by(across);
                    line[before..before + len].iter_mut().zip(from).for_each(|(to, &x)| *to = x);
                }
            }
        }
    }

    /// Lays out a plane of the output: lines of one pitch, with zeros between them.
    fn lay_out_gradient<T: Real>(&self, kernels: &Kernels<T>, dy: &[T], to: &mut [T]) {
        let [count, len] = self.output;
        let (pitch, last) = (self.pitch, to.len() - (self.output[0] - 1) * self.pitch);
        let lines = Lines {
            from: dy,
            from_step: len,
            len,
            before: 0,
            width: pitch,
            to_step: pitch,
            count,
            end: None,
        };
        // The last line may be cut off.
        kernels.lines(&Lines { count: count - 1, ..lines }, to);
        let from = &dy[(count - 1) * len..];
        let end = Lines { from, width: last.min(pitch), count: 1, ..lines };
        kernels.lines(&end, &mut to[(count - 1) * pitch..]);
    }

    /// Takes the image out of a layout.
    #[inline(always)]
    fn take_out<T: Real>(&self, kernels: &Kernels<T>, from: &[T], plane: &mut [T]) {
        let [height, width] = self.input;
        let ([down, across], [above, left]) = (self.stride, self.pad);
        if across == 1 {
            for (phase, &[first, top, count]) in self.rows.iter().enumerate() {
                if count == 0 {
                    continue;
                }
                let lines = Lines {
                    from: &from[phase * self.phase + top * self.pitch + left..],
                    from_step: self.pitch,
                    len: width,
                    before: 0,
                    width,
                    to_step: down * width,
                    count,
                    end: None,
                };
                kernels.lines(&lines, &mut plane[first * width..]);
            }
            return;
        }
        for y in 0..height {
            let (phase, line) = ((y + above) % down * across, (y + above) / down * self.pitch);
            let to = &mut plane[y * width..][..width];
            let places = |x: usize| &from[(phase + x % across) * self.phase + line + x / across..];
            if across == 2 {
                kernels.join(places(left), places(left + 1), to);
                continue;
            }
            for x in 0..across.min(width) {
                let to = to[x..].iter_mut().step_by(across);
                to.zip(places(left + x)).for_each(|(to, &x)| *to = x);
            }
        }
    }

    /// `y = end(w * x)`.
    pub(super) fn forward<T: Real>(
        &self,
        kernels: &Kernels<T>,
        x: &[T],
        weights: &[T],
        end: &Ending<T>,
        y: &mut [T],
    ) {
        let (plane, pixels, taps) = (self.plane(), self.pixels(), self.taps.len());
        let outputs = self.channels * self.each;
        for_each_chunk(y, self.grain() * pixels, |offset, y| {
            scratch(self.layout() + self.span(), |buffer: &mut [T]| {
                let (layout, sums) = buffer.split_at_mut(self.layout());
                for (i, y) in y.chunks_exact_mut(pixels).enumerate() {
                    let index = offset / pixels + i;
                    let (channel, output) = (index / self.each, index % outputs);
                    if i == 0 || index % self.each == 0 {
                        vectorised(
                            #[inline(always)]
                            || self.lay_out(kernels, &x[channel * plane..][..plane], layout),
                        );
                    }
                    let weights = &weights[output * taps..][..taps];
                    kernels.blend(&Blend { x: layout, offsets: &self.taps, weights }, sums);
                    let [count, len] = self.output;
                    let value = |of: Option<&[T]>, none: T| of.map_or(none, |of| of[output]);
                    let lines = Lines {
                        from: sums,
                        from_step: self.pitch,
                        len,
                        before: 0,
                        width: len,
                        to_step: len,
                        count,
                        end: Some([value(end.scale, T::one()), value(end.bias, T::zero()), end.floor]),
                    };
                    kernels.lines(&lines, y);
                }
            });
        });
    }

    /// `dx = wᵀ * dy`.
    pub(super) fn backward_data<T: Real>(&self, kernels: &Kernels<T>, weights: &[T], dy: &[T], dx: &mut [T]) {
        let (plane, pixels, taps, each) = (self.plane(), self.pixels(), self.taps.len(), self.each);
        let gradient = self.phase + self.margin;
        for_each_chunk(dx, self.grain() * plane, |offset, dx| {
            scratch(self.layout() + 2 * gradient + taps, |buffer: &mut [T]| {
                let (chosen, buffer) = buffer.split_at_mut(taps);
                let (layout, laid) = buffer.split_at_mut(self.layout());
                let (laid, products) = laid.split_at_mut(gradient);
                laid.fill(T::zero());
                for (i, dx) in dx.chunks_exact_mut(plane).enumerate() {
                    let index = offset / plane + i;
                    for o in 0..each {
                        let w = &weights[(index % self.channels * each + o) * taps..][..taps];
                        let dy = &dy[(index * each + o) * pixels..][..pixels];
                        self.lay_out_gradient(kernels, dy, &mut laid[self.margin..]);
                        let phases = self.back.iter().zip(layout.chunks_exact_mut(self.phase));
                        for ((taps, offsets), layout) in phases {
                            let weights = &mut chosen[..taps.len()];
                            weights.iter_mut().zip(taps).for_each(|(x, &tap)| *x = w[tap]);
                            let blend = Blend { x: laid, offsets, weights };
                            if o == 0 {
                                kernels.blend(&blend, layout);
                                continue;
                            }
                            let products = &mut products[..layout.len()];
                            kernels.blend(&blend, products);
                            layout.iter_mut().zip(&*products).for_each(|(sum, &x)| *sum += x);
                        }
                    }
                    vectorised(
                        #[inline(always)]
                        || self.take_out(kernels, layout, dx),
                    );
                }
            });
        });
    }

    /// `dw += dy * x`.
    pub(super) fn backward_weights<T: Real>(&self, kernels: &Kernels<T>, x: &[T], dy: &[T], dw: &mut [T]) {
        let (plane, pixels, taps) = (self.plane(), self.pixels(), self.taps.len());
        let (outputs, lanes) = (self.channels * self.each, kernels.lanes());
        let samples = x.len() / (self.channels * plane).max(1);
        for_each_chunk(dw, taps, |offset, dw| {
            let output = offset / taps;
            scratch(self.layout() + self.span() + taps * lanes, |buffer: &mut [T]| {
                let (layout, rest) = buffer.split_at_mut(self.layout());
                let (laid, sums) = rest.split_at_mut(self.span());
                sums.fill(T::zero());
                for sample in 0..samples {
                    let x = &x[(sample * self.channels + output / self.each) * plane..][..plane];
                    vectorised(
                        #[inline(always)]
                        || self.lay_out(kernels, x, layout),
                    );
                    let dy = &dy[(sample * outputs + output) * pixels..][..pixels];
                    self.lay_out_gradient(kernels, dy, laid);
                    kernels.dots(&Dots { a: laid, x: layout, offsets: &self.taps }, sums);
                }
                for (dw, sums) in dw.iter_mut().zip(sums.chunks_exact(lanes)) {
                    *dw += sums.iter().copied().sum();
                }
            });
        });
    }

    /// Calls `f` with weights that lie as an image of the taps in blocks.
    fn with_taps<T: Real>(&self, kernels: &Kernels<T>, weights: &[T], f: impl FnOnce(&[T])) {
        scratch(weights.len(), |taps: &mut [T]| {
            to_blocks(kernels, weights, [self.channels, self.taps.len()], taps);
            f(taps);
        });
    }

    /// [`Depthwise::forward`] of images in blocks.
    pub(super) fn forward_blocks<T: Real>(
        &self,
        kernels: &Kernels<T>,
        x: &[T],
        weights: &[T],
        end: &Ending<T>,
        y: &mut [T],
    ) {
        let lanes = kernels.lanes();
        self.with_taps(kernels, weights, |taps| {
            self.ahead.run(kernels, self.channels / lanes, x, taps, end, y)
        });
    }

    /// [`Depthwise::backward_data`], the same.
    pub(super) fn backward_data_blocks<T: Real>(
        &self,
        kernels: &Kernels<T>,
        weights: &[T],
        dy: &[T],
        dx: &mut [T],
    ) {
        let (lanes, none) = (kernels.lanes(), Ending::none());
        self.with_taps(kernels, weights, |taps| {
            self.home.run(kernels, self.channels / lanes, dy, taps, &none, dx);
        });
    }

    /// [`Depthwise::backward_weights`], the same.
    pub(super) fn backward_weights_blocks<T: Real>(
        &self,
        kernels: &Kernels<T>,
        x: &[T],
        dy: &[T],
        dw: &mut [T],
    ) {
        let lanes = kernels.lanes();
        scratch(dw.len(), |laid: &mut [T]| {
            let sizes = [self.channels, self.taps.len()];
            to_blocks(kernels, dw, sizes, laid);
            self.ahead.weights(kernels, self.channels / lanes, x, dy, laid);
            to_planes(kernels, laid, sizes, dw);
        });
    }
}
