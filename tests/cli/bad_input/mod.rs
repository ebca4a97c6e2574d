//! Bad input of every kind gives one clear error and exit code 1, never a panic.

mod data;
mod nets;
mod usage;
mod weights;
