//! Cross-entropy of a softmax.

#[path = "softmax_with_loss_cuda.rs"]
pub(crate) mod cuda;

use super::{batch, label::Labels};
use crate::blob::Shape;
use crate::device::{Context, Memory};
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, DeviceCode, Forward, Layer, Reads, Setup};
use crate::math::softmax::Softmax;
use crate::math::{Real, parallel, vector};
use crate::proto::caffe::LayerParameter;
use crate::proto::caffe::loss_parameter::NormalizationMode;
use std::ops::RangeInclusive;

/// loss = −Σ log p\[label\] / normalizer, where p is the softmax of the scores over the classes.
///
/// ```prototxt
/// layer {
///   name: "loss" type: "SoftmaxWithLoss" bottom: "scores" bottom: "label" top: "loss"
///   loss_param { ignore_label: 255 normalization: VALID } softmax_param { axis: 1 }
/// }
/// ```
///
/// Bottoms: scores, outer × classes × inner with the classes along `axis`; labels, outer × inner of them, integers from
/// 0. Tops: the loss, a scalar; the probabilities, of the shape of the scores, if a second top is named. Logarithms
/// are taken of p or of the smallest normal float, whichever is larger, as in Caffe.
///
/// The normalizer is by `normalization` outer · inner (FULL), the number of labels that are not `ignore_label`
/// (VALID), outer (BATCH_SIZE) or 1 (NONE), and 1 at least. The older `normalize` means VALID (true) or BATCH_SIZE
/// (false) where `normalization` is not given.
///
/// Gradient: (p − onehot(label)) / normalizer, nothing where the label is ignored. The probabilities pass a gradient
/// down, too, if one arrives (Caffe drops it).
///
/// Errors: numbers of labels and scores that do not fit; a label that is no integer or none of the classes.
/// Source: Caffe's SoftmaxWithLoss.
pub struct SoftmaxWithLoss<T> {
    axis: i32,
    mode: NormalizationMode,
    labels: Labels,
    /// Extent before the classes.
    outer: usize,
    /// The classes and what is behind them.
    along: Softmax,
    /// The probabilities and the normalizer of the last forward pass.
    prob: Vec<T>,
    normalizer: f64,
    /// The same on a device.
    device: Kept<T>,
}

/// What the last forward pass left on a device.
#[derive(Default)]
struct Kept<T> {
    prob: Option<Memory<T>>,
    normalizer: Option<Memory<T>>,
    labels: Option<Memory<T>>,
    /// Sums of parts of the labels.
    parts: Option<Memory<T>>,
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let loss = param.loss_param.unwrap_or_default();
    let mode = match (loss.normalization, loss.normalize) {
        (None, Some(true)) => NormalizationMode::Valid,
        (None, Some(false)) => NormalizationMode::BatchSize,
        (given, _) => {
            let number = given.unwrap_or(NormalizationMode::Valid as i32);
            NormalizationMode::try_from(number).map_err(|_| {
                Error::new(Kind::Value, "unknown normalization")
                    .expected("FULL (0), VALID (1), BATCH_SIZE (2) or NONE (3)")
                    .found(number)
                    .in_field("loss_param.normalization")
            })?
        }
    };
    Ok(Box::new(SoftmaxWithLoss {
        axis: param.softmax_param.unwrap_or_default().axis(),
        mode,
        labels: Labels::new(loss.ignore_label),
        outer: 0,
        along: Softmax::default(),
        prob: Vec::new(),
        normalizer: 1.0,
        device: Kept::default(),
    }))
}

/// Elements that one task of the backward pass takes.
const GRAIN: usize = 16 * 1024;

impl<T> SoftmaxWithLoss<T> {
    fn normalizer(&self, valid: usize) -> f64 {
        let count = match self.mode {
            NormalizationMode::Full => self.outer * self.along.inner,
            NormalizationMode::Valid => valid,
            NormalizationMode::BatchSize => self.outer,
            NormalizationMode::None => 1,
        };
        count.max(1) as f64
    }
}

impl<T: Real> Layer<T> for SoftmaxWithLoss<T> {
    fn bottoms(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn tops(&self) -> RangeInclusive<usize> {
        1..=2
    }

    fn auto_tops(&self) -> bool {
        true
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn loss_weight(&self, top: usize) -> f32 {
        if top == 0 { 1.0 } else { 0.0 }
    }

    fn differentiable(&self, bottom: usize) -> bool {
        bottom == 0
    }

    fn reshape(&mut self, bottom: &[&Shape], setup: &mut Setup<T>) -> Result<Vec<Shape>> {
        batch(bottom)?;
        let scores = bottom[0];
        let axis = scores.axis(self.axis).map_err(|e| e.in_field("softmax_param.axis"))?;
        self.labels.reshape(scores, axis, bottom[1])?;
        self.outer = scores.count_to(axis);
        self.along = Softmax { classes: scores[axis], inner: scores.count_from(axis + 1) };
        self.prob.resize(scores.count(), T::zero());
        let mut tops = vec![Shape::scalar(), scores.clone()];
        tops.truncate(setup.tops);
        Ok(tops)
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let valid = self.labels.read(io.bottom.get(1), io.bottom.shape(1))?;
        self.normalizer = self.normalizer(valid);
        self.along.forward(Some(io.bottom.get(0)), &mut self.prob);
        let Softmax { classes, inner } = self.along;
        let smallest = f64::from(f32::MIN_POSITIVE);
        let (prob, labels) = (&self.prob, self.labels.classes());
        let sum = parallel::sum(labels.len(), GRAIN, |range| {
            let labelled = range.filter_map(|i| labels[i].map(|class| (i, class as usize)));
            labelled
                .map(|(i, class)| {
                    let p = prob[(i / inner * classes + class) * inner + i % inner].as_f64();
                    // A NaN stays one: max would hide it.
                    -(if p < smallest { smallest } else { p }).ln()
                })
                .sum()
        });
        io.top.get(0)[0] = T::from_f64(sum / self.normalizer);
        if io.top.len() > 1 {
            vector::copy(&self.prob, io.top.get(1));
        }
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if !io.propagate[0] {
            return Ok(());
        }
        let dx = io.bottom_diff.get(0);
        if io.live[0] {
            let scale = T::from_f64(io.top_diff.get(0)[0].as_f64() / self.normalizer);
            self.backward_of_loss(scale, dx);
        }
        if io.live.get(1) == Some(&true) {
            self.along.backward(&self.prob, Some(io.top_diff.get(1)), dx, io.live[0]);
        }
        Ok(())
    }
}

impl<T: Real> SoftmaxWithLoss<T> {
    /// dx = scale · (p − onehot(label)).
    fn backward_of_loss(&self, scale: T, dx: &mut [T]) {
        let Softmax { classes, inner } = self.along;
        let (prob, labels) = (&self.prob, self.labels.classes());
        let sample = classes * inner;
        parallel::for_each_chunk(dx, GRAIN.div_ceil(sample.max(1)) * sample.max(1), |at, dx| {
            for (p, dx) in prob[at..].iter().zip(&mut *dx) {
                *dx = *p * scale;
            }
            let labels = &labels[at / sample * inner..];
            for (dx, labels) in dx.chunks_mut(sample).zip(labels.chunks(inner)) {
                for (s, label) in labels.iter().enumerate() {
                    match label {
                        Some(class) => dx[*class as usize * inner + s] -= scale,
                        None => (0..classes).for_each(|c| dx[c * inner + s] = T::zero()),
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Kind;
    use crate::testing::{Bench, Feed, assert_close, refusal};

    fn layer(fields: &str) -> String {
        format!("layer {{ name: 'l' type: 'SoftmaxWithLoss' bottom: 'x' bottom: 't' top: 'y' {fields} }}")
    }

    /// Probabilities (1/4, 3/4), (1/2, 1/2), (1/5, 4/5).
    fn feeds(labels: &[f64]) -> [Feed<'_>; 2] {
        const X: &[f64] = &[0.0, 1.0986122886681098, 7.0, 7.0, 0.0, 1.3862943611198906];
        [("x", &[3, 2], X), ("t", &[3], labels)]
    }

    #[test]
    fn normalizers() {
        let (a, b) = (-(0.75f64.ln()), -(0.5f64.ln()));
        for (fields, divisor) in [
            ("", 2.0),
            ("normalization: VALID", 2.0),
            ("normalization: FULL normalize: true", 3.0),
            ("normalization: BATCH_SIZE", 3.0),
            ("normalization: NONE", 1.0),
            ("normalize: false", 3.0),
            ("normalize: true", 2.0),
        ] {
            let text = layer(&format!("loss_param {{ ignore_label: 9 {fields} }}"));
            let mut bench = Bench::<f64>::new(&text, &feeds(&[1.0, 0.0, 9.0])).unwrap();
            assert!((bench.forward() - (a + b) / divisor).abs() < 1e-12, "{fields}");
            bench.backward(&[]);
            let expected = [0.25, -0.25, -0.5, 0.5, 0.0, 0.0].map(|d| d / divisor);
            assert_close(&bench.grad("x"), &expected, 1e-12);
        }
    }

    #[test]
    fn all_ignored_gives_zero() {
        let text = layer("loss_param { ignore_label: -1 }");
        let mut bench = Bench::<f32>::new(&text, &feeds(&[-1.0; 3])).unwrap();
        assert_eq!(bench.forward(), 0.0);
        bench.backward(&[]);
        assert_close(&bench.grad("x"), &[0.0; 6], 0.0);
    }

    #[test]
    fn spatial_labels_and_axis() {
        // 1 × 2 × 2 scores; classes along axis 1, then along axis 2.
        let x = [0.0, 0.0, 1.0986122886681098, 0.0];
        for (axis, labels, p) in [(1, [1.0, 0.0], [0.75, 0.5]), (-1, [0.0, 1.0], [0.5, 0.25])] {
            let feeds: [Feed; 2] = [("x", &[1, 2, 2], &x), ("t", &[1, 1, 2], &labels)];
            let text = layer(&format!("softmax_param {{ axis: {axis} }}"));
            let mut bench = Bench::<f64>::new(&text, &feeds).unwrap();
            let expected = p.map(|p: f64| -p.ln()).iter().sum::<f64>() / 2.0;
            assert!((bench.forward() - expected).abs() < 1e-12, "axis {axis}");
        }
    }

    #[test]
    fn second_top_gives_probabilities_and_passes_their_gradient() {
        let text = layer("top: 'p' loss_weight: 2 loss_weight: 0");
        let mut bench = Bench::<f64>::new(&text, &feeds(&[1.0, 0.0, 0.0])).unwrap();
        bench.forward();
        assert_eq!(bench.shape("p").to_string(), "3 2 (6)");
        assert_close(&bench.get("p"), &[0.25, 0.75, 0.5, 0.5, 0.2, 0.8], 1e-12);
        bench.backward(&[("p", &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0])]);
        let loss = [0.25, -0.25, -0.5, 0.5, -0.8, 0.8].map(|d| d * 2.0 / 3.0);
        let mut expected = loss;
        expected[0] += 0.25 * 0.75;
        expected[1] -= 0.25 * 0.75;
        assert_close(&bench.grad("x"), &expected, 1e-12);
        // Without weights of its own only the loss counts.
        let mut bench = Bench::<f64>::new(&layer("top: 'p'"), &feeds(&[1.0, 0.0, 0.0])).unwrap();
        assert!((bench.forward() - bench.get("y")[0]).abs() < 1e-12);
    }

    #[test]
    fn an_impossible_label_costs_the_log_of_the_smallest_float() {
        let feeds: [Feed; 2] = [("x", &[1, 2], &[0.0, 1000.0]), ("t", &[1], &[0.0])];
        for loss in [
            Bench::<f32>::new(&layer(""), &feeds).unwrap().forward(),
            Bench::<f64>::new(&layer(""), &feeds).unwrap().forward(),
        ] {
            assert!((loss + f64::from(f32::MIN_POSITIVE).ln()).abs() < 1e-4);
        }
        let feeds: [Feed; 2] = [("x", &[1, 2], &[0.0, f64::NAN]), ("t", &[1], &[0.0])];
        assert!(Bench::<f32>::new(&layer(""), &feeds).unwrap().forward().is_nan());
    }

    #[test]
    fn bad_labels_and_shapes() {
        for (label, says) in [(2.0, "label 2 at [1] is not one of the 2 classes"), (0.5, "not an integer")] {
            let mut bench = Bench::<f32>::new(&layer(""), &feeds(&[0.0, label, 0.0])).unwrap();
            let error = bench.net.forward(&mut bench.weights).unwrap_err();
            assert!(error.message().contains(says), "{error}");
            assert_eq!((error.kind(), error.layer()), (Kind::Data, Some("l")));
        }
        let x: Feed = ("x", &[3, 2], &[0.0; 6]);
        assert_eq!(refusal(&layer(""), &[x, ("t", &[2], &[0.0; 2])]).field(), Some("bottom[1]"));
        assert_eq!(refusal(&layer(""), &[x, ("t", &[3, 2], &[0.0; 6])]).field(), Some("bottom[1]"));
        let t: Feed = ("t", &[3], &[0.0; 3]);
        let error = refusal(&layer("softmax_param { axis: 2 }"), &[x, t]);
        assert_eq!(error.field(), Some("softmax_param.axis"));
    }
}
