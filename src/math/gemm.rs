//! Stand-in until the engine lands.
#![allow(missing_docs)]
use super::Real;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transpose {
    No,
    Yes,
}
#[allow(clippy::too_many_arguments)]
pub fn gemm<T: Real>(
    ta: Transpose,
    tb: Transpose,
    m: usize,
    n: usize,
    k: usize,
    alpha: T,
    a: &[T],
    b: &[T],
    beta: T,
    c: &mut [T],
) {
    for i in 0..m {
        let row = &mut c[i * n..(i + 1) * n];
        if beta.is_zero() {
            row.fill(T::zero())
        } else {
            row.iter_mut().for_each(|c| *c = *c * beta)
        }
        if tb == Transpose::No {
            for p in 0..k {
                let x = alpha * if ta == Transpose::No { a[i * k + p] } else { a[p * m + i] };
                for (c, &b) in row.iter_mut().zip(&b[p * n..]) {
                    *c += x * b
                }
            }
        } else {
            for (j, c) in row.iter_mut().enumerate() {
                let mut s = T::zero();
                for p in 0..k {
                    s += b[j * k + p] * if ta == Transpose::No { a[i * k + p] } else { a[p * m + i] }
                }
                *c += alpha * s;
            }
        }
    }
}
