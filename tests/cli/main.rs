//! The command line as users type it: what it prints, where, and its exit code; what is left after a crash.
//!
//! Only the binary is run, in temporary folders, so that this program builds fast.

mod bad_input;
mod commands;
#[cfg(unix)]
mod crash;
#[path = "../cuda_emulator/mod.rs"]
mod emulator;
mod flags;
mod gpu;
#[cfg(unix)]
mod resume;
#[cfg(unix)]
mod running;
mod support;
