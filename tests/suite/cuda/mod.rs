//! The CUDA backend: on the stand-in of `tests/cuda_emulator`, or on a real GPU with `CORTADO_REQUIRE_GPU=1`.

#[path = "../../cuda_emulator/mod.rs"]
mod emulator;
mod faults;
mod layers;
mod nvrtc;
mod table;
mod training;

use cortado::device::Gpu;
use std::sync::OnceLock;

/// The GPU to test on: a real one where `CORTADO_REQUIRE_GPU` is 1, else the stand-in. Nothing, with the reason printed,
/// where there is no compiler to build that.
fn gpu() -> Option<Gpu> {
    if std::env::var_os("CORTADO_REQUIRE_GPU").is_some_and(|v| v == "1") {
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
            });
            Some(Gpu::open(0).unwrap())
        }
        Err(reason) => {
            eprintln!("not tested on the stand-in for CUDA: {reason}");
            None
        }
    }
}
