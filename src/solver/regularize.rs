//! Weight decay.

use crate::error::{Error, Kind, Result};
use crate::math::Real;
use crate::proto::caffe::SolverParameter;

/// What is added to the gradient g of a parameter w, with λ = `weight_decay`·`decay_mult`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Regularizer {
    /// `L2`: g + λ·w
    L2 {
        /// `weight_decay`
        decay: f32,
    },
    /// `L1`: g + λ·sign(w)
    L1 {
        /// `weight_decay`
        decay: f32,
    },
}

impl Regularizer {
    /// That of a solver. Error: an unknown `regularization_type`, where there is any `weight_decay`.
    pub fn new(param: &SolverParameter) -> Result<Regularizer> {
        let decay = param.weight_decay();
        match param.regularization_type() {
            "L1" => Ok(Regularizer::L1 { decay }),
            "L2" => Ok(Regularizer::L2 { decay }),
            // Caffe looks at the name only when it decays.
            _ if decay == 0.0 => Ok(Regularizer::L2 { decay }),
            other => {
                let error = Error::new(Kind::UnknownName, format!("unknown regularization type \"{other}\""));
                Err(error.expected("L1 or L2").in_field("regularization_type"))
            }
        }
    }

    /// The factors of sign(w) and of w for a parameter with this `decay_mult`.
    pub fn factors<T: Real>(&self, decay_mult: f32) -> (T, T) {
        let of = |decay: f32| T::from_f64((decay * decay_mult).into());
        match *self {
            Regularizer::L1 { decay } => (of(decay), T::zero()),
            Regularizer::L2 { decay } => (T::zero(), of(decay)),
        }
    }
}
