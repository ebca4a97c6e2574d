//! How the learning rate changes with the iteration.

use crate::error::{Error, Kind, Result};
use crate::proto::caffe::SolverParameter;

/// Names of the policies, as `lr_policy` has them.
pub const POLICIES: [&str; 7] = ["fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid"];

/// A learning-rate policy. With b = `base_lr`, g = `gamma`, p = `power`, t = the iteration:
///
/// | policy | rate |
/// |---|---|
/// | `fixed` | b |
/// | `step` | b·g^⌊t / stepsize⌋ |
/// | `exp` | b·g^t |
/// | `inv` | b·(1 + g·t)^−p |
/// | `multistep` | b·g^(number of `stepvalue`s reached) |
/// | `poly` | b·(1 − t / max_iter)^p |
/// | `sigmoid` | b / (1 + e^(−g·(t − stepsize))) |
///
/// Source: Caffe's `SGDSolver::GetLearningRate`.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    base: f64,
    kind: Shape,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Fixed,
    Step { gamma: f64, size: usize },
    Exp { gamma: f64 },
    Inv { gamma: f64, power: f64 },
    Multistep { gamma: f64, values: Vec<usize> },
    Poly { power: f64, max_iter: f64 },
    Sigmoid { gamma: f64, center: f64 },
}

impl Policy {
    /// The policy of a solver. Errors: `base_lr` or `lr_policy` missing, an unknown policy (with the nearest name), a
    /// field missing that the policy needs, or without sense in it.
    pub fn new(param: &SolverParameter) -> Result<Policy> {
        let Some(name) = &param.lr_policy else {
            let error = Error::new(Kind::Value, "the solver has no learning-rate policy");
            return Err(error.expected(POLICIES.join(", ")).in_field("lr_policy"));
        };
        let number = |value: Option<f32>, field: &str| match value {
            Some(v) if v.is_finite() => Ok(f64::from(v)),
            Some(v) => Err(Error::new(Kind::Value, format!("{field} is not a finite number"))
                .found(v)
                .in_field(field)),
            None => Err(missing(field, name)),
        };
        let gamma = || match number(param.gamma, "gamma")? {
            g if g < 0.0 => Err(Error::new(Kind::Value, "a negative gamma")
                .expected("0 or more")
                .found(g)
                .in_field("gamma")),
            g => Ok(g),
        };
        let base = number(param.base_lr, "base_lr")?;
        let kind = match name.as_str() {
            "fixed" => Shape::Fixed,
            "step" => Shape::Step { gamma: gamma()?, size: stepsize(param, name)?.max(1) },
            "exp" => Shape::Exp { gamma: gamma()? },
            "inv" => Shape::Inv { gamma: gamma()?, power: number(param.power, "power")? },
            "multistep" => Shape::Multistep { gamma: gamma()?, values: stepvalues(param, name)? },
            "poly" => match param.max_iter {
                Some(max_iter) if max_iter > 0 => {
                    Shape::Poly { power: number(param.power, "power")?, max_iter: max_iter.into() }
                }
                _ => return Err(missing("max_iter", name)),
            },
            // The one policy whose gamma may be negative: the rate then falls.
            "sigmoid" => {
                Shape::Sigmoid { gamma: number(param.gamma, "gamma")?, center: stepsize(param, name)? as f64 }
            }
            _ => {
                let error = Error::new(Kind::UnknownName, format!("unknown learning-rate policy \"{name}\""));
                let error = error.expected(POLICIES.join(", ")).in_field("lr_policy");
                return Err(error.suggest_nearest(name, POLICIES));
            }
        };
        Ok(Policy { base, kind })
    }

    /// The rate of an iteration. `current_step` counts the steps of `step` and `multistep`, and belongs to the state
    /// of a run: `multistep` takes at most one step in an iteration, as Caffe does.
    pub fn rate(&self, iteration: usize, current_step: &mut usize) -> f64 {
        let t = iteration as f64;
        self.base
            * match &self.kind {
                Shape::Fixed => 1.0,
                Shape::Step { gamma, size } => {
                    *current_step = iteration / size;
                    gamma.powf(*current_step as f64)
                }
                Shape::Exp { gamma } => gamma.powf(t),
                Shape::Inv { gamma, power } => (1.0 + gamma * t).powf(-power),
                Shape::Multistep { gamma, values } => {
                    if values.get(*current_step).is_some_and(|&v| iteration >= v) {
                        *current_step += 1;
                    }
                    gamma.powf(*current_step as f64)
                }
                // Past max_iter the base would be negative and the rate no number.
                Shape::Poly { power, max_iter } => (1.0 - t / max_iter).max(0.0).powf(*power),
                Shape::Sigmoid { gamma, center } => 1.0 / (1.0 + (-gamma * (t - center)).exp()),
            }
    }

    /// Whether its steps are told of when they happen.
    pub fn is_multistep(&self) -> bool {
        matches!(self.kind, Shape::Multistep { .. })
    }
}

fn missing(field: &str, policy: &str) -> Error {
    Error::new(Kind::Value, format!("the policy \"{policy}\" needs {field}")).in_field(field)
}

fn stepsize(param: &SolverParameter, policy: &str) -> Result<usize> {
    let size = param.stepsize.ok_or_else(|| missing("stepsize", policy))?;
    let least = if policy == "step" { 1 } else { 0 };
    usize::try_from(size).ok().filter(|&s| s >= least).ok_or_else(|| {
        let error = Error::new(Kind::Value, format!("a stepsize of {size}"));
        error.expected(format!("{least} or more")).in_field("stepsize")
    })
}

fn stepvalues(param: &SolverParameter, policy: &str) -> Result<Vec<usize>> {
    if param.stepvalue.is_empty() {
        return Err(missing("stepvalue", policy));
    }
    let values = param.stepvalue.iter().enumerate().map(|(i, &v)| {
        usize::try_from(v).map_err(|_| {
            let error = Error::new(Kind::Value, "a negative stepvalue").expected("0 or more").found(v);
            error.in_field(&format!("stepvalue[{i}]"))
        })
    });
    values.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::parse_solver;

    fn policy(text: &str) -> Result<Policy> {
        Policy::new(&parse_solver(text, "test").unwrap().message)
    }

    fn rates(text: &str, iterations: &[usize]) -> Vec<f64> {
        let policy = policy(text).unwrap();
        iterations.iter().map(|&i| policy.rate(i, &mut 0)).collect()
    }

    #[test]
    fn rates_worked_out_by_hand() {
        let close = |got: Vec<f64>, expected: &[f64]| {
            for (g, e) in got.iter().zip(expected) {
                assert!((g - e).abs() <= 1e-6 * e.abs(), "{got:?}, expected {expected:?}");
            }
            assert_eq!(got.len(), expected.len());
        };
        close(rates("base_lr: 0.5 lr_policy: 'fixed'", &[0, 9]), &[0.5, 0.5]);
        let step = "base_lr: 2 lr_policy: 'step' gamma: 0.5 stepsize: 10";
        close(rates(step, &[0, 9, 10, 25]), &[2.0, 2.0, 1.0, 0.5]);
        close(rates("base_lr: 1 lr_policy: 'exp' gamma: 0.5", &[0, 1, 3]), &[1.0, 0.5, 0.125]);
        let inv = "base_lr: 3 lr_policy: 'inv' gamma: 0.5 power: 2";
        close(rates(inv, &[0, 2, 4]), &[3.0, 0.75, 1.0 / 3.0]);
        let poly = "base_lr: 1 lr_policy: 'poly' power: 2 max_iter: 10";
        close(rates(poly, &[0, 5, 10, 11]), &[1.0, 0.25, 0.0, 0.0]);
        let sigmoid = "base_lr: 1 lr_policy: 'sigmoid' gamma: -0.5 stepsize: 10";
        close(rates(sigmoid, &[10, 12]), &[0.5, 1.0 / (1.0 + std::f64::consts::E)]);
    }

    #[test]
    fn multistep_takes_one_step_an_iteration() {
        let text = "base_lr: 1 lr_policy: 'multistep' gamma: 0.1 stepvalue: 2 stepvalue: 2 stepvalue: 5";
        let policy = policy(text).unwrap();
        let mut step = 0;
        let steps: Vec<usize> = (0..7)
            .map(|i| {
                policy.rate(i, &mut step);
                step
            })
            .collect();
        assert_eq!(steps, [0, 0, 1, 2, 2, 3, 3]);
        assert!((policy.rate(7, &mut step) - 1e-3).abs() < 1e-9);
    }

    #[test]
    fn what_is_missing_is_named() {
        let say = |text: &str| {
            let error = policy(text).unwrap_err();
            (error.kind(), error.field().unwrap_or("").to_string())
        };
        assert_eq!(say("base_lr: 1"), (Kind::Value, "lr_policy".into()));
        assert_eq!(say("lr_policy: 'fixed'"), (Kind::Value, "base_lr".into()));
        assert_eq!(say("base_lr: 1 lr_policy: 'step' gamma: 1"), (Kind::Value, "stepsize".into()));
        assert_eq!(say("base_lr: 1 lr_policy: 'step' stepsize: 1"), (Kind::Value, "gamma".into()));
        let zero = "base_lr: 1 lr_policy: 'step' stepsize: 0 gamma: 1";
        assert_eq!(say(zero), (Kind::Value, "stepsize".into()));
        assert_eq!(say("base_lr: 1 lr_policy: 'multistep' gamma: 1"), (Kind::Value, "stepvalue".into()));
        assert_eq!(say("base_lr: 1 lr_policy: 'inv' gamma: 1"), (Kind::Value, "power".into()));
        assert_eq!(say("base_lr: 1 lr_policy: 'poly' power: 1"), (Kind::Value, "max_iter".into()));
        let error = policy("base_lr: 1 lr_policy: 'setp'").unwrap_err();
        assert_eq!(error.kind(), Kind::UnknownName);
        assert_eq!(error.suggestion(), Some("did you mean \"step\"?"));
    }
}
