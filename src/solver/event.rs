//! What a solver tells, and what it is asked, while it runs.

use crate::net::LoadReport;
use std::path::Path;

/// One number of an output of a net.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Name of the blob. A blob of several elements gives as many outputs of one name.
    pub name: String,
    /// Value; of a test, the mean over its passes.
    pub value: f64,
    /// Weight of the blob in the loss; 0 if it takes no part.
    pub loss_weight: f32,
}

/// Something that happened in training, in the order in which Caffe logs it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The seed of all random streams of the run.
    Seed {
        /// As `random_seed` takes it.
        seed: u64,
        /// Whether it comes from the clock, because the solver gives none.
        from_clock: bool,
    },
    /// Something worth knowing: an old field upgraded, for instance.
    Note(&'a str),
    /// Something that looks wrong but works.
    Warning(&'a str),
    /// A line of `debug_info`.
    Debug(&'a str),
    /// Weights of the field `weights` were loaded.
    Weights {
        /// The file.
        file: &'a Path,
        /// What was loaded from it, by layer.
        report: &'a LoadReport,
    },
    /// A snapshot was restored.
    Restored {
        /// The `.solverstate`.
        state: &'a Path,
        /// The weights that it names.
        model: &'a Path,
        /// Where training goes on.
        iteration: usize,
    },
    /// Training starts.
    Start {
        /// Name of the training net.
        net: &'a str,
        /// `lr_policy`
        policy: &'a str,
        /// The first iteration.
        iteration: usize,
        /// The iteration it ends before.
        max_iter: usize,
    },
    /// An iteration is due to be displayed; its weights are not updated yet.
    Display {
        /// The iteration.
        iteration: usize,
        /// Mean loss of the last `average_loss` iterations.
        loss: f64,
        /// Seconds since the last display.
        seconds: f64,
        /// Iterations since the last display.
        iterations: usize,
        /// `display`
        every: usize,
        /// Learning rate of the iteration.
        rate: f64,
        /// Outputs of the training net in its last pass, by name.
        outputs: &'a [Output],
    },
    /// The policy `multistep` reached its next step value.
    Step {
        /// The iteration.
        iteration: usize,
        /// How many steps were taken.
        step: usize,
    },
    /// `clip_gradients` scaled the gradients down.
    Clipped {
        /// Their L2 norm before.
        norm: f64,
        /// `clip_gradients`
        limit: f64,
        /// What they were multiplied by.
        scale: f64,
    },
    /// An iteration is done.
    Iterated {
        /// The iteration.
        iteration: usize,
        /// Its loss.
        loss: f64,
        /// Mean loss of the last `average_loss` iterations.
        smoothed: f64,
        /// Its learning rate.
        rate: f64,
    },
    /// A test starts.
    TestStart {
        /// The iteration before which it runs.
        iteration: usize,
        /// Number of the test net, from 0.
        net: usize,
        /// How many passes it takes.
        passes: usize,
    },
    /// A test is done.
    TestResult {
        /// The iteration before which it ran.
        iteration: usize,
        /// Number of the test net, from 0.
        net: usize,
        /// Mean loss, with `test_compute_loss`.
        loss: Option<f64>,
        /// Outputs of the test net, by name.
        outputs: &'a [Output],
    },
    /// The user stopped a test.
    TestInterrupted,
    /// A snapshot was written.
    Snapshot {
        /// The iteration it goes on with.
        iteration: usize,
        /// The weights.
        model: &'a Path,
        /// The `.solverstate`.
        state: &'a Path,
    },
    /// The loss after training, where it is due to be displayed.
    Final {
        /// How many iterations were made.
        iteration: usize,
        /// Mean loss of the last `average_loss` passes.
        loss: f64,
    },
    /// The user stopped training.
    Stopped {
        /// How many iterations were made.
        iteration: usize,
    },
    /// Training is done.
    Done {
        /// How many iterations were made.
        iteration: usize,
    },
}

/// What a solver is asked from outside, by a signal for instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    #[default]
    Continue,
    /// Write a snapshot and go on.
    Snapshot,
    /// Stop after this iteration.
    Stop {
        /// Write a snapshot first.
        snapshot: bool,
    },
}

/// Listens to a solver, and speaks to it. A closure that takes an [`Event`] is one that only listens.
pub trait Observer: Send {
    /// Something happened.
    fn event(&mut self, event: &Event<'_>);

    /// Asked after each iteration and before each pass of a test. An action that is returned is done once.
    fn action(&mut self) -> Action {
        Action::Continue
    }
}

impl<F: FnMut(&Event<'_>) + Send> Observer for F {
    fn event(&mut self, event: &Event<'_>) {
        self(event);
    }
}

/// An observer that says and asks nothing.
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: &Event<'_>) {}
}
