//! Floor 8: the command line, one file for each subcommand. The only place that prints or exits.
//!
//! [`flags`] is the table of subcommands and their flags: parser, help and shell completions come from it.

mod convolutions;
mod device_query;
pub mod flags;
mod gradcheck;
mod layers;
mod log;
mod matches;
mod number;
mod parse;
mod run;
mod signals;
mod summary;
mod test;
mod time;
mod train;
mod upgrade;

use crate::error::Result;
use matches::Matches;
use std::io::Write;
use std::process::ExitCode;

/// Runs the command line of this process. Errors go to standard error, and the exit code is then 1.
pub fn main() -> ExitCode {
    match parse::parse(std::env::args_os()) {
        Ok(parse::Parsed::Say(text)) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Ok(parse::Parsed::Run(command, matches)) => match (command.run)(&matches) {
            Ok(code) => code,
            Err(error) => {
                complain(&format!("error: {error}"));
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            complain(error.trim_end());
            ExitCode::FAILURE
        }
    }
}

/// What a subcommand does. Its exit code is 1 where it ran, but what it checked is wrong.
type Run = fn(&Matches) -> Result<ExitCode>;

/// Prints to standard output. A reader that has gone away (`| head`) is no mistake.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints to standard error.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
