//! Snapshots: `PREFIX_iter_N.caffemodel` with the weights and `PREFIX_iter_N.solverstate` with the rest.
//!
//! Both are Caffe's and Caffe reads them. The field `resume` of the state, which Caffe skips, holds what an exact
//! resume needs besides: the seed, the number of passes, the losses of the window, and where each data layer stands. So a
//! resumed run ends in the same weights, bit for bit, as one that was never stopped.
//!
//! The weights are written first, then the state that names them, each under a temporary name that is renamed when all is
//! on the disk. A process killed at any moment leaves the previous pair or the new one.

use super::Solver;
use super::event::{Event, Observer, Silent};
use super::model::{Model, positions, reader};
use super::settings::Settings;
use crate::error::{Error, Kind, Result};
use crate::math::Real;
use crate::net::weights::{copy, describe, fits, to_blob};
use crate::net::{Net, load_weights};
use crate::proto::binary::{read_solver_state, write_solver_state};
use crate::proto::caffe::solver_parameter::SnapshotFormat;
use crate::proto::caffe::{BlobProto, DataPosition, ResumeState, SolverParameter, SolverState};
use crate::proto::{StoredWeights, write_net};
use std::path::{Path, PathBuf};

/// Refuses, before hours of training, snapshots that could not be written.
pub(super) fn check(param: &SolverParameter, settings: &Settings) -> Result<()> {
    if param.snapshot_format() == SnapshotFormat::Hdf5 {
        return Err(Error::new(Kind::Unsupported, "snapshots in HDF5 do not exist here yet")
            .expected("BINARYPROTO")
            .in_field("snapshot_format"));
    }
    if settings.snapshot == 0 && !settings.snapshot_after_train {
        return Ok(());
    }
    let Some(prefix) = &settings.snapshot_prefix else { return Err(no_prefix()) };
    let folder = folder_of(Path::new(prefix));
    match tempfile::tempfile_in(&folder) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(Error::new(Kind::Io, format!("cannot write snapshots to {}: {error}", folder.display()))
                .suggest("make the folder, or choose another prefix")
                .in_field("snapshot_prefix"))
        }
    }
}

fn no_prefix() -> Error {
    Error::new(Kind::Value, "snapshots need a prefix for their names")
        .suggest("or snapshot_after_train: false, where none is wanted")
        .in_field("snapshot_prefix")
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

impl<T: Real> Solver<T> {
    /// Writes a snapshot; the names of the weights and of the state.
    pub fn snapshot(&mut self, observer: &mut dyn Observer) -> Result<(PathBuf, PathBuf)> {
        let prefix = self.settings.snapshot_prefix.as_ref().ok_or_else(no_prefix)?;
        let model = format!("{prefix}_iter_{}.caffemodel", self.iteration);
        let state = format!("{prefix}_iter_{}.solverstate", self.iteration);
        self.model.fetch()?;
        write_net(&model, &self.model.net.to_proto(&self.model.weights, self.settings.snapshot_diff))?;
        write_solver_state(&state, &self.state(&model)?)?;
        let (model, state) = (PathBuf::from(model), PathBuf::from(state));
        observer.event(&Event::Snapshot { iteration: self.iteration, model: &model, state: &state });
        Ok((model, state))
    }

    /// The state of the run but for the weights, which `model` names.
    fn state(&self, model: &str) -> Result<SolverState> {
        let number = |n: usize| {
            i32::try_from(n)
                .map_err(|_| Error::new(Kind::Value, format!("{n} iterations do not fit a snapshot")))
        };
        let Model { net, tests, weights, history } = &self.model;
        // All first buffers, then all second ones: Caffe's order.
        let blobs = (0..self.rule.histories()).flat_map(|k| {
            let pairs = weights.iter().zip(history);
            pairs.filter_map(move |(p, h)| Some(to_blob(&p.shape, h.get(k)?.host(), None)))
        });
        let at = |net, test_net: Option<u32>| {
            positions::<T>(net).map(move |(layer, records)| DataPosition {
                layer: Some(layer.to_string()),
                records: Some(records),
                test_net,
            })
        };
        let mut data: Vec<DataPosition> = at(net, None).collect();
        for (i, test) in (0..).zip(tests) {
            data.extend(at(&test.net, Some(i)));
        }
        let resume = ResumeState {
            seed: Some(self.seed),
            pass: Some(net.next_pass()),
            losses: self.losses.iter().copied().collect(),
            data,
            devices: Some(self.seat.share().1 as u32).filter(|&n| n > 1),
        };
        Ok(SolverState {
            iter: Some(number(self.iteration)?),
            learned_net: Some(model.to_string()),
            history: blobs.collect(),
            current_step: Some(number(self.current_step)?),
            resume: Some(resume),
        })
    }

    /// Goes on from a snapshot. The weights that it names are looked for beside it, then under the name as it stands
    /// there (relative to the current folder, as in Caffe).
    ///
    /// Of a snapshot made by Caffe, the data layers are set to where they stood, iterations × `iter_size` × batch records
    /// from the start (Caffe itself begins again with the first record), and the seed is this solver's own. A snapshot
    /// of ours brings its seed, which replaces another `random_seed`, with a warning.
    ///
    /// Errors: a file missing, cut off or of another kind; history for other parameters or another kind of solver; weights of another
    /// net. After an error the solver is not to be used.
    pub fn restore(&mut self, path: impl AsRef<Path>, observer: &mut dyn Observer) -> Result<()> {
        let path = path.as_ref();
        let named = |e: Error| e.in_file(path.display().to_string());
        let state = read_solver_state(path)?;
        let iteration = whole(state.iter, "iter").map_err(named)?;
        self.check_history(&state.history).map_err(named)?;
        let model = self.model_of(path, &state).map_err(named)?;
        let mut file = StoredWeights::open(&model)?;
        let resume = state.resume.unwrap_or_default();
        if let Some(seed) = resume.seed.filter(|&s| s != self.seed) {
            self.reseed(seed, observer)?;
        }

        let Model { net, weights, history, .. } = &mut self.model;
        let in_model = |e: Error| e.in_file(model.display().to_string());
        let report = load_weights(net, weights, &mut file).map_err(in_model)?;
        report.ensure_fits().map_err(in_model)?;
        if let Some(layer) = report.missing.first() {
            let error =
                Error::new(Kind::Shape, "the snapshot is of another net: it has no weights for the layer");
            return Err(in_model(
                error.suggest_nearest(layer, report.skipped.iter().map(String::as_str)).in_layer(layer),
            ));
        }
        for (i, blob) in state.history.iter().enumerate() {
            let (k, p) = (i / history.len(), i % history.len());
            let Some(buffer) = history.get_mut(p).and_then(|h| h.get_mut(k)) else { continue };
            let zeros = blob.data.iter().all(|&v| v == 0.0) && blob.double_data.iter().all(|&v| v == 0.0);
            // What is not learned has no memory for its history, unless there is any.
            if !(zeros && buffer.host().is_empty()) {
                copy(blob, buffer.host_mut()).map_err(named)?;
            }
        }
        self.iteration = iteration;
        self.current_step = whole(state.current_step, "current_step").map_err(named)?;
        let skip = resume.losses.len().saturating_sub(self.settings.average_loss);
        self.losses.clear();
        self.losses.extend(resume.losses.iter().skip(skip));
        self.displayed.1 = iteration;
        let (then, now) = (u64::from(resume.devices()), self.seat.share().1);
        if resume.pass.is_some() && then != now {
            let devices = |n: u64| if n == 1 { "one device".into() } else { format!("{n} devices") };
            let what = format!(
                "the snapshot is of a run on {}, this one is on {}: it goes on with the same records, in other batches, and is not the same run",
                devices(then),
                devices(now)
            );
            observer.event(&Event::Warning(&what));
        }
        self.seek(resume.pass, &resume.data, [then, now]).map_err(named)?;
        observer.event(&Event::Restored { state: path, model: &model, iteration });
        Ok(())
    }

    /// Builds the nets again, with the seed of a snapshot.
    pub(super) fn reseed(&mut self, seed: u64, observer: &mut dyn Observer) -> Result<()> {
        if self.param.random_seed() >= 0 {
            let what =
                format!("the snapshot goes on with its own seed, {seed}, not with random_seed {}", self.seed);
            observer.event(&Event::Warning(&what));
        }
        let device = self.model.net.device().cloned();
        self.model = Model::new(&self.plans, seed, self.rule.histories(), device.as_ref())?;
        (self.seed, self.cleared) = (seed, false);
        let (rank, count) = self.seat.share();
        self.model.net.set_share(seed, rank, count);
        self.model.net.set_graphs(self.graphs);
        observer.event(&Event::Seed { seed, from_clock: false });
        // Layers that only a test net has are in no snapshot.
        self.load_weights(&mut Silent)
    }

    fn check_history(&self, blobs: &[BlobProto]) -> Result<()> {
        let Model { weights, history, .. } = &self.model;
        let wanted = history.len() * self.rule.histories();
        if blobs.len() != wanted {
            return Err(Error::new(Kind::Shape, "the snapshot is of another net or another type of solver")
                .expected(format!("history for {} parameters: {wanted} blobs", history.len()))
                .found(format!("{} blobs", blobs.len())));
        }
        for (i, blob) in blobs.iter().enumerate() {
            let Some(param) = weights.iter().nth(i % history.len()) else { continue };
            if !fits(blob, &param.shape) {
                let what = format!(
                    "the snapshot is of another net: history of parameter {} has another shape",
                    param.index
                );
                let error = Error::new(Kind::Shape, what).expected(&param.shape).found(describe(blob));
                return Err(error.in_layer(&param.layer));
            }
            blob.check()?;
        }
        Ok(())
    }

    /// The weights of a snapshot.
    fn model_of(&self, path: &Path, state: &SolverState) -> Result<PathBuf> {
        let Some(name) = &state.learned_net else {
            return Err(Error::new(Kind::Data, "the snapshot names no weights").in_field("learned_net"));
        };
        let model = Path::new(name);
        let beside = model.file_name().map(|file| path.with_file_name(file)).filter(|p| p.exists());
        match beside {
            Some(beside) => Ok(beside),
            None if model.exists() => Ok(model.to_path_buf()),
            None => Err(Error::new(Kind::Io, format!("the weights of the snapshot, {name}, are missing"))
                .expected(format!("them in {} or at that name", folder_of(path).display()))),
        }
    }

    /// Sets random streams and data layers to where they stood.
    ///
    /// Positions are of one of `then` devices; they become those of one of `now`.
    fn seek(&mut self, pass: Option<u64>, data: &[DataPosition], [then, now]: [u64; 2]) -> Result<()> {
        let passes = self.iteration as u64 * self.settings.iter_size as u64;
        let Model { net, tests, .. } = &mut self.model;
        net.set_next_pass(pass.unwrap_or(passes));
        if pass.is_none() {
            return seek_all(net, passes);
        }
        for position in data {
            let mut records = position.records();
            if position.test_net.is_none() {
                records = (u128::from(records) * u128::from(then) / u128::from(now.max(1))) as u64;
            }
            let net = match position.test_net {
                None => &mut *net,
                Some(i) => match tests.get_mut(i as usize) {
                    Some(test) => &mut test.net,
                    None => continue, // other tests do not change the training
                },
            };
            if let Some(layer) = reader(net, position.layer()) {
                layer.seek(records).map_err(|e| e.in_layer(position.layer()))?;
            }
        }
        Ok(())
    }
}

/// Sets all data layers of a net to where they stand after so many passes.
fn seek_all<T: Real>(net: &mut Net<T>, passes: u64) -> Result<()> {
    let batches: Vec<u64> = net
        .nodes()
        .iter()
        .map(|n| n.top.first().map_or(0, |&t| net.blobs()[t].shape.legacy(0) as u64))
        .collect();
    for (node, batch) in net.nodes_mut().iter_mut().zip(batches) {
        if node.layer.records().is_some() {
            node.layer.seek(passes.saturating_mul(batch)).map_err(|e| e.in_layer(&node.name))?;
        }
    }
    Ok(())
}

fn whole(value: Option<i32>, field: &str) -> Result<usize> {
    let value = value.unwrap_or(0);
    usize::try_from(value)
        .map_err(|_| Error::new(Kind::Data, "a negative number in the snapshot").found(value).in_field(field))
}
