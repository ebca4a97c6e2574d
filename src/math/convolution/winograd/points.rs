//! The products at the points of transformed tiles.

use crate::math::Real;
use crate::math::gemm::pack::Split;
use crate::math::shared::Shared;
use crate::math::simd::{Kernels, Next, Sums, Tile};

/// Bytes of k that a panel holds at once.
const K_BYTES: usize = 2048;
/// The product at one point: `C = U·V + beta·C`.
pub(super) struct Points<'a, T: 'static> {
    pub(super) kernels: &'a Kernels<T>,
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) c_step: usize,
    pub(super) beta: T,
}

impl<T: Real> Points<'_, T> {
    /// Computes part `part.0` of `part.1` of the rows; `n` is in whole vectors.
    pub(super) fn multiply(&self, u: &[T], v: &[T], c: Shared<T>, part: (usize, usize)) {
        let rows = Split::Rows { most: self.kernels.rows() };
        let columns = Split::Columns { lanes: self.kernels.lanes() };
        assert!(u.len() >= self.m * self.k && v.len() >= self.n * self.k);
        assert!(c.len() >= (self.m - 1) * self.c_step + self.n);
        let panels = rows.count(self.m);
        let panels = panels * part.0 / part.1..panels * (part.0 + 1) / part.1;
        let most = K_BYTES / size_of::<T>();
        let each = self.k.div_ceil(self.k.div_ceil(most));
        for first in (0..self.k).step_by(each) {
            let k = each.min(self.k - first);
            let beta = if first == 0 { self.beta } else { T::one() };
            for a in panels.clone().map(|i| rows.panel(i, self.m)) {
                for b in columns.panels(self.n) {
                    let c = c.at(a.start * self.c_step + b.start);
                    let tile = Tile {
                        k,
                        a: u[a.start * self.k + first * a.width..].as_ptr(),
                        b: v[b.start * self.k + first * b.width..].as_ptr(),
                        b_step: b.width,
                        next: Next::NONE,
                        sums: Sums::plain(c, self.c_step, b.width, beta),
                    };
                    // SAFETY: the panels hold k groups from the first on, C the tile, as the lines above checked; no other
                    // task has these rows.
                    unsafe { self.kernels.tile(a.len, b.width, &tile) };
                }
            }
        }
    }
}
