//! What Ctrl-C and SIGHUP ask of a training run.

use super::Matches;
use crate::error::{Error, Kind, Result};
use crate::solver::Action;
use signal_hook::consts::SIGINT;
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The requests of signals.
pub(super) struct Signals {
    wanted: Vec<(Arc<AtomicBool>, Action)>,
}

/// Exit code of a process that SIGINT ends.
const INTERRUPTED: i32 = 130;

impl Signals {
    /// Listens as `--sigint_effect` and `--sighup_effect` say. After a request to stop, a second signal of the kind ends the
    /// process at once.
    pub fn new(matches: &Matches) -> Result<Signals> {
        let effects = [
            ("stop", Action::Stop { snapshot: true }),
            ("snapshot", Action::Snapshot),
            ("none", Action::Continue),
        ];
        let mut signals = Signals { wanted: Vec::new() };
        let interrupt = matches.choice("sigint_effect", &effects, Action::Stop { snapshot: true })?;
        signals.listen(SIGINT, interrupt)?;
        let hang_up = matches.choice("sighup_effect", &effects, Action::Snapshot)?;
        #[cfg(unix)]
        signals.listen(signal_hook::consts::SIGHUP, hang_up)?;
        #[cfg(not(unix))]
        let _ = hang_up;
        Ok(signals)
    }

    fn listen(&mut self, signal: i32, action: Action) -> Result<()> {
        let failed =
            |e: std::io::Error| Error::new(Kind::Io, format!("cannot listen to signal {signal}: {e}"));
        let came = Arc::new(AtomicBool::new(false));
        if matches!(action, Action::Stop { .. }) {
            // The order matters: the first signal sets what the second one looks at.
            let armed = Arc::new(AtomicBool::new(false));
            flag::register_conditional_shutdown(signal, INTERRUPTED, armed.clone()).map_err(failed)?;
            flag::register(signal, armed).map_err(failed)?;
        }
        // With `none` the signal is caught and nothing comes of it, as in Caffe.
        flag::register(signal, came.clone()).map_err(failed)?;
        self.wanted.push((came, action));
        Ok(())
    }

    /// What was asked since the last call; a stop before a snapshot.
    pub fn action(&self) -> Action {
        let mut asked = Action::Continue;
        for (came, action) in &self.wanted {
            if came.swap(false, Ordering::Relaxed) && !matches!(asked, Action::Stop { .. }) {
                asked = if *action == Action::Continue { asked } else { *action };
            }
        }
        asked
    }
}
