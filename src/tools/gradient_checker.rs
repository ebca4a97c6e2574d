//! Compares what a layer's backward computes with central differences of its forward.

use super::check_report::{Check, Compared, Report};
use super::slopes::{Slopes, Tolerance, compare, smallest_step};
use super::subject::{Subject, Variable};
use crate::device::Gpu;
use crate::error::{Error, Kind, Result};
use crate::math::{Purpose, Real, Stream};

/// The gradient checker, after Caffe's `GradientChecker` (test_gradient_check_util.hpp).
///
/// An element passes where |analytic − numeric| ≤ `threshold` · max(|analytic|, |numeric|, floor). The floor is 1, as
/// in Caffe; in double precision it is the largest gradient of the blob where that is smaller, so that the small
/// gradients of a loss over a large batch are compared as strictly as others.
///
/// Points where the function has no derivative are stepped around: first by smaller steps, then by comparing with
/// the slopes of both sides. They are counted, and too many of them fail the check.
///
/// Every forward pass of a check draws the same random numbers and starts from the same statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientChecker {
    /// Half the distance of the two points of a central difference.
    pub step: f64,
    /// Largest relative error.
    pub threshold: f64,
    /// Keys the weights of the outputs, the samples and the directions.
    pub seed: u64,
    /// Where the function of an element is known to have a kink (and at its negative): see `kink_range`.
    pub kink: f64,
    /// Elements whose absolute value is this near to `kink` are left out. Negative: none are.
    pub kink_range: f64,
    /// The device that [`check_net`](super::gradcheck::check_net) runs the layers on; the host where there is none.
    pub device: Option<Gpu>,
}

/// For nets in double precision.
impl Default for GradientChecker {
    fn default() -> GradientChecker {
        GradientChecker { step: 1e-3, threshold: 1e-4, seed: 1701, kink: 0.0, kink_range: -1.0, device: None }
    }
}

/// A blob of up to so many elements is checked at all of them, a larger one at a sample of so many.
pub const SAMPLES: usize = 300;
/// Multiply-adds that the forward passes for one blob may take before the sample becomes smaller.
const WORK: usize = 4_000_000_000;
/// What reading, copying and comparing a value costs, in multiply-adds.
const PER_VALUE: usize = 30;
/// The smallest sample.
const FEWEST: usize = 2;

/// Streams of [`Purpose::Check`].
#[derive(Clone, Copy)]
pub(super) enum Draw {
    Weights = 0,
    Samples = 1,
    Direction = 2,
    Values = 3,
}

/// The objective: Σ wⱼ yⱼ over all elements of the tops.
struct Objective<T> {
    weights: Vec<T>,
    /// Tops at the point where the gradient is taken.
    base: Vec<T>,
}

impl GradientChecker {
    /// The stream of a draw, apart for each layer name.
    pub(super) fn stream(&self, draw: Draw, layer: &str, nth: usize) -> Stream {
        // FNV-1a: a layer keeps its numbers when others are added to the net.
        let hash = layer.bytes().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        Stream::of(Purpose::Check, self.seed, hash, (draw as u64) << 32 | nth as u64)
    }

    /// Checks all bottoms and parameters of a layer at once against a random weighting of all its tops: all elements
    /// where they are few, else a sample; in double precision also a random direction through each blob.
    ///
    /// Caffe's `CheckGradient` with ½ Σ y² for the weighting is blind where that sum is constant (`Norm`,
    /// `BatchNorm`). Of a loss only the tops that are losses take part.
    pub fn check_layer<T: Real>(&self, subject: &mut Subject<T>) -> Result<Report> {
        let mut base = Vec::new();
        subject.outputs(&mut base)?;
        let stream = self.stream(Draw::Weights, &subject.name, 0);
        // Away from zero: every output counts.
        let weight = |u: f64| if u < 0.5 { -0.5 - 2.0 * u } else { 2.0 * u - 0.5 };
        let weights = (0..base.len()).map(|i| T::from_f64(weight(stream.uniform_at(i as u64)))).collect();
        let objective = Objective { weights, base };
        subject.backward(&objective.weights)?;

        let variables = subject.variables();
        let gradients: Vec<Vec<T>> = variables.iter().map(|&v| subject.gradient(v).to_vec()).collect();
        let mut report = Report::default();
        for (nth, (&variable, gradient)) in variables.iter().zip(&gradients).enumerate() {
            let elements = self.sample(subject, nth, gradient.len());
            let tolerance = self.tolerance::<T>(gradient);
            let mut check = self.begin(subject, variable, gradient.len());
            for i in elements {
                let at = subject.values_mut(variable)[i];
                if self.at_kink(at.as_f64()) {
                    check.elements += 1;
                    check.kinks += 1;
                    continue;
                }
                let found = self.element(subject, variable, i, gradient[i], &objective, tolerance)?;
                check.add(&found, i);
            }
            let all = check.elements == gradient.len();
            report.checks.push(check);
            if !all && smallest_step::<T>() < 1e-6 {
                report.checks.push(self.direction(subject, nth, variable, gradient, &objective)?);
            }
        }
        Ok(report)
    }

    /// Checks each element of each top alone, against each bottom and parameter (Caffe's
    /// `CheckGradientExhaustive`): finds gradients that cancel out over the outputs.
    pub fn check_exhaustive<T: Real>(&self, subject: &mut Subject<T>) -> Result<Report> {
        self.jacobian(subject, false)
    }

    /// As [`GradientChecker::check_exhaustive`] for an element-wise layer, where element i of the top depends on element i of each
    /// bottom alone: all other gradients must be zero (Caffe's `CheckGradientEltwise`).
    pub fn check_eltwise<T: Real>(&self, subject: &mut Subject<T>) -> Result<Report> {
        self.jacobian(subject, true)
    }

    fn jacobian<T: Real>(&self, subject: &mut Subject<T>, eltwise: bool) -> Result<Report> {
        let mut base = Vec::new();
        subject.outputs(&mut base)?;
        let outputs = base.len();
        let mut objective = Objective { weights: vec![T::zero(); outputs], base };
        let mut report = Report::default();
        let variables = subject.variables();
        for &variable in &variables {
            let total = subject.values_mut(variable).len();
            if eltwise && total != outputs && matches!(variable, Variable::Bottom(_)) {
                return Err(Error::new(
                    Kind::Usage,
                    "an element-wise layer has tops of the size of its bottoms",
                )
                .expected(outputs)
                .found(total)
                .in_layer(&subject.name));
            }
            report.checks.push(self.begin(subject, variable, total));
        }
        let samples =
            |n: usize, nth: usize| pick(&mut self.stream(Draw::Samples, &subject.name, nth), n, SAMPLES);
        let chosen: Vec<Vec<usize>> =
            report.checks.iter().enumerate().map(|(nth, c)| samples(c.total, nth)).collect();
        for j in samples(outputs, variables.len()) {
            objective.weights[j] = T::one();
            // Backward may read what forward left behind, which the differences have changed.
            subject.outputs(&mut Vec::new())?;
            subject.backward(&objective.weights)?;
            let gradients: Vec<Vec<T>> = variables.iter().map(|&v| subject.gradient(v).to_vec()).collect();
            for (k, &variable) in variables.iter().enumerate() {
                let gradient = &gradients[k];
                let tolerance = self.tolerance::<T>(gradient);
                for &i in &chosen[k] {
                    let at = subject.values_mut(variable)[i];
                    if self.at_kink(at.as_f64()) {
                        report.checks[k].elements += 1;
                        report.checks[k].kinks += 1;
                        continue;
                    }
                    let found = if eltwise && i != j && matches!(variable, Variable::Bottom(_)) {
                        let analytic = gradient[i].as_f64();
                        let close = analytic == 0.0;
                        let error = if close { 0.0 } else { analytic.abs() / analytic.abs().max(1.0) };
                        Compared { analytic, numeric: 0.0, error, close, kink: false }
                    } else {
                        self.element(subject, variable, i, gradient[i], &objective, tolerance)?
                    };
                    report.checks[k].add(&found, i);
                }
            }
            objective.weights[j] = T::zero();
        }
        Ok(report)
    }

    fn begin<T: Real>(&self, subject: &Subject<T>, variable: Variable, total: usize) -> Check {
        let (layer, what) = (subject.name.clone(), subject.describe(variable));
        Check { layer, what, total, ..Check::default() }
    }

    fn at_kink(&self, value: f64) -> bool {
        (value.abs() - self.kink).abs() <= self.kink_range
    }

    fn tolerance<T: Real>(&self, gradient: &[T]) -> Tolerance {
        let largest = gradient.iter().fold(0.0f64, |m, g| m.max(g.as_f64().abs()));
        let floor = if smallest_step::<T>() < 1e-6 { largest.clamp(1e-5, 1.0) } else { 1.0 };
        Tolerance { step: self.step, threshold: self.threshold, floor }
    }

    /// The elements to check of a blob: as many as the layer's cost allows.
    fn sample<T: Real>(&self, subject: &Subject<T>, nth: usize, count: usize) -> Vec<usize> {
        let node = subject.node();
        let shape = |b: usize| &subject.net.blobs()[b].shape;
        let tops = node.top.iter().map(|&t| shape(t).count()).sum::<usize>();
        let bottoms = node.bottom.iter().map(|&b| shape(b).count()).sum::<usize>();
        // Multiply-adds for each output: the weights behind one of their first axis. Exact for Convolution and
        // InnerProduct, near enough for others.
        let fan = node.params.first().map_or(1, |&p| subject.weights.get(p).shape.count_from(1));
        let moved = tops.saturating_add(bottoms).saturating_mul(PER_VALUE);
        let work = tops.saturating_mul(fan).saturating_add(moved).max(1);
        let most = (WORK / work / 2).clamp(FEWEST, SAMPLES);
        pick(&mut self.stream(Draw::Samples, &subject.name, nth), count, most)
    }

    fn element<T: Real>(
        &self,
        subject: &mut Subject<T>,
        variable: Variable,
        index: usize,
        analytic: T,
        objective: &Objective<T>,
        tolerance: Tolerance,
    ) -> Result<Compared> {
        let x = subject.values_mut(variable)[index];
        let mut tops = Vec::new();
        let found = compare(tolerance, smallest_step::<T>(), |h| {
            let points = [x + T::from_f64(h), x - T::from_f64(h)];
            let mut moved = [0.0; 2];
            for (moved, point) in moved.iter_mut().zip(points) {
                subject.values_mut(variable)[index] = point;
                subject.outputs(&mut tops)?;
                *moved = objective.change(&tops);
            }
            // The steps that rounding left.
            let [up, down] = points.map(|p| (p - x).as_f64());
            let ([rise, fall], analytic) = (moved, analytic.as_f64());
            Ok(Slopes {
                central: (rise - fall) / (up - down),
                ahead: rise / up,
                behind: fall / down,
                analytic,
            })
        });
        subject.values_mut(variable)[index] = x;
        found
    }

    /// All elements of a blob at once, along half its gradient and half a random direction.
    fn direction<T: Real>(
        &self,
        subject: &mut Subject<T>,
        nth: usize,
        variable: Variable,
        gradient: &[T],
        objective: &Objective<T>,
    ) -> Result<Check> {
        let stream = self.stream(Draw::Direction, &subject.name, nth);
        let towards = Towards::new(gradient, stream);
        let base = subject.values_mut(variable).to_vec();
        let floor = towards.norm.clamp(1e-5, 1.0);
        let tolerance = Tolerance { step: self.step, threshold: self.threshold, floor };
        let mut tops = Vec::new();
        let found = compare(tolerance, smallest_step::<T>(), |h| {
            let (mut moved, mut analytic) = ([0.0; 2], 0.0);
            for (moved, h) in moved.iter_mut().zip([h, -h]) {
                analytic +=
                    towards.displace(1.0, gradient, &base, h, subject.values_mut(variable)) / (2.0 * h);
                subject.outputs(&mut tops)?;
                *moved = objective.change(&tops);
            }
            let [rise, fall] = moved;
            Ok(Slopes { central: (rise - fall) / (2.0 * h), ahead: rise / h, behind: -fall / h, analytic })
        });
        subject.values_mut(variable).copy_from_slice(&base);
        let mut check = self.begin(subject, variable, gradient.len());
        check.what += ", direction";
        check.add(&found?, 0);
        Ok(check)
    }
}

impl<T: Real> Objective<T> {
    /// How much the objective changes from the base to these tops. Element by element, so that what did not change
    /// adds no rounding error.
    fn change(&self, tops: &[T]) -> f64 {
        let elements = self.weights.iter().zip(tops).zip(&self.base);
        elements.map(|((w, y), y0)| w.as_f64() * (y.as_f64() - y0.as_f64())).sum()
    }
}

/// A direction of length 1: half along the gradient, so that the slope is not lost among many elements, half random, so
/// that what the gradient leaves out is moved too.
pub(super) struct Towards {
    /// Length of the gradient.
    pub norm: f64,
    along: f64,
    random: f64,
    stream: Stream,
}

impl Towards {
    pub fn new<T: Real>(gradient: &[T], stream: Stream) -> Towards {
        let norm = gradient.iter().map(|g| g.as_f64() * g.as_f64()).sum::<f64>().sqrt();
        let half = 0.5f64.sqrt();
        let along = if norm > 0.0 { half / norm } else { 0.0 };
        Towards { norm, along, random: half / (gradient.len().max(1) as f64).sqrt(), stream }
    }

    /// Writes base + h · direction to `values`, the random half times `sign`; the gradient times the displacement that rounding left.
    pub fn displace<T: Real>(&self, sign: f64, gradient: &[T], base: &[T], h: f64, values: &mut [T]) -> f64 {
        let mut inner = 0.0;
        for (i, ((value, &x), &g)) in values.iter_mut().zip(base).zip(gradient).enumerate() {
            let bit = sign * self.stream_sign(i);
            *value = x + T::from_f64(h * (self.along * g.as_f64() + self.random * bit));
            inner += g.as_f64() * (*value - x).as_f64();
        }
        inner
    }

    fn stream_sign(&self, i: usize) -> f64 {
        // One word gives 32 signs.
        let word = self.stream.word(i as u64 / 32);
        if word >> (i % 32) & 1 == 1 { 1.0 } else { -1.0 }
    }
}

/// All indices below `n` where there are at most `most`, else so many of them, drawn at random, in order.
fn pick(stream: &mut Stream, n: usize, most: usize) -> Vec<usize> {
    if n <= most {
        return (0..n).collect();
    }
    // The last and the first element: where loops go wrong.
    let mut chosen = std::collections::BTreeSet::from([0, n - 1]);
    while chosen.len() < most {
        chosen.insert(stream.below(n as u64) as usize);
    }
    chosen.into_iter().collect()
}
