//! Several axes made one.

use super::reshape::Shaped;
use crate::blob::Shape;
use crate::error::{Error, Kind, Result};
use crate::layers::Layer;
use crate::math::Real;
use crate::proto::caffe::{FlattenParameter, LayerParameter};

/// The bottom with the axes from `axis` (1 by default) to `end_axis` (−1, the last) made one.
///
/// ```prototxt
/// layer { name: "flat" type: "Flatten" bottom: "x" top: "y" flatten_param { axis: 1 end_axis: -1 } }
/// ```
///
/// Values and gradients share the bottom's memory: neither direction costs anything. Errors: axes that are not there
/// or in the wrong order. Source: Caffe's Flatten.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let fields = param.flatten_param.unwrap_or_default();
    Ok(Box::new(Shaped(move |bottom: &Shape| flatten(&fields, bottom))))
}

fn flatten(fields: &FlattenParameter, bottom: &Shape) -> Result<Shape> {
    let start = bottom.axis(fields.axis()).map_err(|e| e.in_field("flatten_param.axis"))?;
    let end = bottom.axis(fields.end_axis()).map_err(|e| e.in_field("flatten_param.end_axis"))?;
    // As in Caffe, an end just before the start puts in an axis of 1.
    if end + 1 < start {
        return Err(Error::new(Kind::Value, "end_axis lies before axis")
            .expected(format!("an axis from {start} on"))
            .found(fields.end_axis())
            .in_field("flatten_param.end_axis"));
    }
    let (before, rest) = bottom.split_at(start);
    let (flat, behind) = rest.split_at(end + 1 - start);
    Shape::new([before, &[flat.iter().product()], behind].concat())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, Feed, assert_close, refusal};

    fn layer(fields: &str) -> String {
        format!("layer {{ name: 'f' type: 'Flatten' bottom: 'x' top: 'y' flatten_param {{ {fields} }} }}")
    }

    const X: Feed = ("x", &[2, 1, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);

    #[test]
    fn shapes_values_and_gradients() {
        for (fields, shape) in [
            ("", "2 3 (6)"),
            ("axis: 0", "6 (6)"),
            ("axis: 0 end_axis: 1", "2 3 (6)"),
            ("axis: -1", "2 1 3 (6)"),
            ("axis: 2 end_axis: 1", "2 1 1 3 (6)"),
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
    fn bad_axes() {
        for (fields, field) in
            [("axis: 3", "axis"), ("end_axis: -4", "end_axis"), ("axis: 2 end_axis: 0", "end_axis")]
        {
            assert_eq!(refusal(&layer(fields), &[X]).field(), Some(&*format!("flatten_param.{field}")));
        }
    }
}
