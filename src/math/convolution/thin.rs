//! Windows of one element with a stride: only every so many elements of the bottom count, so those are taken out first
//! and the rest is a convolution with stride 1.

use super::Geometry;
use super::windows::{offsets, take_each};
use crate::math::Real;
use crate::math::far::Far;
use crate::math::parallel::for_each_chunk;
use crate::math::scratch::scratch;

/// Elements worth a thread.
const GRAIN: usize = 1 << 15;

/// Which elements of a plane count.
#[derive(Debug)]
pub(super) struct Thin {
    /// Start of each output line in a plane of the bottom.
    starts: Vec<usize>,
    /// Distance of the elements of a line.
    step: usize,
    /// Elements of a line of the output, of a plane of it, and of a line and a plane of the bottom.
    line: usize,
    pixels: usize,
    width: usize,
    plane: usize,
}

impl Thin {
    /// For kernels of one element, without padding, with a stride.
    pub(super) fn suited(g: &Geometry, output: &[usize]) -> Option<Thin> {
        let all = |x: &[usize], is: usize| x.iter().all(|&x| x == is);
        if !all(&g.kernel, 1) || !all(&g.pad, 0) || all(&g.stride, 1) {
            return None;
        }
        let (&line, outer) = output.split_last()?;
        Some(Thin {
            starts: offsets(outer, &g.stride, &g.input),
            step: *g.stride.last()?,
            line,
            pixels: output.iter().product(),
            width: *g.input.last()?,
            plane: g.input.iter().product(),
        })
    }

    /// The same convolution on what is left.
    pub(super) fn rest(g: &Geometry, output: &[usize]) -> Geometry {
        Geometry { input: output.to_vec(), stride: vec![1; output.len()], ..g.clone() }
    }

    /// Elements that are left of `len` of the bottom.
    pub(super) fn left(&self, len: usize) -> usize {
        len / self.plane.max(1) * self.pixels
    }

    /// Takes out what counts.
    pub(super) fn take<T: Real>(&self, x: &[T], left: &mut [T]) {
        for_each_chunk(left, self.grain(), |offset, left| {
            let planes = x[offset / self.pixels * self.plane..].chunks_exact(self.plane);
            for (left, plane) in left.chunks_exact_mut(self.pixels).zip(planes) {
                for (left, &start) in left.chunks_exact_mut(self.line).zip(&self.starts) {
                    take_each(&plane[start..][..(self.line - 1) * self.step + 1], self.step, left);
                }
            }
        });
    }

    /// The same where channels lie in blocks of so many lanes.
    pub(super) fn take_blocks<T: Real>(&self, lanes: usize, x: &[T], left: &mut [T]) {
        match lanes {
            2 => self.take_pixels::<T, 2>(x, left),
            4 => self.take_pixels::<T, 4>(x, left),
            8 => self.take_pixels::<T, 8>(x, left),
            _ => self.take_pixels::<T, 16>(x, left),
        }
    }

    fn take_pixels<T: Real, const L: usize>(&self, x: &[T], left: &mut [T]) {
        for_each_chunk(
            left,
            self.grain() * L,
            #[inline(always)]
            |offset, left| {
                let blocks = x[offset / self.pixels * self.plane..].as_chunks::<L>().0;
                let left = left.as_chunks_mut::<L>().0.chunks_exact_mut(self.pixels);
                for (left, block) in left.zip(blocks.chunks_exact(self.plane)) {
                    for (left, &start) in left.chunks_exact_mut(self.line).zip(&self.starts) {
                        let pixels = block[start..].iter().step_by(self.step);
                        left.iter_mut().zip(pixels).for_each(|(left, x)| *left = *x);
                    }
                }
            },
        );
    }

    /// Puts it back, with zeros between.
    pub(super) fn put<T: Real>(&self, left: &[T], x: &mut [T]) {
        for_each_chunk(x, self.grain() / self.pixels * self.plane, |offset, x| {
            let left = left[offset / self.plane * self.pixels..].chunks_exact(self.pixels);
            for (plane, left) in x.chunks_exact_mut(self.plane).zip(left) {
                plane.fill(T::zero());
                for (left, &start) in left.chunks_exact(self.line).zip(&self.starts) {
                    plane[start..].iter_mut().step_by(self.step).zip(left).for_each(|(x, &left)| *x = left);
                }
            }
        });
    }

    /// The same where channels lie in blocks of so many lanes.
    pub(super) fn put_blocks<T: Real>(&self, lanes: usize, left: &[T], x: &mut [T]) {
        match lanes {
            2 => self.put_pixels::<T, 2>(left, x),
            4 => self.put_pixels::<T, 4>(left, x),
            8 => self.put_pixels::<T, 8>(left, x),
            _ => self.put_pixels::<T, 16>(left, x),
        }
    }

    fn put_pixels<T: Real, const L: usize>(&self, left: &[T], x: &mut [T]) {
        let (len, width) = (x.len(), self.width * L);
        for_each_chunk(
            x,
            self.grain() / self.pixels * self.plane * L,
            #[inline(always)]
            |offset, x| {
                let left = left[offset / self.plane * self.pixels..].as_chunks::<L>().0;
                let far = Far::of(len);
                // A line without elements that count, and one of which only those are written anew.
                scratch(2 * width, |lines: &mut [T]| {
                    lines.fill(T::zero());
                    let (zeros, line) = lines.split_at_mut(width);
                    for (block, left) in
                        x.chunks_exact_mut(self.plane * L).zip(left.chunks_exact(self.pixels))
                    {
                        let mut rows = self.starts.iter().zip(left.chunks_exact(self.line)).peekable();
                        for (i, to) in block.chunks_exact_mut(width).enumerate() {
                            let Some((_, left)) = rows.next_if(|(start, _)| **start == i * self.width) else {
                                far.copy(zeros, to);
                                continue;
                            };
                            let pixels = line.as_chunks_mut::<L>().0.iter_mut().step_by(self.step);
                            pixels.zip(left).for_each(|(x, left)| *x = *left);
                            far.copy(line, to);
                        }
                    }
                });
            },
        );
    }

    /// Elements of whole planes of the output.
    fn grain(&self) -> usize {
        GRAIN.div_ceil(self.plane) * self.pixels
    }
}
