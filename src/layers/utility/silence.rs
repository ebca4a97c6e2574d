//! An end for blobs that nobody wants.

#[path = "silence_cuda.rs"]
mod cuda;

use crate::blob::Shape;
use crate::device::Context;
use crate::error::Result;
use crate::layers::{Backward, DeviceCode, Forward, Layer, Reads, Setup};
use crate::math::{Real, vector};
use crate::proto::caffe::LayerParameter;
use std::ops::RangeInclusive;

/// Reads its bottoms and gives nothing, so that they are no outputs of the net. Their gradients are zero.
///
/// ```prototxt
/// layer { name: "silence" type: "Silence" bottom: "label" }
/// ```
///
/// Source: Caffe's Silence.
pub struct Silence;

/// Makes the layer.
pub fn new<T: Real>(_: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    Ok(Box::new(Silence))
}

impl<T: Real> Layer<T> for Silence {
    fn bottoms(&self) -> RangeInclusive<usize> {
        1..=usize::MAX
    }

    fn tops(&self) -> RangeInclusive<usize> {
        0..=0
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn reshape(&mut self, _: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        Ok(Vec::new())
    }

    fn forward(&mut self, _: &Context<T>, _: Forward<T>) -> Result<()> {
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        for i in (0..io.bottom_diff.len()).filter(|&i| io.propagate[i]) {
            vector::fill(T::zero(), io.bottom_diff.get(i));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, Feed, refusal};

    #[test]
    fn its_bottoms_are_no_outputs() {
        let feeds: [Feed; 2] = [("a", &[2], &[1.0, 2.0]), ("b", &[1], &[3.0])];
        let text = "layer { name: 's' type: 'Silence' bottom: 'a' bottom: 'b' }";
        let mut bench = Bench::<f32>::new(text, &feeds).unwrap();
        assert!(bench.net.outputs().is_empty());
        bench.forward();
        bench.backward(&[]);
        assert!(bench.grad("a").iter().all(|&d| d == 0.0));
        assert_eq!(refusal("layer { name: 's' type: 'Silence' }", &feeds).field(), Some("bottom"));
    }
}
