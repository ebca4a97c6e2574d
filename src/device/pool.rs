//! The threads that compute.

use crate::error::{Error, Kind, Result};

/// More threads than any machine has cores; far more would exhaust the memory instead of failing to start.
const MOST: usize = 4096;

/// A pool of threads. Whatever runs inside [`Pool::install`] spreads its loops over them.
///
/// Results do not depend on the number of threads: loops and sums are cut by size alone.
pub struct Pool(rayon::ThreadPool);

impl Pool {
    /// A pool of `threads` threads; 0 means one for each core. Errors: more than 4096, or the system gives none.
    pub fn new(threads: usize) -> Result<Pool> {
        if threads > MOST {
            let error = Error::new(Kind::Value, "so many threads make no sense").found(threads);
            return Err(error.expected(format!("{MOST} at most, or 0 for one for each core")));
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("cortado-{i}"))
            .build()
            .map(Pool)
            .map_err(|e| Error::new(Kind::Device, format!("cannot start {threads} threads: {e}")))
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
