//! Floor 3: where the records of a net come from, in which order, and how they become batches.
//!
//! [`open`] makes of a Data layer's parameters the [`Batches`] of a run: a [`RecordSource`] reads records, a
//! [`Sampler`] says which comes when, a [`Transformer`] makes the net's input of each, and a thread does it all ahead
//! of time. Everything is a function of the seed and the position in the run, so a resumed run goes on exactly.

mod datum;
mod idx;
mod lmdb;
mod prefetch;
mod record;
mod sampler;
mod transform;

pub use datum::DatumReader;
pub use idx::{IdxArray, IdxSource, IdxValues};
pub use lmdb::LmdbSource;
pub use prefetch::{Batch, Batches};
pub use record::{Record, RecordSource};
pub use sampler::Sampler;
pub use transform::Transformer;

use crate::error::{Error, Kind, Result};
use crate::math::Real;
use crate::proto::caffe::data_parameter::Db;
use crate::proto::caffe::{DataParameter, Phase, TransformationParameter};
use prefetch::Loader;
use std::path::Path;

/// What [`open`] must know of the layer and the run, besides the layer's parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// TRAIN crops at random places, TEST in the middle.
    pub phase: Phase,
    /// Seed of the run.
    pub seed: u64,
    /// Index of the layer in its net; two data layers of a net draw different numbers.
    pub layer: u32,
    /// Whether labels are wanted (the layer has a second top); then a record without one is an error.
    pub labels: bool,
    /// Records handed out before: 0, or what a snapshot kept.
    pub position: u64,
}

impl Options {
    /// A run from its start, with labels.
    pub fn new(phase: Phase, seed: u64, layer: u32) -> Options {
        Options { phase, seed, layer, labels: true, position: 0 }
    }
}

/// Opens the source of a Data layer and looks at its first record.
///
/// Errors: a field that makes no sense, by its path below the layer; a source that is missing, corrupt or empty; a
/// backend or an encoding that is not supported.
pub fn open<T: Real>(
    param: &DataParameter,
    transform: &TransformationParameter,
    options: &Options,
) -> Result<Batches<T>> {
    let source = open_source(param).map_err(|e| e.in_field("data_param.source"))?;
    batches(source, param, transform, options)
}

/// As [`open`], with a source of the caller's own: `source` and `backend` of the parameter are not looked at.
pub fn batches<T: Real>(
    mut source: Box<dyn RecordSource>,
    param: &DataParameter,
    transform: &TransformationParameter,
    options: &Options,
) -> Result<Batches<T>> {
    let &Options { phase, seed, layer, labels, position } = options;
    let (batch, pair) = (param.batch_size() as usize, param.pair_size() as usize);
    if batch == 0 {
        return Err(Error::new(Kind::Value, "a batch needs a size")
            .expected("1 at least")
            .in_field("data_param.batch_size"));
    }
    if pair > 0 && batch % pair != 0 {
        return Err(Error::new(Kind::Value, "batch_size must be a multiple of pair_size")
            .expected(format!("a multiple of {pair}"))
            .found(batch)
            .in_field("data_param.batch_size"));
    }
    let transformer = Transformer::new(transform, phase)?;
    let mut record = Record::default();
    source.read(0, &mut record)?;
    let shape = transformer.output_shape(record.shape).map_err(|e| e.in_file(source.name()))?;
    let sampler = if pair > 0 {
        let labels = source.labels()?;
        let sampler = Sampler::pairs(&labels, pair, seed, layer);
        sampler.map_err(|e| e.in_field("data_param.pair_size").in_file(source.name()))?
    } else if param.shuffle() {
        Sampler::shuffled(source.count(), seed, layer)
    } else {
        Sampler::sequential(source.count(), param.rand_skip(), seed, layer)
    };
    if pair > 0 || param.shuffle() {
        source.index()?;
    }
    let [channels, height, width] = shape;
    let shape = [batch, channels, height, width];
    if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_none() {
        return Err(Error::new(Kind::Value, "a batch is too large")
            .found(format!("{shape:?}"))
            .in_field("data_param.batch_size"));
    }
    let loader = Loader { source, sampler, transformer, seed, layer, shape, labels, record, position };
    Ok(Batches::new(loader, param.prefetch() as usize))
}

fn open_source(param: &DataParameter) -> Result<Box<dyn RecordSource>> {
    let path = Path::new(param.source());
    if param.source().is_empty() {
        return Err(Error::new(Kind::Value, "a Data layer needs a source")
            .expected("the folder of an LMDB data base, or an IDX file of images"));
    }
    let number = param.backend.unwrap_or(Db::Leveldb as i32);
    match Db::try_from(number) {
        Ok(Db::Lmdb) => Ok(Box::new(LmdbSource::open(path)?)),
        Ok(Db::Idx) => Ok(Box::new(IdxSource::open(path)?)),
        Ok(Db::Leveldb) => Err(Error::new(Kind::Unsupported, "LevelDB data bases are not supported")
            .expected("backend: LMDB or backend: IDX")
            .found(if param.backend.is_some() { "LEVELDB" } else { "no backend, which means LEVELDB" })
            .in_field("data_param.backend")),
        Err(_) => Err(Error::new(Kind::Value, "unknown backend")
            .expected("LMDB, IDX or LEVELDB")
            .found(number)
            .in_field("data_param.backend")),
    }
}

#[cfg(test)]
mod tests;
