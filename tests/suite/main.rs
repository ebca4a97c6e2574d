//! The tests that run whole nets. One program, because each would compile the engine again.

mod adding_a_layer;
mod allocations;
mod cuda;
mod golden;
mod gradients;
mod nets;
mod solver;
mod training;
