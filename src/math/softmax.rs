//! The softmax function over one axis of an array.

use super::Real;
use super::parallel::for_each_chunk;

/// Elements that are worth a thread: an exponential takes a few nanoseconds.
const GRAIN: usize = 1 << 13;

/// Positions that are treated side by side where the axis is not the last one.
const BLOCK: usize = 64;

/// y = exp(x − max) / Σ exp(x − max) over the middle axis of outer × `classes` × `inner`.
pub fn softmax<T: Real>(classes: usize, inner: usize, x: &[T], y: &mut [T]) {
    debug_assert_eq!(x.len(), y.len());
    let sample = classes * inner;
    if sample == 0 {
        return;
    }
    for_each_chunk(y, whole_samples(sample), |offset, y| {
        for (x, y) in x[offset..].chunks(sample).zip(y.chunks_mut(sample)) {
            if inner == 1 { row(x, y) } else { plane(inner, x, y) }
        }
    });
}

/// dx = y · (dy − Σ dy·y) over the middle axis, added to what `dx` holds where `add`.
pub fn softmax_backward<T: Real>(classes: usize, inner: usize, y: &[T], dy: &[T], dx: &mut [T], add: bool) {
    debug_assert!(y.len() == dx.len() && dy.len() == dx.len());
    let sample = classes * inner;
    if sample == 0 {
        return;
    }
    for_each_chunk(dx, whole_samples(sample), |offset, dx| {
        let samples = y[offset..].chunks(sample).zip(dy[offset..].chunks(sample));
        for ((y, dy), dx) in samples.zip(dx.chunks_mut(sample)) {
            for start in (0..inner).step_by(BLOCK) {
                let width = BLOCK.min(inner - start);
                let mut dots = [T::zero(); BLOCK];
                for (y, dy) in y.chunks(inner).zip(dy.chunks(inner)) {
                    let pairs = y[start..][..width].iter().zip(&dy[start..][..width]);
                    dots.iter_mut().zip(pairs).for_each(|(dot, (&y, &dy))| *dot += y * dy);
                }
                for ((y, dy), dx) in y.chunks(inner).zip(dy.chunks(inner)).zip(dx.chunks_mut(inner)) {
                    let pairs = y[start..][..width].iter().zip(&dy[start..][..width]);
                    for ((dx, (&y, &dy)), &dot) in dx[start..][..width].iter_mut().zip(pairs).zip(&dots) {
                        let value = y * (dy - dot);
                        *dx = if add { *dx + value } else { value };
                    }
                }
            }
        }
    });
}

/// [`GRAIN`] rounded to whole samples.
fn whole_samples(sample: usize) -> usize {
    GRAIN.div_ceil(sample) * sample
}

fn row<T: Real>(x: &[T], y: &mut [T]) {
    let max = x.iter().fold(T::neg_infinity(), |m, &x| if x > m { x } else { m });
    let mut sum = T::zero();
    for (y, &x) in y.iter_mut().zip(x) {
        *y = (x - max).exp();
        sum += *y;
    }
    y.iter_mut().for_each(|y| *y /= sum);
}

fn plane<T: Real>(inner: usize, x: &[T], y: &mut [T]) {
    for start in (0..inner).step_by(BLOCK) {
        let width = BLOCK.min(inner - start);
        let mut max = [T::neg_infinity(); BLOCK];
        for x in x.chunks(inner) {
            for (m, &x) in max.iter_mut().zip(&x[start..][..width]) {
                *m = if x > *m { x } else { *m };
            }
        }
        let mut sum = [T::zero(); BLOCK];
        for (x, y) in x.chunks(inner).zip(y.chunks_mut(inner)) {
            let pairs = x[start..][..width].iter().zip(&mut y[start..][..width]);
            for ((x, y), (&m, s)) in pairs.zip(max.iter().zip(&mut sum)) {
                *y = (*x - m).exp();
                *s += *y;
            }
        }
        for y in y.chunks_mut(inner) {
            y[start..][..width].iter_mut().zip(&sum).for_each(|(y, &s)| *y /= s);
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
            softmax(3, inner, &x, &mut y);
            for (i, &y) in y.iter().enumerate() {
                let first = i / (3 * inner) * 3 * inner + i % inner;
                let sum: f64 = (0..3).map(|c| x[first + c * inner].exp()).sum();
                assert!((y - x[i].exp() / sum).abs() < 1e-12, "{inner} {i}");
            }
        }
    }

    #[test]
    fn backward_is_the_derivative() {
        for inner in [1, 66] {
            let x = values(inner);
            let dy: Vec<f64> = x.iter().map(|x| (x * 5.0).sin()).collect();
            let weighted = |x: &[f64]| {
                let mut y = vec![0.0; x.len()];
                softmax(3, inner, x, &mut y);
                y.iter().zip(&dy).map(|(y, dy)| y * dy).sum::<f64>()
            };
            let (mut y, mut dx) = (vec![0.0; x.len()], vec![1.0; x.len()]);
            softmax(3, inner, &x, &mut y);
            softmax_backward(3, inner, &y, &dy, &mut dx, true);
            for i in 0..x.len() {
                let shifted = |by: f64| {
                    let mut x = x.clone();
                    x[i] += by;
                    weighted(&x)
                };
                let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
                assert!((dx[i] - 1.0 - numeric).abs() < 1e-8, "{inner} {i}: {} {numeric}", dx[i] - 1.0);
            }
        }
    }

    #[test]
    fn large_scores_do_not_overflow_and_nan_shows() {
        let mut y = [0.0f32; 3];
        softmax(3, 1, &[1e30, 0.0, -1e30], &mut y);
        assert_eq!(y, [1.0, 0.0, 0.0]);
        softmax(3, 1, &[0.0, f32::NAN, 1.0], &mut y);
        assert!(y.iter().all(|y| y.is_nan()));
    }
}
