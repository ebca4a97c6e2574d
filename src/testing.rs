//! For unit tests of layers: a net around one or a few layers, fed by hand.

use crate::blob::{Shape, Weights};
use crate::error::{Error, Result};
use crate::math::Real;
use crate::net::Net;
use crate::proto::parse_net;

/// A net with its weights.
pub struct Bench<T: Real> {
    pub net: Net<T>,
    pub weights: Weights<T>,
}

/// A blob to feed: name, extents, values.
pub type Feed<'a> = (&'a str, &'a [usize], &'a [f64]);

impl<T: Real> Bench<T> {
    /// Builds `layers` (prototxt; may start with net fields such as `state { phase: TRAIN }`) on `Input` layers for
    /// the blobs of `feeds`, with `force_backward`, and fills the inputs.
    pub fn new(layers: &str, feeds: &[Feed]) -> Result<Bench<T>> {
        let mut text = String::from("force_backward: true\n");
        for (name, dims, _) in feeds {
            let dims: String = dims.iter().map(|d| format!("dim: {d} ")).collect();
            text += &format!(
                "layer {{ name: \"{name}\" type: \"Input\" top: \"{name}\" input_param {{ shape {{ {dims} }} }} }}\n"
            );
        }
        let param = parse_net(&(text + layers), "test").unwrap().message;
        let mut weights = Weights::new();
        let mut bench = Bench { net: Net::new(&param, 1, &mut weights)?, weights };
        for (name, _, values) in feeds {
            bench.set(name, values);
        }
        Ok(bench)
    }

    /// Fills a blob.
    pub fn set(&mut self, blob: &str, values: &[f64]) {
        let blob = self.net.blob(blob).unwrap();
        fill(self.net.data_mut(blob), values);
    }

    /// Runs forward; the loss.
    pub fn forward(&mut self) -> f64 {
        self.net.forward(&mut self.weights).unwrap()
    }

    /// Runs backward from these diffs of tops, and from the losses.
    pub fn backward(&mut self, diffs: &[(&str, &[f64])]) {
        for (name, values) in diffs {
            let blob = self.net.blob(name).unwrap();
            fill(self.net.diff_mut(blob), values);
        }
        self.net.backward(&mut self.weights).unwrap();
    }

    /// Values of a blob.
    pub fn get(&self, blob: &str) -> Vec<f64> {
        self.net.data(self.net.blob(blob).unwrap()).iter().map(|v| v.as_f64()).collect()
    }

    /// Gradient of a blob.
    pub fn grad(&self, blob: &str) -> Vec<f64> {
        self.net.diff(self.net.blob(blob).unwrap()).iter().map(|v| v.as_f64()).collect()
    }

    /// Shape of a blob.
    pub fn shape(&self, blob: &str) -> Shape {
        self.net.blobs()[self.net.blob(blob).unwrap()].shape.clone()
    }

    /// Sets a parameter.
    pub fn set_param(&mut self, layer: &str, index: usize, values: &[f64]) {
        let id = self.weights.find(layer, index).unwrap();
        fill(self.weights.get_mut(id).data.host_mut(), values);
    }

    /// Values and gradient of a parameter.
    pub fn param(&self, layer: &str, index: usize) -> (Vec<f64>, Vec<f64>) {
        let p = self.weights.get(self.weights.find(layer, index).unwrap());
        let all = |v: &[T]| v.iter().map(|v| v.as_f64()).collect();
        (all(p.data.host()), all(p.diff.host()))
    }
}

/// The error with which a net is refused.
pub fn refusal(layers: &str, feeds: &[Feed]) -> Error {
    match Bench::<f32>::new(layers, feeds) {
        Ok(_) => panic!("the net was built: {layers}"),
        Err(e) => e,
    }
}

/// Asserts that values are close: within `tolerance` of the larger of 1 and the expected one.
pub fn assert_close(got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{got:?} against {expected:?}");
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        let close = (a - b).abs() <= tolerance * b.abs().max(1.0);
        assert!(close, "element {i}: {a}, expected {b}, in {got:?} against {expected:?}");
    }
}

fn fill<T: Real>(target: &mut [T], values: &[f64]) {
    assert_eq!(target.len(), values.len());
    for (t, &v) in target.iter_mut().zip(values) {
        *t = T::from_f64(v);
    }
}
