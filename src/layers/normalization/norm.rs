//! L2 normalisation over channels.

#[path = "norm_cuda.rs"]
pub(crate) mod cuda;

use crate::blob::Shape;
use crate::device::{Context, Memory};
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, DeviceCode, Forward, Layer, Reads, Setup, Sharing};
use crate::math::{Real, parallel};
use crate::proto::caffe::LayerParameter;

/// y = x / (‖x‖ + 10⁻⁶), where x is the vector of channels at one place of one image.
///
/// ```prototxt
/// layer { name: "norm" type: "Norm" bottom: "fc2" top: "norm" }
/// ```
///
/// Shapes: N×C×…; the top has the bottom's. May run in place. Its gradient is exact, also at x = 0:
/// dx = dy / (‖x‖ + 10⁻⁶) − y·⟨y, dy⟩ / ‖x‖, where the second term is 0 for x = 0.
///
/// Errors: a bottom without channels (fewer than two axes).
///
/// Source: Cortado's own; embeddings on the unit sphere for metric learning, as in Schroff and others, "FaceNet",
/// CVPR 2015.
pub struct Norm<T> {
    channels: usize,
    /// Places of an image.
    inner: usize,
    /// ‖x‖ at each place of each image.
    lengths: Vec<f64>,
    /// 1 / (‖x‖ + 10⁻⁶).
    inverse: Vec<T>,
    /// ⟨y, dy⟩ / ‖x‖.
    products: Vec<f64>,
    /// The lengths on a device.
    device: Option<Memory<T>>,
}

/// Makes the layer.
pub fn new<T: Real>(_: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    Ok(Box::new(Norm {
        channels: 0,
        inner: 0,
        lengths: Vec::new(),
        inverse: Vec::new(),
        products: Vec::new(),
        device: None,
    }))
}

/// Keeps the division from failing.
const EPS: f64 = 1e-6;
/// Elements that one task takes.
const GRAIN: usize = 8 * 1024;

/// `sums` = Σ a·b over the channels at each place.
fn products<T: Real>(a: &[T], b: &[T], (channels, inner): (usize, usize), sums: &mut [f64]) {
    let image = channels * inner;
    parallel::for_each_chunk(
        sums,
        inner * (GRAIN / image.max(1)).max(1),
        #[inline(always)]
        |at, sums| {
            for (n, sums) in (at / inner..).zip(sums.chunks_exact_mut(inner)) {
                let (a, b) = (&a[n * image..][..image], &b[n * image..][..image]);
                if inner == 1 {
                    sums[0] = dot(a, b);
                    continue;
                }
                sums.fill(0.0);
                for (a, b) in a.chunks_exact(inner).zip(b.chunks_exact(inner)) {
                    let pairs = sums.iter_mut().zip(a.iter().zip(b));
                    pairs.for_each(|(sum, (a, b))| *sum += a.as_f64() * b.as_f64());
                }
            }
        },
    );
}

/// Σ a·b, in double precision.
#[inline(always)]
fn dot<T: Real>(a: &[T], b: &[T]) -> f64 {
    let mut sums = [0.0; 16];
    let (many_a, many_b) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest = many_a.remainder().iter().zip(many_b.remainder());
    let rest: f64 = rest.map(|(a, b)| a.as_f64() * b.as_f64()).sum();
    for (a, b) in many_a.zip(many_b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a.as_f64() * b.as_f64();
        }
    }
    sums.iter().sum::<f64>() + rest
}

impl<T: Real> Norm<T> {
    /// Calls `row(place, offset, elements)` for each channel of each image, where `place` is the first of its places.
    fn each_row(&self, to: &mut [T], row: impl Fn(usize, usize, &mut [T]) + Sync) {
        let (inner, image) = (self.inner, self.channels * self.inner);
        parallel::for_each_chunk(
            to,
            image * (GRAIN / image.max(1)).max(1),
            #[inline(always)]
            |at, to| {
                for (n, to) in (at / image..).zip(to.chunks_exact_mut(image)) {
                    // With one place for each image its channels lie side by side.
                    let size = if inner == 1 { image } else { inner };
                    for (c, to) in to.chunks_exact_mut(size).enumerate() {
                        row(n * inner, n * image + c * size, to);
                    }
                }
            },
        );
    }
}

impl<T: Real> Layer<T> for Norm<T> {
    fn sharing(&self) -> Sharing {
        Sharing::InPlace
    }

    fn reads(&self) -> Reads {
        Reads::TOP
    }

    fn keeps_sign(&self) -> bool {
        true
    }

    fn reshape(&mut self, bottom: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        let &[n, channels, ..] = &bottom[0][..] else {
            return Err(Error::new(Kind::Shape, "there are no channels to normalise over")
                .expected("2 axes or more: N C ...")
                .found(bottom[0]));
        };
        (self.channels, self.inner) = (channels, bottom[0].count_from(2));
        self.lengths.resize(n * self.inner, 0.0);
        self.products.resize(n * self.inner, 0.0);
        self.inverse.resize(n * self.inner, T::zero());
        Ok(vec![bottom[0].clone()])
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let y = io.top.get(0);
        if y.is_empty() {
            return Ok(());
        }
        let in_place = io.bottom.in_place(0);
        let x: &[T] = if in_place { y } else { io.bottom.get(0) };
        products(x, x, (self.channels, self.inner), &mut self.lengths);
        for (length, inverse) in self.lengths.iter_mut().zip(&mut self.inverse) {
            *length = length.sqrt();
            *inverse = T::from_f64(1.0 / (*length + EPS));
        }
        let x = if in_place { None } else { Some(io.bottom.get(0)) };
        self.each_row(
            y,
            #[inline(always)]
            |place, at, y| {
                if let Some(x) = x {
                    y.copy_from_slice(&x[at..][..y.len()]);
                }
                if self.inner == 1 {
                    let inverse = self.inverse[place];
                    y.iter_mut().for_each(|y| *y *= inverse);
                } else {
                    y.iter_mut().zip(&self.inverse[place..]).for_each(|(y, &inverse)| *y *= inverse);
                }
            },
        );
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if !io.propagate[0] {
            return Ok(());
        }
        let (y, dx) = (io.top.get(0), io.bottom_diff.get(0));
        if dx.is_empty() {
            return Ok(());
        }
        let dy = if io.top_diff.in_place(0) { None } else { Some(io.top_diff.get(0)) };
        products(y, dy.unwrap_or(dx), (self.channels, self.inner), &mut self.products);
        for (product, &length) in self.products.iter_mut().zip(&self.lengths) {
            *product = if length == 0.0 { 0.0 } else { *product / length };
        }
        self.each_row(
            dx,
            #[inline(always)]
            |place, at, dx| {
                if let Some(dy) = dy {
                    dx.copy_from_slice(&dy[at..][..dx.len()]);
                }
                let pairs = dx.iter_mut().zip(&y[at..]);
                if self.inner == 1 {
                    let (inverse, product) = (self.inverse[place], T::from_f64(self.products[place]));
                    pairs.for_each(|(dx, &y)| *dx = *dx * inverse - y * product);
                } else {
                    let places = self.inverse[place..].iter().zip(&self.products[place..]);
                    for ((dx, &y), (&inverse, &product)) in pairs.zip(places) {
                        *dx = *dx * inverse - y * T::from_f64(product);
                    }
                }
            },
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, assert_close, refusal};

    const E: f64 = 1e-6;

    fn layer(top: &str) -> String {
        format!("layer {{ name: 'n' type: 'Norm' bottom: 'x' top: '{top}' }}")
    }

    #[test]
    fn known_values_with_and_without_places_apart_and_in_place() {
        let d = 5.0 + E;
        for top in ["y", "x"] {
            for (dims, x) in [(&[2usize, 2][..], [3.0, 4.0, -4.0, 3.0]), (&[1, 2, 2], [3.0, -4.0, 4.0, 3.0])]
            {
                let order = |v: [f64; 4]| if dims.len() == 2 { v } else { [v[0], v[2], v[1], v[3]] };
                let mut b = Bench::<f64>::new(&layer(top), &[("x", dims, &x)]).unwrap();
                b.forward();
                assert_close(&b.get(top), &order([3.0, 4.0, -4.0, 3.0].map(|x| x / d)), 1e-14);
                b.backward(&[(top, &order([1.0, 0.0, 0.0, 5.0]))]);
                // dy/d − x·⟨x, dy⟩/(5·d²)
                let (a, b2) = (3.0 / (5.0 * d * d), 15.0 / (5.0 * d * d));
                let expected = [1.0 / d - 3.0 * a, -4.0 * a, 4.0 * b2, 5.0 / d - 3.0 * b2];
                assert_close(&b.grad("x"), &order(expected), 1e-14);
            }
        }
    }

    #[test]
    fn zero_has_a_gradient() {
        let mut b = Bench::<f64>::new(&layer("y"), &[("x", &[1, 2], &[0.0, 0.0])]).unwrap();
        b.forward();
        assert_eq!(b.get("y"), [0.0, 0.0]);
        b.backward(&[("y", &[1.0, -2.0])]);
        assert_close(&b.grad("x"), &[1.0 / E, -2.0 / E], 1e-12);
    }

    #[test]
    fn large_values_do_not_overflow() {
        let mut b = Bench::<f32>::new(&layer("y"), &[("x", &[1, 2], &[3e30, 4e30])]).unwrap();
        b.forward();
        assert_close(&b.get("y"), &[0.6, 0.8], 1e-6);
    }

    #[test]
    fn channels_are_needed() {
        let e = refusal(&layer("y"), &[("x", &[2], &[0.0; 2])]);
        assert!(e.message().contains("no channels"), "{e}");
    }
}
