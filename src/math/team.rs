//! Threads that stay awake while there is work.
//!
//! A thread of the pool that finds nothing to do goes to sleep within microseconds, and to wake it takes ten times as long as a
//! small loop. While [`awake`] runs, the others ask for work instead, and who waits for the other half of a loop asks
//! too: no system call is made between one layer and the next, nor, where `awake` is around all of them, between one
//! iteration and the next.

use std::cell::Cell;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Times that a thread asks in vain before it lets others have the processor: a few tenths of a millisecond.
const PATIENCE: usize = 6000;
/// Times that it does so before it goes to sleep.
const ROUNDS: usize = 64;
/// Times that a thread lets pass when another one has done its part, and has still to tell the pool so.
const MOMENT: usize = 12;

#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// It is the pool's.
    None,
    /// Others stay awake for it.
    Leads,
    /// It works for another one: then it must not begin to wait for more.
    Serves,
}

thread_local! {
    static ROLE: Cell<Role> = const { Cell::new(Role::None) };
    /// Those that stay awake for this thread.
    static OTHERS: Arc<Others> = Arc::default();
}

/// Runs `f` in a role, after which the thread is what it was, whatever happens.
fn play<R>(role: Role, f: impl FnOnce() -> R) -> R {
    struct Back(Role);
    impl Drop for Back {
        fn drop(&mut self) {
            ROLE.set(self.0);
        }
    }
    let _back = Back(ROLE.replace(role));
    f()
}

/// Asks for work until `done`, or until there was none for a while; then `rounds` times more, letting other programs go first.
fn help(done: impl Fn() -> bool, waits: impl Fn(usize) -> bool, rounds: usize) {
    let mut vain = 0;
    while !done() && vain < PATIENCE + rounds {
        if !waits(vain) && rayon::yield_now() == Some(rayon::Yield::Executed) {
            vain = 0;
            continue;
        }
        vain += 1;
        match vain > PATIENCE {
            true => std::thread::yield_now(),
            false => spin_loop(),
        }
    }
}

/// Lets another thread come from its work to the pool, which would wait for it by calls of the system.
fn let_pass() {
    (0..MOMENT).for_each(|_| spin_loop());
}

/// Runs `work` once, while the other threads of the current pool stay awake: who had nothing to do for a while sleeps until
/// there is something.
pub fn awake<R: Send>(mut work: impl FnMut() -> R + Send) -> R {
    let others = rayon::current_num_threads() - 1;
    if others == 0 || rayon::current_thread_index().is_none() || ROLE.get() == Role::Serves {
        return work();
    }
    let shared = OTHERS.with(Arc::clone);
    let here = shared.here.load(Ordering::Acquire);
    if here >= others {
        return work();
    }
    let team = Team { others, shared, done: AtomicBool::new(false) };
    struct End<'a>(&'a Team);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.done.store(true, Ordering::SeqCst);
            self.0.shared.wake();
        }
    }
    team.gather(others - here, &mut || {
        let end = End(&team);
        let result = play(Role::Leads, &mut work);
        drop(end);
        help(|| team.shared.here.load(Ordering::Acquire) <= here, |_| true, 0);
        let_pass();
        result
    })
}

/// Those that work for a thread.
#[derive(Default)]
struct Others {
    here: AtomicUsize,
    /// Whether some sleep. Set under the lock; who only asks needs none.
    asleep: AtomicBool,
    lock: Mutex<()>,
    called: Condvar,
}

impl Others {
    /// Sleeps until somebody wakes, unless there is no reason to.
    fn sleep(&self, unless: impl Fn() -> bool) {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.store(true, Ordering::SeqCst);
        while self.asleep.load(Ordering::SeqCst) && !unless() {
            lock = self.called.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes all that sleep.
    fn wake(&self) {
        if self.asleep.load(Ordering::SeqCst) {
            let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.asleep.store(false, Ordering::SeqCst);
            self.called.notify_all();
        }
    }
}

/// The others, while one works.
struct Team {
    others: usize,
    shared: Arc<Others>,
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

    /// Does what there is to do until the work is done. Not inside other work, which would wait as long.
    fn serve(&self) {
        struct Place<'a>(&'a AtomicUsize);
        impl Drop for Place<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::AcqRel);
            }
        }
        let done = || self.done.load(Ordering::SeqCst);
        if ROLE.get() != Role::None || done() {
            return;
        }
        let here = &self.shared.here;
        here.fetch_add(1, Ordering::AcqRel);
        let _place = Place(here);
        // Who has a place leaves the other places to the others.
        let waits = |vain| here.load(Ordering::Acquire) < self.others && vain < PATIENCE / 30;
        play(Role::Serves, || {
            help(done, waits, ROUNDS);
            while !done() {
                self.shared.sleep(done);
                help(done, waits, ROUNDS);
            }
        });
    }
}

/// [`rayon::join`] whose first half, when it is through, waits awake for the second.
pub(crate) fn join<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    const BEGUN: u8 = 1;
    const DONE: u8 = 2;
    let state = AtomicU8::new(0);
    if ROLE.get() == Role::Leads {
        OTHERS.with(|others| others.wake());
    }
    rayon::join(
        || {
            let a = a();
            // Where nobody has begun it, this thread will.
            if state.load(Ordering::Acquire) != 0 {
                help(|| state.load(Ordering::Acquire) != BEGUN, |_| false, 0);
                let_pass();
            }
            a
        },
        || {
            state.store(BEGUN, Ordering::Release);
            let b = play(Role::Serves, b);
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
            assert!(pool.broadcast(|_| ROLE.get() == Role::None).into_iter().all(|idle| idle));
        }
    }
}
