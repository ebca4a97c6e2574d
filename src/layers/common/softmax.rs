//! Softmax.

use crate::blob::Shape;
use crate::device::Context;
use crate::error::Result;
use crate::layers::{Backward, Forward, Layer, Reads, Setup, Sharing};
use crate::math::{Real, parallel};
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
    lanes: Lanes,
}

/// The axis of a softmax within a blob: extent along it, and elements between its steps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lanes {
    pub extent: usize,
    pub inner: usize,
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let axis = param.softmax_param.unwrap_or_default().axis();
    Ok(Box::new(Softmax { axis, lanes: Lanes::default() }))
}

/// Elements that one task takes.
const GRAIN: usize = 4 * 1024;
/// Positions behind the axis that are done at once.
const TILE: usize = 64;

impl Lanes {
    /// Along this axis of a shape; an error where there is none.
    pub fn new(shape: &Shape, axis: i32) -> Result<Lanes> {
        let axis = shape.axis(axis)?;
        Ok(Lanes { extent: shape[axis], inner: shape.count_from(axis + 1) })
    }

    /// Whole blocks of the axes from the softmax's on, as elements of one task.
    fn grain(&self) -> usize {
        let block = self.extent * self.inner;
        block * (GRAIN / block.max(1)).max(1)
    }

    /// First position and width of the tiles that make up a block.
    fn tiles(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let inner = self.inner;
        (0..inner).step_by(TILE).map(move |first| (first, TILE.min(inner - first)))
    }

    /// Softmax of `x`, or of what `y` holds.
    pub fn forward<T: Real>(&self, x: Option<&[T]>, y: &mut [T]) {
        let block = self.extent * self.inner;
        parallel::for_each_chunk(
            y,
            self.grain(),
            #[inline(always)]
            |at, y| {
                if let Some(x) = x {
                    y.copy_from_slice(&x[at..][..y.len()]);
                }
                for y in y.chunks_exact_mut(block) {
                    if self.inner == 1 { row(y) } else { self.tiles().for_each(|tile| self.columns(tile, y)) }
                }
            },
        );
    }

    /// Softmax down the columns of a tile of a block.
    #[inline(always)]
    fn columns<T: Real>(&self, (first, width): (usize, usize), y: &mut [T]) {
        let mut largest = [T::neg_infinity(); TILE];
        let mut sums = [T::zero(); TILE];
        let (largest, sums) = (&mut largest[..width], &mut sums[..width]);
        for y in y.chunks_exact(self.inner) {
            for (largest, &y) in largest.iter_mut().zip(&y[first..]) {
                *largest = if y > *largest { y } else { *largest };
            }
        }
        for y in y.chunks_exact_mut(self.inner) {
            let columns = y[first..].iter_mut().zip(&*largest).zip(sums.iter_mut());
            for ((y, &largest), sum) in columns {
                *y = (*y - largest).exp();
                *sum += *y;
            }
        }
        sums.iter_mut().for_each(|sum| *sum = sum.recip());
        for y in y.chunks_exact_mut(self.inner) {
            y[first..].iter_mut().zip(&*sums).for_each(|(y, &part)| *y *= part);
        }
    }

    /// dx = y·(dy − Σ dy·y), where `dx` may hold dy.
    pub fn backward<T: Real>(&self, y: &[T], dy: Option<&[T]>, dx: &mut [T]) {
        let block = self.extent * self.inner;
        parallel::for_each_chunk(
            dx,
            self.grain(),
            #[inline(always)]
            |at, dx| {
                if let Some(dy) = dy {
                    dx.copy_from_slice(&dy[at..][..dx.len()]);
                }
                for (y, dx) in y[at..].chunks_exact(block).zip(dx.chunks_exact_mut(block)) {
                    for (first, width) in self.tiles() {
                        let mut sums = [T::zero(); TILE];
                        let sums = &mut sums[..width];
                        for (y, dx) in y.chunks_exact(self.inner).zip(dx.chunks_exact(self.inner)) {
                            let columns = sums.iter_mut().zip(&y[first..]).zip(&dx[first..]);
                            columns.for_each(|((sum, &y), &dy)| *sum += y * dy);
                        }
                        for (y, dx) in y.chunks_exact(self.inner).zip(dx.chunks_exact_mut(self.inner)) {
                            let columns = dx[first..].iter_mut().zip(&y[first..]).zip(&*sums);
                            columns.for_each(|((dx, &y), &sum)| *dx = y * (*dx - sum));
                        }
                    }
                }
            },
        );
    }
}

/// Softmax of a row.
#[inline(always)]
fn row<T: Real>(y: &mut [T]) {
    let largest = y.iter().fold(T::neg_infinity(), |m, &y| if y > m { y } else { m });
    y.iter_mut().for_each(|y| *y = (*y - largest).exp());
    let part = T::from_f64(1.0 / parallel::sum_of(y, |y| y.as_f64()));
    y.iter_mut().for_each(|y| *y *= part);
}

impl<T: Real> Layer<T> for Softmax {
    fn sharing(&self) -> Sharing {
        Sharing::InPlace
    }

    fn reads(&self) -> Reads {
        Reads::TOP
    }

    fn reshape(&mut self, bottom: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        self.lanes = Lanes::new(bottom[0], self.axis).map_err(|e| e.in_field("softmax_param.axis"))?;
        Ok(vec![bottom[0].clone()])
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let x = if io.bottom.in_place(0) { None } else { Some(io.bottom.get(0)) };
        self.lanes.forward(x, io.top.get(0));
        Ok(())
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if io.propagate[0] {
            let dy = if io.top_diff.in_place(0) { None } else { Some(io.top_diff.get(0)) };
            self.lanes.backward(io.top.get(0), dy, io.bottom_diff.get(0));
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
