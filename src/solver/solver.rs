//! The solver: from its message to nets, weights and the state of a run.

use super::event::{Event, Observer};
use super::group::{Crew, Seat, Threads};
use super::model::{Model, Plans};
use super::nets::{find_file, test_nets, train_net};
use super::settings::Settings;
use super::update::cuda::Table;
use super::update::{self, UpdateRule};
use super::{Policy, Regularizer, snapshot};
use crate::blob::Weights;
use crate::device::Gpu;
use crate::error::{Error, Kind, Result};
use crate::math::Real;
use crate::net::{Keep, Net, load_weights};
use crate::proto::caffe::{SolverParameter, solver_parameter::SolverMode};
use crate::proto::{Source, StoredWeights};
use std::collections::VecDeque;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Trains a net.
///
/// It owns the training net, the test nets and the weights they share. [`Solver::new`] builds them, [`Solver::restore`]
/// goes on from a snapshot, [`Solver::solve`] trains to `max_iter` as Caffe does, [`Solver::step`] as far as one likes.
/// All that Caffe logs goes to an [`Observer`].
pub struct Solver<T: Real> {
    pub(super) param: SolverParameter,
    pub(super) source: Option<Source>,
    pub(super) settings: Settings,
    pub(super) policy: Policy,
    pub(super) regularizer: Regularizer,
    pub(super) rule: Box<dyn UpdateRule<T>>,
    pub(super) plans: Plans,
    pub(super) model: Model<T>,
    pub(super) seed: u64,
    /// Iterations done.
    pub(super) iteration: usize,
    /// Steps of the policy taken.
    pub(super) current_step: usize,
    /// Losses in the window of `average_loss`, oldest first.
    pub(super) losses: VecDeque<f64>,
    /// When, and before which iteration, the last display was.
    pub(super) displayed: (Instant, usize),
    /// Whether a loss that is not finite was warned of.
    pub(super) warned: bool,
    /// The parameters as a device has them listed.
    pub(super) table: Table<T>,
    /// Whether the last update left all gradients cleared, and nobody has had them since.
    pub(super) cleared: bool,
    /// Whether it was told why iterations are no graphs.
    pub(super) told: bool,
    /// Whether iterations on a device are to be graphs.
    pub(super) graphs: bool,
    // In this order: the others end when they are told no more, NCCL then lets each of them go, and their threads are waited for last.
    /// The solvers that train along on other devices.
    pub(super) crew: Crew<T>,
    /// Its place among them.
    pub(super) seat: Seat,
    pub(super) threads: Threads,
}

impl<T: Real> Solver<T> {
    /// The solver of a message, with fresh weights or those of its field `weights`. `source` is the text of its file, for
    /// errors and for files that lie beside it.
    ///
    /// Errors name the field, with its line where the text is known: missing or unknown names (nets, policy, type,
    /// regularisation), numbers without sense, nets that cannot be built, weights that do not fit, a folder for
    /// snapshots that cannot be written.
    pub fn new(
        param: &SolverParameter,
        source: Option<&Source>,
        observer: &mut dyn Observer,
    ) -> Result<Solver<T>> {
        Solver::keeping(param, source, observer, &Keep::All)
    }

    /// [`Solver::new`], but of the training net only the blobs that `keep` names can be read, of the test nets only the
    /// outputs: the others share memory.
    pub fn keeping(
        param: &SolverParameter,
        source: Option<&Source>,
        observer: &mut dyn Observer,
        keep: &Keep,
    ) -> Result<Solver<T>> {
        Solver::build(param, source, observer, keep).map_err(|e| match source {
            Some(source) => source.locate(e),
            None => e,
        })
    }

    fn build(
        param: &SolverParameter,
        source: Option<&Source>,
        observer: &mut dyn Observer,
        keep: &Keep,
    ) -> Result<Solver<T>> {
        let policy = Policy::new(param)?;
        let regularizer = Regularizer::new(param)?;
        let rule = update::create::<T>(param)?;
        let settings = Settings::new(param)?;
        snapshot::check(param, &settings)?;
        let device = match param.solver_mode == Some(SolverMode::Gpu as i32) {
            true => open(param.device_id(), observer),
            false => None,
        };
        let (seed, from_clock) = match u64::try_from(param.random_seed()) {
            Ok(seed) => (seed, false),
            Err(_) => (clock_seed(), true),
        };
        observer.event(&Event::Seed { seed, from_clock });
        let plans =
            Plans { train: train_net(param, source)?, tests: test_nets(param, source)?, keep: keep.clone() };
        for upgrade in plans.train.upgrades.iter().chain(plans.tests.iter().flat_map(|(t, _)| &t.upgrades)) {
            observer.event(&Event::Note(upgrade));
        }
        let model = Model::new(&plans, seed, rule.histories(), device.as_ref())?;
        for net in std::iter::once(&model.net).chain(model.tests.iter().map(|t| &t.net)) {
            net.warnings().iter().for_each(|w| observer.event(&Event::Warning(w)));
        }
        let table = Table::new(rule.on_device());
        let mut solver = Solver {
            param: param.clone(),
            source: source.cloned(),
            losses: VecDeque::with_capacity(settings.average_loss),
            settings,
            policy,
            regularizer,
            rule,
            plans,
            model,
            seed,
            iteration: 0,
            current_step: 0,
            displayed: (Instant::now(), 0),
            warned: false,
            table,
            cleared: false,
            told: false,
            graphs: true,
            crew: Crew::none(),
            seat: Seat::default(),
            threads: Threads::none(),
        };
        solver.load_weights(observer)?;
        Ok(solver)
    }

    /// Loads the weight files of the field `weights`, each a name or several with commas between.
    pub(super) fn load_weights(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let Model { net, tests, weights, history } = &mut self.model;
        for (i, names) in self.param.weights.iter().enumerate() {
            let at = |e: Error| e.in_field(&format!("weights[{i}]"));
            for name in names.split(',').map(str::trim).filter(|n| !n.is_empty()) {
                let path = find_file(name, self.source.as_ref());
                let fit = |e: Error| at(e.in_file(path.display().to_string()));
                let mut file = StoredWeights::open(&path).map_err(fit)?;
                let report = load_weights(net, weights, &mut file).map_err(fit)?;
                report.ensure_fits().map_err(fit)?;
                observer.event(&Event::Weights { file: &path, report: &report });
                if weights.len() > history.len() {
                    // Test nets have layers of their own.
                    for test in tests.iter() {
                        let report = load_weights(&test.net, weights, &mut file).map_err(fit)?;
                        report.ensure_fits().map_err(fit)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Trains on a device from now on, or on the host (`None`). A solver whose `solver_mode` is GPU has opened the device of its
    /// `device_id` by itself, if there is one.
    pub fn set_device(&mut self, device: Option<&Gpu>) -> Result<()> {
        if !self.crew.is_empty() {
            (self.crew, self.seat) = (Crew::none(), Seat::default());
            self.threads = Threads::none();
            self.model.net.set_share(self.seed, 0, 1);
        }
        self.table = Table::new(self.rule.on_device());
        self.cleared = false;
        self.model.set_device(device)
    }

    /// Whether iterations on a device and the passes of tests are captured in a graph and repeated from it: [`Net::set_graphs`].
    pub fn set_graphs(&mut self, on: bool) {
        self.graphs = on;
        self.model.net.set_graphs(on);
        self.model.tests.iter_mut().for_each(|test| test.net.set_graphs(on));
    }

    /// The device it trains on.
    pub fn device(&self) -> Option<&Gpu> {
        self.model.net.device()
    }

    /// The message it was made from.
    pub fn param(&self) -> &SolverParameter {
        &self.param
    }

    /// Seed of all random streams.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Iterations done.
    pub fn iteration(&self) -> usize {
        self.iteration
    }

    /// The training net.
    pub fn net(&self) -> &Net<T> {
        &self.model.net
    }

    /// The training net, to fill its inputs.
    pub fn net_mut(&mut self) -> &mut Net<T> {
        &mut self.model.net
    }

    /// The test nets.
    pub fn test_nets(&self) -> impl ExactSizeIterator<Item = &Net<T>> {
        self.model.tests.iter().map(|t| &t.net)
    }

    /// A test net, to fill its inputs.
    pub fn test_net_mut(&mut self, i: usize) -> Option<&mut Net<T>> {
        self.model.tests.get_mut(i).map(|t| &mut t.net)
    }

    /// The parameters, which the training net and the test nets share.
    pub fn weights(&self) -> &Weights<T> {
        &self.model.weights
    }

    /// The parameters, for writing.
    pub fn weights_mut(&mut self) -> &mut Weights<T> {
        self.cleared = false;
        &mut self.model.weights
    }

    /// The training net and the parameters at once: what [`crate::net::load_weights`] takes.
    pub fn net_and_weights(&mut self) -> (&mut Net<T>, &mut Weights<T>) {
        self.cleared = false;
        (&mut self.model.net, &mut self.model.weights)
    }
}

/// The device that a solver asks for. Where there is none the solver trains on the host, and says why: Caffe's solvers ask for a GPU
/// by habit.
fn open(ordinal: i32, observer: &mut dyn Observer) -> Option<Gpu> {
    let opened = usize::try_from(ordinal)
        .map_err(|_| {
            Error::new(Kind::Value, "a negative number of a device").found(ordinal).in_field("device_id")
        })
        .and_then(Gpu::open);
    opened
        .map_err(|e| {
            let what = format!("solver_mode is GPU, but there is none to use: training on the CPU\n{e}");
            observer.event(&Event::Warning(&what));
        })
        .ok()
}

/// A seed nobody has chosen, which `random_seed` takes to repeat the run.
fn clock_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64 & i64::MAX as u64
}
