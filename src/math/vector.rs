//! Vector operations of layers and solvers. Slices that belong together have equal lengths.

use super::parallel::{self, for_each_chunk, sum_of};
use super::{Far, Real};

/// Elements that are worth a thread: about 10 microseconds of memory traffic.
const GRAIN: usize = 1 << 15;

/// `y += a·x`.
pub fn axpy<T: Real>(a: T, x: &[T], y: &mut [T]) {
    debug_assert_eq!(x.len(), y.len());
    for_each_chunk(
        y,
        GRAIN,
        #[inline(always)]
        |offset, y| y.iter_mut().zip(&x[offset..]).for_each(|(y, &x)| *y += a * x),
    );
}

/// `y = a·x + b·y`; `b = 0` ignores the old `y`, NaN too.
pub fn axpby<T: Real>(a: T, x: &[T], b: T, y: &mut [T]) {
    debug_assert_eq!(x.len(), y.len());
    for_each_chunk(
        y,
        GRAIN,
        #[inline(always)]
        |offset, y| {
            let pairs = y.iter_mut().zip(&x[offset..]);
            if b.is_zero() {
                pairs.for_each(|(y, &x)| *y = a * x);
            } else {
                pairs.for_each(|(y, &x)| *y = a * x + b * *y);
            }
        },
    );
}

/// `x *= a`.
pub fn scale<T: Real>(a: T, x: &mut [T]) {
    for_each_chunk(
        x,
        GRAIN,
        #[inline(always)]
        |_, x| x.iter_mut().for_each(|x| *x *= a),
    );
}

/// `y = x`.
pub fn copy<T: Real>(x: &[T], y: &mut [T]) {
    debug_assert_eq!(x.len(), y.len());
    let len = y.len();
    for_each_chunk(y, GRAIN, |offset, y| {
        Far::of(len).copy(&x[offset..][..y.len()], y);
    });
}

/// `x = a`.
pub fn fill<T: Real>(a: T, x: &mut [T]) {
    for_each_chunk(x, GRAIN, |_, x| x.fill(a));
}

/// `Σ xᵢ·yᵢ`, in double precision.
pub fn dot<T: Real>(x: &[T], y: &[T]) -> f64 {
    debug_assert_eq!(x.len(), y.len());
    let n = x.len().min(y.len());
    parallel::sum(
        n,
        GRAIN,
        #[inline(always)]
        |range| {
            let (x, y) = (&x[range.clone()], &y[range]);
            let mut sums = [0.0; 16];
            let (xs, ys) = (x.chunks_exact(16), y.chunks_exact(16));
            let rest = xs.remainder().iter().zip(ys.remainder());
            let rest = rest.map(|(&x, &y)| x.as_f64() * y.as_f64()).sum::<f64>();
            for (x, y) in xs.zip(ys) {
                for (sum, (&x, &y)) in sums.iter_mut().zip(x.iter().zip(y)) {
                    *sum += x.as_f64() * y.as_f64();
                }
            }
            sums.iter().sum::<f64>() + rest
        },
    )
}

/// `Σ xᵢ`, in double precision.
pub fn sum<T: Real>(x: &[T]) -> f64 {
    parallel::sum(
        x.len(),
        GRAIN,
        #[inline(always)]
        |range| sum_of(&x[range], |x| x.as_f64()),
    )
}

/// `Σ xᵢ²`, in double precision.
pub fn sum_squares<T: Real>(x: &[T]) -> f64 {
    parallel::sum(
        x.len(),
        GRAIN,
        #[inline(always)]
        |range| sum_of(&x[range], |x| x.as_f64() * x.as_f64()),
    )
}

/// `Σ |xᵢ|`, in double precision.
pub fn asum<T: Real>(x: &[T]) -> f64 {
    parallel::sum(
        x.len(),
        GRAIN,
        #[inline(always)]
        |range| sum_of(&x[range], |x| x.as_f64().abs()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(n: usize) -> Vec<f64> {
        (0..n).map(|i| (i % 17) as f64 - 8.0).collect()
    }

    #[test]
    fn every_operation_agrees_with_its_definition() {
        for n in [0, 1, 15, 33, 100_003] {
            let (x, y) = (ramp(n), (0..n).map(|i| (i % 5) as f64).collect::<Vec<_>>());
            let each =
                |f: &dyn Fn(f64, f64) -> f64| x.iter().zip(&y).map(|(&x, &y)| f(x, y)).collect::<Vec<_>>();

            let mut got = y.clone();
            axpy(2.0, &x, &mut got);
            assert_eq!(got, each(&|x, y| y + 2.0 * x));
            let mut got = y.clone();
            axpby(2.0, &x, 3.0, &mut got);
            assert_eq!(got, each(&|x, y| 2.0 * x + 3.0 * y));
            let mut got = vec![f64::NAN; n];
            axpby(2.0, &x, 0.0, &mut got);
            assert_eq!(got, each(&|x, _| 2.0 * x));
            scale(0.5, &mut got);
            assert_eq!(got, x);
            fill(7.0, &mut got);
            assert!(got.iter().all(|&g| g == 7.0));
            copy(&x, &mut got);
            assert_eq!(got, x);

            assert_eq!(dot(&x, &y), each(&|x, y| x * y).iter().sum::<f64>());
            assert_eq!(sum(&x), x.iter().sum::<f64>());
            assert_eq!(sum_squares(&x), each(&|x, _| x * x).iter().sum::<f64>());
            assert_eq!(asum(&x), each(&|x, _| x.abs()).iter().sum::<f64>());
        }
    }
}
