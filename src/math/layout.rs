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

/// Blocks of an image to turn that are worth a thread.
fn turn_grain(len: usize) -> usize {
    (1usize << 13).div_ceil(len)
}

/// Turns a batch of so many channels and pixels from planes into blocks, the last of which is filled up with zeros.
pub(crate) fn to_blocks<T: Real>(
    kernels: &Kernels<T>,
    from: &[T],
    [channels, pixels]: [usize; 2],
    to: &mut [T],
) {
    let (lanes, blocks) = (kernels.lanes(), channels.div_ceil(kernels.lanes()));
    let len = lanes * pixels;
    for_each_chunk(to, turn_grain(len) * len, |at, to| {
        for (i, to) in to.chunks_exact_mut(len).enumerate() {
            let (image, first) = ((at / len + i) / blocks, (at / len + i) % blocks * lanes);
            let count = lanes.min(channels - first);
            if count < lanes {
                to.fill(T::zero());
            }
            let from = &from[(image * channels + first) * pixels..];
            transpose(kernels, from, pixels, count, pixels, lanes, to);
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
    let (lanes, blocks) = (kernels.lanes(), channels.div_ceil(kernels.lanes()));
    let len = lanes * pixels;
    let batch = to.len() / (channels * pixels).max(1);
    let to = Shared::new(to);
    for_each_index(batch * blocks, turn_grain(len), |nth| {
        let (image, first) = (nth / blocks, nth % blocks * lanes);
        let count = lanes.min(channels - first);
        let part = to.part((image * channels + first) * pixels, count * pixels);
        // SAFETY: the part holds the planes in use of a block, which no other task has.
        unsafe { turn_back(kernels, &from[nth * len..][..len], count, pixels, part.at(0)) };
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
