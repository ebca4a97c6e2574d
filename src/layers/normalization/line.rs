//! A channel's factor, bias and ReLU: what normalising and scaling layers do to each element.

use crate::layers::{Params, Tail};
use crate::math::Real;

/// y = (x − mean)·factor + bias of one channel, and the slope of a ReLU on y (1: none).
#[derive(Clone, Copy)]
pub(super) struct Line<T> {
    pub mean: T,
    pub factor: T,
    pub bias: T,
    pub slope: T,
}

impl<T: Real> Line<T> {
    /// Its numbers, as [`Channels`](super::Channels) hands them out, and back.
    #[inline(always)]
    pub fn numbers(self) -> [T; 4] {
        [self.mean, self.factor, self.bias, self.slope]
    }

    /// See [`Line::numbers`].
    #[inline(always)]
    pub fn of([mean, factor, bias, slope]: [T; 4]) -> Line<T> {
        Line { mean, factor, bias, slope }
    }

    #[inline(always)]
    pub fn value(self, x: T) -> T {
        (x - self.mean) * self.factor + self.bias
    }

    /// The top.
    #[inline(always)]
    pub fn top(self, x: T) -> T {
        let y = self.value(x);
        // Adding 0 turns the −0 of a slope of 0 into 0, as Caffe has it.
        if y > T::zero() { y } else { y * self.slope + T::zero() }
    }

    /// The gradient before the ReLU.
    #[inline(always)]
    pub fn before(self, dy: T, x: T) -> T {
        if self.value(x) > T::zero() { dy } else { dy * self.slope }
    }
}

/// The factors, biases and slope from which the lines of the channels are made.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a, T> {
    pub factors: Option<&'a [T]>,
    pub biases: Option<&'a [T]>,
    pub slope: T,
}

impl<'a, T: Real> Lines<'a, T> {
    /// Those that a layer's tail gives.
    pub fn of_tail(tail: Tail, params: &'a Params<T>) -> Lines<'a, T> {
        Lines {
            factors: tail.scale.map(|(s, _)| params.data(s)),
            biases: tail.scale.and_then(|(_, b)| b).map(|b| params.data(b)),
            slope: T::from_f64(tail.slope),
        }
    }

    /// The line of channel `c`, whose values have this mean and 1/deviation.
    #[inline(always)]
    pub fn line(self, c: usize, mean: f64, inverse: f64) -> Line<T> {
        let factor = self.factors.map_or(1.0, |s| s[c].as_f64());
        Line {
            mean: T::from_f64(mean),
            factor: T::from_f64(inverse * factor),
            bias: self.biases.map_or(T::zero(), |b| b[c]),
            slope: self.slope,
        }
    }
}
