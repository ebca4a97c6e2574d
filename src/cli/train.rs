//! `cortado train`: a solver with Caffe's log, a progress bar, and signals.

use super::log::{From, Log};
use super::signals::Signals;
use super::test::with_loss;
use super::{Matches, convolutions, number::general};
use crate::device::{Gpu, Precision};
use crate::error::{Error, Kind, Result};
use crate::net::Keep;
use crate::proto::caffe::{SolverParameter, solver_parameter::SolverMode};
use crate::proto::read_solver;
use crate::solver::{Action, Event, Observer, Output, Solver};
use crate::tools::summary::summary;
use std::process::ExitCode;

pub(super) fn run(matches: &Matches) -> Result<ExitCode> {
    let pool = matches.pool()?;
    let threads = pool.threads();
    pool.install(|| {
        let log = Log::new();
        let gpus = matches.gpus()?;
        let parsed = read_solver(matches.path("solver")?)?;
        parsed.upgrades.iter().for_each(|note| log.info(From::Solver, note));
        let mut param = parsed.message;
        adjust(&mut param, matches)?;
        let mut watcher = Watcher { log, signals: Signals::new(matches)?, done: 0, total: 0 };
        let mut solver = Solver::<f32>::keeping(&param, Some(&parsed.source), &mut watcher, &Keep::Outputs)?;
        for gpu in &gpus {
            matches.adjust(gpu)?;
            matches.precise(Some(gpu))?;
        }
        match &gpus[..] {
            [] => {
                solver.device().map_or(Ok(()), |gpu| matches.adjust(gpu))?;
                matches.precise(solver.device())?;
            }
            gpus => solver.set_devices(gpus, &mut watcher)?,
        }
        solver.set_graphs(matches.choice("graphs", &[("auto", true), ("off", false)], true)?);
        match &gpus[..] {
            [] | [_] => watcher.log.info(From::Caffe, &where_it_runs(solver.device(), threads)),
            several => where_they_run(several).iter().for_each(|line| watcher.log.info(From::Caffe, line)),
        }
        convolutions::how(solver.net()).iter().for_each(|line| watcher.log.info(From::Caffe, line));
        summary(solver.net(), solver.weights()).lines().iter().for_each(|line| watcher.log.line(line));
        if let Some(state) = matches.optional_path("snapshot") {
            watcher.log.info(From::Caffe, &format!("Resuming from {}", state.display()));
            solver.restore(state, &mut watcher)?;
        }
        watcher.log.info(From::Caffe, "Starting Optimization");
        let result = solver.solve(&mut watcher);
        watcher.log.end_bar();
        result.map(|()| ExitCode::SUCCESS)
    })
}

/// `Use GPU with device ID 0` as Caffe says it, and how it multiplies if not in full precision; or the threads.
pub(super) fn where_it_runs(device: Option<&Gpu>, threads: usize) -> String {
    match device {
        Some(gpu) => {
            let rounding = match gpu.precision() {
                Precision::Full => String::new(),
                precision => format!(" Products are in {}.", precision.name()),
            };
            format!("Use GPU with device ID {} ({}).{rounding}", gpu.ordinal(), gpu.name())
        }
        None => format!("Use CPU, {threads} thread{}.", if threads == 1 { "" } else { "s" }),
    }
}

/// Several GPUs, as Caffe lists them.
fn where_they_run(gpus: &[Gpu]) -> Vec<String> {
    let numbers: Vec<String> = gpus.iter().map(|gpu| gpu.ordinal().to_string()).collect();
    let names = gpus.iter().map(|gpu| format!("GPU {}: {}", gpu.ordinal(), gpu.name()));
    std::iter::once(format!("Using GPUs {}", numbers.join(", "))).chain(names).collect()
}

/// Puts what the flags say into the solver's message, as Caffe does.
fn adjust(param: &mut SolverParameter, matches: &Matches) -> Result<()> {
    let weights = matches.text("weights")?;
    if weights.is_some() && matches.optional_path("snapshot").is_some() {
        return Err(Error::new(
            Kind::Usage,
            "give a snapshot to resume training or weights to finetune, not both",
        ));
    }
    if let Some(weights) = weights {
        param.weights = vec![weights.to_string()];
    }
    let stages = matches.list("stage")?;
    if matches.text("level")?.is_some() || !stages.is_empty() {
        let state = param.train_state.get_or_insert_default();
        state.level = Some(matches.number("level", 0)?);
        state.stage.extend(stages);
    }
    // The schema's default is GPU: only who writes it out gets one, or hears that there is none. `-gpu` takes its place.
    param.solver_mode.get_or_insert(SolverMode::Cpu as i32);
    if matches.text("gpu")?.is_some() {
        param.solver_mode = Some(SolverMode::Cpu as i32);
    }
    Ok(())
}

/// Logs what the solver does in Caffe's words, and hands it the signals.
struct Watcher {
    log: Log,
    signals: Signals,
    /// Iterations done and to do.
    done: usize,
    total: usize,
}

impl Watcher {
    fn solver(&self, text: &str) {
        self.log.info(From::Solver, text);
    }

    fn outputs(&self, kind: &str, outputs: &[Output]) {
        for (i, output) in outputs.iter().enumerate() {
            let value = with_loss(&output.name, output.value, output.loss_weight);
            self.solver(&format!("    {kind} net output #{i}: {value}"));
        }
    }
}

impl Observer for Watcher {
    fn event(&mut self, event: &Event<'_>) {
        match *event {
            Event::Seed { seed, from_clock: true } => {
                self.solver(&format!(
                    "random_seed: {seed} (from the clock; set it in the solver to repeat this run)"
                ));
            }
            Event::Seed { seed, .. } => self.solver(&format!("random_seed: {seed}")),
            Event::Note(text) | Event::Debug(text) => self.solver(text),
            Event::Warning(text) => self.log.warn(From::Solver, text),
            Event::Weights { file, report } => {
                self.solver(&format!("Finetuning from {}", file.display()));
                for name in &report.skipped {
                    self.solver(&format!("Ignoring source layer {name}"));
                }
                for name in &report.missing {
                    self.log.warn(
                        From::Solver,
                        &format!("layer \"{name}\" is not in the file and keeps its first values"),
                    );
                }
            }
            Event::Restored { state, model, iteration } => {
                let (state, model) = (state.display(), model.display());
                self.solver(&format!("Restored {state} with {model}, at iteration {iteration}"));
            }
            Event::Start { net, policy, iteration, max_iter } => {
                self.solver(&format!("Solving {net}"));
                self.solver(&format!("Learning Rate Policy: {policy}"));
                (self.done, self.total) = (iteration, max_iter);
                self.log.start_bar(max_iter, iteration);
            }
            Event::Display { iteration, loss, seconds, iterations, every, rate, outputs } => {
                let per_second = iterations as f64 / if seconds > 0.0 { seconds } else { 1.0 };
                let speed = format!("{} iter/s, {}s/{every} iters", general(per_second), general(seconds));
                self.solver(&format!("Iteration {iteration} ({speed}), loss = {}", general(loss)));
                self.outputs("Train", outputs);
                self.log.info(From::SgdSolver, &format!("Iteration {iteration}, lr = {}", general(rate)));
            }
            Event::Step { iteration, step } => {
                self.log.info(
                    From::SgdSolver,
                    &format!("MultiStep Status: Iteration {iteration}, step = {step}"),
                );
            }
            Event::Clipped { norm, limit, scale } => {
                let norms = format!("(L2 norm {} > {})", general(norm), general(limit));
                let text = format!(
                    "Gradient clipping: scaling down gradients {norms} by scale factor {}",
                    general(scale)
                );
                self.log.info(From::SgdSolver, &text);
            }
            Event::Iterated { iteration, smoothed, .. } => {
                self.done = iteration + 1;
                self.log.advance(self.done, || format!("loss {smoothed:.4}"));
            }
            Event::TestStart { iteration, net, .. } => {
                self.solver(&format!("Iteration {iteration}, Testing net (#{net})"));
            }
            Event::TestResult { loss, outputs, .. } => {
                if let Some(loss) = loss {
                    self.solver(&format!("Test loss: {}", general(loss)));
                }
                self.outputs("Test", outputs);
            }
            Event::TestInterrupted => self.solver("Test interrupted."),
            Event::Snapshot { model, state, .. } => {
                self.solver(&format!("Snapshotting to binary proto file {}", model.display()));
                let text = format!("Snapshotting solver state to binary proto file {}", state.display());
                self.log.info(From::SgdSolver, &text);
            }
            Event::Final { iteration, loss } => {
                self.solver(&format!("Iteration {iteration}, loss = {}", general(loss)));
            }
            Event::Stopped { iteration } => {
                self.log.end_bar();
                self.solver(&format!("Optimization stopped early, after {iteration} iterations."));
            }
            Event::Done { .. } => {
                self.log.end_bar();
                self.solver("Optimization Done.");
                self.log.info(From::Caffe, "Optimization Done.");
            }
        }
    }

    fn action(&mut self) -> Action {
        self.signals.action()
    }
}
