//! Gradients of weights for images in planes that are turned into blocks, some at a time.
//!
//! Patches of blocks need no lane to move, which saves more than the turning costs wherever channels nearly fill vectors.

use super::blocked_weights::Work;
use super::{Images, Tiles};
use crate::math::Real;
use crate::math::gemm::product::Cut;
use crate::math::layout::to_blocks;
use crate::math::scratch::scratch;
use crate::math::simd::Kernels;
use std::ops::Range;

impl Tiles {
    /// `dw += Σ dy * x` over tiles; filters from `channels` to `outputs` channels, dense.
    pub(in super::super) fn weights_turned<T: Real>(
        &self,
        kernels: &Kernels<T>,
        [channels, outputs]: [usize; 2],
        x: &Images<&[T]>,
        dy: &Images<&[T]>,
        dw: &mut [T],
    ) {
        let [from, to] = [channels, outputs].map(|n| n.next_multiple_of(kernels.lanes()));
        let [plane, pixels] = [self.input, self.output].map(|of| of[0] * of[1]);
        let with_images = |images: Range<usize>, f: &dyn Fn(&Work<T>)| {
            let tiles = Tiles { batch: images.len(), ..*self };
            let [of_x, of_dy] = [from * plane, to * pixels];
            scratch(images.len() * (of_x + of_dy), |room: &mut [T]| {
                let (x_blocks, dy_blocks) = room.split_at_mut(images.len() * of_x);
                turn(kernels, x, &images, [channels, plane], x_blocks);
                turn(kernels, dy, &images, [outputs, pixels], dy_blocks);
                f(&Work { tiles: &tiles, kernels, channels, outputs, from, to, x: x_blocks, dy: dy_blocks });
            });
        };
        if self.all() == 0 {
            return;
        }
        assert!(x.data.len() >= (self.batch - 1) * x.image + channels * plane);
        assert!(dy.data.len() >= (self.batch - 1) * dy.image + outputs * pixels);
        let whole = Work { tiles: self, kernels, channels, outputs, from, to, x: &[], dy: &[] };
        let (each, dw) = (whole.group_len(), whole.filters(dw));
        if whole.is_few() {
            return with_images(0..self.batch, &|work| work.once(&dw));
        }
        let some = (each / (self.count[0] * self.count[1])).max(1);
        let images = Cut::new(self.batch, self.batch, some, 1);
        whole.in_turn(images.count(), &dw, |i, sums, adds| {
            with_images(images.block(i), &|work| {
                let groups = Cut::new(work.tiles.all(), work.tiles.all(), each, 1);
                for i in 0..groups.count() {
                    work.group(&groups.block(i), sums, adds || i > 0);
                }
            });
        });
    }
}

/// Turns some images of a batch into blocks, the last of which is filled up with zeros.
fn turn<T: Real>(
    kernels: &Kernels<T>,
    of: &Images<&[T]>,
    images: &Range<usize>,
    [channels, pixels]: [usize; 2],
    to: &mut [T],
) {
    if of.image == channels * pixels {
        return to_blocks(kernels, &of.data[images.start * of.image..], [channels, pixels], to);
    }
    let len = to.len() / images.len();
    for (to, image) in to.chunks_exact_mut(len).zip(images.clone()) {
        to_blocks(kernels, &of.data[image * of.image..], [channels, pixels], to);
    }
}
