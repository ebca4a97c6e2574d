//! What happens to the sums of a product.

use crate::math::Real;
use crate::math::simd::Sums;
use std::ops::Range;

/// What happens to each sum of a product or convolution at its end: `max(scale·y + bias + other, floor)`.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a, T> {
    /// A factor per row (output channel); 1 if there is none.
    pub scale: Option<&'a [T]>,
    /// What is added per row.
    pub bias: Option<&'a [T]>,
    /// Numbers to add that lie as the results do.
    pub other: Option<&'a [T]>,
    /// The least result: 0 is a ReLU, −∞ changes nothing.
    pub floor: T,
}

impl<'a, T: Real> Ending<'a, T> {
    /// The sums as they are.
    pub fn none() -> Self {
        Ending::bias(None)
    }

    /// The sums plus a bias, if there is one.
    pub fn bias(bias: Option<&'a [T]>) -> Self {
        Ending { scale: None, bias, other: None, floor: T::neg_infinity() }
    }

    /// The ending of some rows of the same results.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Self {
        let some = |all: Option<&'a [T]>| all.map(|all| &all[rows.clone()]);
        Ending { scale: some(self.scale), bias: some(self.bias), ..*self }
    }

    /// The ending of some rows, whose results start at `at`.
    pub(crate) fn part(&self, rows: Range<usize>, at: usize) -> Self {
        Ending { other: self.other.map(|other| other.get(at..).unwrap_or_default()), ..self.rows(rows) }
    }

    /// What becomes of a tile's sums at `c`, but for the numbers to add, which [`Ending::other`] has somewhere.
    pub(crate) fn sums(&self, c: *mut T, c_step: usize, columns: usize, beta: T) -> Sums<T> {
        let all = |of: Option<&[T]>| of.map_or(std::ptr::null(), <[T]>::as_ptr);
        let (scale, bias) = (all(self.scale), all(self.bias));
        Sums { scale, bias, floor: self.floor, ..Sums::plain(c, c_step, columns, beta) }
    }

    /// `scale·y + bias` alone.
    pub(crate) fn lines(&self) -> Self {
        Ending { other: None, floor: T::neg_infinity(), ..*self }
    }

    /// What [`Ending::lines`] leaves to be done to results from `at` on.
    #[inline(always)]
    pub(crate) fn finish(&self, at: usize, y: &mut [T]) {
        let floor = self.floor;
        // As the kernels' maximum, which keeps a NaN of y.
        let least = |y: T| if y < floor { floor } else { y };
        match self.other {
            Some(other) => y.iter_mut().zip(&other[at..]).for_each(|(y, &x)| *y = least(*y + x)),
            None => y.iter_mut().for_each(|y| *y = least(*y)),
        }
    }
}
