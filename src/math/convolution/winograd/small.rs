//! Winograd's way for many small images in planes: some images at a time are turned into blocks, worked on as such, and turned back, all in the
//! cache. It pays where channels are few, so that transformations, which are cheaper there, count for more than the turning.

use super::blocked::Work;
use super::{Filters, Images, POINTS, Tiles};
use crate::math::Real;
use crate::math::gemm::Ending;
use crate::math::layout::{to_blocks, to_planes};
use crate::math::parallel::for_each_index;
use crate::math::scratch::scratch;
use crate::math::shared::Shared;
use crate::math::simd::Kernels;

/// Most bytes of an image with all channels, before and after.
const IMAGE_BYTES: usize = 256 << 10;
/// Tiles that are worked on together: whole images of so many, or a few more.
const TILES: usize = 64;

impl Tiles {
    /// Whether images of so many channels are small and fill whole vectors.
    pub(in super::super) fn are_small<T: Real>(&self, kernels: &Kernels<T>, from: usize, to: usize) -> bool {
        let whole = from.is_multiple_of(kernels.lanes()) && to.is_multiple_of(kernels.lanes());
        whole && self.image(from, to) * size_of::<T>() <= IMAGE_BYTES && self.all() > TILES
    }

    /// Whether this way saves time against one of so many cycles on a core with vectors of 16; fitted to readings of 5 × 5 windows on
    /// 32 channels.
    pub(in super::super) fn saves_time_if_small(&self, cycles: f64, from: usize, to: usize) -> bool {
        let (count, from, to) = (self.all() as f64, from as f64, to as f64);
        let turns = count * (from + to) * (20.0 + (self.step * self.step) as f64);
        POINTS as f64 * count * from * to / 20.0 + turns + from * to * 100.0 < 0.95 * cycles
    }

    /// Numbers of an image, before and after.
    fn image(&self, from: usize, to: usize) -> usize {
        from * self.input[0] * self.input[1] + to * self.output[0] * self.output[1]
    }

    /// [`Tiles::convolve`] of [small images](Tiles::are_small), all of whose channels are used.
    pub(in super::super) fn convolve_small<T: Real>(
        &self,
        kernels: &Kernels<T>,
        filters: &Filters<T>,
        x: &Images<&[T]>,
        y: &mut Images<&mut [T]>,
        end: &Ending<T>,
    ) {
        let (from, to) = (filters.from, filters.to);
        let [plane, pixels] = [self.input, self.output].map(|of| of[0] * of[1]);
        assert!(x.image == from * plane && y.image == to * pixels && end.other.is_none());
        let some = TILES.div_ceil(self.count[0] * self.count[1]);
        let out = Shared::new(&mut y.data[..self.batch * y.image]);
        let whole = Work { tiles: self, kernels, filters, x: &[], end, y: Shared::new(&mut []) };
        scratch(whole.filters_len(), |u: &mut [T]| {
            whole.spread_all(u);
            let u = &*u;
            for_each_index(self.batch.div_ceil(some), 1, |task| {
                let images = task * some..((task + 1) * some).min(self.batch);
                let tiles = Tiles { batch: images.len(), ..*self };
                scratch(images.len() * self.image(from, to), |room: &mut [T]| {
                    let (x_blocks, y_blocks) = room.split_at_mut(images.len() * x.image);
                    to_blocks(kernels, &x.data[images.start * x.image..], [from, plane], x_blocks);
                    let y_shared = Shared::new(&mut *y_blocks);
                    Work { tiles: &tiles, kernels, filters, x: x_blocks, end, y: y_shared }.with(u);
                    // SAFETY: no other task has these images.
                    let part = unsafe { out.slice(images.start * y.image..images.end * y.image) };
                    to_planes(kernels, y_blocks, [to, pixels], part);
                });
            });
        });
    }
}
