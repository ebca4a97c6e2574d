//! The CUDA backend: on the stand-in of `tests/cuda_emulator`, or on a real GPU with `CORTADO_REQUIRE_GPU=1`.

#[path = "../../cuda_emulator/mod.rs"]
pub mod emulator;
mod faults;
mod layers;
mod nvrtc;
mod table;
mod training;
