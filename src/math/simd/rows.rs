//! Products of some rows of a matrix, read where they lie, with one vector of numbers.

use super::kernels::{Kernel, Kernels};
use super::lanes::Lanes;
use crate::math::Real;

/// Rows that are read side by side: the processor looks ahead in each of them, so that together they come nearly twice as
/// fast from memory as one.
pub(crate) const ROWS: usize = 4;

/// Rows of a matrix, each at least as long as `x`: for each, `Σ row·x`.
pub(crate) struct Rows<'a, T> {
    pub rows: [&'a [T]; ROWS],
    pub x: &'a [T],
}

impl<T: Real> Kernels<T> {
    /// Multiplies rows as long as `x`, or longer.
    pub(crate) fn dot_rows(&self, rows: &Rows<T>) -> [T; ROWS] {
        assert!(rows.rows.iter().all(|row| row.len() >= rows.x.len()));
        // SAFETY: the kernel stays inside of the slices, whose lengths were checked; a table is only handed out where the
        // processor has its features.
        unsafe { self.run(rows) }
    }
}

impl<T: Real> Kernel<T> for &Rows<'_, T> {
    type Output = [T; ROWS];

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) -> [T; ROWS] {
        // SAFETY: whole vectors lie before `whole` in all slices, as the caller promises.
        unsafe {
            let whole = self.x.len() / (2 * S::COUNT) * 2 * S::COUNT;
            let mut sums = [[S::splat(T::zero()); 2]; ROWS];
            let mut at = 0;
            while at < whole {
                let x = [S::load(self.x.as_ptr().add(at)), S::load(self.x.as_ptr().add(at + S::COUNT))];
                for (sums, row) in sums.iter_mut().zip(&self.rows) {
                    let row = row.as_ptr().add(at);
                    sums[0] = S::mul_add(S::load(row), x[0], sums[0]);
                    sums[1] = S::mul_add(S::load(row.add(S::COUNT)), x[1], sums[1]);
                }
                at += 2 * S::COUNT;
            }
            let mut lanes = [T::zero(); 16];
            let mut out = [T::zero(); ROWS];
            for ((out, sums), row) in out.iter_mut().zip(&sums).zip(&self.rows) {
                S::store(lanes.as_mut_ptr(), S::add(sums[0], sums[1]));
                let rest = row[whole..].iter().zip(&self.x[whole..]).map(|(&a, &x)| a * x).sum::<T>();
                *out = lanes[..S::COUNT].iter().copied().sum::<T>() + rest;
            }
            out
        }
    }
}
