//! The solver as a whole, against Caffe's own runs and against itself.

mod common;
mod errors;
mod events;
mod golden;
mod resume;
mod rules;
mod snapshots;
