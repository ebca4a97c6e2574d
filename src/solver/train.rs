//! The training loop. The order of all that happens is Caffe's, so that logs can be laid side by side.

use super::Solver;
use super::evaluate::{Flow, read_outputs};
use super::event::{Action, Event, Observer};
use super::settings::due;
use crate::error::{Error, Kind, Result};
use crate::math::{Real, awake, vector};
use crate::net::Adding;
use std::time::Instant;

impl<T: Real> Solver<T> {
    /// Trains to `max_iter`: tests, displays and snapshots when they are due, a snapshot at the end
    /// (`snapshot_after_train`), then the last loss and the last test, if due.
    ///
    /// Errors: no `max_iter`; whatever goes wrong in a pass or a snapshot. Source: Caffe's `Solver::Solve`.
    pub fn solve(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let max_iter = self.settings.max_iter.ok_or_else(|| {
            let error = Error::new(Kind::Value, "the solver does not say how many iterations to train");
            let error = error.in_field("max_iter");
            match &self.source {
                Some(source) => source.locate(error),
                None => error,
            }
        })?;
        let policy = self.param.lr_policy().to_string();
        let net = self.model.net.name.clone();
        observer.event(&Event::Start { net: &net, policy: &policy, iteration: self.iteration, max_iter });
        let flow = self.run(max_iter.saturating_sub(self.iteration), observer)?;
        self.model.fetch()?;
        let snapshot = match flow {
            Flow::Stop { snapshot } => snapshot,
            Flow::On => self.settings.snapshot_after_train,
        };
        if snapshot && !due(self.iteration, self.settings.snapshot) {
            self.snapshot(observer)?;
        }
        let iteration = self.iteration;
        if flow != Flow::On {
            observer.event(&Event::Stopped { iteration });
            return Ok(());
        }
        if due(iteration, self.settings.display) {
            let loss = self.model.net.forward(&mut self.model.weights);
            let loss = loss.map_err(|e| self.plans.train.locate(e))?;
            let loss = self.smooth(loss);
            observer.event(&Event::Final { iteration, loss });
        }
        if due(iteration, self.settings.test_interval) && self.test_all(observer)? != Flow::On {
            observer.event(&Event::Stopped { iteration });
            return Ok(());
        }
        observer.event(&Event::Done { iteration });
        Ok(())
    }

    /// Trains `iterations` more, with the tests, displays and snapshots that are due in them. Whether it was stopped by
    /// an [`Action`]; one that asks for a snapshot gets it.
    ///
    /// Source: Caffe's `Solver::Step`; but the window of the displayed loss lasts from call to call.
    pub fn step(&mut self, iterations: usize, observer: &mut dyn Observer) -> Result<bool> {
        let flow = self.run(iterations, observer)?;
        self.model.fetch()?;
        if flow == (Flow::Stop { snapshot: true }) && !due(self.iteration, self.settings.snapshot) {
            self.snapshot(observer)?;
        }
        Ok(flow != Flow::On)
    }

    /// Trains so many iterations, unless it is stopped. Where threads compute, they stay awake from one to the next.
    fn run(&mut self, iterations: usize, observer: &mut dyn Observer) -> Result<Flow> {
        match self.device() {
            Some(_) => self.iterations(iterations, observer),
            None => awake(|| self.iterations(iterations, observer)),
        }
    }

    fn iterations(&mut self, iterations: usize, observer: &mut dyn Observer) -> Result<Flow> {
        self.gather()?;
        self.displayed.0 = Instant::now();
        for left in (0..iterations).rev() {
            let first = self.iteration == 0 && !self.settings.test_initialization;
            if due(self.iteration, self.settings.test_interval) && !first {
                let flow = self.test_all(observer)?;
                if flow != Flow::On {
                    return Ok(flow);
                }
            }
            let keep_gradients = left == 0 || self.settings.snapshot_diff;
            self.crew.iterate(keep_gradients, &self.seat)?;
            self.iterate(keep_gradients, observer)?;
            let action = observer.action();
            if due(self.iteration, self.settings.snapshot) || action == Action::Snapshot {
                self.snapshot(observer)?;
            }
            if let Action::Stop { snapshot } = action {
                return Ok(Flow::Stop { snapshot });
            }
        }
        Ok(Flow::On)
    }

    /// One iteration: `iter_size` passes forward and backward, then one update. `keep_gradients` where somebody may read them
    /// afterwards: else the update clears them along.
    ///
    /// Solvers that train together all do it at the same time.
    pub(super) fn iterate(&mut self, keep_gradients: bool, observer: &mut dyn Observer) -> Result<()> {
        let done = self.iterate_alone(keep_gradients, observer);
        done.inspect_err(|e| self.seat.fail(e))
    }

    fn iterate_alone(&mut self, keep_gradients: bool, observer: &mut dyn Observer) -> Result<()> {
        let iteration = self.iteration;
        let display = due(iteration, self.settings.display);
        self.model.net.set_debug_info(display && self.settings.debug_info);
        self.clear_gradients()?;
        let before = self.current_step;
        let rate = self.policy.rate(iteration, &mut self.current_step);
        // The last pass on a device is asked for together with the update, unless it is to describe itself in between.
        let along = !(display && self.settings.debug_info);
        let device = self.model.net.device().filter(|_| along).cloned();
        let passes = self.settings.iter_size;
        let sum = match &device {
            Some(gpu) => {
                let before = self.accumulate(passes - 1, observer)?;
                before + self.iterate_on(gpu, rate, !keep_gradients, observer)?
            }
            None => self.accumulate(passes, observer)?,
        };
        let loss = sum / passes as f64;
        let smoothed = self.smooth(loss);
        if display {
            self.model.net.fetch_outputs()?;
            let outputs = read_outputs(&self.model.net);
            let (last, last_iteration) = self.displayed;
            observer.event(&Event::Display {
                iteration,
                loss: smoothed,
                seconds: last.elapsed().as_secs_f64(),
                iterations: iteration - last_iteration,
                every: self.settings.display,
                rate,
                outputs: &outputs,
            });
            self.displayed = (Instant::now(), iteration);
        }
        if self.policy.is_multistep() && self.current_step != before {
            observer.event(&Event::Step { iteration, step: self.current_step });
        }
        if !loss.is_finite() && !self.warned {
            self.warned = true;
            let what = format!(
                "the loss is {loss} in iteration {iteration}: a smaller base_lr or clip_gradients may help"
            );
            observer.event(&Event::Warning(&what));
        }
        match &device {
            Some(_) => self.tell_clipped(observer)?,
            None => self.update(rate, !keep_gradients, observer)?,
        }
        self.iteration += 1;
        observer.event(&Event::Iterated { iteration, loss, smoothed, rate });
        Ok(())
    }

    /// Gradients of so many passes, added up; the sum of their losses.
    fn accumulate(&mut self, passes: usize, observer: &mut dyn Observer) -> Result<f64> {
        let (net, weights) = (&mut self.model.net, &mut self.model.weights);
        let mut loss = 0.0;
        for _ in 0..passes {
            loss += net.iterate(weights, &mut Adding).map_err(|e| self.plans.train.locate(e))?;
            if self.settings.debug_info {
                let lines = net.take_debug();
                lines.iter().for_each(|line| observer.event(&Event::Debug(line)));
                if !lines.is_empty() {
                    let (l1, l2) = (norms(weights.iter(), |p| vector::asum(p)), {
                        let (data, diff) = norms(weights.iter(), |p| vector::sum_squares(p));
                        (data.sqrt(), diff.sqrt())
                    });
                    let line = format!(
                        "    [Backward] All net params (data, diff): L1 norm = ({}, {}); L2 norm = ({}, {})",
                        l1.0, l1.1, l2.0, l2.1
                    );
                    observer.event(&Event::Debug(&line));
                }
            }
        }
        Ok(loss)
    }

    /// Takes a loss into the window of `average_loss`; the mean of the window.
    fn smooth(&mut self, loss: f64) -> f64 {
        if self.losses.len() >= self.settings.average_loss {
            self.losses.pop_front();
        }
        self.losses.push_back(loss);
        self.losses.iter().sum::<f64>() / self.losses.len() as f64
    }
}

/// Sums of a norm over values and gradients of parameters.
fn norms<'a, T: Real>(
    params: impl Iterator<Item = &'a crate::blob::Param<T>>,
    norm: impl Fn(&[T]) -> f64,
) -> (f64, f64) {
    params.fold((0.0, 0.0), |(data, diff), p| (data + norm(p.data.host()), diff + norm(p.diff.host())))
}
