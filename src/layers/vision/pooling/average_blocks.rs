//! Mean of each window where the channels of a pixel lie side by side, a vector of them at a time. The pad counts as zeros.

use super::average::share;
use super::axis::Axis;
use crate::math::{Far, Real, scratch, vectorised};

/// `y` = the mean of each window of the blocks `x`, of so many channels each.
pub(super) fn forward<T: Real>(lanes: usize, x: &[T], axes: &[Axis; 2], y: &mut [T]) {
    match lanes {
        2 => means::<T, 2>(x, axes, y),
        4 => means::<T, 4>(x, axes, y),
        8 => means::<T, 8>(x, axes, y),
        _ => means::<T, 16>(x, axes, y),
    }
}

/// `dx` = each gradient of `dy`, spread over its window.
pub(super) fn backward<T: Real>(lanes: usize, dy: &[T], axes: &[Axis; 2], far: &Far<T>, dx: &mut [T]) {
    match lanes {
        2 => spread::<T, 2>(dy, axes, far, dx),
        4 => spread::<T, 4>(dy, axes, far, dx),
        8 => spread::<T, 8>(dy, axes, far, dx),
        _ => spread::<T, 16>(dy, axes, far, dx),
    }
}

fn means<T: Real, const L: usize>(x: &[T], [h, w]: &[Axis; 2], y: &mut [T]) {
    let (x, y) = (x.as_chunks::<L>().0, y.as_chunks_mut::<L>().0);
    let tops = y.chunks_exact_mut(h.output * w.output);
    vectorised(
        #[inline(always)]
        || {
            for (x, y) in x.chunks_exact(h.input * w.input).zip(tops) {
                for (i, y) in y.iter_mut().enumerate() {
                    let (p, q) = (i / w.output, i % w.output);
                    let columns = w.range(q);
                    // Sums of more than a line are kept in double precision.
                    let mut sums = [0.0; L];
                    for row in h.range(p) {
                        let mut line = [T::zero(); L];
                        for x in &x[row * w.input..][columns.clone()] {
                            line.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
                        }
                        sums.iter_mut().zip(line).for_each(|(sum, x)| *sum += x.as_f64());
                    }
                    let part: T = share(h.padded_len(p), w, q);
                    y.iter_mut().zip(sums).for_each(|(y, sum)| *y = T::from_f64(sum) * part);
                }
            }
        },
    );
}

fn spread<T: Real, const L: usize>(dy: &[T], [h, w]: &[Axis; 2], far: &Far<T>, dx: &mut [T]) {
    let (plane, line) = (h.input * w.input, w.input);
    let tops = dy.as_chunks::<L>().0.chunks_exact(h.output * w.output);
    scratch((plane + line) * L, |aside: &mut [T]| {
        let (whole, aside) = aside.split_at_mut(plane * L);
        vectorised(
            #[inline(always)]
            || {
                for (dx, dy) in dx.chunks_exact_mut(plane * L).zip(tops) {
                    whole.fill(T::zero());
                    for (p, dy) in dy.chunks_exact(w.output).enumerate() {
                        // What a row of windows adds is the same for each of its rows of pixels.
                        let height = h.padded_len(p);
                        aside.fill(T::zero());
                        let pixels = aside.as_chunks_mut::<L>().0;
                        for (q, dy) in dy.iter().enumerate() {
                            let part: T = share(height, w, q);
                            let each: [T; L] = std::array::from_fn(|i| dy[i] * part);
                            for pixel in &mut pixels[w.range(q)] {
                                pixel.iter_mut().zip(each).for_each(|(x, each)| *x += each);
                            }
                        }
                        let rows = h.range(p);
                        let rows = &mut whole[rows.start * line * L..rows.end * line * L];
                        for row in rows.chunks_exact_mut(line * L) {
                            row.iter_mut().zip(&*aside).for_each(|(x, &each)| *x += each);
                        }
                    }
                    far.copy(whole, dx);
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::super::average;
    use super::super::tests::{WINDOWS, shape, turn};
    use super::*;
    use crate::testing::assert_close;

    #[test]
    fn blocks_agree_with_planes() {
        for (lanes, axes) in WINDOWS.map(shape) {
            let [height, width] = axes.map(|a| a.input);
            let (pixels, windows) = (height * width, axes[0].output * axes[1].output);
            let channels = 2 * lanes;
            let value = |i: usize| ((i * 37 + i / 13) % 19) as f64 - 9.0;
            let x: Vec<f64> = (0..channels * pixels).map(value).collect();
            let dy: Vec<f64> = (0..channels * windows).map(value).collect();
            let (mut y, mut dx) = (vec![f64::NAN; dy.len()], vec![f64::NAN; x.len()]);
            average::forward(&x, &axes, &mut y);
            for i in 0..channels {
                let dx = &mut dx[i * pixels..][..pixels];
                average::backward(&dy[i * windows..][..windows], &axes, dx);
            }
            // Through the caches and past them, as large blobs are written.
            for far in [Far::of(0), Far::of(1 << 20)] {
                let (mut y_laid, mut dx_laid) = (vec![f64::NAN; y.len()], vec![f64::NAN; x.len()]);
                forward(lanes, &turn(&x, lanes, pixels, true), &axes, &mut y_laid);
                backward(lanes, &turn(&dy, lanes, windows, true), &axes, &far, &mut dx_laid);
                assert_close(&turn(&y_laid, lanes, windows, false), &y, 1e-12);
                assert_close(&turn(&dx_laid, lanes, pixels, false), &dx, 1e-12);
            }
        }
    }
}
