//! The same values in another shape.

use crate::blob::Shape;
use crate::device::Context;
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, Forward, Layer, Reads, Setup, Sharing};
use crate::math::Real;
use crate::proto::caffe::{LayerParameter, ReshapeParameter};

/// A layer whose top is its bottom in the shape that a function gives. The net shares the memory of both, so forward
/// and backward are never called.
pub(super) struct Shaped<F>(pub F);

impl<T: Real, F: Fn(&Shape) -> Result<Shape> + Send> Layer<T> for Shaped<F> {
    fn sharing(&self) -> Sharing {
        Sharing::DataAndDiff
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn reshape(&mut self, bottom: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        Ok(vec![(self.0)(bottom[0])?])
    }

    fn forward(&mut self, _: &Context<T>, _: Forward<T>) -> Result<()> {
        Ok(())
    }

    fn backward(&mut self, _: &Context<T>, _: Backward<T>) -> Result<()> {
        Ok(())
    }
}

/// The bottom with some or all of its axes replaced by `shape`.
///
/// ```prototxt
/// layer {
///   name: "rows" type: "Reshape" bottom: "x" top: "y"
///   reshape_param { shape { dim: 0 dim: -1 } axis: 0 num_axes: -1 }
/// }
/// ```
///
/// Replaced are `num_axes` axes (−1, the default: all that follow) from `axis` on (0 by default; −1 is behind the last
/// one, −2 before it). Of the new dimensions, 0 copies the bottom's at that place and one −1 takes what is left.
/// Values and gradients share the bottom's memory: neither direction costs anything.
///
/// Errors: a shape of another size than the bottom's, several −1, a 0 with nothing to copy, axes that are not there.
/// Source: Caffe's Reshape.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let fields = param.reshape_param.clone().unwrap_or_default();
    let dims = dims_of(&fields);
    if let Some(dim) = dims.iter().find(|d| **d < -1) {
        return Err(wrong("shape.dim", "a dimension below -1")
            .expected("a size, 0 (copy) or -1 (the rest)")
            .found(dim));
    }
    if dims.iter().filter(|d| **d == -1).count() > 1 {
        return Err(wrong("shape.dim", "several dimensions are -1")
            .expected("one at most")
            .found(format!("{dims:?}")));
    }
    if fields.num_axes() < -1 {
        return Err(wrong("num_axes", "num_axes below -1")
            .expected("-1 (all) or more")
            .found(fields.num_axes()));
    }
    Ok(Box::new(Shaped(move |bottom: &Shape| reshaped(&fields, bottom))))
}

fn wrong(field: &str, message: &str) -> Error {
    Error::new(Kind::Value, message).in_field(&format!("reshape_param.{field}"))
}

fn dims_of(fields: &ReshapeParameter) -> &[i64] {
    fields.shape.as_ref().map_or(&[], |shape| &shape.dim)
}

fn reshaped(fields: &ReshapeParameter, bottom: &Shape) -> Result<Shape> {
    let (axes, axis) = (bottom.len(), i64::from(fields.axis()));
    let start = if axis < 0 { axis + axes as i64 + 1 } else { axis };
    let start = usize::try_from(start).ok().filter(|&start| start <= axes).ok_or_else(|| {
        wrong("axis", "there is no such axis")
            .expected(format!("{} to {axes} for the bottom's shape {bottom}", -(axes as i64) - 1))
            .found(axis)
    })?;
    let end = usize::try_from(fields.num_axes()).map_or(Some(axes), |n| start.checked_add(n));
    let end = end.filter(|&end| end <= axes).ok_or_else(|| {
        wrong("num_axes", "there are not so many axes")
            .expected(format!("at most {} for the bottom's shape {bottom}", axes - start))
            .found(fields.num_axes())
    })?;

    let mut top = bottom[..start].to_vec();
    let mut rest = None;
    for (i, &dim) in dims_of(fields).iter().enumerate() {
        top.push(match usize::try_from(dim) {
            Ok(0) => *bottom.get(start + i).ok_or_else(|| {
                wrong("shape.dim", "a 0 with nothing to copy")
                    .expected(format!("an axis {} in the bottom's shape {bottom}", start + i))
            })?,
            Ok(dim) => dim,
            Err(_) => {
                rest = Some(start + i);
                1
            }
        });
    }
    top.extend(&bottom[end..]);
    let count = bottom.count();
    let mut shape = Shape::new(top.clone()).map_err(|e| e.in_field("reshape_param.shape"))?;
    if let Some(rest) = rest {
        // Of an empty bottom nothing is left.
        top[rest] = count.checked_div(shape.count()).unwrap_or(0);
        shape = Shape::new(top).map_err(|e| e.in_field("reshape_param.shape"))?;
    }
    if shape.count() != count {
        return Err(Error::new(Kind::Shape, "the new shape has another number of elements")
            .expected(format!("{count} elements, as the bottom's shape {bottom} has"))
            .found(format!("shape {shape} from dimensions {:?}", dims_of(fields)))
            .in_field("reshape_param.shape"));
    }
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, Feed, assert_close, refusal};

    fn layer(fields: &str) -> String {
        format!("layer {{ name: 'r' type: 'Reshape' bottom: 'x' top: 'y' reshape_param {{ {fields} }} }}")
    }

    const X: Feed = ("x", &[2, 1, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);

    #[test]
    fn shapes() {
        for (fields, shape) in [
            ("shape { dim: 3 dim: 2 }", "3 2 (6)"),
            ("shape { dim: 0 dim: -1 }", "2 3 (6)"),
            ("shape { dim: -1 }", "6 (6)"),
            ("shape { dim: 3 dim: 1 } axis: 1", "2 3 1 (6)"),
            ("shape { dim: 1 dim: -1 } axis: 0 num_axes: 2", "1 2 3 (6)"),
            ("shape { dim: 1 } axis: -1", "2 1 3 1 (6)"),
            ("shape { dim: 1 } axis: 1 num_axes: 0", "2 1 1 3 (6)"),
            ("shape { } axis: 1 num_axes: 1", "2 3 (6)"),
            ("shape { dim: 0 dim: 0 } axis: -3", "2 1 3 (6)"),
        ] {
            let mut bench = Bench::<f32>::new(&layer(fields), &[X]).unwrap();
            assert_eq!(bench.shape("y").to_string(), shape, "{fields}");
            bench.forward();
            assert_close(&bench.get("y"), X.2, 0.0);
            bench.backward(&[("y", &[6.0, 5.0, 4.0, 3.0, 2.0, 1.0])]);
            assert_close(&bench.grad("x"), &[6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 0.0);
        }
    }

    #[test]
    fn bad_fields() {
        for (fields, field) in [
            ("shape { dim: -1 dim: -1 }", "shape.dim"),
            ("shape { dim: -2 }", "shape.dim"),
            ("shape { dim: 2 dim: 1 dim: 3 dim: 0 }", "shape.dim"),
            ("shape { dim: 4 dim: -1 }", "shape"),
            ("shape { dim: 5 }", "shape"),
            ("", "shape"),
            ("shape { dim: 4611686018427387904 dim: 4 }", "shape"),
            ("shape { dim: 6 } axis: 4", "axis"),
            ("shape { dim: 6 } axis: -5", "axis"),
            ("shape { dim: 6 } axis: 1 num_axes: 3", "num_axes"),
            ("shape { dim: 6 } num_axes: -2", "num_axes"),
        ] {
            assert_eq!(
                refusal(&layer(fields), &[X]).field(),
                Some(&*format!("reshape_param.{field}")),
                "{fields}"
            );
        }
    }
}
