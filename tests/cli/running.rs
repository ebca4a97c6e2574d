//! A training run that goes on while a test looks at its log and sends it signals.

use crate::support::{Done, Folder};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// A run in the background. It is killed when a test fails.
pub struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    seen: String,
}

impl Running {
    pub fn start(folder: &Folder, words: &str) -> Running {
        let mut command = folder.command(words);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Running { child, log, seen: String::new() }
    }

    /// Reads the log up to a line that has a text, and returns that line.
    pub fn wait_for(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let mut line = String::new();
            let length = self.log.read_line(&mut line).unwrap();
            self.seen += &line;
            assert!(length > 0, "the run ended before {text:?}:\n{}", self.seen);
            assert!(start.elapsed() < Duration::from_secs(60), "no {text:?} in\n{}", self.seen);
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends a signal, as `INT`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Reads the log to its end and waits.
    pub fn end(mut self) -> Done {
        let mut stderr = std::mem::take(&mut self.seen);
        self.log.read_to_string(&mut stderr).unwrap();
        Done { code: self.child.wait().unwrap().code(), stdout: String::new(), stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After an orderly end there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
