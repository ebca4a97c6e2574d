//! A device that computes: its context, its stream, its compiled kernels.

use super::dnn::Dnn;
use super::lt::Lt;
use super::module::Modules;
use super::workspace::Workspace;
use super::{driver_error, libraries};
use crate::error::{Error, Kind, Result};
use cudarc::cublas;
use cudarc::driver::result::{ctx, device, free_sync, primary_ctx, stream};
use cudarc::driver::sys::{CUcontext, CUdevice, CUdevice_attribute as Attribute, CUstream};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

/// A CUDA device, opened. Clones are the same device; it is closed with the last clone and the last memory on it.
///
/// Its work is done in the order in which it is asked for. So let one thread at a time ask, and open the device once more for another run
/// beside.
#[derive(Clone)]
pub struct Gpu(pub(super) Arc<Inner>);

pub(super) struct Inner {
    ordinal: usize,
    name: String,
    /// Compute capability: 90 for 9.0.
    pub capability: i32,
    device: CUdevice,
    context: CUcontext,
    pub stream: CUstream,
    /// On which batches come while `stream` works.
    pub copies: CUstream,
    pub blas: cublas::sys::cublasHandle_t,
    /// Memory that cuBLAS works in, so that it takes none of its own in a capture; 0 where there was too little.
    pub workspace: u64,
    /// Where answers are kept on the disk.
    pub cache: Option<PathBuf>,
    /// cuDNN, or why there is none, once somebody has wanted it; and for what it is wanted, a [`Cudnn`](super::Cudnn).
    pub dnn: OnceLock<Result<Dnn>>,
    pub dnn_use: AtomicU8,
    /// The same of cuBLASLt.
    pub lt: OnceLock<Result<Lt>>,
    pub without_lt: AtomicBool,
    /// Bytes of memory that are taken on it.
    pub held: Arc<AtomicUsize>,
    /// In which layers work, one after the other.
    pub shared: Mutex<Workspace>,
    /// Whether the work of the stream is being captured.
    pub capturing: AtomicBool,
    /// A [`Precision`](super::Precision).
    pub precision: AtomicU8,
    pub modules: Mutex<Modules>,
}

// SAFETY: the driver's handles may be used from any thread that has made the context current, which every method of `Gpu` does
// first; the cuBLAS handle works on the one stream, whose order the driver keeps.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Gpu {
    /// Opens a device by its number, from 0.
    ///
    /// Errors: no driver, NVRTC or cuBLAS, with what was looked for and where; a driver that is too old; no such device.
    ///
    /// Compiled kernels, and which algorithms of cuDNN are the fastest, are kept in the user's cache folder: `$CORTADO_CACHE` (`off` for none), else
    /// `cortado` in `$XDG_CACHE_HOME` or `~/.cache`.
    pub fn open(ordinal: usize) -> Result<Gpu> {
        Gpu::open_caching(ordinal, super::cache::folder())
    }

    /// [`Gpu::open`] with all this kept in a folder, or nowhere.
    pub fn open_caching(ordinal: usize, cache: Option<PathBuf>) -> Result<Gpu> {
        libraries::driver()?;
        let devices = super::count()?;
        if ordinal >= devices {
            return Err(Error::new(Kind::Device, format!("there is no GPU {ordinal}"))
                .expected(match devices {
                    0 => "an NVIDIA GPU; the driver finds none".to_string(),
                    1 => "0, the only GPU".to_string(),
                    n => format!("0 to {}", n - 1),
                })
                .suggest("`cortado device_query` lists them; without -gpu everything runs on the CPU"));
        }
        libraries::nvrtc()?;
        libraries::cublas()?;
        let failed = |e| driver_error(&format!("be opened (device {ordinal})"), e);
        let device = device::get(ordinal as i32).map_err(failed)?;
        // SAFETY: the driver gave the device; the context is released when `Inner` is dropped.
        let context = unsafe { primary_ctx::retain(device) }.map_err(failed)?;
        // SAFETY: the context was retained a line above.
        unsafe { ctx::set_current(context) }.map_err(failed)?;
        // SAFETY: the driver gave the device.
        let part = |attribute| unsafe { device::get_attribute(device, attribute) }.map_err(failed);
        let major = part(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = part(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let stream = stream::create(stream::StreamKind::NonBlocking).map_err(failed)?;
        let copies = stream::create(stream::StreamKind::NonBlocking).map_err(failed)?;
        let (blas, workspace, room) = super::blas::open(stream, major)?;
        let held = Arc::new(AtomicUsize::new(room));
        let capturing = AtomicBool::new(false);
        let capability = 10 * major + minor;
        let modules = Mutex::new(Modules::new(capability, cache.clone())?);
        let name = device::get_name(device).map_err(failed)?;
        Ok(Gpu(Arc::new(Inner {
            ordinal,
            name,
            capability,
            device,
            context,
            stream,
            copies,
            blas,
            workspace,
            held,
            shared: Mutex::default(),
            cache,
            dnn: OnceLock::new(),
            dnn_use: AtomicU8::new(super::Cudnn::default() as u8),
            lt: OnceLock::new(),
            without_lt: AtomicBool::new(false),
            capturing,
            precision: AtomicU8::new(0),
            modules,
        })))
    }

    /// Its number.
    pub fn ordinal(&self) -> usize {
        self.0.ordinal
    }

    /// Its name, as the driver has it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Bytes of its memory that are taken through this opening of it, workspaces included; what the driver and the libraries take for
    /// themselves is not known.
    pub fn bytes(&self) -> usize {
        self.0.held.load(Relaxed)
    }

    /// Makes its context that of the calling thread: before every call of the driver.
    pub(super) fn enter(&self) -> Result<()> {
        // SAFETY: the context lives as long as `Inner`.
        unsafe { ctx::set_current(self.0.context) }.map_err(|e| driver_error("be used by this thread", e))
    }

    /// Waits until all that was asked of it is done.
    pub fn synchronize(&self) -> Result<()> {
        self.not_in_capture("be waited for")?;
        self.enter()?;
        // SAFETY: the stream lives as long as `Inner`.
        unsafe { stream::synchronize(self.0.stream) }.map_err(|e| driver_error("finish its work", e))
    }
}

/// Whether they are the same opened device.
impl PartialEq for Gpu {
    fn eq(&self, other: &Gpu) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GPU {} ({})", self.0.ordinal, self.0.name)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let modules = self.modules.get_mut().unwrap_or_else(|e| e.into_inner());
        // SAFETY: the handles were made when the device was opened, and nobody has them any more. What goes wrong here, as when
        // the driver is shutting down, hurts nobody.
        unsafe {
            if ctx::set_current(self.context).is_ok() {
                modules.unload();
                drop(self.dnn.take());
                drop(self.lt.take());
                self.shared.get_mut().unwrap_or_else(|e| e.into_inner()).release();
                let _ = cublas::result::destroy_handle(self.blas);
                if self.workspace != 0 {
                    let _ = free_sync(self.workspace);
                }
                let _ = stream::destroy(self.copies);
                let _ = stream::destroy(self.stream);
            }
            let _ = primary_ctx::release(self.device);
        }
    }
}
