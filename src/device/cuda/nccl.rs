//! Devices that train together: NCCL, by which they average what each of them has computed.

use super::{Event, Gpu, View, driver_error, libraries};
use crate::blob::Element;
use crate::error::{Error, Kind, Result};
use cudarc::driver::result::stream;
use cudarc::driver::sys::{CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT, CUstream};
use libloading::Library;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Arc;

/// A rank's handle, as NCCL has it.
type Comm = *mut c_void;
type Of = unsafe extern "C" fn(Comm) -> c_int;
type Group = unsafe extern "C" fn() -> c_int;
type Collective =
    unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Comm, CUstream) -> c_int;

/// The oldest NCCL that averages, as it says itself: 2.10.
const OLDEST: c_int = 21000;
/// `ncclFloat32` and `ncclFloat64`.
const TYPES: [c_int; 2] = [7, 8];
/// `ncclAvg`.
const AVERAGE: c_int = 4;

/// The functions of NCCL. It is loaded here and not by cudarc, which looks for a name that its packages do not install.
struct Nccl {
    init_all: unsafe extern "C" fn(*mut Comm, c_int, *const c_int) -> c_int,
    destroy: Of,
    abort: Of,
    async_error: unsafe extern "C" fn(Comm, *mut c_int) -> c_int,
    all_reduce: Collective,
    broadcast: Collective,
    group_start: Group,
    group_end: Group,
    error_string: unsafe extern "C" fn(c_int) -> *const c_char,
    /// Behind what came from it.
    _library: Library,
}

impl Nccl {
    /// Errors: it is not found, or too old; what was looked for and where.
    fn load() -> Result<Nccl> {
        let library = libraries::nccl()?;
        fn get<F: Copy>(library: &Library, name: &str) -> Result<F> {
            // SAFETY: the signatures are those of nccl.h, the same since version 2.10.
            let found = unsafe { library.get::<F>(name.as_bytes()) };
            found.map(|f| *f).map_err(|_| old(format!("it has no {name}")))
        }
        type Version = unsafe extern "C" fn(*mut c_int) -> c_int;
        let (mut version, ask) = (0, get::<Version>(&library, "ncclGetVersion")?);
        // SAFETY: writes one integer.
        unsafe { ask(&mut version) };
        if version < OLDEST {
            return Err(old(format!("version {version}")));
        }
        Ok(Nccl {
            init_all: get(&library, "ncclCommInitAll")?,
            destroy: get(&library, "ncclCommDestroy")?,
            abort: get(&library, "ncclCommAbort")?,
            async_error: get(&library, "ncclCommGetAsyncError")?,
            all_reduce: get(&library, "ncclAllReduce")?,
            broadcast: get(&library, "ncclBroadcast")?,
            group_start: get(&library, "ncclGroupStart")?,
            group_end: get(&library, "ncclGroupEnd")?,
            error_string: get(&library, "ncclGetErrorString")?,
            _library: library,
        })
    }

    /// `doing` completes "NCCL cannot ...".
    fn check(&self, code: c_int, doing: &str) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: NCCL has a text that stays for each number, or null.
        let text = unsafe {
            let text = (self.error_string)(code);
            if text.is_null() { c"unknown".to_owned() } else { CStr::from_ptr(text).to_owned() }
        };
        Err(Error::new(Kind::Device, format!("NCCL cannot {doing}"))
            .found(format!("{} ({code})", text.to_string_lossy()))
            .suggest("NCCL_DEBUG=WARN in the environment makes it say more"))
    }
}

fn old(found: String) -> Error {
    Error::new(Kind::Device, "the CUDA library NCCL is too old")
        .expected("2.10 or later")
        .found(found)
        .suggest("update it, or train on one GPU")
}

/// A device's place among several that work together, each asked by a thread of its own.
///
/// All of them must ask for the same things in the same order. They meet on streams of their own, beside the work of the device; who asks
/// for a thing that another never asks for would wait forever, but for [`Member::abort`].
pub struct Member {
    gpu: Gpu,
    nccl: Arc<Nccl>,
    /// Null where it was aborted.
    comm: Comm,
    stream: CUstream,
    /// When the device has made what is averaged next, and when all that was is there.
    made: Event,
    there: Event,
}

// SAFETY: NCCL's handle may be used by any thread, by one at a time, which `&mut self` holds; so may the driver's once the context is current.
unsafe impl Send for Member {}

impl Member {
    /// Makes devices work together; a member for each, in their order.
    ///
    /// Errors: NCCL is not found or too old; a device named twice; what NCCL says.
    pub fn join(gpus: &[Gpu]) -> Result<Vec<Member>> {
        let nccl = Arc::new(Nccl::load()?);
        let ordinals: Vec<c_int> = gpus.iter().map(|gpu| gpu.ordinal() as c_int).collect();
        let mut comms: Vec<Comm> = vec![std::ptr::null_mut(); gpus.len()];
        // SAFETY: as many handles are written as there are numbers.
        let made = unsafe { (nccl.init_all)(comms.as_mut_ptr(), ordinals.len() as c_int, ordinals.as_ptr()) };
        nccl.check(made, "make the GPUs work together")?;
        let member = |(gpu, comm): (&Gpu, Comm)| {
            let (made, there) = (Event::new(gpu)?, Event::new(gpu)?);
            let stream = stream::create(stream::StreamKind::NonBlocking)
                .map_err(|e| driver_error("make a stream", e))?;
            Ok(Member { gpu: gpu.clone(), nccl: nccl.clone(), comm, stream, made, there })
        };
        gpus.iter().zip(comms).map(member).collect()
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Has values replaced by their mean over all members, as soon as the device has done what it was asked for before, and beside what it is
    /// asked for from now on. They are for nobody else until [`Member::collect`].
    pub fn average<T: Element>(&mut self, values: impl Iterator<Item = View<T>>) -> Result<()> {
        self.in_group("average gradients", values, |member, view| {
            let at = view.at as *mut c_void;
            let (kind, nccl) = (TYPES[usize::from(size_of::<T>() == 8)], &member.nccl);
            // SAFETY: the values lie in the view, of this device; handle and stream live.
            unsafe { (nccl.all_reduce)(at, at, view.len, kind, AVERAGE, member.comm, member.stream) }
        })
    }

    /// Has values replaced by those of the first member, in the same way.
    pub fn broadcast<T: Element>(&mut self, values: impl Iterator<Item = View<T>>) -> Result<()> {
        self.in_group("share weights", values, |member, view| {
            let at = view.at as *mut c_void;
            let (kind, nccl) = (TYPES[usize::from(size_of::<T>() == 8)], &member.nccl);
            // SAFETY: as above.
            unsafe { (nccl.broadcast)(at, at, view.len, kind, 0, member.comm, member.stream) }
        })
    }

    fn in_group<T: Element>(
        &mut self,
        doing: &str,
        values: impl Iterator<Item = View<T>>,
        ask: impl Fn(&Member, View<T>) -> c_int,
    ) -> Result<()> {
        if self.comm.is_null() {
            return Err(Error::new(Kind::Device, "the GPUs do not work together any more"));
        }
        self.gpu.enter()?;
        self.made.record()?;
        self.wait_on(self.stream, &self.made)?;
        // SAFETY: has no parameters.
        self.nccl.check(unsafe { (self.nccl.group_start)() }, doing)?;
        let asked = values.map(|view| ask(self, view)).find(|code| *code != 0);
        // SAFETY: has no parameters.
        let ended = unsafe { (self.nccl.group_end)() };
        self.nccl.check(asked.unwrap_or(ended), doing)
    }

    /// Has the device wait for all that was averaged and shared, before all that it is asked for from now on.
    pub fn collect(&mut self) -> Result<()> {
        self.gpu.enter()?;
        self.there.record_on(self.stream)?;
        self.wait_on(self.gpu.0.stream, &self.there)
    }

    fn wait_on(&self, waits: CUstream, event: &Event) -> Result<()> {
        // SAFETY: stream and event live.
        unsafe { stream::wait_event(waits, event.at, CU_EVENT_WAIT_DEFAULT) }
            .map_err(|e| driver_error("wait for an event", e))
    }

    /// An error that NCCL has found in the meantime.
    pub fn check(&self) -> Result<()> {
        let mut code = 0;
        if !self.comm.is_null() {
            // SAFETY: writes one integer.
            unsafe { (self.nccl.async_error)(self.comm, &mut code) };
        }
        self.nccl.check(code, "go on")
    }

    /// Ends the work together: what this device waits for will not come, and it waits no longer. The others have to do the same.
    pub fn abort(&mut self) {
        let comm = std::mem::replace(&mut self.comm, std::ptr::null_mut());
        if !comm.is_null() && self.gpu.enter().is_ok() {
            // SAFETY: the handle lives, and nobody has it any more.
            let _ = unsafe { (self.nccl.abort)(comm) };
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.gpu.enter().is_err() {
            return;
        }
        // SAFETY: the handles were made in `join`, and nobody has them any more.
        unsafe {
            if !self.comm.is_null() {
                let _ = (self.nccl.destroy)(self.comm);
            }
            let _ = stream::destroy(self.stream);
        }
    }
}
