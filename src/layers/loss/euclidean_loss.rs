//! Sum of squared differences.

#[path = "euclidean_loss_cuda.rs"]
pub(crate) mod cuda;

use super::batch;
use crate::blob::Shape;
use crate::device::{Context, Memory};
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, DeviceCode, Forward, Layer, Reads, Setup};
use crate::math::{Real, parallel, vector};
use crate::proto::caffe::LayerParameter;
use std::ops::RangeInclusive;

/// loss = Σ (a − b)² / 2N, N being the batch size.
///
/// ```prototxt
/// layer { name: "loss" type: "EuclideanLoss" bottom: "prediction" bottom: "target" top: "loss" }
/// ```
///
/// Bottoms: two blobs of the same first extent N and the same number of elements. Top: a scalar. Gradients, for both:
/// ±(a − b) / N. Source: Caffe's EuclideanLoss.
pub struct EuclideanLoss<T> {
    batch: usize,
    /// a − b of the last forward pass.
    difference: Vec<T>,
    /// The same on a device.
    device: Option<Memory<T>>,
}

/// Makes the layer.
pub fn new<T: Real>(_: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    Ok(Box::new(EuclideanLoss { batch: 1, difference: Vec::new(), device: None }))
}

const GRAIN: usize = 16 * 1024;

impl<T: Real> Layer<T> for EuclideanLoss<T> {
    fn bottoms(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn auto_tops(&self) -> bool {
        true
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn loss_weight(&self, _: usize) -> f32 {
        1.0
    }

    fn reshape(&mut self, bottom: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        self.batch = batch(bottom)?;
        if bottom[0].count() != bottom[1].count() {
            return Err(Error::new(Kind::Shape, "the bottoms must have the same size")
                .expected(format!("shape {}", bottom[0]))
                .found(format!("shape {}", bottom[1]))
                .in_field("bottom[1]"));
        }
        self.difference.resize(bottom[0].count(), T::zero());
        Ok(vec![Shape::scalar()])
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (a, b) = (io.bottom.get(0), io.bottom.get(1));
        parallel::for_each_chunk(&mut self.difference, GRAIN, |at, difference| {
            for ((d, &a), &b) in difference.iter_mut().zip(&a[at..]).zip(&b[at..]) {
                *d = a - b;
            }
        });
        let sum = vector::sum_squares(&self.difference);
        io.top.get(0)[0] = T::from_f64(sum / (2.0 * self.batch as f64));
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let scale = io.top_diff.get(0)[0].as_f64() / self.batch as f64;
        for (i, sign) in [1.0, -1.0].into_iter().enumerate().filter(|&(i, _)| io.propagate[i]) {
            vector::axpby(T::from_f64(sign * scale), &self.difference, T::zero(), io.bottom_diff.get(i));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, Feed, assert_close, refusal};

    const LAYER: &str = "layer { name: 'l' type: 'EuclideanLoss' bottom: 'a' bottom: 'b' loss_weight: 3 }";

    #[test]
    fn known_values() {
        // The top has no name: the net adds one.
        let feeds: [Feed; 2] =
            [("a", &[2, 2], &[1.0, 2.0, 3.0, 4.0]), ("b", &[2, 1, 2], &[0.0, 2.0, 5.0, 3.0])];
        let mut bench = Bench::<f64>::new(LAYER, &feeds).unwrap();
        assert_eq!(bench.forward(), 3.0 * (1.0 + 4.0 + 1.0) / 4.0);
        bench.backward(&[]);
        assert_close(&bench.grad("a"), &[1.5, 0.0, -3.0, 1.5], 1e-15);
        assert_close(&bench.grad("b"), &[-1.5, 0.0, 3.0, -1.5], 1e-15);
    }

    #[test]
    fn propagate_down_is_heeded() {
        let layer = LAYER.replace("loss_weight: 3", "propagate_down: false propagate_down: true");
        let mut bench = Bench::<f32>::new(&layer, &[("a", &[1], &[2.0]), ("b", &[1], &[0.0])]).unwrap();
        assert_eq!(bench.forward(), 2.0);
        bench.backward(&[]);
        assert_close(&bench.grad("b"), &[-2.0], 0.0);
        assert!(bench.grad("a").iter().all(|&d| d == 0.0));
    }

    #[test]
    fn sizes_must_fit() {
        let a: Feed = ("a", &[2, 2], &[0.0; 4]);
        assert_eq!(refusal(LAYER, &[a, ("b", &[2, 3], &[0.0; 6])]).field(), Some("bottom[1]"));
        assert!(refusal(LAYER, &[a, ("b", &[4], &[0.0; 4])]).message().contains("batch sizes"));
        assert!(refusal(LAYER, &[("a", &[0, 2], &[]), ("b", &[0, 2], &[])]).message().contains("empty"));
    }
}
