//! Kernels: from text to code on the device.

use super::cache::{self, Room};
use super::{Gpu, driver_error};
use crate::blob::Element;
use crate::error::{Error, Kind, Result};
use cudarc::driver::DriverError;
use cudarc::driver::result::module;
use cudarc::driver::sys::{CUfunction, CUmodule, CUresult};
use cudarc::nvrtc::{result as nvrtc, sys};
use std::collections::HashMap;
use std::ffi::CString;
use std::path::PathBuf;

/// The kernels of a layer: CUDA C++, a `.cu` beside the layer. They compute in `Real`, which is `float` or `double`, and may
/// use what `prelude.cu` offers.
#[derive(Debug)]
pub struct Source {
    /// Name of the file, for messages; each has its own.
    pub name: &'static str,
    /// The text, in parts that are put together.
    pub parts: &'static [&'static str],
}

/// What every source begins with.
const PRELUDE: &str = include_str!("prelude.cu");

impl Source {
    /// The text that NVRTC compiles for a number type.
    pub fn program<T: Element>(&self) -> String {
        let real = if size_of::<T>() == 4 { "float" } else { "double" };
        let mut text = format!("typedef {real} Real;\n#line 1 \"prelude.cu\"\n{PRELUDE}");
        for part in self.parts {
            text += &format!("\n#line 1 \"{}\"\n{part}", self.name);
        }
        text
    }
}

/// The compiled kernels of a device.
pub(super) struct Modules {
    /// What they are compiled for: 90 is `compute_90`.
    arch: i32,
    /// What they are compiled by and how, and where they are kept.
    compiler: String,
    cache: Option<PathBuf>,
    modules: HashMap<(&'static str, &'static str), Module>,
}

struct Module {
    handle: CUmodule,
    functions: HashMap<&'static str, CUfunction>,
}

impl Modules {
    /// For a device of this compute capability (90 for 9.0). One that is newer than NVRTC gets code for the newest that NVRTC knows,
    /// which it runs too.
    pub fn new(capability: i32, cache: Option<PathBuf>) -> Result<Modules> {
        let (mut count, mut archs) = (0, Vec::new());
        // SAFETY: the first call says how many numbers the second writes.
        let asked = unsafe {
            sys::nvrtcGetNumSupportedArchs(&mut count).result().and_then(|()| {
                archs.resize(usize::try_from(count).unwrap_or(0), 0);
                sys::nvrtcGetSupportedArchs(archs.as_mut_ptr()).result()
            })
        };
        asked.map_err(|e| Error::new(Kind::Device, format!("NVRTC cannot say what it compiles for: {e}")))?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: writes two integers.
        let asked = unsafe { sys::nvrtcVersion(&mut major, &mut minor).result() };
        asked.map_err(|e| Error::new(Kind::Device, format!("NVRTC cannot say its version: {e}")))?;
        match archs.iter().copied().filter(|&a| a <= capability).max() {
            Some(arch) => {
                let compiler = format!("NVRTC {major}.{minor}");
                Ok(Modules { arch, compiler, cache, modules: HashMap::new() })
            }
            None => Err(Error::new(Kind::Device, "the GPU is older than what NVRTC compiles for")
                .expected(
                    archs
                        .iter()
                        .min()
                        .map_or("nothing".to_string(), |a| format!("compute capability {a} or later")),
                )
                .found(capability)
                .suggest("use an older libnvrtc (CUDA 12), or leave -gpu out: everything runs on the CPU")),
        }
    }

    /// Whether a kernel is there already.
    fn has<T: Element>(&self, source: &Source, name: &str) -> bool {
        self.modules.get(&(source.name, T::NAME)).is_some_and(|m| m.functions.contains_key(name))
    }

    /// A kernel by name, compiled at first use.
    pub fn function<T: Element>(
        &mut self,
        source: &'static Source,
        name: &'static str,
    ) -> Result<CUfunction> {
        let module = match self.modules.entry((source.name, T::NAME)) {
            std::collections::hash_map::Entry::Occupied(e) => e.into_mut(),
            std::collections::hash_map::Entry::Vacant(e) => {
                let options =
                    [format!("--gpu-architecture=compute_{}", self.arch), "--std=c++17".to_string()];
                let program = source.program::<T>();
                let key = format!("{} {}\n{program}", self.compiler, options.join(" "));
                let kept = self.cache.as_ref().and_then(|folder| cache::read(folder, Room::Kernels, &key));
                let handle = match kept.and_then(|kept| load(&kept).ok()) {
                    Some(handle) => handle,
                    None => {
                        let ptx = compile(source.name, &program, &options)?;
                        let handle = load(&ptx)
                            .map_err(|e| driver_error(&format!("load the kernels of {}", source.name), e))?;
                        if let Some(folder) = &self.cache {
                            // Where nothing can be written they are compiled each time.
                            let _ = cache::write(folder, Room::Kernels, &key, &ptx);
                        }
                        handle
                    }
                };
                e.insert(Module { handle, functions: HashMap::new() })
            }
        };
        if let Some(&function) = module.functions.get(name) {
            return Ok(function);
        }
        let missing = || Error::new(Kind::Device, format!("{} has no kernel {name}", source.name));
        let c_name = CString::new(name).map_err(|_| missing())?;
        // SAFETY: the module is loaded.
        let function = unsafe { module::get_function(module.handle, c_name) }.map_err(|_| missing())?;
        module.functions.insert(name, function);
        Ok(function)
    }

    /// Unloads everything; the context is current.
    pub fn unload(&mut self) {
        for (_, module) in self.modules.drain() {
            // SAFETY: it was loaded once, and the device is about to be closed.
            let _ = unsafe { module::unload(module.handle) };
        }
    }
}

impl Gpu {
    /// Compiles a source for the device and the number type, if that was not done yet.
    pub(super) fn function<T: Element>(
        &self,
        source: &'static Source,
        name: &'static str,
    ) -> Result<CUfunction> {
        let mut modules = self.0.modules.lock().unwrap_or_else(|e| e.into_inner());
        if !modules.has::<T>(source, name) {
            self.not_in_capture("load kernels")?;
        }
        modules.function::<T>(source, name)
    }
}

/// Loads PTX, which ends with a zero.
fn load(ptx: &[u8]) -> std::result::Result<CUmodule, DriverError> {
    if ptx.last() != Some(&0) {
        return Err(DriverError(CUresult::CUDA_ERROR_INVALID_PTX));
    }
    // SAFETY: the image ends with a zero.
    unsafe { module::load_data(ptx.as_ptr().cast()) }
}

/// PTX of a program, with a zero at its end.
fn compile(name: &str, program: &str, options: &[String]) -> Result<Vec<u8>> {
    let wrong =
        |what: String| Error::new(Kind::Device, format!("the kernels of {name} do not compile: {what}"));
    let text = CString::new(program).map_err(|e| wrong(e.to_string()))?;
    let file = CString::new(name).map_err(|e| wrong(e.to_string()))?;
    let program = nvrtc::create_program(&text, Some(&file)).map_err(|e| wrong(e.to_string()))?;
    // SAFETY: the program was just made, is used here alone and destroyed once.
    unsafe {
        let compiled = nvrtc::compile_program(program, options).and_then(|()| nvrtc::get_ptx(program));
        let log = nvrtc::get_program_log(program).unwrap_or_default();
        let _ = nvrtc::destroy_program(program);
        compiled.map(|ptx| ptx.iter().map(|&c| c as u8).collect()).map_err(|e| {
            let log: Vec<u8> = log.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
            wrong(format!("{e}\n{}", String::from_utf8_lossy(&log).trim_end()))
        })
    }
}
