//! The CUDA backend: on the stand-in of `tests/cuda_emulator`, or on a real GPU with `CORTADO_REQUIRE_GPU=1`.

mod cache;
mod convolutions;
#[path = "../../cuda_emulator/mod.rs"]
mod emulator;
mod faults;
mod fillers;
mod fusion;
mod graphs;
mod inner_products;
mod labels;
mod layers;
mod nvrtc;
mod precision;
mod search;
mod several;
mod table;
mod training;

use cortado::device::Gpu;
use std::sync::OnceLock;

/// Whether the tests run on a real GPU.
fn real() -> bool {
    std::env::var_os("CORTADO_REQUIRE_GPU").is_some_and(|v| v == "1")
}

/// Asks a library of the stand-in for a count; nothing on a real GPU.
fn count(library: &str, name: &[u8]) -> Option<u32> {
    if real() {
        return None;
    }
    let folder = emulator::build().ok()?;
    // SAFETY: the library is loaded already, and the signature is the stand-in's.
    unsafe {
        let library = libloading::Library::new(folder.join(library)).unwrap();
        Some(library.get::<unsafe extern "C" fn() -> u32>(name).unwrap()())
    }
}

/// How many kernels this thread has launched one by one, those of graphs not counted.
fn launches() -> u32 {
    count("libcuda.so", b"emulator_launches").unwrap_or(0)
}

/// How many copies from pinned memory to the device this thread has asked for.
fn pinned_copies() -> u32 {
    count("libcuda.so", b"emulator_pinned_copies").unwrap_or(0)
}

/// A device that does its work at once, but the copies of its batches as late as it may. On a real GPU, as it likes.
fn hasty_gpu() -> Option<Gpu> {
    gpu()?;
    if !real() {
        let folder = emulator::build().ok()?;
        // SAFETY: the library is loaded already, and the signature is the stand-in's. The stream for work is made before that for copies.
        unsafe {
            let library = libloading::Library::new(folder.join("libcuda.so")).unwrap();
            library.get::<unsafe extern "C" fn(std::ffi::c_uint)>(b"emulator_eager").unwrap()(1);
        }
    }
    gpu()
}

/// Before each thing that this thread has asked of NCCL, how many kernels it had launched one by one; nothing on a real GPU.
fn collectives() -> Option<Vec<u32>> {
    if real() {
        return None;
    }
    let folder = emulator::build().ok()?;
    let mut before = vec![0; 1000];
    type Collectives = unsafe extern "C" fn(*mut u32, u32) -> u32;
    // SAFETY: the library is loaded already, the signature is the stand-in's, and it writes no more than there is room for.
    unsafe {
        let library = libloading::Library::new(folder.join("libnccl.so.2")).unwrap();
        let ask = library.get::<Collectives>(b"emulator_collectives").unwrap();
        let count = ask(before.as_mut_ptr(), before.len() as u32);
        before.truncate(count as usize);
    }
    Some(before)
}

/// Several GPUs: the stand-in's, but for the first one, or real ones. Nothing, with the reason printed, where there are not so many.
fn gpus(count: usize) -> Option<Vec<Gpu>> {
    let first = gpu()?;
    if real() {
        let there = cortado::device::count().unwrap();
        if there < count {
            eprintln!("not tested: it needs {count} GPUs, and there are {there}");
            return None;
        }
        return Some((0..count).map(|i| Gpu::open(i).unwrap()).collect());
    }
    drop(first);
    Some((1..=count).map(|i| Gpu::open_caching(i, None).unwrap()).collect())
}

/// How many programs this thread has had compiled.
fn compiled() -> u32 {
    count("libnvrtc.so", b"emulator_compiled").unwrap_or(0)
}

/// How often this thread has had kernels of a name run, all of them if it is empty; nothing on a real GPU.
fn runs(name: &str) -> Option<u32> {
    if real() {
        return None;
    }
    let (folder, name) = (emulator::build().ok()?, std::ffi::CString::new(name).unwrap());
    type Runs = unsafe extern "C" fn(*const std::ffi::c_char) -> u32;
    // SAFETY: as above.
    unsafe {
        let library = libloading::Library::new(folder.join("libcuda.so")).unwrap();
        Some(library.get::<Runs>(b"emulator_runs").unwrap()(name.as_ptr()))
    }
}

/// The GPU to test on: a real one where `CORTADO_REQUIRE_GPU` is 1, else the stand-in. Nothing, with the reason printed,
/// where there is no compiler to build that.
fn gpu() -> Option<Gpu> {
    if real() {
        return Some(Gpu::open(0).expect("CORTADO_REQUIRE_GPU is set, but there is no GPU"));
    }
    match emulator::build() {
        Ok(folder) => {
            static LOADED: OnceLock<()> = OnceLock::new();
            // A library that is loaded is found by its bare name: the product finds these three.
            LOADED.get_or_init(|| {
                for (library, ..) in emulator::LIBRARIES {
                    // SAFETY: our own libraries, which do nothing when they are loaded.
                    let loaded = unsafe { libloading::Library::new(folder.join(library)) };
                    std::mem::forget(loaded.unwrap());
                }
                // SAFETY: the library was just loaded, and the signature is the stand-in's.
                unsafe {
                    let library = libloading::Library::new(folder.join("libcuda.so")).unwrap();
                    library.get::<unsafe extern "C" fn(std::ffi::c_int)>(b"emulator_devices").unwrap()(4);
                }
            });
            // Without the user's folder: there what the stand-in compiles has no place.
            Some(Gpu::open_caching(0, None).unwrap())
        }
        Err(reason) => {
            eprintln!("not tested on the stand-in for CUDA: {reason}");
            None
        }
    }
}
