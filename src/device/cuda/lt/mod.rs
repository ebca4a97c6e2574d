//! Products of matrices with what stands behind them, by cuBLASLt, where it is installed: it comes with cuBLAS. It is looked for when a product first
//! wants it; whoever can do without takes the error for a no.

mod plan;
mod product;

pub use product::FusedProduct;

use super::{Gpu, libraries};
use crate::error::{Error, Kind, Result};
use cudarc::cublaslt::result::{CublasError, create_handle, destroy_handle};
use cudarc::cublaslt::sys;
use std::sync::atomic::Ordering::Relaxed;

/// The oldest that is used, as it says itself: 12.0, as of the driver.
const OLDEST: usize = 120_000;

/// The library, opened for a device.
pub(super) struct Lt {
    version: usize,
    handle: sys::cublasLtHandle_t,
}

// SAFETY: the library allows calls with one handle from any thread.
unsafe impl Send for Lt {}
// SAFETY: as above, and at the same time.
unsafe impl Sync for Lt {}

/// The version of the library, which is found and new enough.
fn load() -> Result<usize> {
    libraries::cublaslt()?;
    // SAFETY: it reads nothing.
    let version = unsafe { sys::cublasLtGetVersion() };
    if version >= OLDEST {
        return Ok(version);
    }
    Err(Error::new(Kind::Device, "the CUDA library cuBLASLt is too old")
        .expected(format!("{} or later", dotted(OLDEST)))
        .found(dotted(version))
        .suggest("install a newer one, or none: inner products then go over cuBLAS"))
}

fn dotted(version: usize) -> String {
    format!("{}.{}.{}", version / 10_000, version % 10_000 / 100, version % 100)
}

/// The version of cuBLASLt that is installed. Errors: there is none, with what was looked for and where; it is too old.
pub fn cublaslt_version() -> Result<String> {
    load().map(dotted)
}

/// What the library answered. `doing` completes "cuBLASLt cannot ...".
fn failed(doing: &str, error: CublasError) -> Error {
    Error::new(Kind::Device, format!("cuBLASLt cannot {doing}")).found(format!("{:?}", error.0))
}

impl Lt {
    fn open() -> Result<Lt> {
        let version = load()?;
        let handle = create_handle().map_err(|e| failed("start", e))?;
        Ok(Lt { version, handle })
    }
}

impl Drop for Lt {
    fn drop(&mut self) {
        // SAFETY: it was opened once; the device, which owns it, has made its context current.
        let _ = unsafe { destroy_handle(self.handle) };
    }
}

impl Gpu {
    /// The version of cuBLASLt that computes inner products. Errors: there is none, with what was looked for and where; it is not wanted.
    pub fn cublaslt(&self) -> Result<String> {
        match self.lt()? {
            Some(Ok(lt)) => Ok(dotted(lt.version)),
            Some(Err(why)) => Err(why.clone()),
            None => {
                Err(Error::new(Kind::Device, "cuBLASLt is switched off").suggest("leave --cublaslt off away"))
            }
        }
    }

    /// Whether inner products are to use cuBLASLt where it is installed (they are, unless told otherwise). What is captured in a graph stays as it
    /// is; so say it before a net runs.
    pub fn set_cublaslt(&self, wanted: bool) {
        self.0.without_lt.store(!wanted, Relaxed);
    }

    /// The library, or why there is none; nothing where it is not wanted.
    fn lt(&self) -> Result<Option<&Result<Lt>>> {
        if self.0.without_lt.load(Relaxed) {
            return Ok(None);
        }
        if self.0.lt.get().is_none() {
            self.not_in_capture("load cuBLASLt")?;
            self.enter()?;
        }
        Ok(Some(self.0.lt.get_or_init(Lt::open)))
    }
}
