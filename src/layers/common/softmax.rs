//! Softmax.

use crate::blob::Shape;
use crate::device::{Arg, Context, Gpu, Grid, Source, View};
use crate::error::Result;
use crate::layers::{Backward, Forward, Layer, Reads, Setup, Sharing};
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

/// The kernels along one axis, which `SoftmaxWithLoss` uses too.
pub(crate) const TEXT: &str = include_str!("softmax.cu");
static KERNELS: Source = Source { name: "softmax.cu", parts: &[TEXT] };

/// Launches y = softmax x, of so many vectors along an axis, from the softmax text in `source`.
pub(crate) fn launch_forward<T: Real>(
    gpu: &Gpu,
    source: &'static Source,
    softmax::Softmax { classes, inner }: softmax::Softmax,
    x: View<T>,
    y: View<T>,
) -> Result<()> {
    let vectors = y.len / classes.max(1);
    let args = [vectors.into(), classes.into(), inner.into(), x.into(), y.into()];
    // Long vectors that lie in one piece have a block of threads each, others one thread.
    match inner == 1 && classes >= 64 {
        true => gpu.launch::<T>(source, "softmax_rows", Grid::Rows(vectors), &args),
        false => gpu.launch::<T>(source, "softmax_columns", Grid::Elements(vectors), &args),
    }
}

/// Launches dx = y · (dy − Σ dy·y), added to dx where `add` says so.
pub(crate) fn launch_backward<T: Real>(
    gpu: &Gpu,
    source: &'static Source,
    softmax::Softmax { classes, inner }: softmax::Softmax,
    [y, dy, dx]: [View<T>; 3],
    add: bool,
) -> Result<()> {
    let vectors = y.len / classes.max(1);
    let counts = [vectors, classes, inner].map(Arg::from);
    let args = [counts[0], counts[1], counts[2], y.into(), dy.into(), dx.into(), add.into()];
    gpu.launch::<T>(source, "softmax_backward", Grid::Elements(vectors), &args)
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

    fn on_device(&self) -> bool {
        true
    }

    fn forward_device(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (x, y) = io.on_device()?;
        launch_forward(gpu, &KERNELS, self.along, x, y)
    }

    fn backward_device(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if !io.propagate[0] {
            return Ok(());
        }
        let (dy, dx) = io.diffs_on_device()?;
        launch_backward(gpu, &KERNELS, self.along, [io.top.device(0)?, dy, dx], false)
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
