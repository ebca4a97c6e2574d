//! Fully connected layer.

#[path = "inner_product_cuda.rs"]
pub(crate) mod cuda;

use crate::blob::Shape;
use crate::device::{Bf16, Context, FusedProduct, Memory};
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, DeviceCode, Forward, Layer, Reads, Setup};
use crate::math::{Real, Transpose, gemm, parallel};
use crate::proto::caffe::{InnerProductParameter, LayerParameter};

/// y = x·Wᵀ + b.
///
/// ```prototxt
/// layer { name: "fc6" type: "InnerProduct" bottom: "pool5" top: "fc6"
///   inner_product_param { num_output: 4096 weight_filler { type: "xavier" } } }
/// ```
///
/// Shapes: the axes before `axis` (1) are a batch of M, the others are flattened to K; the top is the batch axes and
/// `num_output` (N). Parameters: W of N×K (K×N with `transpose: true`) and b of N unless `bias_term: false`. Not in place.
///
/// Errors: no `num_output`, an `axis` that the bottom does not have.
///
/// Source: Caffe's InnerProduct.
pub struct InnerProduct {
    param: InnerProductParameter,
    /// M, N and K.
    sizes: [usize; 3],
    /// Weights, x and dy as a device multiplies them, where it rounds them.
    rounded: [Option<Memory<Bf16>>; 3],
    /// Its forward pass on a device.
    fused: FusedProduct,
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let param = param.inner_product_param.clone().unwrap_or_default();
    if param.num_output() == 0 {
        return Err(Error::new(Kind::Value, "an inner product needs outputs")
            .expected("1 or more")
            .found(0)
            .in_field("inner_product_param.num_output"));
    }
    let (rounded, fused) = ([None, None, None], FusedProduct::default());
    Ok(Box::new(InnerProduct { param, sizes: [0; 3], rounded, fused }))
}

/// Elements that one task takes.
const GRAIN: usize = 16 * 1024;

impl<T: Real> Layer<T> for InnerProduct {
    fn reads(&self) -> Reads {
        Reads::BOTTOM
    }

    fn reshape(&mut self, bottom: &[&Shape], setup: &mut Setup<T>) -> Result<Vec<Shape>> {
        let x = bottom[0];
        let axis = x.axis(self.param.axis()).map_err(|e| e.in_field("inner_product_param.axis"))?;
        let (n, k) = (self.param.num_output() as usize, x.count_from(axis));
        self.sizes = [x.count_to(axis), n, k];
        let weights = if self.param.transpose() { [k, n] } else { [n, k] };
        setup.param(&weights, self.param.weight_filler.as_ref())?;
        if self.param.bias_term() {
            setup.param(&[n], self.param.bias_filler.as_ref())?;
        }
        let mut top = x[..axis].to_vec();
        top.push(n);
        Ok(vec![Shape::new(top)?])
    }

    fn multiply_adds(&self) -> u64 {
        self.sizes.iter().map(|&size| size as u64).product()
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let [m, n, k] = self.sizes;
        let transpose = if self.param.transpose() { Transpose::No } else { Transpose::Yes };
        let (x, w, y) = (io.bottom.get(0), io.params.data(0), io.top.get(0));
        gemm(Transpose::No, transpose, m, n, k, T::one(), x, w, T::zero(), y);
        if self.param.bias_term() {
            let bias = io.params.data(1);
            parallel::for_each_chunk(
                y,
                n * (GRAIN / n).max(1),
                #[inline(always)]
                |_, y| {
                    for y in y.chunks_exact_mut(n) {
                        y.iter_mut().zip(bias).for_each(|(y, &b)| *y += b);
                    }
                },
            );
        }
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let [m, n, k] = self.sizes;
        let (x, dy) = (io.bottom.get(0), io.top_diff.get(0));
        let (no, yes, one) = (Transpose::No, Transpose::Yes, T::one());
        if io.params.learned(0) {
            let dw = io.params.diff_mut(0);
            if self.param.transpose() {
                gemm(yes, no, k, n, m, one, x, dy, one, dw);
            } else {
                gemm(yes, no, n, k, m, one, dy, x, one, dw);
            }
        }
        if self.param.bias_term() && io.params.learned(1) {
            parallel::for_each_chunk(
                io.params.diff_mut(1),
                (GRAIN / m.max(1)).max(16),
                #[inline(always)]
                |at, db| {
                    for dy in dy.chunks_exact(n) {
                        db.iter_mut().zip(&dy[at..]).for_each(|(db, &dy)| *db += dy);
                    }
                },
            );
        }
        if io.propagate[0] {
            let transpose = if self.param.transpose() { yes } else { no };
            gemm(no, transpose, m, k, n, one, dy, io.params.data(0), T::zero(), io.bottom_diff.get(0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, assert_close, refusal};

    fn layer(param: &str) -> String {
        format!(
            "layer {{ name: 'i' type: 'InnerProduct' bottom: 'x' top: 'y' inner_product_param {{ {param} }} }}"
        )
    }

    #[test]
    fn known_values_with_and_without_transpose() {
        for (param, w) in [
            ("num_output: 2", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            ("num_output: 2 transpose: true", [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]),
        ] {
            let x = [1.0, 0.0, -1.0, 2.0, 1.0, 0.0];
            let mut b = Bench::<f64>::new(&layer(param), &[("x", &[2, 3], &x)]).unwrap();
            b.set_param("i", 0, &w);
            b.set_param("i", 1, &[10.0, 20.0]);
            b.forward();
            assert_close(&b.get("y"), &[8.0, 18.0, 14.0, 33.0], 1e-12);
            b.backward(&[("y", &[1.0, 0.0, 2.0, 1.0])]);
            assert_close(&b.grad("x"), &[1.0, 2.0, 3.0, 6.0, 9.0, 12.0], 1e-12);
            let dw = b.param("i", 0).1;
            let rows = [5.0, 2.0, -1.0, 2.0, 1.0, 0.0];
            let columns = [5.0, 2.0, 2.0, 1.0, -1.0, 0.0];
            assert_close(&dw, if param.contains("transpose") { &columns } else { &rows }, 1e-12);
            assert_close(&b.param("i", 1).1, &[3.0, 1.0], 1e-12);
        }
    }

    #[test]
    fn the_axis_parts_batch_and_inputs() {
        let zeros = [0.0; 24];
        for (axis, y, w) in [(0, vec![5], [5, 24]), (1, vec![2, 5], [5, 12]), (-1, vec![2, 3, 5], [5, 4])] {
            let param = format!("num_output: 5 bias_term: false axis: {axis}");
            let b = Bench::<f32>::new(&layer(&param), &[("x", &[2, 3, 4], &zeros)]).unwrap();
            assert_eq!(b.shape("y")[..], y);
            assert_eq!(b.weights.get(b.weights.find("i", 0).unwrap()).shape[..], w);
            assert!(b.weights.find("i", 1).is_none());
        }
    }

    #[test]
    fn bad_parameters_are_refused() {
        let x: (&str, &[usize], &[f64]) = ("x", &[2], &[0.0; 2]);
        for (param, field) in
            [("", "num_output"), ("num_output: 2", "axis"), ("num_output: 2 axis: -2", "axis")]
        {
            let e = refusal(&layer(param), &[x]);
            assert_eq!(e.field(), Some(format!("inner_product_param.{field}").as_str()), "{e}");
        }
    }
}
