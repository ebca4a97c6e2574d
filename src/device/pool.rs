//! The threads that compute.

use crate::error::{Error, Kind, Result};

/// A pool of threads. Whatever runs inside [`Pool::install`] spreads its loops over them.
///
/// Results do not depend on the number of threads: loops and sums are cut by size alone.
pub struct Pool(rayon::ThreadPool);

/// More threads than this are a slip of the finger, and would choke the machine before they fail.
const MOST: usize = 1024;

impl Pool {
    /// A pool of `threads` threads; 0 means one for each core.
    pub fn new(threads: usize) -> Result<Pool> {
        if threads > MOST {
            return Err(Error::new(Kind::Usage, format!("{threads} threads"))
                .expected(format!("at most {MOST}, or 0 for one on each core")));
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("cortado-{i}"))
            .build()
            .map(Pool)
            .map_err(|e| Error::new(Kind::Device, format!("cannot start {threads} threads: {e}")))
    }

    /// A pool of as many threads as the caller's: that which it runs in, or one for each core.
    pub fn alike() -> Result<Pool> {
        Pool::new(rayon::current_num_threads().min(MOST))
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.0.current_num_threads()
    }

    /// Runs `work` on the pool and waits for it.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.0.install(work)
    }
}
