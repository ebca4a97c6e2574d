//! How the numbers of images lie: in planes, as all users see them, or with the channels of a pixel side by side.

use super::Real;
use super::far::Far;
use super::gemm::pack::transpose;
use super::parallel::{for_each_chunk, for_each_index};
use super::scratch::scratch;
use super::shared::Shared;
use super::simd::{self, Isa, Kernels, Run, Turn, vectorised};
use std::ops::Range;

/// How the numbers of a batch of images lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// `image × channel × pixel`.
    #[default]
    Planes,
    /// `image × block × pixel × lane`: blocks of as many channels as a vector of this processor has lanes.
    Blocks,
}

impl Layout {
    /// Channels of a pixel that lie side by side: 1 in planes.
    pub fn lanes<T: Real>(self) -> usize {
        match self {
            Layout::Planes => 1,
            Layout::Blocks => simd::kernels::<T>(Isa::detect()).lanes(),
        }
    }
}

/// How the numbers that a forward pass reads and writes lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layouts {
    /// The bottom.
    pub bottom: Layout,
    /// What is added ([`Ending::other`](super::Ending)).
    pub other: Layout,
    /// The top.
    pub top: Layout,
}

/// Writes pixels of the first `count` channels of a block, one vector after another, into planes of so many numbers from `to` on.
///
/// # Safety
/// As many neighbouring numbers of each of these planes are good for writing, and nobody else uses them.
pub(super) unsafe fn turn_back<T: Real>(
    kernels: &Kernels<T>,
    from: &[T],
    count: usize,
    plane: usize,
    to: *mut T,
) {
    let lanes = kernels.lanes();
    let starts: [usize; 16] = std::array::from_fn(|i| i * lanes);
    for (i, data) in from.chunks(lanes * lanes).enumerate() {
        let runs = &[Run { len: count, ..Run::default() }];
        let lanes_of = &starts[..data.len() / lanes];
        let turn = Turn { data, lanes: lanes_of, runs, width: plane, panel: to.wrapping_add(i * lanes) };
        // SAFETY: the data hold a vector for each lane; the rest is promised by the caller.
        unsafe { kernels.turn_at(&turn) };
    }
}

/// How a batch of so many channels and pixels is cut into blocks, the last of each image with as many channels as are left.
struct Blocks {
    channels: usize,
    pixels: usize,
    lanes: usize,
}

impl Blocks {
    /// Blocks of an image.
    fn count(&self) -> usize {
        self.channels.div_ceil(self.lanes)
    }

    /// Numbers of a block.
    fn len(&self) -> usize {
        self.lanes * self.pixels
    }

    /// Blocks that are worth a thread.
    fn grain(&self) -> usize {
        (1usize << 13).div_ceil(self.len().max(1))
    }

    /// Where the planes of a block of the batch begin, and how many there are.
    fn planes(&self, nth: usize) -> (usize, usize) {
        let (image, first) = (nth / self.count(), nth % self.count() * self.lanes);
        ((image * self.channels + first) * self.pixels, self.lanes.min(self.channels - first))
    }
}

/// Turns a batch of so many channels and pixels from planes into blocks, the last of which is filled up with zeros.
pub(crate) fn to_blocks<T: Real>(
    kernels: &Kernels<T>,
    from: &[T],
    [channels, pixels]: [usize; 2],
    to: &mut [T],
) {
    let lanes = kernels.lanes();
    let blocks = Blocks { channels, pixels, lanes };
    for_each_chunk(to, blocks.grain() * blocks.len(), |at, to| {
        for (i, to) in to.chunks_exact_mut(blocks.len()).enumerate() {
            let (start, count) = blocks.planes(at / blocks.len() + i);
            if count < lanes {
                to.fill(T::zero());
            }
            transpose(kernels, &from[start..], pixels, count, pixels, lanes, to);
        }
    });
}

/// Turns it back.
pub(crate) fn to_planes<T: Real>(
    kernels: &Kernels<T>,
    from: &[T],
    [channels, pixels]: [usize; 2],
    to: &mut [T],
) {
    let blocks = Blocks { channels, pixels, lanes: kernels.lanes() };
    let batch = to.len() / (channels * pixels).max(1);
    let to = Shared::new(to);
    for_each_index(batch * blocks.count(), blocks.grain(), |nth| {
        let (start, count) = blocks.planes(nth);
        let part = to.part(start, count * pixels);
        // SAFETY: the part holds the planes in use of a block, which no other task has.
        unsafe { turn_back(kernels, &from[nth * blocks.len()..][..blocks.len()], count, pixels, part.at(0)) };
    });
}

/// Numbers of all channels of a piece: several such should stay in the second-level cache.
const PIECE: usize = 32 << 10;

/// Images of so many channels and pixels each.
#[derive(Clone, Copy)]
pub(crate) struct Images<'a, T> {
    pub data: &'a [T],
    pub layout: Layout,
}

/// Calls `f` with pieces of a batch, some pixels of all channels of an image each: those of `from` in planes of so many pixels, and as much
/// room `R` times, the first of which is for those of `to`. Each may lie as it likes.
pub(crate) fn for_each_piece<T: Real, const N: usize, const R: usize>(
    [channels, pixels]: [usize; 2],
    from: [Images<T>; N],
    (to, layout): (&mut [T], Layout),
    f: impl Fn([&[T]; N], [&mut [T]; R], usize) + Sync,
) {
    let kernels = simd::kernels::<T>(Isa::detect());
    let image = channels * pixels;
    if to.is_empty() {
        return;
    }
    assert!(from.iter().all(|from| from.data.len() >= to.len()));
    let each = (PIECE / channels.max(1)).next_multiple_of(64);
    let pieces = pixels.div_ceil(each);
    let (len, tasks) = (to.len(), to.len() / image * pieces);
    let to = Shared::new(to);
    for_each_index(tasks, 1, |task| {
        let (start, first) = (task / pieces * image, task % pieces * each);
        let part = first..(first + each).min(pixels);
        let size = channels * part.len();
        scratch((N + R) * size, |room: &mut [T]| {
            let (read, rooms) = room.split_at_mut(N * size);
            for (from, planes) in from.iter().zip(read.chunks_exact_mut(size)) {
                load(kernels, &from.data[start..][..image], from.layout, pixels, &part, planes);
            }
            let read: [&[T]; N] = std::array::from_fn(|i| &read[i * size..][..size]);
            let mut rest = &mut *rooms;
            let written: [&mut [T]; R] = std::array::from_fn(|_| {
                let (first, others) = std::mem::take(&mut rest).split_at_mut(size);
                rest = others;
                first
            });
            vectorised(
                #[inline(always)]
                || f(read, written, part.len()),
            );
            // SAFETY: no other task has these pixels of this image.
            unsafe {
                store(kernels, &Far::of(len), &rooms[..size], &to.part(start, image), layout, pixels, &part)
            };
        });
    });
}

/// Copies some pixels of an image to planes of their own.
fn load<T: Real>(
    kernels: &Kernels<T>,
    image: &[T],
    layout: Layout,
    pixels: usize,
    part: &Range<usize>,
    planes: &mut [T],
) {
    if layout == Layout::Planes {
        for (to, from) in planes.chunks_exact_mut(part.len()).zip(image.chunks_exact(pixels)) {
            to.copy_from_slice(&from[part.clone()]);
        }
        return;
    }
    let lanes = kernels.lanes();
    let blocks = image.chunks_exact(lanes * pixels);
    for (to, from) in planes.chunks_exact_mut(lanes * part.len()).zip(blocks) {
        let from = &from[part.start * lanes..part.end * lanes];
        // SAFETY: `to` holds the planes of a block.
        unsafe { turn_back(kernels, from, lanes, part.len(), to.as_mut_ptr()) };
    }
}

/// The way back.
///
/// # Safety
/// Nobody else uses these pixels of the image.
unsafe fn store<T: Real>(
    kernels: &Kernels<T>,
    far: &Far<T>,
    planes: &[T],
    image: &Shared<T>,
    layout: Layout,
    pixels: usize,
    part: &Range<usize>,
) {
    let lanes = if layout == Layout::Blocks { kernels.lanes() } else { 1 };
    for (i, from) in planes.chunks_exact(lanes * part.len()).enumerate() {
        let pixels = i * pixels + part.start..i * pixels + part.end;
        // SAFETY: promised by the caller.
        let to = unsafe { image.slice(pixels.start * lanes..pixels.end * lanes) };
        match layout {
            Layout::Planes => far.copy(from, to),
            Layout::Blocks => far.write(to, |at, to| {
                transpose(kernels, &from[at / lanes..], part.len(), lanes, to.len() / lanes, lanes, to);
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that lie in blocks, or from there back.
    fn laid(x: &[f64], [channels, pixels]: [usize; 2], layout: Layout, forth: bool) -> Vec<f64> {
        let kernels = simd::kernels::<f64>(Isa::detect());
        let mut to = x.to_vec();
        match (layout, forth) {
            (Layout::Planes, _) => (),
            (Layout::Blocks, true) => to_blocks(kernels, x, [channels, pixels], &mut to),
            (Layout::Blocks, false) => to_planes(kernels, x, [channels, pixels], &mut to),
        }
        to
    }

    #[test]
    fn blocks_hold_the_channels_of_a_pixel_side_by_side() {
        let (lanes, pixels) = (Layout::Blocks.lanes::<f64>(), 7);
        for channels in [2 * lanes, 2 * lanes - 1] {
            let kernels = simd::kernels::<f64>(Isa::detect());
            let x: Vec<f64> = (0..3 * channels * pixels).map(|i| i as f64 + 1.0).collect();
            let mut blocks = vec![f64::NAN; 3 * 2 * lanes * pixels];
            to_blocks(kernels, &x, [channels, pixels], &mut blocks);
            for (i, &number) in blocks.iter().enumerate() {
                let (block, pixel) = (i / lanes / pixels, i / lanes % pixels);
                let (image, channel) = (block / 2, block % 2 * lanes + i % lanes);
                let expected =
                    if channel < channels { x[(image * channels + channel) * pixels + pixel] } else { 0.0 };
                assert_eq!(number, expected, "number {i} of {channels} channels");
            }
            let mut back = vec![f64::NAN; x.len()];
            to_planes(kernels, &blocks, [channels, pixels], &mut back);
            assert_eq!(back, x, "{channels} channels");
        }
    }

    #[test]
    fn pieces_are_planes_however_images_lie() {
        // The last batch is written past the caches.
        for (batch, pixels) in [(2, 9), (1, 5000), (3, 11000)] {
            let channels = 16;
            let sizes = [channels, pixels];
            let x: Vec<f64> = (0..batch * channels * pixels).map(|i| (i * 31 % 1009) as f64).collect();
            let layouts = [Layout::Planes, Layout::Blocks];
            for (bottom, top) in layouts.into_iter().flat_map(|bottom| layouts.map(|top| (bottom, top))) {
                let data = laid(&x, sizes, bottom, true);
                let mut y = vec![f64::NAN; x.len()];
                let from =
                    [Images { data: &data, layout: bottom }, Images { data: &x, layout: Layout::Planes }];
                for_each_piece(sizes, from, (&mut y, top), |[a, b], [to, _aside], len| {
                    assert!(a.len() == channels * len && to.len() == a.len());
                    to.iter_mut().zip(a.iter().zip(b)).for_each(|(to, (a, b))| *to = 1000.0 * a + b);
                });
                let expected: Vec<f64> = x.iter().map(|x| 1001.0 * x).collect();
                assert!(laid(&y, sizes, top, false) == expected, "{batch} images from {bottom:?} to {top:?}");
            }
        }
    }
}
