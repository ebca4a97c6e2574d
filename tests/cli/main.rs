//! The command line as users type it: what it prints, where, and its exit code; what is left after a crash.
//!
//! Only the binary is run, in temporary folders, so that this program builds fast.

mod bad_input;
mod commands;
#[cfg(unix)]
mod crash;
mod flags;
#[cfg(unix)]
mod resume;
#[cfg(unix)]
mod running;
mod support;
