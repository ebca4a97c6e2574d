//! Threads that stay awake while there is work.
//!
//! A thread of the pool that finds nothing to do goes to sleep within microseconds, and to wake it takes ten times as long as a
//! small loop. While [`awake`] runs, the others ask for work instead, and who waits for the other half of a loop asks
//! too: no system call is made between one layer and the next.

use std::cell::Cell;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

/// Times that a thread asks in vain before it may sleep: about a third of a millisecond.
const PATIENCE: usize = 2000;

thread_local! {
    /// Whether this thread is inside such work: then it must not begin to wait for more.
    static AT_WORK: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` as work, after which the thread is what it was, whatever happens.
fn at_work<R>(f: impl FnOnce() -> R) -> R {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            AT_WORK.set(self.0);
        }
    }
    let _back = Back(AT_WORK.replace(true));
    f()
}

/// Runs `work` once, while the other threads of the current pool stay awake.
pub fn awake<R: Send>(mut work: impl FnMut() -> R + Send) -> R {
    let others = rayon::current_num_threads() - 1;
    if others == 0 || rayon::current_thread_index().is_none() || AT_WORK.get() {
        return work();
    }
    struct End<'a>(&'a Team);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.done.store(true, Ordering::Release);
        }
    }
    let team = Team { others, here: AtomicUsize::new(0), done: AtomicBool::new(false) };
    team.gather(others, &mut || {
        let _end = End(&team);
        at_work(&mut work)
    })
}

/// The others, while one works.
struct Team {
    others: usize,
    here: AtomicUsize,
    done: AtomicBool,
}

impl Team {
    /// Offers places to `more` threads, and works.
    fn gather<R: Send>(&self, more: usize, work: &mut (dyn FnMut() -> R + Send)) -> R {
        if more == 0 {
            return work();
        }
        rayon::join(|| self.gather(more - 1, work), || self.serve()).0
    }

    /// Does what there is to do until the work is done, or there was nothing for a while. Not inside other work, which
    /// would wait as long.
    fn serve(&self) {
        if AT_WORK.get() {
            return;
        }
        at_work(|| {
            // Who has a place leaves the other places to the others.
            self.here.fetch_add(1, Ordering::AcqRel);
            let mut vain = 0;
            while !self.done.load(Ordering::Acquire) && vain < PATIENCE {
                let waits = self.here.load(Ordering::Acquire) < self.others && vain < PATIENCE / 10;
                if !waits && rayon::yield_now() == Some(rayon::Yield::Executed) {
                    vain = 0;
                } else {
                    vain += 1;
                    spin_loop();
                }
            }
        });
    }
}

/// [`rayon::join`] whose first half, when it is through, waits awake for the second.
pub(crate) fn join<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    const BEGUN: u8 = 1;
    const DONE: u8 = 2;
    let state = AtomicU8::new(0);
    rayon::join(
        || {
            let a = a();
            let mut vain = 0;
            // Where nobody has begun it, this thread will.
            while state.load(Ordering::Acquire) == BEGUN && vain < PATIENCE {
                if rayon::yield_now() == Some(rayon::Yield::Executed) {
                    vain = 0;
                } else {
                    vain += 1;
                    spin_loop();
                }
            }
            a
        },
        || {
            state.store(BEGUN, Ordering::Release);
            let b = at_work(b);
            state.store(DONE, Ordering::Release);
            b
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::parallel;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn loops_inside_and_outside_give_the_same() {
        for threads in [1, 2, 3, 8] {
            pool(threads).install(|| {
                for _ in 0..200 {
                    let sum = |n| parallel::sum(n, 3, |r| r.sum::<usize>() as f64);
                    let inner = awake(|| awake(|| parallel::sum(40, 1, |r| sum(100 + r.start))));
                    assert_eq!(inner, parallel::sum(40, 1, |r| sum(100 + r.start)));
                }
            });
        }
    }

    #[test]
    fn work_that_takes_longer_than_patience_ends_too() {
        pool(3).install(|| {
            let long = |i: usize| std::thread::sleep(std::time::Duration::from_millis(20 * (i as u64 % 2)));
            awake(|| parallel::for_each_index(4, 1, long));
            awake(|| long(1));
            awake(|| parallel::for_each_index(4, 1, long));
        });
    }

    #[test]
    fn a_panic_passes_and_leaves_the_threads_as_they_were() {
        let pool = pool(2);
        for _ in 0..3 {
            let caught = pool.install(|| {
                std::panic::catch_unwind(|| awake(|| parallel::for_each_index(9, 1, |i| assert!(i != 7))))
            });
            assert!(caught.is_err());
            assert!(pool.broadcast(|_| !AT_WORK.get()).into_iter().all(|idle| idle));
        }
    }
}
