//! Softmax.

#[path = "softmax_cuda.rs"]
pub(crate) mod cuda;

use crate::blob::Shape;
use crate::device::Context;
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward, Layer, Reads, Setup, Sharing};
use crate::math::{Real, softmax};
use crate::proto::caffe::LayerParameter;

/// yᵢ = e^xᵢ / Σⱼ e^xⱼ along one axis.
///
/// ```prototxt
/// layer { name: "prob" type: "Softmax" bottom: "fc8" top: "prob" softmax_param { axis: 1 } }
/// ```
///
/// Shapes: any with the `axis` (1); the top has the bottom's. May run in place. The largest x is taken off first, so
/// that no exponential is infinite.
///
/// Source: Caffe's Softmax.
pub struct Softmax {
    axis: i32,
    along: softmax::Softmax,
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let axis = param.softmax_param.unwrap_or_default().axis();
    Ok(Box::new(Softmax { axis, along: Default::default() }))
}

impl<T: Real> Layer<T> for Softmax {
    fn sharing(&self) -> Sharing {
        Sharing::InPlace
    }

    fn reads(&self) -> Reads {
        Reads::TOP
    }

    fn reshape(&mut self, bottom: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        self.along =
            softmax::Softmax::new(bottom[0], self.axis).map_err(|e| e.in_field("softmax_param.axis"))?;
        Ok(vec![bottom[0].clone()])
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let x = if io.bottom.in_place(0) { None } else { Some(io.bottom.get(0)) };
        self.along.forward(x, io.top.get(0));
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if io.propagate[0] {
            let dy = if io.top_diff.in_place(0) { None } else { Some(io.top_diff.get(0)) };
            self.along.backward(io.top.get(0), dy, io.bottom_diff.get(0), false);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, assert_close, refusal};

    fn layer(axis: i32, top: &str) -> String {
        format!(
            "layer {{ name: 's' type: 'Softmax' bottom: 'x' top: '{top}' softmax_param {{ axis: {axis} }} }}"
        )
    }

    #[test]
    fn known_values_along_any_axis_apart_and_in_place() {
        let l = f64::ln;
        let x = [l(1.0), l(2.0), l(3.0), l(1.0), l(6.0), l(1.0)];
        for top in ["y", "x"] {
            let mut b = Bench::<f64>::new(&layer(1, top), &[("x", &[2, 3], &x)]).unwrap();
            b.forward();
            assert_close(&b.get(top), &[1.0 / 6.0, 2.0 / 6.0, 0.5, 0.125, 0.75, 0.125], 1e-12);
            b.backward(&[(top, &[0.0, 0.0, 12.0, 0.0, 8.0, 0.0])]);
            assert_close(&b.grad("x"), &[-1.0, -2.0, 3.0, -0.75, 1.5, -0.75], 1e-12);
            let mut b = Bench::<f64>::new(&layer(-2, top), &[("x", &[1, 2, 3], &x)]).unwrap();
            b.forward();
            assert_close(&b.get(top), &[0.5, 0.25, 0.75, 0.5, 0.75, 0.25], 1e-12);
            b.backward(&[(top, &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0])]);
            assert_close(&b.grad("x"), &[0.25, 0.0, 0.0, -0.25, 0.0, 0.0], 1e-12);
        }
    }

    #[test]
    fn many_columns_agree_with_rows() {
        let (n, inner) = (5, 3 * 64 + 7);
        let x: Vec<f64> = (0..n * inner).map(|i| ((i * 31) % 17) as f64 / 4.0).collect();
        let mut b = Bench::<f64>::new(&layer(0, "y"), &[("x", &[n, inner], &x)]).unwrap();
        b.forward();
        let turned: Vec<f64> = (0..n * inner).map(|i| x[i % n * inner + i / n]).collect();
        let mut c = Bench::<f64>::new(&layer(1, "y"), &[("x", &[inner, n], &turned)]).unwrap();
        c.forward();
        let (y, t) = (b.get("y"), c.get("y"));
        let back: Vec<f64> = (0..n * inner).map(|i| t[i % inner * n + i / inner]).collect();
        assert_close(&y, &back, 1e-14);
    }

    #[test]
    fn large_values_do_not_overflow() {
        let mut b = Bench::<f32>::new(&layer(1, "y"), &[("x", &[1, 2], &[1000.0, 900.0])]).unwrap();
        b.forward();
        assert_close(&b.get("y"), &[1.0, 0.0], 1e-40);
    }

    #[test]
    fn an_axis_that_is_not_there_is_refused() {
        let e = refusal(&layer(2, "y"), &[("x", &[1, 2], &[0.0, 0.0])]);
        assert_eq!(e.field(), Some("softmax_param.axis"), "{e}");
    }
}
