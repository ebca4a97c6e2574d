//! The log on standard error, with the line heads of Caffe's glog, and a progress bar below it on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where Caffe's logs come from: parsers look at the words behind, people at nothing.
#[derive(Clone, Copy)]
pub(super) enum From {
    Caffe,
    Solver,
    SgdSolver,
    Common,
}

/// The log of a subcommand.
pub(super) struct Log {
    process: u32,
    bar: Option<ProgressBar>,
}

impl Log {
    /// A log without a progress bar.
    pub fn new() -> Log {
        Log { process: std::process::id(), bar: None }
    }

    /// Shows a progress bar below the log, if standard error is a terminal.
    pub fn start_bar(&mut self, total: usize, done: usize) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let target = ProgressDrawTarget::stderr_with_hz(5);
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        let template = "{bar:30} {pos}/{len}  {msg}  {per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_position(done as u64);
        bar.reset_eta();
        self.bar = Some(bar);
    }

    /// Moves the progress bar.
    pub fn advance(&self, done: usize, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
            // Forming the text costs more than a small net's iteration.
            if done.is_multiple_of(10) || done as u64 == bar.length().unwrap_or(0) {
                bar.set_message(message());
            }
        }
    }

    /// Takes the progress bar away.
    pub fn end_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// A line as Caffe logs it.
    pub fn info(&self, from: From, text: &str) {
        self.line(&format!("{}{text}", self.head('I', from)));
    }

    /// Something that looks wrong but works.
    pub fn warn(&self, from: From, text: &str) {
        self.line(&format!("{}{text}", self.head('W', from)));
    }

    fn head(&self, level: char, from: From) -> String {
        head(level, SystemTime::now(), self.process, from)
    }

    /// A line without a head.
    pub fn line(&self, text: &str) {
        let print = || {
            // In one piece, by one call of the system. A log that nobody reads any more is no reason to stop.
            let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
        };
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

/// The head of a line, as glog writes it: `I1122 16:40:00.123456 12345 solver.cpp:239] `. The time is UTC.
fn head(level: char, now: SystemTime, process: u32, from: From) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (seconds, micros) = (since.as_secs(), since.subsec_micros());
    let (month, day) = month_and_day(seconds / 86_400);
    let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let place = match from {
        From::Caffe => "caffe.cpp:201",
        From::Solver => "solver.cpp:239",
        From::SgdSolver => "sgd_solver.cpp:112",
        From::Common => "common.cpp:177",
    };
    format!("{level}{month:02}{day:02} {h:02}:{m:02}:{s:02}.{micros:06} {process:>5} {place}] ")
}

/// Month and day of a day since 1970-01-01, in the Gregorian calendar (years from March, so that the leap day is the last).
fn month_and_day(days: u64) -> (u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let day_of_era = days % 146_097;
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    (if from_march < 10 { from_march + 3 } else { from_march - 9 }, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_those_of_glog() {
        let time = |seconds| UNIX_EPOCH + Duration::new(seconds, 123_456_000);
        let text = head('I', time(1_795_365_600), 12, From::Solver);
        assert!(text.starts_with("I1122 16:40:00.123456 "), "{text}");
        assert!(text.ends_with(" solver.cpp:239] "), "{text}");
        assert!(head('I', time(951_782_400), 12, From::Caffe).starts_with("I0229 00:00:00"));
        assert!(head('I', time(0), 12, From::Caffe).starts_with("I0101 00:00:00"));
        assert!(head('I', time(1_735_689_599), 12, From::Caffe).starts_with("I1231 23:59:59"));
    }
}
