//! Where the threads of solvers that train together wait for each other.

use crate::error::{Error, Result};
use std::sync::{Condvar, Mutex, MutexGuard};

/// A place where so many threads meet, again and again. Where one has failed none of the others waits for it.
pub(super) struct Meeting {
    count: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How many are here.
    arrived: usize,
    /// Meetings so far.
    round: u64,
    /// What the first one said, and why somebody does not agree.
    said: u8,
    differs: Option<String>,
    /// What the last meeting came to.
    result: Option<String>,
    failed: Option<Error>,
}

impl Meeting {
    pub fn new(count: usize) -> Meeting {
        Meeting { count, state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Waits until all are here. Nothing if they say the same and have no reason against it; else such a reason.
    ///
    /// Errors: what the first one failed with that did.
    pub fn meet(&self, said: u8, why: Option<&str>) -> Result<Option<String>> {
        let mut state = self.lock();
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        if state.arrived == 0 {
            (state.said, state.differs) = (said, None);
        }
        let other = (said != state.said).then_some("the GPUs do not stand at the same point");
        if why.is_some() || state.differs.is_none() {
            state.differs = why.or(other).map(String::from).or(state.differs.take());
        }
        state.arrived += 1;
        if state.arrived == self.count {
            (state.arrived, state.round, state.result) = (0, state.round + 1, state.differs.take());
            self.changed.notify_all();
            return Ok(state.result.clone());
        }
        let round = state.round;
        while state.round == round {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
        Ok(state.result.clone())
    }

    /// Says that one of them has failed. The first error stays.
    pub fn fail(&self, error: Error) {
        self.lock().failed.get_or_insert(error);
        self.changed.notify_all();
    }

    /// What the first one failed with that did.
    pub fn failure(&self) -> Option<Error> {
        self.lock().failed.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use std::thread;

    #[test]
    fn all_hear_the_same() {
        let meeting = Meeting::new(3);
        let heard: Vec<Vec<Option<String>>> = thread::scope(|scope| {
            let one = |rank: u8| {
                let meeting = &meeting;
                scope.spawn(move || {
                    let why = (rank == 1).then_some("rank 1 cannot");
                    let rounds = [meeting.meet(7, None), meeting.meet(rank, None), meeting.meet(0, why)];
                    rounds.map(|r| r.unwrap()).to_vec()
                })
            };
            let threads: Vec<_> = (0..3).map(one).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        for said in &heard {
            assert_eq!(said[0], None);
            assert!(said[1].as_ref().is_some_and(|why| why.contains("same point")), "{said:?}");
            assert_eq!(said[2].as_deref(), Some("rank 1 cannot"));
        }
    }

    #[test]
    fn nobody_waits_for_one_that_failed() {
        let meeting = Meeting::new(2);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| meeting.meet(0, None));
            meeting.fail(Error::new(Kind::Data, "the first"));
            meeting.fail(Error::new(Kind::Data, "the second"));
            assert_eq!(waiting.join().unwrap().unwrap_err().message(), "the first");
        });
        assert_eq!(meeting.meet(0, None).unwrap_err().message(), "the first");
        assert_eq!(meeting.failure().unwrap().message(), "the first");
    }
}
