//! A power of a linear function.

use super::{Elementwise, Formula, Function};
use crate::blob::Element;
use crate::device::Source;
use crate::error::Result;
use crate::layers::{Layer, Reads};
use crate::math::Real;
use crate::proto::caffe::LayerParameter;

/// y = (shift + scale · x)^power.
///
/// ```prototxt
/// layer { name: "half" type: "Power" bottom: "x" top: "y" power_param { power: 2 scale: 0.5 shift: 3 } }
/// ```
///
/// Shapes: any; the top has the bottom's. With power 0, 0.5 or 1 or scale 0 it may run in place; else its gradient,
/// power · scale · (shift + scale · x)^(power−1), needs the bottom. With power 0 the top is 1 everywhere, with scale 0 it
/// is shift^power; the gradient is then zero.
///
/// Source: Caffe's Power. Where Caffe divides 0 by 0 (the gradient at shift + scale · x = 0), this one has the limit.
pub struct Power<T> {
    power: T,
    scale: T,
    shift: T,
    kind: Kind,
}

/// Which short way there is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// The top does not depend on the bottom.
    Constant,
    Linear,
    Square,
    Root,
    General,
}

pub(crate) static KERNELS: Source =
    Source { name: "power.cu", parts: &[include_str!("power.cu"), Formula::<f32>::TEMPLATE] };

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let p = param.power_param.unwrap_or_default();
    let kind = match (p.power(), p.scale()) {
        (power, scale) if power * scale == 0.0 => Kind::Constant,
        (1.0, _) => Kind::Linear,
        (2.0, _) => Kind::Square,
        (0.5, _) => Kind::Root,
        _ => Kind::General,
    };
    let number = |v: f32| T::from_f64(v.as_f64());
    let (power, scale, shift) = (number(p.power()), number(p.scale()), number(p.shift()));
    Ok(Box::new(Elementwise(Power { power, scale, shift, kind })))
}

impl<T: Real> Function<T> for Power<T> {
    fn reads(&self) -> Reads {
        match self.kind {
            Kind::Constant | Kind::Linear => Reads::NOTHING,
            Kind::Root => Reads::TOP,
            Kind::Square | Kind::General => Reads::BOTTOM,
        }
    }

    fn cuda(&self) -> Option<Formula<T>> {
        Some(Formula {
            source: &KERNELS,
            numbers: [self.shift, self.scale, self.power, T::from_f64(self.kind as u8 as f64)],
        })
    }

    #[inline(always)]
    fn f(&self, x: T) -> T {
        let base = self.shift + self.scale * x;
        match self.kind {
            // 0⁰ is 1, and what x holds does not matter, be it infinite.
            Kind::Constant => self.shift.powf(self.power),
            Kind::Linear => base,
            Kind::Square => base * base,
            Kind::Root => base.sqrt(),
            Kind::General => base.powf(self.power),
        }
    }

    #[inline(always)]
    fn df(&self, x: T, y: T) -> T {
        let slope = self.power * self.scale;
        match self.kind {
            Kind::Constant => T::zero(),
            Kind::Linear => slope,
            Kind::Square => slope * (self.shift + self.scale * x),
            Kind::Root => slope / y,
            Kind::General => slope * (self.shift + self.scale * x).powf(self.power - T::one()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, assert_close, refusal};

    fn check(param: &str, x: &[f64], y: &[f64], dx: &[f64]) {
        let layer =
            format!("layer {{ name: 'p' type: 'Power' bottom: 'x' top: 'y' power_param {{ {param} }} }}");
        let mut b = Bench::<f64>::new(&layer, &[("x", &[x.len()], x)]).unwrap();
        b.forward();
        assert_close(&b.get("y"), y, 1e-12);
        b.backward(&[("y", &vec![2.0; x.len()])]);
        assert_close(&b.grad("x"), dx, 1e-12);
    }

    #[test]
    fn known_values() {
        check("power: 2 scale: 0.5 shift: 3", &[2.0, -6.0], &[16.0, 0.0], &[8.0, 0.0]);
        check("scale: -2 shift: 1", &[2.0, 0.0], &[-3.0, 1.0], &[-4.0, -4.0]);
        check("power: 0.5", &[4.0, 16.0], &[2.0, 4.0], &[0.5, 0.25]);
        check("power: 3", &[2.0, 0.0], &[8.0, 0.0], &[24.0, 0.0]);
        check("power: -1 shift: 1", &[1.0, 3.0], &[0.5, 0.25], &[-0.5, -0.125]);
    }

    #[test]
    fn constants_have_no_gradient() {
        check("power: 0", &[5.0, 0.0, f64::INFINITY], &[1.0; 3], &[0.0; 3]);
        check("scale: 0 shift: 2 power: 3", &[5.0, 0.0], &[8.0, 8.0], &[0.0, 0.0]);
        check("scale: 0 shift: 0 power: 0", &[5.0], &[1.0], &[0.0]);
    }

    #[test]
    fn in_place_where_the_gradient_does_not_need_the_bottom() {
        let layer =
            "layer { name: 'p' type: 'Power' bottom: 'x' top: 'x' power_param { scale: 3 power: POWER } }";
        let x: (&str, &[usize], &[f64]) = ("x", &[1], &[2.0]);
        let mut b = Bench::<f64>::new(&layer.replace("POWER", "1"), &[x]).unwrap();
        b.forward();
        b.backward(&[("x", &[1.0])]);
        assert_eq!((b.get("x"), b.grad("x")), (vec![6.0], vec![3.0]));
        let e = refusal(&layer.replace("POWER", "3"), &[x]);
        assert!(e.message().contains("may not be overwritten in place"), "{e}");
    }
}
