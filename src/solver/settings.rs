//! The numbers of a solver, checked once.

use crate::error::{Error, Kind, Result};
use crate::proto::caffe::SolverParameter;

/// The fields of a `SolverParameter` that the training loop reads. Numbers of iterations that are 0 mean never.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Iterations of a whole run, if given.
    pub max_iter: Option<usize>,
    /// Iterations between displays.
    pub display: usize,
    /// Iterations over which the displayed loss is averaged.
    pub average_loss: usize,
    /// Passes whose gradients are averaged for one update.
    pub iter_size: usize,
    /// Iterations between tests.
    pub test_interval: usize,
    /// Whether a test runs before the first iteration.
    pub test_initialization: bool,
    /// Whether tests report the mean loss.
    pub test_compute_loss: bool,
    /// Whether passes describe themselves.
    pub debug_info: bool,
    /// Largest L2 norm of all gradients together.
    pub clip: Option<f64>,
    /// Iterations between snapshots.
    pub snapshot: usize,
    /// Start of the names of snapshots.
    pub snapshot_prefix: Option<String>,
    /// Whether a snapshot is written at the end.
    pub snapshot_after_train: bool,
    /// Whether snapshots hold gradients.
    pub snapshot_diff: bool,
}

impl Settings {
    /// Those of a solver. Errors: a negative number, `iter_size` or `average_loss` of 0.
    pub fn new(param: &SolverParameter) -> Result<Settings> {
        Ok(Settings {
            max_iter: param.max_iter.map(|n| count(n, 0, "max_iter")).transpose()?,
            display: count(param.display(), 0, "display")?,
            average_loss: count(param.average_loss(), 1, "average_loss")?,
            iter_size: count(param.iter_size(), 1, "iter_size")?,
            test_interval: count(param.test_interval(), 0, "test_interval")?,
            test_initialization: param.test_initialization(),
            test_compute_loss: param.test_compute_loss(),
            debug_info: param.debug_info(),
            clip: Some(f64::from(param.clip_gradients())).filter(|&c| c >= 0.0),
            snapshot: count(param.snapshot(), 0, "snapshot")?,
            snapshot_prefix: param.snapshot_prefix.clone(),
            snapshot_after_train: param.snapshot_after_train(),
            snapshot_diff: param.snapshot_diff(),
        })
    }
}

/// Whether something that happens every `interval` iterations is due.
pub(super) fn due(iteration: usize, interval: usize) -> bool {
    interval > 0 && iteration.is_multiple_of(interval)
}

fn count(value: i32, least: usize, field: &str) -> Result<usize> {
    usize::try_from(value).ok().filter(|&v| v >= least).ok_or_else(|| {
        let error = Error::new(Kind::Value, format!("{field} cannot be {value}"));
        error.expected(format!("{least} or more")).in_field(field)
    })
}
