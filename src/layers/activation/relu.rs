//! Rectified linear units.

use super::{Elementwise, Formula, Function};
use crate::blob::Element;
use crate::device::Source;
use crate::error::Result;
use crate::layers::{Layer, Reads, Step};
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

pub(crate) static KERNELS: Source =
    Source { name: "relu.cu", parts: &[include_str!("relu.cu"), Formula::<f32>::TEMPLATE] };

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

    fn step(&self) -> Option<Step> {
        (self.slope >= T::zero()).then_some(Step::Relu { slope: self.slope.as_f64() })
    }

    fn cuda(&self) -> Option<Formula<T>> {
        Some(Formula { source: &KERNELS, numbers: [self.slope, T::zero(), T::zero(), T::zero()] })
    }

    #[inline(always)]
    fn f(&self, x: T) -> T {
        // Adding 0 turns the −0 of a slope of 0 into 0, as Caffe has it.
        if x > T::zero() { x } else { x * self.slope + T::zero() }
    }

    #[inline(always)]
    fn df(&self, x: T, _: T) -> T {
        if x > T::zero() { T::one() } else { self.slope }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, assert_close};

    #[test]
    fn known_values_apart_and_in_place() {
        for top in ["y", "x"] {
            let layer = format!(
                "layer {{ name: 'r' type: 'ReLU' bottom: 'x' top: '{top}' relu_param {{ negative_slope: 0.5 }} }}"
            );
            let mut b = Bench::<f64>::new(&layer, &[("x", &[3], &[-2.0, 0.0, 3.0])]).unwrap();
            b.forward();
            assert_close(&b.get(top), &[-1.0, 0.0, 3.0], 0.0);
            b.backward(&[(top, &[1.0, 1.0, 2.0])]);
            assert_close(&b.grad("x"), &[0.5, 0.5, 2.0], 0.0);
        }
    }
}
