//! From a gradient to a step: the update rules.

#[path = "update_cuda.rs"]
pub(super) mod cuda;

pub use cuda::Rule;

use crate::blob::Buffer;
use crate::device::Source;
use crate::error::{Error, Kind, Result};
use crate::math::Real;
use crate::math::parallel::for_each_chunk3;
use crate::proto::caffe::SolverParameter;

/// The solvers of Caffe.
const KNOWN: [&str; 6] = ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"];

/// Those that exist here.
pub const SOLVERS: [&str; 1] = ["SGD"];

/// Elements that are worth a thread.
const GRAIN: usize = 1 << 14;

/// What one iteration asks of one parameter.
#[derive(Clone, Copy, Debug)]
pub struct Step<T> {
    /// The iteration, from 0.
    pub iteration: usize,
    /// Learning rate times `lr_mult`.
    pub rate: T,
    /// Factor on the accumulated gradient: from `clip_gradients` and `iter_size`.
    pub scale: T,
    /// Factor of sign(w) in the gradient: L1 decay.
    pub l1: T,
    /// Factor of w in the gradient: L2 decay.
    pub l2: T,
    /// Whether the gradient ends as zeros, for the passes that come, instead of what was subtracted.
    pub clear: bool,
}

impl<T: Real> Step<T> {
    /// The regularised gradient of an element from its accumulated one and its value.
    #[inline(always)]
    pub fn gradient(&self, diff: T, w: T) -> T {
        let sign = if w > T::zero() {
            T::one()
        } else if w < T::zero() {
            -T::one()
        } else {
            T::zero()
        };
        diff * self.scale + self.l2 * w + self.l1 * sign
    }
}

/// How a solver turns a gradient into a step. One pass over a parameter regularises, keeps the history, applies, and clears the gradient.
pub trait UpdateRule<T: Real>: Send {
    /// How many values it remembers for each value of a parameter.
    fn histories(&self) -> usize;

    /// Updates `data` in place. `diff` holds the accumulated gradient, and afterwards what was subtracted from `data`,
    /// as in Caffe, or zeros. `history` has as many buffers as [`UpdateRule::histories`] says, each as long as `data`.
    fn update(&self, step: &Step<T>, data: &mut [T], diff: &mut [T], history: &mut [Buffer<T>]);

    /// The same on a device, for all parameters at once.
    fn on_device(&self) -> Rule;
}

/// The kernels of all update rules.
pub fn kernels() -> Vec<&'static Source> {
    vec![&cuda::SGD, &cuda::NORM]
}

/// The rule of a solver's `type`. Errors: one of Caffe's that does not exist here yet, an unknown one (with the nearest name).
pub fn create<T: Real>(param: &SolverParameter) -> Result<Box<dyn UpdateRule<T>>> {
    let name = param.r#type();
    match name {
        "SGD" => Ok(Box::new(Sgd { momentum: T::from_f64(param.momentum().into()) })),
        _ if KNOWN.contains(&name) => {
            let error =
                Error::new(Kind::Unsupported, format!("the solver \"{name}\" does not exist here yet"));
            Err(error.expected(SOLVERS.join(", ")).in_field("type"))
        }
        _ => {
            let error = Error::new(Kind::UnknownName, format!("unknown solver type \"{name}\""));
            let error = error.expected(SOLVERS.join(", ")).in_field("type");
            Err(error.suggest_nearest(name, KNOWN))
        }
    }
}

/// Stochastic gradient descent with momentum: h = momentum·h + rate·g, w = w − h.
///
/// Source: Caffe's `SGDSolver`.
struct Sgd<T> {
    momentum: T,
}

impl<T: Real> UpdateRule<T> for Sgd<T> {
    fn histories(&self) -> usize {
        1
    }

    fn update(&self, step: &Step<T>, data: &mut [T], diff: &mut [T], history: &mut [Buffer<T>]) {
        let Some(history) = history.first_mut() else { return };
        for_each_chunk3(
            data,
            diff,
            history.host_mut(),
            GRAIN,
            #[inline(always)]
            |_, data, diff, history| {
                // Read once: the compiler does not see that the loop leaves them as they are, and makes no vectors of it then.
                let (momentum, step) = (self.momentum, *step);
                for ((w, g), h) in data.iter_mut().zip(diff).zip(history) {
                    *h = momentum * *h + step.rate * step.gradient(*g, *w);
                    *g = if step.clear { T::zero() } else { *h };
                    *w -= *h;
                }
            },
        );
    }

    fn on_device(&self) -> Rule {
        Rule { source: &cuda::SGD, numbers: [self.momentum.as_f64(), 0.0, 0.0, 0.0] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::parse_solver;

    fn rule(text: &str) -> Result<Box<dyn UpdateRule<f64>>> {
        create(&parse_solver(text, "test").unwrap().message)
    }

    #[test]
    fn momentum_and_both_decays_by_hand() {
        let sgd = rule("momentum: 0.5").unwrap();
        let (mut w, mut g, mut h) = ([1.0, -2.0, 0.0], [4.0, 4.0, 4.0], [Buffer::from_slice(&[2.0; 3])]);
        let step = Step { iteration: 0, rate: 0.1, scale: 0.5, l1: 0.0, l2: 0.25, clear: false };
        sgd.update(&step, &mut w, &mut g, &mut h);
        // h = 0.5·2 + 0.1·(0.5·4 + 0.25·w)
        let expected = [1.225, 1.15, 1.2];
        for (i, e) in expected.iter().enumerate() {
            assert!((h[0].host()[i] - e).abs() < 1e-12 && g[i] == h[0].host()[i]);
            assert!((w[i] - ([1.0, -2.0, 0.0][i] - e)).abs() < 1e-12);
        }
        let (stepped, stepped_h) = (w, h[0].host().to_vec());
        // Cleared along, the gradient ends as zeros, and all else as before.
        let (mut w, mut g, mut h) = ([1.0, -2.0, 0.0], [4.0, 4.0, 4.0], [Buffer::from_slice(&[2.0; 3])]);
        sgd.update(&Step { clear: true, ..step }, &mut w, &mut g, &mut h);
        assert_eq!((w, g, h[0].host()), (stepped, [0.0; 3], stepped_h.as_slice()));
        let l1 = Step { l1: 0.5, l2: 0.0, ..step };
        assert_eq!([1.5, -1.5, 0.0].map(|w| l1.gradient(4.0, w)), [2.5, 1.5, 2.0]);
    }

    #[test]
    fn other_solvers_are_refused_in_words() {
        let say = |text: &str| rule(text).err().unwrap();
        assert_eq!(say("type: 'Adam'").kind(), Kind::Unsupported);
        assert_eq!(say("type: 'Adam'").expectation(), Some("SGD"));
        assert_eq!(say("type: 'Nestrov'").kind(), Kind::UnknownName);
        assert_eq!(say("type: 'Nestrov'").suggestion(), Some("did you mean \"Nesterov\"?"));
    }
}
