//! A blob cut into pieces.

#[path = "slice_cuda.rs"]
mod cuda;

use super::concat::{copy_rows, legacy_axis};
use crate::blob::Shape;
use crate::device::Context;
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, DeviceCode, Forward, Layer, Reads, Setup, Sharing};
use crate::math::Real;
use crate::proto::caffe::LayerParameter;
use std::ops::RangeInclusive;

/// The tops are pieces of the bottom along an axis; its gradient is theirs, joined.
///
/// ```prototxt
/// layer { name: "slice" type: "Slice" bottom: "x" top: "x1" top: "x2" slice_param { axis: 1 slice_point: 3 } }
/// ```
///
/// Each `slice_point` is the first index of the next top along `axis` (1 by default; −1 is the last); without any the
/// tops are of equal size. The older `slice_dim` stands for `axis`. With one top it shares the bottom's memory.
///
/// Errors: an axis that is not there, `axis` and `slice_dim` together, slice points that are not one fewer than the
/// tops, ascending and inside the axis, an extent that the tops do not divide. Source: Caffe's Slice.
pub struct Slice {
    axis: i32,
    field: &'static str,
    points: Vec<usize>,
    single: bool,
    /// For each top, the elements that one outer index has.
    widths: Vec<usize>,
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let fields = param.slice_param.clone().unwrap_or_default();
    let (axis, field) =
        legacy_axis(fields.axis, fields.slice_dim, ["slice_param.axis", "slice_param.slice_dim"])?;
    let points: Vec<usize> = fields.slice_point.iter().map(|&p| p as usize).collect();
    if !points.is_empty() && points.len() + 1 != param.top.len() {
        return Err(Error::new(Kind::Value, "the number of slice points does not fit the number of tops")
            .expected(param.top.len().saturating_sub(1))
            .found(points.len())
            .in_field("slice_param.slice_point"));
    }
    Ok(Box::new(Slice { axis, field, points, single: param.top.len() == 1, widths: Vec::new() }))
}

impl Slice {
    /// The extents of the tops along the axis.
    fn cut(&self, extent: usize, tops: usize) -> Result<Vec<usize>> {
        if self.points.is_empty() {
            if !extent.is_multiple_of(tops) {
                return Err(Error::new(
                    Kind::Shape,
                    format!("an axis of {extent} cannot be cut into {tops} equal tops"),
                )
                .suggest("give slice_point")
                .in_field(self.field));
            }
            return Ok(vec![extent / tops; tops]);
        }
        let ends: Vec<usize> = [0].into_iter().chain(self.points.iter().copied()).chain([extent]).collect();
        if !ends.is_sorted_by(|a, b| a < b) {
            return Err(Error::new(Kind::Value, "slice points must ascend and lie inside the axis")
                .expected(format!("numbers above 0 and below {extent}"))
                .found(format!("{:?}", self.points))
                .in_field("slice_param.slice_point"));
        }
        Ok(ends.windows(2).map(|w| w[1] - w[0]).collect())
    }
}

impl<T: Real> Layer<T> for Slice {
    fn tops(&self) -> RangeInclusive<usize> {
        1..=usize::MAX
    }

    fn sharing(&self) -> Sharing {
        if self.single { Sharing::DataAndDiff } else { Sharing::None }
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn reshape(&mut self, bottom: &[&Shape], setup: &mut Setup<T>) -> Result<Vec<Shape>> {
        let axis = bottom[0].axis(self.axis).map_err(|e| e.in_field(self.field))?;
        let behind = bottom[0].count_from(axis + 1);
        self.widths.clear();
        let mut tops = Vec::new();
        for extent in self.cut(bottom[0][axis], setup.tops)? {
            let mut shape = bottom[0].to_vec();
            shape[axis] = extent;
            tops.push(Shape::new(shape)?);
            self.widths.push(extent * behind);
        }
        Ok(tops)
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let row = self.widths.iter().sum();
        let mut at = 0;
        for (i, &width) in self.widths.iter().enumerate() {
            copy_rows(width, [at, row], io.bottom.get(0), [0, width], io.top.get(i));
            at += width;
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
        let row = self.widths.iter().sum();
        let dx = io.bottom_diff.get(0);
        if io.live.contains(&false) {
            dx.fill(T::zero());
        }
        let mut at = 0;
        for (i, &width) in self.widths.iter().enumerate() {
            if io.live[i] {
                copy_rows(width, [0, width], io.top_diff.get(i), [at, row], dx);
            }
            at += width;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, Feed, assert_close, refusal};

    fn layer(fields: &str) -> String {
        format!(
            "layer {{ name: 's' type: 'Slice' bottom: 'x' top: 'a' top: 'b' slice_param {{ {fields} }} }}"
        )
    }

    const X: Feed = ("x", &[2, 4], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);

    #[test]
    fn cut_and_joined() {
        for (fields, a, b) in [
            ("", &[1.0, 2.0, 5.0, 6.0][..], &[3.0, 4.0, 7.0, 8.0][..]),
            ("axis: -1 slice_point: 1", &[1.0, 5.0], &[2.0, 3.0, 4.0, 6.0, 7.0, 8.0]),
            ("slice_dim: 0", &[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0]),
        ] {
            let mut bench = Bench::<f32>::new(&layer(fields), &[X]).unwrap();
            bench.forward();
            assert_close(&bench.get("a"), a, 0.0);
            assert_close(&bench.get("b"), b, 0.0);
            bench.backward(&[("a", a), ("b", b)]);
            assert_close(&bench.grad("x"), X.2, 0.0);
        }
    }

    #[test]
    fn a_top_without_a_gradient_counts_as_zero() {
        // Only `a` takes part in the loss; `b` is read by a layer that passes nothing down.
        let text = layer("")
            + "layer { name: 'l' type: 'EuclideanLoss' bottom: 'a' bottom: 'z' }
               layer { name: 'q' type: 'Silence' bottom: 'b' }";
        let mut bench = Bench::<f32>::new(&text, &[X, ("z", &[2, 2], &[0.0; 4])]).unwrap();
        bench.forward();
        for _ in 0..2 {
            bench.backward(&[]);
            assert_close(&bench.grad("x"), &[0.5, 1.0, 0.0, 0.0, 2.5, 3.0, 0.0, 0.0], 0.0);
        }
    }

    #[test]
    fn one_top_is_shared() {
        let mut bench = Bench::<f32>::new(&layer("").replace("top: 'b'", ""), &[X]).unwrap();
        bench.forward();
        assert_close(&bench.get("a"), X.2, 0.0);
        bench.backward(&[("a", X.2)]);
        assert_close(&bench.grad("x"), X.2, 0.0);
    }

    #[test]
    fn bad_fields() {
        for (fields, field) in [
            ("axis: 2", "axis"),
            ("slice_dim: 7", "slice_dim"),
            ("axis: 1 slice_dim: 1", "slice_dim"),
            ("slice_point: 1 slice_point: 2", "slice_point"),
            ("slice_point: 0", "slice_point"),
            ("slice_point: 4", "slice_point"),
        ] {
            assert_eq!(
                refusal(&layer(fields), &[X]).field(),
                Some(&*format!("slice_param.{field}")),
                "{fields}"
            );
        }
        let error = refusal(&layer(""), &[("x", &[1, 3], &[0.0; 3])]);
        assert!(error.message().contains("cannot be cut into 2"), "{error}");
    }
}
