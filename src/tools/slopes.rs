//! Slopes of a function of one variable by finite differences, and their comparison with a gradient.

use super::check_report::Compared;
use crate::error::Result;
use crate::math::Real;

/// How far apart an analytic and a numeric slope may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerance {
    /// First step of the differences.
    pub step: f64,
    /// Largest relative error.
    pub threshold: f64,
    /// Slopes smaller than this are compared as if they were of this size.
    pub floor: f64,
}

/// Slopes at 0 of a function, seen over one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slopes {
    /// From −h to h.
    pub central: f64,
    /// From 0 to h.
    pub ahead: f64,
    /// From −h to 0.
    pub behind: f64,
    /// The gradient times the displacement that rounding left of h, per unit of h.
    pub analytic: f64,
}

/// Each further step is so much smaller.
const SHRINK: f64 = 0.1;

/// Steps below this drown in rounding errors.
pub(super) fn smallest_step<T: Real>() -> f64 {
    T::epsilon().as_f64().sqrt()
}

/// Compares a gradient with differences of a shrinking step, until they agree.
///
/// A step may reach over a kink (of a ReLU, of a maximum, of a hinge) or too far along a curve; a smaller one then
/// does not. Where even the smallest one disagrees, but the two sides have slopes of their own and the gradient lies
/// between them, the point itself is a kink and any such value is right. A wrong gradient is neither: at a smooth
/// point the sides agree with each other.
pub(super) fn compare(
    tolerance: Tolerance,
    smallest: f64,
    mut slopes: impl FnMut(f64) -> Result<Slopes>,
) -> Result<Compared> {
    let Tolerance { threshold, floor, .. } = tolerance;
    let mut step = tolerance.step;
    let mut best: Option<Compared> = None;
    loop {
        let s = slopes(step)?;
        let scale = s.analytic.abs().max(s.central.abs()).max(floor);
        let error = (s.analytic - s.central).abs() / scale;
        let close = error <= threshold;
        let now = Compared { analytic: s.analytic, numeric: s.central, error, close, kink: false };
        if close {
            return Ok(now);
        }
        let best = best.get_or_insert(now);
        if error < best.error {
            *best = now;
        }
        step *= SHRINK;
        if step < smallest {
            let (low, high) = (s.ahead.min(s.behind), s.ahead.max(s.behind));
            let slack = threshold * low.abs().max(high.abs()).max(floor);
            let between = s.analytic >= low - slack && s.analytic <= high + slack;
            best.kink = between && high - low > 4.0 * slack;
            return Ok(*best);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(f: impl Fn(f64) -> f64, analytic: f64) -> Compared {
        let tolerance = Tolerance { step: 1e-3, threshold: 1e-4, floor: 1.0 };
        compare(tolerance, 1e-8, |h| {
            let (up, at, down) = (f(h), f(0.0), f(-h));
            let central = (up - down) / (2.0 * h);
            Ok(Slopes { central, ahead: (up - at) / h, behind: (at - down) / h, analytic })
        })
        .unwrap()
    }

    #[test]
    fn a_kink_is_neither_an_error_nor_an_excuse() {
        assert!(compared(f64::sin, 1.0).close);
        // A kink within the first step is stepped around.
        let near = compared(|x| (x - 2e-4).abs(), -1.0);
        assert!(near.close && !near.kink);
        assert!(!compared(|x| (x - 2e-4).abs(), 1.0).close);
        // At the kink itself every slope between the sides is right, and no other.
        for slope in [-1.0, 0.3, 1.0] {
            let at = compared(f64::abs, slope);
            assert!(at.close || at.kink, "{at:?}");
        }
        let wrong = compared(f64::abs, 1.5);
        assert!(!wrong.close && !wrong.kink);
        let wrong = compared(|x| 3.0 * x + x * x, 2.99);
        assert!(!wrong.close && !wrong.kink);
        assert!(!compared(|_| f64::NAN, 1.0).close && !compared(|_| f64::NAN, 1.0).kink);
    }
}
