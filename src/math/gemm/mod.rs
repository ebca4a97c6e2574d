//! Matrix products in the manner of BLIS: operands packed into panels, a tile of C in registers. Where a side is
//! short, packing the other operands would cost as much as the product: they are read in place.

mod ending;
pub(crate) mod pack;
pub(crate) mod product;
mod single;
mod strips;
#[cfg(test)]
pub(crate) mod tests;

use super::Real;
use super::simd::{self, Isa};
use super::vector;
pub use ending::Ending;
use product::{Output, Product};
pub(crate) use strips::{Side, Strips};

/// Sides of products that [`Strips`] compute: a short one beside a matrix too large for the second-level cache, which
/// would cost more to pack than to read in place. Measured on AlexNet's inner products at batch 32; smaller matrices
/// (LeNet's, 1.6 MB) were no faster so.
const SHORT: std::ops::RangeInclusive<usize> = 4..=64;
const LARGE_BYTES: usize = 2 << 20;
/// The same where neighbours lie along k on both sides, so that packing turns every number: any matrix will do then, if sums are
/// long enough beside the other side. Measured with AVX2 on inner products' forward passes.
const TURNED: std::ops::RangeInclusive<usize> = 4..=128;

/// Whether an operand is used as it stands or transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transpose {
    /// As it stands.
    No,
    /// Transposed.
    Yes,
}

/// `C = alpha·op(A)·op(B) + beta·C`, all row-major and dense: `op(A)` is m × k, `op(B)` k × n, C m × n.
///
/// `beta = 0` ignores the old C, NaN too. The result depends on the sizes and the instruction set, not on the
/// number of threads. The order of each sum is fixed.
///
/// # Panics
/// If a slice is too short, which is a mistake of the caller and not of a user's input.
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
    gemm_on(Isa::detect(), ta, tb, m, n, k, alpha, a, b, beta, c);
}

/// [`gemm`] on a given instruction set.
#[allow(clippy::too_many_arguments)]
pub(crate) fn gemm_on<T: Real>(
    isa: Isa,
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
    let (a, b, c) = (&a[..m * k], &b[..k * n], &mut c[..m * n]);
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 || alpha.is_zero() {
        if beta.is_zero() {
            vector::fill(T::zero(), c);
        } else {
            vector::scale(beta, c);
        }
        return;
    }
    match (m, n, ta, tb) {
        // The vector is dense whether it counts as transposed or not.
        (1, _, _, Transpose::Yes) => return single::rows(isa, alpha, b, a, beta, c),
        (1, _, _, Transpose::No) => return single::columns(isa, alpha, b, a, beta, c),
        (_, 1, Transpose::No, _) => return single::rows(isa, alpha, a, b, beta, c),
        (_, 1, Transpose::Yes, _) => return single::columns(isa, alpha, a, b, beta, c),
        _ => {}
    }
    let left = if ta == Transpose::No { (k, 1) } else { (1, m) };
    let left = Side { data: a, len: m, step: left.0, k_step: left.1 };
    let right = if tb == Transpose::No { (1, n) } else { (k, 1) };
    let right = Side { data: b, len: n, step: right.0, k_step: right.1 };
    let kernels = simd::kernels(isa);
    let large = size_of_val(a).max(size_of_val(b)).max(size_of_val(c)) > LARGE_BYTES;
    let (is_turned, is_long) = (left.k_step == 1 && right.k_step == 1, 2 * k >= m.max(n));
    if (is_turned && is_long && TURNED.contains(&m.min(n))) || (large && SHORT.contains(&m.min(n).min(k))) {
        let strips = Strips::choose(kernels, k, left, right, alpha, beta);
        if !strips.is_far() {
            return strips.run(c);
        }
    }
    let product = Product {
        kernels,
        m,
        n,
        k,
        k_unit: 1,
        k_image: k,
        a: &left.matrix(alpha),
        b: &right.matrix(T::one()),
        beta,
        end: Ending::none(),
    };
    product.run(&Output::matrix(c, m, n));
}
