//! Largest values where the channels of a pixel lie side by side, a vector of them at a time.
//!
//! Here `taps` holds the number of the tap that won, not an index in the plane: a byte instead of four to write and to read.

use super::axis::Axis;
use crate::math::{Far, Kernels, Largest, LargestBack, Real, Series, scratch};

/// Longest sides of windows.
const MOST: usize = 8;

/// What the windows of a plane read, and where its pixels are read.
pub(super) struct Walk {
    /// Height and width of the plane, and of its windows.
    pixels: [usize; 2],
    windows: [usize; 2],
    /// Pixels that a line of windows reads anew for each window.
    fresh: usize,
    ahead: Reads,
    back: Reads,
}

/// For each line where the rows of taps begin: their numbers, and what they read; and its pixels with the taps of such a row.
struct Reads {
    rows: Vec<Vec<[usize; 2]>>,
    series: Vec<Series>,
}

impl Walk {
    /// None where windows are not of this kind.
    pub(super) fn new([h, w]: &[Axis; 2]) -> Option<Walk> {
        if [h, w].iter().any(|a| a.kernel > MOST || a.stride > a.kernel) {
            return None;
        }
        let rows = |reads: Vec<[usize; 2]>, width: usize| -> Vec<[usize; 2]> {
            reads.into_iter().map(|[tap, line]| [tap * w.kernel, line * width]).collect()
        };
        Some(Walk {
            pixels: [h.input, w.input],
            windows: [h.output, w.output],
            fresh: h.stride * w.stride,
            ahead: Reads {
                rows: (0..h.output).map(|p| rows(taps(h, p), w.input)).collect(),
                series: Series::list(w.output, 1, w.stride, |q| taps(w, q)),
            },
            back: Reads {
                rows: (0..h.input).map(|row| rows(readers(h, row), w.output)).collect(),
                series: Series::list(w.input, w.stride, 1, |column| readers(w, column)),
            },
        })
    }

    /// Numbers of a plane of pixels, and of one of windows.
    fn planes(&self, lanes: usize) -> [usize; 2] {
        [self.pixels, self.windows].map(|[height, width]| height * width * lanes)
    }

    /// `y` = the largest value of each window of the blocks `x`; `taps` says where it was: the first one in reading order. A NaN
    /// counts as largest, so that it is not hidden. `gated`: nobody gets the gradients of values that are not positive.
    pub(super) fn forward<T: Real>(
        &self,
        kernels: &Kernels<T>,
        x: &[T],
        gated: bool,
        far: &Far<T>,
        y: &mut [T],
        taps: &mut [u8],
    ) {
        let [inside, outside] = self.planes(kernels.lanes());
        let tops = y.chunks_exact_mut(outside).zip(taps.chunks_exact_mut(outside));
        for (x, (y, taps)) in x.chunks_exact(inside).zip(tops) {
            kernels.largest(Largest {
                rows: &self.ahead.rows,
                series: &self.ahead.series,
                x,
                pitch: self.pixels[1],
                fresh: self.fresh,
                y,
                taps,
                width: self.windows[1],
                gated,
                far: far.streams(),
            });
        }
    }

    /// `dx` = the gradient `dy` of each window at the value that forward took, or of nobody.
    pub(super) fn backward<T: Real>(
        &self,
        kernels: &Kernels<T>,
        dy: &[T],
        taps: &[u8],
        far: &Far<T>,
        dx: &mut [T],
    ) {
        let [inside, outside] = self.planes(kernels.lanes());
        let tops = dy.chunks_exact(outside).zip(taps.chunks_exact(outside));
        scratch(self.pixels[1] * kernels.lanes(), |line: &mut [T]| {
            for (dx, (dy, taps)) in dx.chunks_exact_mut(inside).zip(tops) {
                kernels.largest_back(LargestBack {
                    rows: &self.back.rows,
                    series: &self.back.series,
                    dy,
                    taps,
                    dx,
                    width: self.pixels[1],
                    line: far.streams().then_some(&mut *line),
                });
            }
        });
    }
}

/// The taps of window `p` in the image with what they read, the first one first.
fn taps(axis: &Axis, p: usize) -> Vec<[usize; 2]> {
    axis.range(p).map(|at| [at + axis.pad - p * axis.stride, at]).collect()
}

/// The windows that read pixel `at`, the first one first, each behind its tap that does.
fn readers(axis: &Axis, at: usize) -> Vec<[usize; 2]> {
    let at = at + axis.pad;
    let first = (at + 1).saturating_sub(axis.kernel).div_ceil(axis.stride);
    let end = (at / axis.stride + 1).min(axis.output);
    (first..end).map(|p| [at - p * axis.stride, p]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::max;
    use super::super::tests::{WINDOWS, shape, turn};
    use super::*;
    use crate::math::{Isa, NOBODY};
    use crate::proto::caffe::pooling_parameter::RoundMode;

    /// Calls `f` for each instruction set of this processor.
    fn everywhere(f: impl Fn(Isa, &Kernels<f64>)) {
        let isas = Isa::ALL.into_iter().filter(|isa| isa.is_available());
        isas.for_each(|isa| f(isa, f64::kernels(isa)));
    }

    #[test]
    fn blocks_agree_with_planes() {
        everywhere(|isa, kernels| {
            for (_, axes) in WINDOWS.map(shape) {
                if let Some(walk) = Walk::new(&axes) {
                    check(isa, kernels, &walk, &axes);
                }
            }
        });
    }

    fn check(isa: Isa, kernels: &Kernels<f64>, walk: &Walk, axes: &[Axis; 2]) {
        let lanes = kernels.lanes();
        let [(height, kernel, stride, pad), (width, ..)] = axes.map(|a| (a.input, a.kernel, a.stride, a.pad));
        let (pixels, windows) = (height * width, axes[0].output * axes[1].output);
        let channels = 2 * lanes;
        // Equal values, and whole windows of -∞.
        let value = |i: usize| ((i * 37 + i / 13) % 19) as f64 - 9.0;
        let x: Vec<f64> = (0..channels * pixels)
            .map(|i| if i / pixels % 3 == 1 { f64::NEG_INFINITY } else { value(i) })
            .collect();
        let (mut y, mut at) = (vec![0.0; channels * windows], vec![0; channels * windows]);
        max::forward(&x, axes, &mut y, &mut at);
        // Some windows whose gradients nobody gets.
        let nobody = |i: usize| i % 7 == 3;
        let dy: Vec<f64> = (0..y.len()).map(value).collect();
        let got: Vec<f64> = dy.iter().enumerate().map(|(i, &dy)| if nobody(i) { 0.0 } else { dy }).collect();
        let mut dx = vec![f64::NAN; x.len()];
        for i in 0..channels {
            let windows = i * windows..(i + 1) * windows;
            max::backward(&got[windows.clone()], &at[windows], &mut dx[i * pixels..][..pixels]);
        }
        let what = format!("{isa:?}, {height} x {width}, window {kernel}/{stride}/{pad}");
        let (x, dy) = (turn(&x, lanes, pixels, true), turn(&dy, lanes, windows, true));
        // Through the caches and past them, as large blobs are written: at a whole line of memory, and not.
        for (far, skip) in [(Far::of(0), 0), (Far::of(1 << 20), 0), (Far::of(1 << 20), 1)] {
            scratch(y.len() + x.len() + 65, |room: &mut [f64]| {
                let (y_laid, dx_laid) = room.split_at_mut((y.len() + skip).next_multiple_of(64) + skip);
                let (y_laid, dx_laid) = (&mut y_laid[skip..][..y.len()], &mut dx_laid[..x.len()]);
                let mut taps = vec![0; y.len()];
                walk.forward(kernels, &x, true, &far, y_laid, &mut taps);
                let gated = taps.clone();
                walk.forward(kernels, &x, false, &far, y_laid, &mut taps);
                assert_eq!(turn(y_laid, lanes, windows, false), y, "{what}");
                for ((&gated, &tap), &y) in gated.iter().zip(&taps).zip(&*y_laid) {
                    assert_eq!(gated, if y > 0.0 { tap } else { NOBODY }, "{what}");
                }
                let mut taken = turn(&taps, lanes, windows, false);
                for (i, (&tap, &at)) in taken.iter().zip(&at).enumerate() {
                    let (p, q) = (i % windows / axes[1].output, i % axes[1].output);
                    let (row, column) = (tap as usize / kernel, tap as usize % kernel);
                    let index = (p * stride + row - pad) * width + q * stride + column - pad;
                    assert_eq!(index, at as usize, "{what}");
                }
                taken.iter_mut().enumerate().filter(|(i, _)| nobody(*i)).for_each(|(_, tap)| *tap = NOBODY);
                let taken = turn(&taken, lanes, windows, true);
                dx_laid.fill(f64::NAN);
                walk.backward(kernels, &dy, &taken, &far, dx_laid);
                assert_eq!(turn(dx_laid, lanes, pixels, false), dx, "{what}");
            });
        }
    }

    #[test]
    fn a_nan_is_not_hidden() {
        let axes = [2, 2].map(|size| Axis::new(size, 2, 2, 0, RoundMode::Ceil).expect("a valid window"));
        let walk = Walk::new(&axes).expect("windows of this kind");
        everywhere(|isa, kernels| {
            let lanes = kernels.lanes();
            let mut x = vec![1.0; 4 * lanes];
            (x[2 * lanes], x[lanes + 1]) = (f64::NAN, f64::INFINITY);
            let (mut y, mut at) = (vec![0.0; lanes], vec![9; lanes]);
            walk.forward(kernels, &x, false, &Far::of(0), &mut y, &mut at);
            assert!(y[0].is_nan() && y[1] == f64::INFINITY && at[..2] == [2, 1], "{isa:?} {y:?} {at:?}");
            assert!(y[2..].iter().all(|&y| y == 1.0) && at[2..].iter().all(|&at| at == 0), "{isa:?}");
            walk.forward(kernels, &x, true, &Far::of(0), &mut y, &mut at);
            assert!(y[0].is_nan() && at[..2] == [NOBODY, 1], "{isa:?} {y:?} {at:?}");
        });
    }
}
