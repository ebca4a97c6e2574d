//! Nets from files, in the state they are to be built in.

use crate::blob::Weights;
use crate::error::{Error, Kind, Result};
use crate::math::Real;
use crate::net::{Keep, LoadReport, Net, load_weights};
use crate::proto::caffe::{NetParameter, NetState, Phase};
use crate::proto::{Source, StoredWeights, read_net};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A net as its file has it, with the state it is to be built in, and its text for errors.
pub struct NetFile {
    /// The net; `state` is set.
    pub param: NetParameter,
    /// The text.
    pub source: Arc<Source>,
    /// What was upgraded from older formats, a sentence each.
    pub upgrades: Vec<String>,
}

impl NetFile {
    /// Reads a net from prototxt. Phase, level and stages take the place of what the file's own `state` says.
    ///
    /// Errors: the file cannot be read; a mistake in it, with its line.
    pub fn open(path: impl AsRef<Path>, phase: Phase, level: i32, stage: &[String]) -> Result<NetFile> {
        let parsed = read_net(path)?;
        let mut param = parsed.message;
        param.state = Some(NetState { phase: Some(phase as i32), level: Some(level), stage: stage.to_vec() });
        Ok(NetFile { param, source: parsed.source, upgrades: parsed.upgrades })
    }

    /// Gives the inputs of the net another batch: the first extent of what `Input` and `DummyData` layers give, and the
    /// `batch_size` of `Data` layers.
    ///
    /// Errors: a batch of 0; no layer that has a batch.
    pub fn set_batch(&mut self, batch: u32) -> Result<()> {
        if batch == 0 {
            return Err(Error::new(Kind::Usage, "a batch of no samples").expected("1 or more"));
        }
        let mut found = false;
        for layer in &mut self.param.layer {
            let input = layer.input_param.iter_mut().flat_map(|p| &mut p.shape);
            let dummy = layer.dummy_data_param.iter_mut().flat_map(|p| &mut p.shape);
            let extents = input.chain(dummy).filter_map(|shape| shape.dim.first_mut());
            for extent in extents {
                (*extent, found) = (i64::from(batch), true);
            }
            let dummy = layer.dummy_data_param.iter_mut().flat_map(|p| &mut p.num);
            for size in dummy.chain(layer.data_param.iter_mut().filter_map(|p| p.batch_size.as_mut())) {
                (*size, found) = (batch, true);
            }
        }
        if found {
            return Ok(());
        }
        Err(Error::new(Kind::Usage, "the net has no layer whose batch could be set")
            .expected("an Input, DummyData or Data layer"))
    }

    /// Builds the net, all of whose blobs can be read. Errors carry the line of the layer and field they are about.
    pub fn build<T: Real>(&self, seed: u64, weights: &mut Weights<T>) -> Result<Net<T>> {
        self.build_keeping(seed, weights, &Keep::All)
    }

    /// Builds the net; the blobs that `keep` does not name share memory.
    pub fn build_keeping<T: Real>(&self, seed: u64, weights: &mut Weights<T>, keep: &Keep) -> Result<Net<T>> {
        Net::keeping(&self.param, seed, weights, keep).map_err(|e| self.locate(e))
    }

    /// Gives an error that names a layer or a field its place in the text.
    pub fn locate(&self, error: Error) -> Error {
        self.source.locate(error)
    }
}

/// Loads weight files into a net one after the other, as Caffe's `-weights a.caffemodel,b.caffemodel`; what each
/// brought. A layer whose parameters have other shapes is an error, as in Caffe.
pub fn load_weight_files<T: Real>(
    net: &Net<T>,
    weights: &mut Weights<T>,
    files: &[PathBuf],
) -> Result<Vec<LoadReport>> {
    let mut reports = Vec::with_capacity(files.len());
    for path in files {
        let in_file = |e: Error| e.in_file(path.display().to_string());
        let mut file = StoredWeights::open(path)?;
        let report = load_weights(net, weights, &mut file).map_err(in_file)?;
        report.ensure_fits().map_err(in_file)?;
        reports.push(report);
    }
    Ok(reports)
}
