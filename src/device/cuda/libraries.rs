//! Finds the driver, NVRTC, cuBLAS, cuBLASLt, cuDNN and NCCL, or says what was looked for and where.

use crate::error::{Error, Kind, Result};
use cudarc::{cublas, cublaslt, driver, nvrtc};
use libloading::Library;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What the driver must offer: functions that Cortado calls. Only one of CUDA 11 or later has all of them.
const DRIVER_FUNCTIONS: &[&str] = &[
    "cuInit",
    "cuDriverGetVersion",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemsetD32Async",
    "cuMemsetD2D32Async",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuModuleGetFunction",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuEventCreate",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuEventQuery",
    "cuEventElapsedTime",
    "cuEventDestroy_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuLaunchKernel",
    "cuGetErrorString",
];

/// The functions of cuBLASLt that Cortado calls.
const LT_FUNCTIONS: &[&str] = &[
    "cublasLtGetVersion",
    "cublasLtCreate",
    "cublasLtDestroy",
    "cublasLtMatmulDescCreate",
    "cublasLtMatmulDescSetAttribute",
    "cublasLtMatmulDescDestroy",
    "cublasLtMatrixLayoutCreate",
    "cublasLtMatrixLayoutDestroy",
    "cublasLtMatmulPreferenceCreate",
    "cublasLtMatmulPreferenceSetAttribute",
    "cublasLtMatmulPreferenceDestroy",
    "cublasLtMatmulAlgoGetHeuristic",
    "cublasLtMatmul",
];

/// The oldest CUDA version a driver may have, as it says itself: 12.0. PTX of NVRTC 12 needs it.
const OLDEST_DRIVER: i32 = 12000;

/// The CUDA version of the driver, which is found and new enough. It comes with NVIDIA's kernel module; nothing else may stand in for it.
pub(super) fn driver() -> Result<i32> {
    // SAFETY: looks for a shared library; loading NVIDIA's driver runs its initialisers and nothing else.
    if !unsafe { driver::sys::is_culib_present() } {
        return Err(missing("NVIDIA driver", &common_names("cuda"), &[])
            .suggest("install NVIDIA's driver, or leave -gpu out: everything runs on the CPU"));
    }
    // SAFETY: the library is there. The functions are looked up, not called.
    let lacking = DRIVER_FUNCTIONS
        .iter()
        .find(|name| unsafe { driver::sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()).is_err() });
    if let Some(name) = lacking {
        return Err(old(format!("it has no {name}")));
    }
    let mut version = 0;
    // SAFETY: writes one integer.
    let asked = unsafe { driver::sys::cuDriverGetVersion(&mut version) }.result();
    asked.map_err(|e| super::driver_error("say its driver's version", e))?;
    if version < OLDEST_DRIVER {
        return Err(old(format!("it is of CUDA {}", dotted(version))));
    }
    Ok(version)
}

fn old(found: String) -> Error {
    Error::new(Kind::Device, "the NVIDIA driver is too old")
        .expected(format!("one of CUDA {} or later", dotted(OLDEST_DRIVER)))
        .found(found)
        .suggest("update the driver, or leave -gpu out: everything runs on the CPU")
}

/// A CUDA version as people write it.
pub(super) fn dotted(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// NVRTC, which compiles the kernels.
pub(super) fn nvrtc() -> Result<()> {
    // SAFETY: as above.
    find("CUDA library NVRTC", "nvrtc", "nvidia-cuda-nvrtc", || unsafe { nvrtc::sys::is_culib_present() })
}

/// cuBLAS, which multiplies matrices.
pub(super) fn cublas() -> Result<()> {
    // SAFETY: as above.
    find("CUDA library cuBLAS", "cublas", "nvidia-cublas", || unsafe { cublas::sys::is_culib_present() })
}

/// cuBLASLt, which multiplies matrices and does along what stands behind; whoever wants it can do without.
pub(super) fn cublaslt() -> Result<()> {
    // SAFETY: as above.
    find("CUDA library cuBLASLt", "cublasLt", "nvidia-cublas", || unsafe {
        cublaslt::sys::is_culib_present()
    })?;
    // SAFETY: the library is there. The functions are looked up, not called.
    let lacking = LT_FUNCTIONS.iter().find(|name| unsafe {
        cublaslt::sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()).is_err()
    });
    lacking.map_or(Ok(()), |name| {
        Err(Error::new(Kind::Device, "the CUDA library cuBLASLt is too old")
            .found(format!("it has no {name}")))
    })
}

/// cuDNN, which convolves; whoever wants it can do without.
pub(super) fn cudnn() -> Result<Library> {
    let names: &[&str] = match cfg!(windows) {
        false => &["libcudnn.so.9", "libcudnn.so.8", "libcudnn.so"],
        true => &["cudnn64_9.dll", "cudnn64_8.dll"],
    };
    open("library cuDNN", names).map_err(|e| {
        e.suggest("install it (pip install nvidia-cudnn-cu13, or cu12) and put its folder into LD_LIBRARY_PATH; without it convolutions multiply matrices by cuBLAS")
    })
}

/// NCCL, by which devices work together. It comes by itself or with a Python wheel, which names it by its version alone.
pub(super) fn nccl() -> Result<Library> {
    open("CUDA library NCCL", &["libnccl.so.2", "libnccl.so"]).map_err(|e| {
        e.suggest("install it (pip install nvidia-nccl-cu13, or NVIDIA's package libnccl2) and put its folder into LD_LIBRARY_PATH, or train on one GPU")
    })
}

/// A library under the first of its names that is on the library path or in one of [`folders`].
fn open(what: &str, names: &[&str]) -> Result<Library> {
    let folders = folders();
    // On the library path first: there a bare name is looked for, and a library that is loaded already is found by its own.
    let bare = names.iter().map(PathBuf::from);
    let placed = folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name)));
    for file in bare.chain(placed) {
        // SAFETY: a library of NVIDIA's under its own name; its initialisers are theirs.
        if let Ok(library) = unsafe { Library::new(file) } {
            return Ok(library);
        }
    }
    Err(missing(what, &names.join(", "), &folders))
}

/// Folders in which a CUDA toolkit has its libraries, without being on the library path.
fn folders() -> Vec<PathBuf> {
    let homes = ["CUDA_HOME", "CUDA_PATH"].iter().filter_map(std::env::var_os).map(PathBuf::from);
    let homes = homes.chain([PathBuf::from("/usr/local/cuda")]);
    homes.flat_map(|home| ["lib64", "lib"].map(|lib| home.join(lib))).collect()
}

/// Finds a library on the library path, or in one of [`folders`].
fn find(what: &str, name: &str, wheel: &str, present: impl Fn() -> bool) -> Result<()> {
    if present() {
        return Ok(());
    }
    let folders = folders();
    for folder in &folders {
        // A library that is loaded already is found by its bare name.
        for candidate in candidates(folder, name) {
            // SAFETY: a library of CUDA under its own name; its initialisers are NVIDIA's.
            if let Ok(library) = unsafe { Library::new(&candidate) } {
                std::mem::forget(library);
                if present() {
                    return Ok(());
                }
            }
        }
    }
    Err(missing(what, &common_names(name), &folders).suggest(format!(
        "install it (pip install {wheel}, or the CUDA toolkit) and put its folder into LD_LIBRARY_PATH, or leave -gpu out"
    )))
}

/// The files of a folder that are versions of a library.
fn candidates(folder: &Path, name: &str) -> Vec<PathBuf> {
    let prefix = format!("lib{name}.so");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
    let named = |p: &PathBuf| p.file_name().and_then(OsStr::to_str).is_some_and(|n| n.starts_with(&prefix));
    files.filter(named).collect()
}

/// The names under which cudarc looks for a library.
fn common_names(name: &str) -> String {
    let names = cudarc::get_lib_name_candidates(name);
    let common: Vec<String> = names.into_iter().filter(|n| !n.contains("64")).collect();
    common.join(", ")
}

fn missing(what: &str, names: &str, folders: &[PathBuf]) -> Error {
    let mut places = "the library path (LD_LIBRARY_PATH and the system's folders)".to_string();
    for folder in folders {
        places += &format!(", {}", folder.display());
    }
    Error::new(Kind::Device, format!("the {what} was not found"))
        .expected(format!("one of {names} on {places}"))
}
