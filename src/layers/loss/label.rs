//! Labels: class indices that arrive as numbers in a blob.

use crate::blob::Shape;
use crate::error::{Error, Kind, Result};
use crate::math::Real;

/// The labels of a batch, one for each score vector of a blob of scores, checked.
pub(crate) struct Labels {
    ignore: Option<i32>,
    classes: usize,
    of: Vec<Option<u32>>,
}

impl Labels {
    /// Labels where `ignore` (any integer) stands for "no label here".
    pub fn new(ignore: Option<i32>) -> Labels {
        Labels { ignore, classes: 0, of: Vec::new() }
    }

    /// For scores with the classes along `axis`: as many labels as the other axes have elements. They count as
    /// ignored until [`Labels::read`].
    pub fn reshape(&mut self, scores: &Shape, axis: usize, labels: &Shape) -> Result<()> {
        let count = scores.count_to(axis) * scores.count_from(axis + 1);
        self.classes = scores.legacy(axis);
        if labels.count() != count {
            return Err(Error::new(Kind::Shape, "the number of labels does not fit the scores")
                .expected(format!(
                    "{count} labels for scores of shape {scores} with classes along axis {axis}"
                ))
                .found(format!("labels of shape {labels}"))
                .in_field("bottom[1]"));
        }
        self.of.clear();
        self.of.resize(count, None);
        Ok(())
    }

    /// Takes over the labels of a forward pass; how many are not to be ignored.
    ///
    /// Errors: a label that is no integer, or neither a class nor the ignored label.
    pub fn read<T: Real>(&mut self, values: &[T], shape: &Shape) -> Result<usize> {
        let mut valid = 0;
        for (i, (of, &value)) in self.of.iter_mut().zip(values).enumerate() {
            let label =
                integer(value).ok_or_else(|| not_an_integer(value, i, shape).in_field("bottom[1]"))?;
            *of = match label {
                l if Some(l) == self.ignore.map(i64::from) => None,
                l if (0..self.classes as i64).contains(&l) => Some(l as u32),
                l => return Err(outside(l, self.classes, self.ignore, i, shape)),
            };
            valid += usize::from(of.is_some());
        }
        Ok(valid)
    }

    /// The class of each label, nothing where it is ignored.
    pub fn classes(&self) -> &[Option<u32>] {
        &self.of
    }

    /// The label that stands for none.
    pub fn ignored(&self) -> Option<i32> {
        self.ignore
    }

    /// How many labels there are, the ignored ones included.
    pub fn len(&self) -> usize {
        self.of.len()
    }
}

/// The integer that a number of a blob is, if it is one.
pub(crate) fn integer<T: Real>(value: T) -> Option<i64> {
    let value = value.as_f64();
    // Every integer of 53 bits is exact; larger ones are no labels.
    (value.fract() == 0.0 && value.abs() < 9.0e15).then_some(value as i64)
}

/// The error for a label that is no integer.
pub(crate) fn not_an_integer<T: Real>(value: T, index: usize, shape: &Shape) -> Error {
    Error::new(Kind::Data, format!("label {value} at {} is not an integer", position(index, shape)))
        .expected("an integer")
        .found(value)
}

fn outside(label: i64, classes: usize, ignore: Option<i32>, index: usize, shape: &Shape) -> Error {
    let ignored = ignore.map_or(String::new(), |i| format!(", or the ignored label {i}"));
    let message = format!("label {label} at {} is not one of the {classes} classes", position(index, shape));
    let error = Error::new(Kind::Data, message)
        .expected(match classes {
            0 => format!("at least one class{ignored}"),
            _ => format!("0 to {}{ignored}", classes - 1),
        })
        .found(label)
        .in_field("bottom[1]");
    match label {
        l if l == classes as i64 => error.suggest("labels count from 0"),
        _ => error,
    }
}

/// Where an element is in its blob: `[3]`, `[1, 0, 2, 5]`.
pub(crate) fn position(mut index: usize, shape: &Shape) -> String {
    let mut at = vec![0; shape.len()];
    for (at, &extent) in at.iter_mut().zip(shape.iter()).rev() {
        *at = index % extent.max(1);
        index /= extent.max(1);
    }
    format!("{at:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[usize]) -> Shape {
        Shape::new(dims).unwrap()
    }

    fn labels(ignore: Option<i32>) -> Labels {
        let mut labels = Labels::new(ignore);
        labels.reshape(&shape(&[2, 3, 2]), 1, &shape(&[2, 1, 2])).unwrap();
        labels
    }

    #[test]
    fn classes_and_ignored_ones() {
        let mut l = labels(Some(255));
        assert_eq!(l.classes(), [None; 4]);
        assert_eq!(l.read(&[0.0f32, 255.0, 2.0, -0.0], &shape(&[2, 1, 2])).unwrap(), 3);
        assert_eq!(l.classes(), [Some(0), None, Some(2), Some(0)]);
        assert_eq!(labels(Some(-1)).read(&[-1.0f64; 4], &shape(&[4])).unwrap(), 0);
        assert_eq!(labels(Some(1)).read(&[1.0f64, 1.0, 0.0, 2.0], &shape(&[4])).unwrap(), 2);
    }

    #[test]
    fn what_is_wrong_is_said_with_value_classes_and_place() {
        let at = shape(&[2, 1, 2]);
        let e = labels(Some(255)).read(&[0.0f32, 0.0, 0.0, 3.0], &at).unwrap_err();
        assert_eq!(e.message(), "label 3 at [1, 0, 1] is not one of the 3 classes");
        assert_eq!(e.expectation(), Some("0 to 2, or the ignored label 255"));
        assert_eq!(e.suggestion(), Some("labels count from 0"));
        assert!(labels(None).read(&[-1.0f32, 0.0, 0.0, 0.0], &at).is_err());
        for bad in [0.5f32, f32::NAN, f32::INFINITY, 1e30] {
            let e = labels(None).read(&[0.0, 0.0, bad, 0.0], &at).unwrap_err();
            assert_eq!(e.message(), format!("label {bad} at [1, 0, 0] is not an integer"));
        }
        let e = labels(None).reshape(&shape(&[2, 3]), 1, &shape(&[3])).unwrap_err();
        assert_eq!((e.kind(), e.field()), (Kind::Shape, Some("bottom[1]")));
    }
}
