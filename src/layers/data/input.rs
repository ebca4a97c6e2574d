//! Blobs that the user fills.

use crate::blob::Shape;
use crate::device::Context;
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, Forward, Layer, Reads, Setup};
use crate::math::Real;
use crate::proto::caffe::LayerParameter;
use std::ops::RangeInclusive;

/// Tops of given shapes, which the user fills before each forward pass.
///
/// ```prototxt
/// layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 224 dim: 224 } } }
/// ```
///
/// One shape for all tops or one for each. Errors: another number of shapes, a negative dimension.
/// Source: Caffe's Input.
pub struct Input {
    shapes: Vec<Shape>,
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let input = param.input_param.clone().unwrap_or_default();
    let mut shapes = Vec::with_capacity(param.top.len());
    for (i, shape) in input.shape.iter().enumerate() {
        let shape = Shape::from_dims(&shape.dim);
        shapes.push(shape.map_err(|e| e.in_field(&format!("input_param.shape[{i}].dim")))?);
    }
    let tops = param.top.len();
    if shapes.len() == 1 {
        shapes = vec![shapes[0].clone(); tops];
    }
    if shapes.len() != tops {
        return Err(Error::new(Kind::Value, "the number of shapes does not fit the number of tops")
            .expected(format!("1 or {tops}"))
            .found(shapes.len())
            .in_field("input_param.shape"));
    }
    Ok(Box::new(Input { shapes }))
}

impl<T: Real> Layer<T> for Input {
    fn bottoms(&self) -> RangeInclusive<usize> {
        0..=0
    }

    fn tops(&self) -> RangeInclusive<usize> {
        1..=usize::MAX
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn reshape(&mut self, _: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        Ok(self.shapes.clone())
    }

    fn forward(&mut self, _: &Context<T>, _: Forward<T>) -> Result<()> {
        Ok(())
    }

    fn backward(&mut self, _: &Context<T>, _: Backward<T>) -> Result<()> {
        Ok(())
    }
}
