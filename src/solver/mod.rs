//! Floor 6: solvers. The training loop, learning-rate policies, update rules, weight decay, snapshots.
//!
//! | module | holds |
//! |---|---|
//! | [`solver`] | the [`Solver`]: from a `SolverParameter` to nets, weights and state |
//! | [`train`] | the training loop |
//! | `group` | solvers on several devices that train together |
//! | `apply` | from gradients to new parameters: clearing, clipping, updating |
//! | [`evaluate`] | runs of the test nets, values of outputs |
//! | [`snapshot`] | writing and restoring the state of a run |
//! | [`nets`] | which nets a solver trains and tests |
//! | [`model`] | the nets with their weights and the history of the update rule |
//! | [`settings`] | the numbers of a solver, checked |
//! | [`policy`], [`update`], [`regularize`] | learning rate, update rule, weight decay |
//! | [`event`] | what a solver tells and what it is asked while it runs |
//!
//! A solver never prints: an [`Observer`] is told what happens, in the order of Caffe's log.

mod apply;
pub mod evaluate;
pub mod event;
mod group;
pub mod model;
pub mod nets;
pub mod policy;
pub mod regularize;
pub mod settings;
pub mod snapshot;
#[allow(clippy::module_inception)]
pub mod solver;
pub mod train;
pub mod update;

pub use event::{Action, Event, Observer, Output, Silent};
pub use policy::Policy;
pub use regularize::Regularizer;
pub use solver::Solver;
pub use update::UpdateRule;
