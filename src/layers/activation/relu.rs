//! Rectified linear units.

use super::{Elementwise, Function};
use crate::blob::Element;
use crate::error::Result;
use crate::layers::{Layer, Reads};
use crate::math::Real;
use crate::proto::caffe::LayerParameter;

/// y = x for x > 0, else `negative_slope` · x.
///
/// ```prototxt
/// layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" relu_param { negative_slope: 0.1 } }
/// ```
///
/// Shapes: any; the top has the bottom's. May run in place (with a negative slope of 0 or more, where the sign of
/// y is that of x). At x = 0 the derivative is taken to be the negative slope, as in Caffe.
///
/// Source: Caffe's ReLU; Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010.
pub struct Relu<T> {
    slope: T,
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let slope = param.relu_param.unwrap_or_default().negative_slope();
    Ok(Box::new(Elementwise(Relu { slope: T::from_f64(slope.as_f64()) })))
}

impl<T: Real> Function<T> for Relu<T> {
    fn reads(&self) -> Reads {
        // y tells the sign of x unless the slope turns it.
        if self.slope < T::zero() { Reads::BOTTOM } else { Reads::SIGN_OF_TOP }
    }

    fn keeps_sign(&self) -> bool {
        self.slope >= T::zero()
    }

    fn f(&self, x: T) -> T {
        if x > T::zero() { x } else { x * self.slope }
    }

    fn df(&self, x: T, _: T) -> T {
        if x > T::zero() { T::one() } else { self.slope }
    }
}
