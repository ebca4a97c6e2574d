//! The softmax function over one axis of an array.

use super::parallel::{for_each_chunk, sum_of};
use super::scratch::scratch;
use super::{Real, vector};
use crate::blob::Shape;
use crate::error::Result;

/// Elements that are worth a thread: an exponential takes a few nanoseconds.
const GRAIN: usize = 1 << 13;

/// The axis of a softmax in an array of outer × classes × inner elements.
///
/// Where `inner` is 1, each sample is a row. Else all columns of classes are done together, one step of the function
/// after the other: so one large image is spread over the threads just as many small ones are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Softmax {
    /// Extent of the axis.
    pub classes: usize,
    /// Elements between its steps.
    pub inner: usize,
}

impl Softmax {
    /// Along this axis of a shape; an error where there is none.
    pub fn new(shape: &Shape, axis: i32) -> Result<Softmax> {
        let axis = shape.axis(axis)?;
        Ok(Softmax { classes: shape[axis], inner: shape.count_from(axis + 1) })
    }

    /// y = exp(x − max) / Σ exp(x − max), where no `x` means what `y` holds.
    pub fn forward<T: Real>(&self, x: Option<&[T]>, y: &mut [T]) {
        let from = |at: usize, y: &mut [T]| {
            if let Some(x) = x {
                y.copy_from_slice(&x[at..][..y.len()]);
            }
        };
        if self.inner == 1 {
            return self.rows(
                y,
                #[inline(always)]
                |at, y| {
                    from(at, y);
                    row(y);
                },
            );
        }
        scratch(2 * self.columns(y), |totals: &mut [T]| {
            let (largest, sums) = totals.split_at_mut(totals.len() / 2);
            self.reduce(
                T::neg_infinity(),
                (x.unwrap_or(y), x.unwrap_or(y)),
                largest,
                #[inline(always)]
                |m, x, _| if x > m { x } else { m },
            );
            self.map(
                largest,
                y,
                #[inline(always)]
                |at, largest, y| {
                    from(at, y);
                    y.iter_mut().zip(largest).for_each(|(y, &m)| *y = (*y - m).exp());
                },
            );
            self.reduce(
                T::zero(),
                (y, y),
                sums,
                #[inline(always)]
                |sum, y, _| sum + y,
            );
            self.map(
                sums,
                y,
                #[inline(always)]
                |_, sums, y| y.iter_mut().zip(sums).for_each(|(y, &sum)| *y /= sum),
            );
        });
    }

    /// dx = y · (dy − Σ dy·y), where no `dy` means what `dx` holds; with a `dy` and `add` it is added to `dx`.
    pub fn backward<T: Real>(&self, y: &[T], dy: Option<&[T]>, dx: &mut [T], add: bool) {
        if self.inner == 1 {
            return self.rows(
                dx,
                #[inline(always)]
                |at, dx| {
                    let (y, dy) = (&y[at..][..dx.len()], dy.map(|dy| &dy[at..][..dx.len()]));
                    let dot = T::from_f64(vector::dot(y, dy.unwrap_or(dx)));
                    slopes(y, dy, add, |_| dot, dx);
                },
            );
        }
        scratch(self.columns(dx), |dots: &mut [T]| {
            self.reduce(
                T::zero(),
                (y, dy.unwrap_or(dx)),
                dots,
                #[inline(always)]
                |dot, y, dy| dot + y * dy,
            );
            self.map(
                dots,
                dx,
                #[inline(always)]
                |at, dots, dx| slopes(&y[at..], dy.map(|dy| &dy[at..]), add, |i| dots[i], dx),
            );
        });
    }

    /// How many columns there are in an array.
    fn columns<T>(&self, array: &[T]) -> usize {
        array.len().checked_div(self.classes).unwrap_or(0)
    }

    /// Calls `f(offset, row)` for the rows of classes of an array.
    fn rows<T: Real>(&self, array: &mut [T], f: impl Fn(usize, &mut [T]) + Sync) {
        let size = self.classes.max(1);
        for_each_chunk(
            array,
            GRAIN.div_ceil(size) * size,
            #[inline(always)]
            |at, rows| {
                for (row, values) in rows.chunks_exact_mut(size).enumerate() {
                    f(at + row * size, values);
                }
            },
        );
    }

    /// Total of each column: total = f(total, a, b) over the elements a and b of two arrays, from `start` on.
    fn reduce<T: Real>(
        &self,
        start: T,
        (a, b): (&[T], &[T]),
        totals: &mut [T],
        f: impl Fn(T, T, T) -> T + Sync,
    ) {
        let &Softmax { classes, inner } = self;
        for_each_chunk(
            totals,
            (GRAIN / classes.max(1)).max(64),
            #[inline(always)]
            |at, totals| {
                totals.fill(start);
                for (at, totals) in pieces(inner, at, totals) {
                    let first = at / inner * classes * inner + at % inner;
                    for first in (0..classes).map(|class| first + class * inner) {
                        let elements = a[first..].iter().zip(&b[first..]);
                        totals.iter_mut().zip(elements).for_each(|(t, (&a, &b))| *t = f(*t, a, b));
                    }
                }
            },
        );
    }

    /// Calls `f(offset, totals, elements)` for the elements of an array with the totals of their columns.
    fn map<T: Real>(&self, totals: &[T], array: &mut [T], f: impl Fn(usize, &[T], &mut [T]) + Sync) {
        let &Softmax { classes, inner } = self;
        for_each_chunk(
            array,
            GRAIN,
            #[inline(always)]
            |at, array| {
                for (at, elements) in pieces(inner, at, array) {
                    let column = at / inner / classes * inner + at % inner;
                    f(at, &totals[column..][..elements.len()], elements);
                }
            },
        );
    }
}

/// A slice that begins at `at` of an array, cut at the multiples of `inner`; each piece with its place in the array.
#[inline(always)]
fn pieces<T>(inner: usize, at: usize, slice: &mut [T]) -> impl Iterator<Item = (usize, &mut [T])> {
    let (head, rest) = slice.split_at_mut((inner - at % inner).min(slice.len()));
    let behind = at + head.len();
    let rest = rest.chunks_mut(inner).enumerate().map(move |(i, piece)| (behind + i * inner, piece));
    std::iter::once((at, head)).chain(rest)
}

/// Softmax of a row in place.
#[inline(always)]
fn row<T: Real>(y: &mut [T]) {
    let largest = y.iter().fold(T::neg_infinity(), |m, &y| if y > m { y } else { m });
    y.iter_mut().for_each(|y| *y = (*y - largest).exp());
    let sum = T::from_f64(sum_of(y, |y| y.as_f64()));
    y.iter_mut().for_each(|y| *y /= sum);
}

/// dx = y · (dy − dot), or added to `dx`; `dot(i)` belongs to element i.
#[inline(always)]
fn slopes<T: Real>(y: &[T], dy: Option<&[T]>, add: bool, dot: impl Fn(usize) -> T, dx: &mut [T]) {
    match dy {
        None => dx.iter_mut().zip(y).enumerate().for_each(|(i, (dx, &y))| *dx = y * (*dx - dot(i))),
        Some(dy) => {
            for (i, ((dx, &y), &dy)) in dx.iter_mut().zip(y).zip(dy).enumerate() {
                let value = y * (dy - dot(i));
                *dx = if add { *dx + value } else { value };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 × 3 × `inner` values without a pattern.
    fn values(inner: usize) -> Vec<f64> {
        (0..2 * 3 * inner).map(|i| ((i * 37 % 23) as f64 - 11.0) / 4.0).collect()
    }

    #[test]
    fn every_layout_gives_what_the_definition_says() {
        for inner in [1, 5, 64, 130] {
            let x = values(inner);
            let mut y = vec![f64::NAN; x.len()];
            Softmax { classes: 3, inner }.forward(Some(&x), &mut y);
            for (i, &y) in y.iter().enumerate() {
                let first = i / (3 * inner) * 3 * inner + i % inner;
                let sum: f64 = (0..3).map(|c| x[first + c * inner].exp()).sum();
                assert!((y - x[i].exp() / sum).abs() < 1e-12, "{inner} {i}");
            }
            let mut in_place = x;
            Softmax { classes: 3, inner }.forward(None, &mut in_place);
            assert_eq!(in_place, y);
        }
    }

    #[test]
    fn backward_is_the_derivative() {
        for inner in [1, 66] {
            let (axis, x) = (Softmax { classes: 3, inner }, values(inner));
            let dy: Vec<f64> = x.iter().map(|x| (x * 5.0).sin()).collect();
            let weighted = |x: &[f64]| {
                let mut y = vec![0.0; x.len()];
                axis.forward(Some(x), &mut y);
                y.iter().zip(&dy).map(|(y, dy)| y * dy).sum::<f64>()
            };
            let (mut y, mut dx) = (vec![0.0; x.len()], vec![1.0; x.len()]);
            axis.forward(Some(&x), &mut y);
            axis.backward(&y, Some(&dy), &mut dx, true);
            for i in 0..x.len() {
                let shifted = |by: f64| {
                    let mut x = x.clone();
                    x[i] += by;
                    weighted(&x)
                };
                let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
                assert!((dx[i] - 1.0 - numeric).abs() < 1e-8, "{inner} {i}: {} {numeric}", dx[i] - 1.0);
            }
            let (mut apart, mut in_place) = (vec![f64::NAN; x.len()], dy.clone());
            axis.backward(&y, Some(&dy), &mut apart, false);
            axis.backward(&y, None, &mut in_place, false);
            assert_eq!(apart, in_place);
            assert!(apart.iter().zip(&dx).all(|(a, b)| (a + 1.0 - b).abs() < 1e-14));
        }
    }

    #[test]
    fn large_scores_do_not_overflow_and_nan_shows() {
        let mut y = [0.0f32; 3];
        Softmax { classes: 3, inner: 1 }.forward(Some(&[1e30, 0.0, -1e30]), &mut y);
        assert_eq!(y, [1.0, 0.0, 0.0]);
        Softmax { classes: 3, inner: 1 }.forward(Some(&[0.0, f32::NAN, 1.0]), &mut y);
        assert!(y.iter().all(|y| y.is_nan()));
    }

    #[test]
    fn an_image_gives_the_same_bits_on_any_number_of_threads() {
        let (axis, n) = (Softmax { classes: 3, inner: 70 * 1000 + 1 }, 2 * 3 * (70 * 1000 + 1));
        let x: Vec<f32> = (0..n).map(|i| (i * 37 % 101) as f32 / 9.0).collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (mut y, mut dx) = (x.clone(), x.clone());
                axis.forward(None, &mut y);
                axis.backward(&y, Some(&x), &mut dx, true);
                (y, dx)
            })
        };
        let (y, dx) = run(1);
        assert!(run(3) == (y.clone(), dx));
        for (i, &y) in y.iter().enumerate().step_by(997) {
            let first = i / (3 * axis.inner) * 3 * axis.inner + i % axis.inner;
            let sum: f32 = (0..3).map(|c| x[first + c * axis.inner].exp()).sum();
            assert!((y - x[i].exp() / sum).abs() < 1e-5, "{i}");
        }
    }

    #[test]
    fn nothing_of_nothing() {
        for (classes, inner) in [(0, 1), (0, 5), (3, 0), (3, 1), (3, 5)] {
            Softmax { classes, inner }.forward::<f32>(None, &mut []);
            Softmax { classes, inner }.backward::<f32>(&[], Some(&[]), &mut [], true);
        }
    }
}
