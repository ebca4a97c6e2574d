//! Which nets a solver trains and tests.

use crate::error::{Error, Kind, Result};
use crate::proto::caffe::{NetParameter, NetState, Phase, SolverParameter};
use crate::proto::{Source, read_net, upgrade_net};
use std::path::{Path, PathBuf};

/// A net as a solver names it, in the state it is built in.
pub struct NetPlan {
    /// The net.
    pub param: NetParameter,
    /// Its text, for errors.
    source: Option<Source>,
    /// What was upgraded in it from older formats.
    pub upgrades: Vec<String>,
}

impl NetPlan {
    /// Gives an error of the net its place in the text.
    pub fn locate(&self, error: Error) -> Error {
        match &self.source {
            Some(source) => source.locate(error),
            None => error,
        }
    }

    fn file(path: &str, field: &str, solver: Option<&Source>) -> Result<NetPlan> {
        let parsed = read_net(find_file(path, solver)).map_err(|e| e.in_field(field))?;
        let source = Some(Source::clone(&parsed.source));
        Ok(NetPlan { param: parsed.message, source, upgrades: parsed.upgrades })
    }

    fn inside(param: &NetParameter, field: &str, solver: Option<&Source>) -> Result<NetPlan> {
        let mut plan =
            NetPlan { param: param.clone(), source: solver.and_then(|s| s.within(field)), upgrades: vec![] };
        plan.upgrades = upgrade_net(&mut plan.param).map_err(|e| plan.locate(e))?;
        Ok(plan)
    }

    /// In this phase, unless the net's own state or the solver's says otherwise.
    fn in_state(mut self, phase: Phase, own: Option<&NetState>) -> NetPlan {
        let mut state = NetState { phase: Some(phase as i32), ..Default::default() };
        for other in [self.param.state.as_ref(), own].into_iter().flatten() {
            state.phase = other.phase.or(state.phase);
            state.level = other.level.or(state.level);
            state.stage.extend(other.stage.iter().cloned());
        }
        self.param.state = Some(state);
        self
    }
}

/// The training net: one of `net`, `net_param`, `train_net`, `train_net_param`, in the phase TRAIN and `train_state`.
///
/// Errors: none of them or several; the file cannot be read. Source: Caffe's `Solver::InitTrainNet`.
pub fn train_net(param: &SolverParameter, solver: Option<&Source>) -> Result<NetPlan> {
    const FIELDS: &str = "one of net, net_param, train_net, train_net_param";
    let given: Vec<&str> = [
        ("train_net_param", param.train_net_param.is_some()),
        ("train_net", param.train_net.is_some()),
        ("net_param", param.net_param.is_some()),
        ("net", param.net.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect();
    if let [first, _, ..] = given[..] {
        let error = Error::new(Kind::Value, "the solver names more than one training net");
        return Err(error.expected(FIELDS).found(given.join(", ")).in_field(first));
    }
    let plan = if let Some(net) = &param.train_net_param {
        NetPlan::inside(net, "train_net_param", solver)?
    } else if let Some(path) = &param.train_net {
        NetPlan::file(path, "train_net", solver)?
    } else if let Some(net) = &param.net_param {
        NetPlan::inside(net, "net_param", solver)?
    } else if let Some(path) = &param.net {
        NetPlan::file(path, "net", solver)?
    } else {
        return Err(Error::new(Kind::Value, "the solver names no training net").expected(FIELDS));
    };
    Ok(plan.in_state(Phase::Train, param.train_state.as_ref()))
}

/// The test nets with their passes: those of `test_net_param`, then of `test_net`, then as many from `net` or
/// `net_param` as `test_iter` has further values; in the phase TEST and their `test_state`.
///
/// Errors: numbers of `test_iter` or `test_state` that do not fit, `test_interval` missing, a file that cannot be read.
/// Source: Caffe's `Solver::InitTestNets`.
pub fn test_nets(param: &SolverParameter, solver: Option<&Source>) -> Result<Vec<(NetPlan, usize)>> {
    let generic = param.net.is_some() || param.net_param.is_some();
    let named = param.test_net_param.len() + param.test_net.len();
    let passes = param.test_iter.iter().enumerate().map(|(i, &n)| {
        usize::try_from(n).map_err(|_| {
            let error = Error::new(Kind::Value, "a negative number of test passes").found(n);
            error.expected("0 or more").in_field(&format!("test_iter[{i}]"))
        })
    });
    let passes: Vec<usize> = passes.collect::<Result<_>>()?;
    if passes.len() < named || (!generic && passes.len() != named) {
        let error = Error::new(Kind::Value, "test_iter must be given once for each test net");
        let expected = if generic { format!("{named} or more") } else { named.to_string() };
        return Err(error.expected(expected).found(passes.len()).in_field("test_iter"));
    }
    let total = passes.len();
    if !param.test_state.is_empty() && param.test_state.len() != total {
        let error = Error::new(Kind::Value, "test_state must be given once for each test net or not at all");
        return Err(error.expected(total).found(param.test_state.len()).in_field("test_state"));
    }
    if total > 0 && param.test_interval() <= 0 {
        let error = Error::new(Kind::Value, "a solver with test nets needs test_interval");
        return Err(error.expected("1 or more").found(param.test_interval()).in_field("test_interval"));
    }
    let mut plans = Vec::with_capacity(total);
    for (i, net) in param.test_net_param.iter().enumerate() {
        plans.push(NetPlan::inside(net, &format!("test_net_param[{i}]"), solver)?);
    }
    for (i, path) in param.test_net.iter().enumerate() {
        plans.push(NetPlan::file(path, &format!("test_net[{i}]"), solver)?);
    }
    while plans.len() < total {
        plans.push(match (&param.net_param, &param.net) {
            (Some(net), _) => NetPlan::inside(net, "net_param", solver)?,
            (None, Some(path)) => NetPlan::file(path, "net", solver)?,
            (None, None) => break,
        });
    }
    let plans = plans.into_iter().enumerate();
    let plans = plans.map(|(i, plan)| plan.in_state(Phase::Test, param.test_state.get(i)));
    Ok(plans.zip(passes).collect())
}

/// A file that a solver names: relative to the current folder, as in Caffe, or to the solver's own where it exists only
/// there.
pub fn find_file(path: &str, solver: Option<&Source>) -> PathBuf {
    let here = Path::new(path);
    let beside = solver.and_then(|s| Some(Path::new(s.file()).parent()?.join(path)));
    match beside {
        Some(beside) if !here.exists() && beside.exists() => beside,
        _ => here.to_path_buf(),
    }
}
