//! What the tests share: a data layer, small nets, a listener.

use cortado::blob::Shape;
use cortado::device::Context;
use cortado::error::{Error, Kind, Result};
use cortado::layers::{Backward, Forward, Layer, Reads, Setup, registry};
use cortado::math::Real;
use cortado::proto::caffe::LayerParameter;
use cortado::proto::parse_solver;
use cortado::solver::{Action, Event, Observer, Solver};
use ndarray::{Array1, Array4};
use ndarray_npy::NpzReader;
use std::fs::File;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Once;

/// The rows of an npz file one after the other, from the first again after the last: what HDF5Data gave Caffe's runs.
/// Written as a library user writes a layer of his own.
struct TestRows {
    data: Array4<f32>,
    label: Array1<f32>,
    batch: usize,
    records: u64,
}

fn rows<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let source = param.hdf5_data_param.clone().unwrap_or_default();
    let bad = |e: &dyn std::fmt::Display| Error::new(Kind::Data, format!("{}: {e}", source.source()));
    let mut npz = NpzReader::new(File::open(source.source()).map_err(|e| bad(&e))?).map_err(|e| bad(&e))?;
    let data = npz.by_name("data.npy").map_err(|e| bad(&e))?;
    let label = npz.by_name("label.npy").map_err(|e| bad(&e))?;
    Ok(Box::new(TestRows { data, label, batch: source.batch_size() as usize, records: 0 }))
}

impl<T: Real> Layer<T> for TestRows {
    fn bottoms(&self) -> RangeInclusive<usize> {
        0..=0
    }

    fn tops(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }

    fn reshape(&mut self, _: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        let mut data = self.data.shape().to_vec();
        data[0] = self.batch;
        Ok(vec![Shape::new(data)?, Shape::new([self.batch])?])
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (data, label) = io.top.pair(0, 1);
        let rows = data.chunks_exact_mut(data.len() / self.batch).zip(label);
        for (top, label) in rows {
            let row = (self.records % self.label.len() as u64) as usize;
            let values = self.data.outer_iter().nth(row).unwrap();
            top.iter_mut().zip(values.iter()).for_each(|(t, &v)| *t = T::from_f64(v.into()));
            *label = T::from_f64(self.label[row].into());
            self.records += 1;
        }
        Ok(())
    }

    fn backward(&mut self, _: &Context<T>, _: Backward<T>) -> Result<()> {
        Ok(())
    }

    fn records(&self) -> Option<u64> {
        Some(self.records)
    }

    fn seek(&mut self, records: u64) -> Result<()> {
        self.records = records;
        Ok(())
    }
}

/// Makes `TestRows` known.
pub fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| registry::register("TestRows", "data", "rows", rows::<f32>, rows::<f64>).unwrap());
}

/// The folder of one of Caffe's runs.
pub fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/solvers").join(case)
}

/// A layer that gives batches of the 20 rows (2×7×6, labels 0 to 4) of Caffe's runs.
pub fn data(batch: usize) -> String {
    let rows = golden("sgd_momentum_step").join("train.npz");
    format!(
        "layer {{ name: 'data' type: 'TestRows' top: 'data' top: 'label'
           hdf5_data_param {{ source: '{}' batch_size: {batch} }} }}\n",
        rows.display()
    )
}

/// A fully connected layer.
pub fn ip(name: &str, bottom: &str, outputs: usize) -> String {
    format!(
        "layer {{ name: '{name}' type: 'InnerProduct' bottom: '{bottom}' top: '{name}'
           inner_product_param {{ num_output: {outputs} weight_filler {{ type: 'xavier' }} }} }}\n"
    )
}

/// A layer with one bottom and its top.
pub fn layer(kind: &str, bottom: &str, top: &str) -> String {
    format!("layer {{ name: '{kind}' type: '{kind}' bottom: '{bottom}' top: '{top}' }}\n")
}

/// The loss of the blob `bottom`.
pub const LOSS: &str =
    "layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'ip2' bottom: 'label' top: 'loss' }\n";

/// A net of two layers with dropout between them.
pub fn dropout_net(batch: usize) -> String {
    data(batch)
        + &ip("ip1", "data", 16)
        + &layer("ReLU", "ip1", "ip1")
        + &layer("Dropout", "ip1", "ip1")
        + &ip("ip2", "ip1", 5)
        + LOSS
}

/// The same without dropout.
pub fn plain_net(batch: usize) -> String {
    data(batch) + &ip("ip1", "data", 16) + &layer("ReLU", "ip1", "ip1") + &ip("ip2", "ip1", 5) + LOSS
}

/// A solver of `net` with these fields.
pub fn text(net: &str, fields: &str) -> String {
    format!("net_param {{ {net} }} {fields}")
}

/// A solver without snapshots unless `fields` ask for them.
pub fn solver<T: Real>(net: &str, fields: &str, observer: &mut dyn Observer) -> Result<Solver<T>> {
    register();
    let quiet = if fields.contains("snapshot_prefix") { "" } else { " snapshot_after_train: false" };
    let parsed = parse_solver(&(text(net, fields) + quiet), "solver.prototxt")?;
    Solver::new(&parsed.message, Some(&parsed.source), observer)
}

/// The bits of all parameters.
pub fn bits<T: Real>(solver: &Solver<T>) -> Vec<u64> {
    solver.weights().iter().flat_map(|p| p.data.host().iter().map(|v| v.as_f64().to_bits())).collect()
}

/// The values of all parameters.
pub fn values<T: Real>(solver: &Solver<T>) -> Vec<f64> {
    solver.weights().iter().flat_map(|p| p.data.host().iter().map(|v| v.as_f64())).collect()
}

/// Asserts that numbers agree to `tolerance`, relative to the larger of 1 and the expected one.
pub fn assert_close(got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * e.abs().max(1.0), "number {i}: {g}, expected {e}");
    }
}

/// Writes down what happens as short lines, and asks for an action after the given number of questions.
#[derive(Default)]
pub struct Listener {
    pub lines: Vec<String>,
    pub asked: usize,
    pub actions: Vec<(usize, Action)>,
    /// (iteration, smoothed loss, rate) of each display.
    pub displays: Vec<(usize, f64, f64)>,
    /// (iteration, test net, values of the outputs) of each test.
    pub tests: Vec<(usize, usize, Vec<f64>)>,
    /// Loss of each iteration.
    pub losses: Vec<f64>,
    pub last: Option<f64>,
}

impl Observer for Listener {
    fn event(&mut self, event: &Event<'_>) {
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        self.lines.push(match event {
            Event::Seed { from_clock, .. } => format!("seed {from_clock}"),
            Event::Note(text) | Event::Warning(text) | Event::Debug(text) => text.to_string(),
            Event::Weights { report, .. } => format!("weights {}", report.loaded.join(" ")),
            Event::Restored { iteration, model, .. } => format!("restored {iteration} {}", name(model)),
            Event::Start { iteration, max_iter, policy, .. } => {
                format!("start {iteration} {max_iter} {policy}")
            }
            Event::Display { iteration, loss, rate, outputs, .. } => {
                self.displays.push((*iteration, *loss, *rate));
                let outputs: Vec<&str> = outputs.iter().map(|o| o.name.as_str()).collect();
                format!("display {iteration} {}", outputs.join(" "))
            }
            Event::Step { iteration, step } => format!("step {iteration} {step}"),
            Event::Clipped { .. } => "clipped".into(),
            Event::Iterated { loss, .. } => {
                self.losses.push(*loss);
                return;
            }
            Event::TestStart { iteration, net, .. } => format!("test {iteration} #{net}"),
            Event::TestResult { iteration, net, outputs, loss } => {
                self.tests.push((*iteration, *net, outputs.iter().map(|o| o.value).collect()));
                let names: Vec<&str> = outputs.iter().map(|o| o.name.as_str()).collect();
                format!("result {iteration} #{net} {} {}", names.join(" "), loss.is_some())
            }
            Event::TestInterrupted => "test interrupted".into(),
            Event::Snapshot { iteration, model, state } => {
                format!("snapshot {iteration} {} {}", name(model), name(state))
            }
            Event::Final { iteration, loss } => {
                self.last = Some(*loss);
                format!("final {iteration}")
            }
            Event::Stopped { iteration } => format!("stopped {iteration}"),
            Event::Done { iteration } => format!("done {iteration}"),
            other => format!("{other:?}"),
        });
    }

    fn action(&mut self) -> Action {
        self.asked += 1;
        let action = self.actions.iter().find(|(n, _)| *n == self.asked);
        action.map_or(Action::Continue, |(_, a)| *a)
    }
}
