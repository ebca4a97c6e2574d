//! Distances of similar and dissimilar pairs.

#[path = "contrastive_loss_cuda.rs"]
pub(crate) mod cuda;

use super::{batch, label};
use crate::blob::Shape;
use crate::device::{Context, Memory};
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, DeviceCode, Forward, Layer, Reads, Setup};
use crate::math::{Real, parallel};
use crate::proto::caffe::LayerParameter;
use std::ops::RangeInclusive;

/// loss = Σ (s·d² + (1 − s)·max(0, margin − d)²) / 2N, d being the distance of a pair, s whether it is similar.
///
/// ```prototxt
/// layer {
///   name: "loss" type: "ContrastiveLoss" bottom: "a" bottom: "b" bottom: "similar" top: "loss"
///   contrastive_loss_param { margin: 1.0 }
/// }
/// ```
///
/// Bottoms: embeddings a and b, N × D or N × D × 1 × 1; N integers, 0 for a dissimilar pair, any other for a similar
/// one. Top: a scalar. With `legacy_version` a dissimilar pair costs max(0, margin − d²) instead.
///
/// The gradient of a dissimilar pair divides by d. Caffe divides by d + 10⁻⁴; here it is the exact one, and d counts as
/// 10⁻⁴ where it is smaller.
///
/// Errors: shapes that do not fit, a `similar` that is no integer. Source: Caffe's ContrastiveLoss; Hadsell, Chopra
/// and LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006.
pub struct ContrastiveLoss<T> {
    margin: f64,
    legacy: bool,
    batch: usize,
    /// a − b of the last forward pass.
    difference: Vec<T>,
    /// What a pair's difference is multiplied by to give the gradient of its term with respect to a.
    factor: Vec<f64>,
    /// Differences, factors and terms on a device.
    device: [Option<Memory<T>>; 3],
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let fields = param.contrastive_loss_param.unwrap_or_default();
    if !fields.margin().is_finite() {
        return Err(Error::new(Kind::Value, "margin must be finite")
            .found(fields.margin())
            .in_field("contrastive_loss_param.margin"));
    }
    Ok(Box::new(ContrastiveLoss {
        margin: fields.margin().into(),
        legacy: fields.legacy_version(),
        batch: 1,
        difference: Vec::new(),
        factor: Vec::new(),
        device: [None, None, None],
    }))
}

/// Distance below which the direction of the gradient is lost.
const NEAR: f64 = 1e-4;
const GRAIN: usize = 16 * 1024;

impl<T> ContrastiveLoss<T> {
    /// What a pair of this squared distance costs, and the factor of its gradient.
    fn term(&self, similar: bool, squared: f64) -> (f64, f64) {
        match (similar, self.legacy) {
            (true, _) => (squared, 1.0),
            (false, true) => {
                let rest = self.margin - squared;
                if rest > 0.0 { (rest, -1.0) } else { (0.0, 0.0) }
            }
            (false, false) => {
                let distance = squared.sqrt();
                let rest = self.margin - distance;
                if rest > 0.0 { (rest * rest, -rest / distance.max(NEAR)) } else { (0.0, 0.0) }
            }
        }
    }
}

impl<T: Real> Layer<T> for ContrastiveLoss<T> {
    fn bottoms(&self) -> RangeInclusive<usize> {
        3..=3
    }

    fn auto_tops(&self) -> bool {
        true
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn loss_weight(&self, _: usize) -> f32 {
        1.0
    }

    fn differentiable(&self, bottom: usize) -> bool {
        bottom < 2
    }

    fn reshape(&mut self, bottom: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        self.batch = batch(bottom)?;
        for (i, shape) in bottom[..2].iter().enumerate() {
            if shape.count_from(2) != 1 || shape.count() != bottom[0].count() {
                return Err(Error::new(Kind::Shape, "the embeddings of the pairs do not fit")
                    .expected("two blobs of N x D")
                    .found(format!("shapes {} and {}", bottom[0], bottom[1]))
                    .in_field(&format!("bottom[{i}]")));
            }
        }
        if bottom[2].count() != self.batch {
            return Err(Error::new(Kind::Shape, "each pair needs to be marked as similar or not")
                .expected(format!("{} values", self.batch))
                .found(format!("shape {}", bottom[2]))
                .in_field("bottom[2]"));
        }
        self.difference.resize(bottom[0].count(), T::zero());
        self.factor.resize(self.batch, 0.0);
        Ok(vec![Shape::scalar()])
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (a, b, similar) = (io.bottom.get(0), io.bottom.get(1), io.bottom.get(2));
        parallel::for_each_chunk(&mut self.difference, GRAIN, |at, difference| {
            for ((d, &a), &b) in difference.iter_mut().zip(&a[at..]).zip(&b[at..]) {
                *d = a - b;
            }
        });
        let size = self.difference.len() / self.batch;
        let mut sum = 0.0;
        for (i, &similar) in similar.iter().enumerate() {
            let wrong = || label::not_an_integer(similar, i, io.bottom.shape(2)).in_field("bottom[2]");
            let similar = label::integer(similar).ok_or_else(wrong)? != 0;
            let squared = parallel::sum_of(&self.difference[i * size..][..size], |d| d.as_f64() * d.as_f64());
            let (term, factor) = self.term(similar, squared);
            sum += term;
            self.factor[i] = factor;
        }
        io.top.get(0)[0] = T::from_f64(sum / (2.0 * self.batch as f64));
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let scale = io.top_diff.get(0)[0].as_f64() / self.batch as f64;
        let size = self.difference.len() / self.batch;
        if size == 0 {
            return Ok(());
        }
        for (i, sign) in [1.0, -1.0].into_iter().enumerate().filter(|&(i, _)| io.propagate[i]) {
            let rows = io.bottom_diff.get(i).chunks_mut(size).zip(self.difference.chunks(size));
            for ((dx, difference), factor) in rows.zip(&self.factor) {
                let factor = T::from_f64(sign * scale * factor);
                dx.iter_mut().zip(difference).for_each(|(dx, &d)| *dx = factor * d);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, Feed, assert_close, refusal};

    fn layer(fields: &str) -> String {
        format!(
            "layer {{ name: 'l' type: 'ContrastiveLoss' bottom: 'a' bottom: 'b' bottom: 's' top: 'y'
             contrastive_loss_param {{ {fields} }} }}"
        )
    }

    /// Distances 5, 0.5, 0.5 and 5; the first two similar.
    const A: Feed = ("a", &[4, 2], &[3.0, 4.0, 0.3, 0.4, 0.3, 0.4, 3.0, 4.0]);
    const B: Feed = ("b", &[4, 2, 1, 1], &[0.0; 8]);
    const S: Feed = ("s", &[4], &[1.0, -7.0, 0.0, 0.0]);

    #[test]
    fn known_values() {
        let mut bench = Bench::<f64>::new(&layer("margin: 2"), &[A, B, S]).unwrap();
        assert!((bench.forward() - (25.0 + 0.25 + 2.25) / 8.0).abs() < 1e-12);
        bench.backward(&[]);
        // −(2 − 0.5) / 0.5 = −3 for the third.
        let expected = [3.0, 4.0, 0.3, 0.4, -0.9, -1.2, 0.0, 0.0].map(|d| d / 4.0);
        assert_close(&bench.grad("a"), &expected, 1e-12);
        assert_close(&bench.grad("b"), &expected.map(|d| -d), 1e-12);
    }

    #[test]
    fn legacy_version() {
        let text = layer("margin: 2 legacy_version: true");
        let mut bench = Bench::<f64>::new(&text, &[A, B, S]).unwrap();
        assert!((bench.forward() - (25.0 + 0.25 + 1.75) / 8.0).abs() < 1e-12);
        bench.backward(&[]);
        let expected = [3.0, 4.0, 0.3, 0.4, -0.3, -0.4, 0.0, 0.0].map(|d| d / 4.0);
        assert_close(&bench.grad("a"), &expected, 1e-12);
    }

    #[test]
    fn equal_embeddings_of_a_dissimilar_pair_have_no_direction() {
        let feeds: [Feed; 3] = [("a", &[1, 2], &[1.0; 2]), ("b", &[1, 2], &[1.0; 2]), ("s", &[1], &[0.0])];
        let mut bench = Bench::<f32>::new(&layer(""), &feeds).unwrap();
        assert_eq!(bench.forward(), 0.5);
        bench.backward(&[]);
        assert_close(&bench.grad("a"), &[0.0; 2], 0.0);
    }

    #[test]
    fn bad_bottoms_and_fields() {
        let field = |feeds: &[Feed], text: &str| refusal(text, feeds).field().map(str::to_string);
        assert_eq!(field(&[A, ("b", &[4, 3], &[0.0; 12]), S], &layer("")).unwrap(), "bottom[1]");
        assert_eq!(field(&[A, ("b", &[4, 1, 2], &[0.0; 8]), S], &layer("")).unwrap(), "bottom[1]");
        assert_eq!(field(&[A, B, ("s", &[3], &[0.0; 3])], &layer("")).unwrap(), "bottom[2]");
        assert_eq!(field(&[A, B, S], &layer("margin: nan")).unwrap(), "contrastive_loss_param.margin");
        let half: Feed = ("s", &[4], &[0.5; 4]);
        let mut bench = Bench::<f32>::new(&layer(""), &[A, B, half]).unwrap();
        assert!(bench.net.forward(&mut bench.weights).unwrap_err().message().contains("not an integer"));
    }
}
