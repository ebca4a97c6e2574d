//! Share of right answers.

#[path = "accuracy_cuda.rs"]
pub(crate) mod cuda;

use crate::blob::Shape;
use crate::device::{Context, Memory};
use crate::error::{Error, Kind, Result};
use crate::layers::loss::label::Labels;
use crate::layers::{Backward, DeviceCode, Forward, Layer, Reads, Setup};
use crate::math::{Real, parallel};
use crate::proto::caffe::LayerParameter;
use std::cmp::Ordering;
use std::ops::RangeInclusive;

/// The share of score vectors in which fewer than `top_k` other classes score as high as the labelled one.
///
/// ```prototxt
/// layer {
///   name: "accuracy" type: "Accuracy" bottom: "scores" bottom: "label" top: "accuracy" top: "by_class"
///   accuracy_param { top_k: 5 axis: 1 ignore_label: 255 }
/// }
/// ```
///
/// Bottoms: scores, outer × classes × inner with the classes along `axis`; labels, outer × inner of them, integers from
/// 0. Tops: the share, a scalar; if a second one is named, the share for each class, of as many elements. Labels equal
/// to `ignore_label` do not count; where none counts the share is 0. Ties count against the label, as in Caffe, and so
/// does a score that is not a number. No gradient.
///
/// Errors: numbers of labels and scores that do not fit; a `top_k` of 0 or above the number of classes; a label that
/// is no integer or none of the classes. Source: Caffe's Accuracy.
pub struct Accuracy {
    top_k: usize,
    axis: i32,
    labels: Labels,
    classes: usize,
    inner: usize,
    right: Vec<bool>,
    /// Right ones and all of each class.
    by_class: Vec<(u64, u64)>,
    /// Which are right, on a device: 1, 0, -1 for one that does not count, -2 for a wrong label; and counts of parts of them.
    device: [Option<Memory<i32>>; 2],
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let fields = param.accuracy_param.unwrap_or_default();
    Ok(Box::new(Accuracy {
        top_k: fields.top_k() as usize,
        axis: fields.axis(),
        labels: Labels::new(fields.ignore_label),
        classes: 0,
        inner: 0,
        right: Vec::new(),
        by_class: Vec::new(),
        device: [None, None],
    }))
}

/// Comparisons that one task makes.
const GRAIN: usize = 1 << 15;

impl<T: Real> Layer<T> for Accuracy {
    fn bottoms(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn tops(&self) -> RangeInclusive<usize> {
        1..=2
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn differentiable(&self, _: usize) -> bool {
        false
    }

    fn reshape(&mut self, bottom: &[&Shape], setup: &mut Setup<T>) -> Result<Vec<Shape>> {
        let scores = bottom[0];
        let axis = scores.axis(self.axis).map_err(|e| e.in_field("accuracy_param.axis"))?;
        self.labels.reshape(scores, axis, bottom[1])?;
        (self.classes, self.inner) = (scores[axis], scores.count_from(axis + 1));
        if !(1..=self.classes).contains(&self.top_k) {
            return Err(Error::new(Kind::Value, "top_k does not fit the number of classes")
                .expected(format!("1 to {}", self.classes))
                .found(self.top_k)
                .in_field("accuracy_param.top_k"));
        }
        self.right.resize(self.labels.len(), false);
        let mut tops = vec![Shape::scalar()];
        if setup.tops > 1 {
            tops.push(Shape::new([self.classes])?);
            self.by_class.resize(self.classes, (0, 0));
        }
        Ok(tops)
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let valid = self.labels.read(io.bottom.get(1), io.bottom.shape(1))?;
        let (scores, labels) = (io.bottom.get(0), self.labels.classes());
        let (classes, inner, top_k) = (self.classes, self.inner, self.top_k);
        parallel::for_each_chunk(&mut self.right, GRAIN.div_ceil(classes.max(1)), |at, right| {
            for (i, (right, label)) in right.iter_mut().zip(&labels[at..]).enumerate() {
                let Some(label) = *label else {
                    *right = false;
                    continue;
                };
                let first = (at + i) / inner * classes * inner + (at + i) % inner;
                let score = scores[first + label as usize * inner];
                let scores = scores[first..].iter().step_by(inner).take(classes);
                // The labelled class does not lie below itself: one too many. A score that is not a number lies
                // below nothing, and nothing below it.
                let as_high =
                    scores.filter(|other| other.partial_cmp(&&score) != Some(Ordering::Less)).count();
                *right = as_high <= top_k;
            }
        });
        let right = self.right.iter().filter(|&&r| r).count();
        io.top.get(0)[0] = share(right as u64, valid as u64);
        if io.top.len() > 1 {
            self.by_class.fill((0, 0));
            for (&right, label) in self.right.iter().zip(labels) {
                if let Some((hits, all)) = label.and_then(|l| self.by_class.get_mut(l as usize)) {
                    *hits += u64::from(right);
                    *all += 1;
                }
            }
            for (y, &(right, all)) in io.top.get(1).iter_mut().zip(&self.by_class) {
                *y = share(right, all);
            }
        }
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, _: Backward<T>) -> Result<()> {
        Ok(())
    }
}

fn share<T: Real>(right: u64, all: u64) -> T {
    T::from_f64(right as f64 / all.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, Feed, assert_close, refusal};

    fn layer(fields: &str) -> String {
        format!(
            "layer {{ name: 'a' type: 'Accuracy' bottom: 'x' bottom: 't' top: 'y' top: 'per'
             accuracy_param {{ {fields} }} }}"
        )
    }

    const X: Feed = ("x", &[4, 3], &[3.0, 2.0, 1.0, 1.0, 2.0, 3.0, 1.0, 1.0, 0.0, 5.0, 0.0, 0.0]);

    fn run(fields: &str, x: Feed, labels: Feed) -> (Vec<f64>, Vec<f64>) {
        let mut bench = Bench::<f32>::new(&layer(fields), &[x, labels]).unwrap();
        bench.forward();
        bench.backward(&[]);
        (bench.get("y"), bench.get("per"))
    }

    #[test]
    fn known_values_and_ties() {
        // Right, second, tied for first, right.
        let t: Feed = ("t", &[4], &[0.0, 1.0, 1.0, 0.0]);
        let (y, per) = run("", X, t);
        assert_close(&y, &[0.5], 0.0);
        assert_close(&per, &[1.0, 0.0, 0.0], 0.0);
        assert_close(&run("top_k: 2", X, t).0, &[1.0], 0.0);
        assert_close(&run("ignore_label: 1", X, t).0, &[1.0], 0.0);
        assert_close(&run("ignore_label: -1", X, ("t", &[4], &[-1.0; 4])).0, &[0.0], 0.0);
    }

    #[test]
    fn spatial_and_axis() {
        // 1 × 2 × 3: along axis 1 three positions with two classes.
        let x: Feed = ("x", &[1, 2, 3], &[1.0, 5.0, 0.0, 2.0, 4.0, 0.0]);
        assert_close(&run("", x, ("t", &[1, 3], &[1.0, 0.0, 0.0])).0, &[2.0 / 3.0], 1e-6);
        assert_close(&run("axis: -1", x, ("t", &[1, 2], &[1.0, 0.0])).0, &[0.5], 0.0);
    }

    #[test]
    fn scores_that_are_not_numbers_are_wrong() {
        let x: Feed = ("x", &[2, 2], &[f64::NAN, 0.0, 1.0, f64::NAN]);
        assert_close(&run("", x, ("t", &[2], &[0.0, 0.0])).0, &[0.0], 0.0);
    }

    #[test]
    fn bad_fields_and_labels() {
        let t: Feed = ("t", &[4], &[0.0, 3.0, 0.0, 0.0]);
        for (fields, field) in [
            ("top_k: 0", "accuracy_param.top_k"),
            ("top_k: 4", "accuracy_param.top_k"),
            ("axis: 2", "accuracy_param.axis"),
        ] {
            assert_eq!(refusal(&layer(fields), &[X, t]).field(), Some(field));
        }
        assert_eq!(refusal(&layer(""), &[X, ("t", &[3], &[0.0; 3])]).field(), Some("bottom[1]"));
        let mut bench = Bench::<f32>::new(&layer(""), &[X, t]).unwrap();
        let error = bench.net.forward(&mut bench.weights).unwrap_err();
        assert_eq!(error.message(), "label 3 at [1] is not one of the 3 classes");
    }
}
