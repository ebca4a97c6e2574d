//! The logistic function.

use super::{Elementwise, Formula, Function};
use crate::device::Source;
use crate::error::Result;
use crate::layers::{Layer, Reads};
use crate::math::Real;
use crate::proto::caffe::LayerParameter;

/// y = 1 / (1 + e⁻ˣ).
///
/// ```prototxt
/// layer { name: "gate" type: "Sigmoid" bottom: "fc1" top: "gate" }
/// ```
///
/// Shapes: any; the top has the bottom's. May run in place. Its gradient is y·(1 − y).
///
/// Source: Caffe's Sigmoid.
pub struct Sigmoid;

pub(crate) static KERNELS: Source =
    Source { name: "sigmoid.cu", parts: &[include_str!("sigmoid.cu"), Formula::<f32>::TEMPLATE] };

/// Makes the layer.
pub fn new<T: Real>(_: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    Ok(Box::new(Elementwise(Sigmoid)))
}

impl<T: Real> Function<T> for Sigmoid {
    fn reads(&self) -> Reads {
        Reads::TOP
    }

    fn cuda(&self) -> Option<Formula<T>> {
        Some(Formula { source: &KERNELS, numbers: [T::zero(); 4] })
    }

    #[inline(always)]
    fn f(&self, x: T) -> T {
        T::one() / (T::one() + (-x).exp())
    }

    #[inline(always)]
    fn df(&self, _: T, y: T) -> T {
        y * (T::one() - y)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, assert_close};

    #[test]
    fn known_values_apart_and_in_place() {
        for top in ["y", "x"] {
            let layer = format!("layer {{ name: 's' type: 'Sigmoid' bottom: 'x' top: '{top}' }}");
            let x = [0.0, 3f64.ln(), -(3f64.ln()), 800.0, -800.0];
            let mut b = Bench::<f64>::new(&layer, &[("x", &[5], &x)]).unwrap();
            b.forward();
            assert_close(&b.get(top), &[0.5, 0.75, 0.25, 1.0, 0.0], 1e-12);
            b.backward(&[(top, &[4.0, 16.0, 16.0, 1.0, 1.0])]);
            assert_close(&b.grad("x"), &[1.0, 3.0, 3.0, 0.0, 0.0], 1e-12);
        }
    }
}
