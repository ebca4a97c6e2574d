//! Products with a single row or column: the matrix is read once, as it lies in memory.

use crate::math::Real;
use crate::math::parallel::for_each_chunk;
use crate::math::simd::{Isa, ROWS, Rows, kernels};

/// Elements of the matrix that are worth a thread.
const GRAIN: usize = 1 << 15;

/// `y = alpha·M·x + beta·y` for a row-major matrix of `y.len()` rows and `x.len()` columns.
pub(super) fn rows<T: Real>(isa: Isa, alpha: T, matrix: &[T], x: &[T], beta: T, y: &mut [T]) {
    let (columns, kernels) = (x.len(), kernels::<T>(isa));
    for_each_chunk(y, GRAIN.div_ceil(columns).next_multiple_of(ROWS), |offset, y| {
        for (i, y) in y.chunks_mut(ROWS).enumerate() {
            let first = offset + i * ROWS;
            // Rows past the last one repeat it.
            let row = |j: usize| &matrix[(first + j.min(y.len() - 1)) * columns..][..columns];
            let sums = kernels.dot_rows(&Rows { rows: std::array::from_fn(row), x });
            for (y, sum) in y.iter_mut().zip(sums) {
                *y = alpha * sum + if beta.is_zero() { T::zero() } else { beta * *y };
            }
        }
    });
}

/// `y = alpha·Mᵀ·x + beta·y` for a row-major matrix of `x.len()` rows and `y.len()` columns.
pub(super) fn columns<T: Real>(isa: Isa, alpha: T, matrix: &[T], x: &[T], beta: T, y: &mut [T]) {
    let columns = y.len();
    // At least a page of each row at a time.
    for_each_chunk(y, (GRAIN / x.len()).max(1024), |offset, y| {
        isa.run(
            #[inline(always)]
            || {
                if beta.is_zero() {
                    y.fill(T::zero());
                } else {
                    y.iter_mut().for_each(|y| *y *= beta);
                }
                let len = y.len();
                let rows = |i: usize| &matrix[i * columns + offset..][..len];
                let (fours, rest) = x.as_chunks::<4>();
                for (i, &[a, b, c, d]) in fours.iter().enumerate() {
                    let (a, b, c, d) = (alpha * a, alpha * b, alpha * c, alpha * d);
                    let lower = rows(4 * i).iter().zip(rows(4 * i + 1));
                    let upper = rows(4 * i + 2).iter().zip(rows(4 * i + 3));
                    for (y, ((&p, &q), (&r, &s))) in y.iter_mut().zip(lower.zip(upper)) {
                        *y += (a * p + b * q) + (c * r + d * s);
                    }
                }
                for (i, &a) in rest.iter().enumerate() {
                    let row = rows(4 * fours.len() + i);
                    y.iter_mut().zip(row).for_each(|(y, &m)| *y += alpha * a * m);
                }
            },
        );
    });
}
