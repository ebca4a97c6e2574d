//! Convolutions by cuDNN, where it is installed. It is looked for when a convolution first wants it; whoever can do without takes the error for
//! a no.

mod api;
mod convolution;
mod search;

pub use convolution::{Convolution, ConvolutionSizes, Direction};

use super::{Gpu, libraries};
use crate::error::{Error, Kind, Result};
use api::{Api, Handle};
use cudarc::driver::sys::CUstream;
use std::collections::HashMap;
use std::ffi::c_int;
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;

/// What convolutions use cuDNN for, where it is installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Cudnn {
    /// For nothing.
    Off,
    /// They go over it, by the algorithms that it expects to be the fastest.
    Forecast,
    /// By those that are: each that will do is timed when a convolution of new sizes first runs.
    #[default]
    Search,
}

impl Cudnn {
    /// As one writes it.
    pub fn name(self) -> &'static str {
        match self {
            Cudnn::Off => "off",
            Cudnn::Forecast => "forecast",
            Cudnn::Search => "search",
        }
    }
}

/// The library, opened for a device.
pub(super) struct Dnn {
    api: Api,
    version: usize,
    handle: Handle,
    /// The fastest algorithms that were found, by what was asked.
    found: Mutex<HashMap<String, c_int>>,
}

// SAFETY: the handle may be used from any thread that has made the context current, by one at a time, which is what `Gpu` asks for.
unsafe impl Send for Dnn {}
// SAFETY: as above.
unsafe impl Sync for Dnn {}

/// The library's functions and version, once it is one that Cortado knows.
fn load() -> Result<(Api, usize)> {
    let library = libraries::cudnn()?;
    let api = Api::new(&library)?;
    // It stays, as the other libraries do: what it has loaded itself would not survive.
    std::mem::forget(library);
    // SAFETY: it reads nothing.
    let version = unsafe { (api.version)() };
    // 8.9.7 is 8907, 9.1.0 is 90100.
    let known = (8900..10_000).contains(&version) || (90_000..100_000).contains(&version);
    if known {
        return Ok((api, version));
    }
    Err(Error::new(Kind::Device, "the cuDNN that was found is of another version")
        .expected("8.9 or 9")
        .found(dotted(version))
        .suggest("install another one, or none: convolutions then multiply matrices by cuBLAS"))
}

fn dotted(version: usize) -> String {
    let thousand = if version < 10_000 { 1000 } else { 10_000 };
    format!("{}.{}.{}", version / thousand, version % thousand / 100, version % 100)
}

/// The version of cuDNN that is installed. Errors: there is none, with what was looked for and where; it is too old or too new.
pub fn cudnn_version() -> Result<String> {
    load().map(|(_, version)| dotted(version))
}

impl Dnn {
    fn open(stream: CUstream) -> Result<Dnn> {
        let (api, version) = load()?;
        let mut handle = null_mut();
        // SAFETY: writes the handle, which works on the stream and is closed before it.
        api.check("start", unsafe { (api.open)(&mut handle) })?;
        let dnn = Dnn { api, version, handle, found: Mutex::default() };
        // SAFETY: handle and stream live.
        dnn.api.check("use the stream", unsafe { (dnn.api.set_stream)(handle, stream.cast()) })?;
        Ok(dnn)
    }
}

impl Drop for Dnn {
    fn drop(&mut self) {
        // SAFETY: it was opened once; the device, which owns it, has made its context current.
        let _ = unsafe { (self.api.close)(self.handle) };
    }
}

impl Gpu {
    /// The version of cuDNN that computes convolutions. Errors: there is none, with what was looked for and where; it is not wanted.
    pub fn cudnn(&self) -> Result<String> {
        Ok(dotted(self.dnn()?.version))
    }

    /// What convolutions are to use cuDNN for, where it is installed: [`Cudnn::Search`] if this is never said. What was chosen before stays; so say it
    /// before a net runs.
    pub fn set_cudnn(&self, wanted: Cudnn) {
        self.0.dnn_use.store(wanted as u8, Relaxed);
    }

    /// What they are to use it for.
    pub fn cudnn_use(&self) -> Cudnn {
        match self.0.dnn_use.load(Relaxed) {
            u if u == Cudnn::Off as u8 => Cudnn::Off,
            u if u == Cudnn::Forecast as u8 => Cudnn::Forecast,
            _ => Cudnn::Search,
        }
    }

    fn dnn(&self) -> Result<&Dnn> {
        if self.cudnn_use() == Cudnn::Off {
            return Err(Error::new(Kind::Device, "cuDNN is switched off")
                .suggest("leave --cudnn off away, or choose another engine"));
        }
        if self.0.dnn.get().is_none() {
            self.not_in_capture("load cuDNN")?;
            self.enter()?;
        }
        self.0.dnn.get_or_init(|| Dnn::open(self.0.stream)).as_ref().map_err(Error::clone)
    }
}
