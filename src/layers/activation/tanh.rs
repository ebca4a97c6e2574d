//! The hyperbolic tangent.

use super::{Elementwise, Formula, Function};
use crate::device::Source;
use crate::error::Result;
use crate::layers::{Layer, Reads};
use crate::math::Real;
use crate::proto::caffe::LayerParameter;

/// y = tanh(x).
///
/// ```prototxt
/// layer { name: "act1" type: "TanH" bottom: "fc1" top: "fc1" }
/// ```
///
/// Shapes: any; the top has the bottom's. May run in place. Its gradient is 1 − y².
///
/// Source: Caffe's TanH.
pub struct TanH;

pub(crate) static KERNELS: Source =
    Source { name: "tanh.cu", parts: &[include_str!("tanh.cu"), Formula::<f32>::TEMPLATE] };

/// Makes the layer.
pub fn new<T: Real>(_: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    Ok(Box::new(Elementwise(TanH)))
}

impl<T: Real> Function<T> for TanH {
    fn reads(&self) -> Reads {
        Reads::TOP
    }

    fn keeps_sign(&self) -> bool {
        true
    }

    fn cuda(&self) -> Option<Formula<T>> {
        Some(Formula { source: &KERNELS, numbers: [T::zero(); 4] })
    }

    #[inline(always)]
    fn f(&self, x: T) -> T {
        x.tanh()
    }

    #[inline(always)]
    fn df(&self, _: T, y: T) -> T {
        T::one() - y * y
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, assert_close};

    #[test]
    fn known_values_apart_and_in_place() {
        for top in ["y", "x"] {
            let layer = format!("layer {{ name: 't' type: 'TanH' bottom: 'x' top: '{top}' }}");
            // tanh(ln 2) = (4 − 1) / (4 + 1)
            let x = [0.0, 2f64.ln(), -(2f64.ln()), 800.0];
            let mut b = Bench::<f64>::new(&layer, &[("x", &[4], &x)]).unwrap();
            b.forward();
            assert_close(&b.get(top), &[0.0, 0.6, -0.6, 1.0], 1e-12);
            b.backward(&[(top, &[1.0, 1.0, 2.0, 1.0])]);
            assert_close(&b.grad("x"), &[1.0, 0.64, 1.28, 0.0], 1e-12);
        }
    }
}
