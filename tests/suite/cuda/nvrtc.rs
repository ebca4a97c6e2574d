//! NVIDIA's own compiler takes every kernel, for every architecture that Cortado supports, without a warning. It needs no GPU: a wheel of PyPI
//! brings it. Into `target/nvrtc` it comes by `pip install --target target/nvrtc nvidia-cuda-nvrtc==13.0.88`, or
//! `CORTADO_NVRTC` names the folder of `libnvrtc.so.13`.

use cortado::device::Source;
use cortado::{device, layers, math, solver};
use libloading::Library;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

const ARCHITECTURES: [&str; 4] = ["sm_75", "sm_80", "sm_90", "sm_100"];

fn sources() -> Vec<&'static Source> {
    [device::kernels(), math::kernels(), layers::kernels(), solver::update::kernels()].concat()
}

/// Text that is no source by itself but a part of others.
const PARTS: [&str; 5] = ["prelude.cu", "elementwise.cu", "parameters.cu", "update.cu", "windows.cu"];

#[test]
fn every_cu_file_is_a_source() {
    fn walk(dir: &Path, found: &mut BTreeSet<String>) {
        for path in std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()) {
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "cu") {
                found.insert(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let mut files = BTreeSet::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let listed: Vec<&str> = sources().iter().map(|s| s.name).chain(PARTS).collect();
    let names: BTreeSet<String> = listed.iter().map(|n| n.to_string()).collect();
    assert_eq!(names.len(), listed.len(), "two sources of one name: {listed:?}");
    assert_eq!(files, names);
}

fn library() -> Option<Nvrtc> {
    let given = std::env::var_os("CORTADO_NVRTC").map(PathBuf::from);
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/nvrtc/nvidia/cu13/lib");
    let folder = given.unwrap_or(ours);
    if !folder.join("libnvrtc.so.13").exists() {
        let looked = folder.display();
        let required = std::env::var_os("CORTADO_REQUIRE_NVRTC").is_some_and(|v| v == "1");
        assert!(!required, "CORTADO_REQUIRE_NVRTC is set, but there is no libnvrtc.so.13 in {looked}");
        eprintln!("kernels not compiled by NVRTC: no libnvrtc.so.13 in {looked}");
        return None;
    }
    // SAFETY: NVIDIA's libraries, under their own names; the first one is found by the second as it is loaded already.
    unsafe {
        std::mem::forget(Library::new(folder.join("libnvrtc-builtins.so.13.0")).unwrap());
        Some(Nvrtc(Library::new(folder.join("libnvrtc.so.13")).unwrap()))
    }
}

struct Nvrtc(Library);

impl Nvrtc {
    /// Compiles a program for an architecture; what NVRTC has to say, and whether it did.
    fn compile(&self, name: &str, text: &str, arch: &str) -> (bool, String) {
        let (compiled, log, _) = self.compile_to_ptx(name, text, arch);
        (compiled, log)
    }

    /// The same, and the code.
    fn compile_to_ptx(&self, name: &str, text: &str, arch: &str) -> (bool, String, String) {
        type Create = unsafe extern "C" fn(
            *mut *mut c_void,
            *const c_char,
            *const c_char,
            c_int,
            *const *const c_char,
            *const *const c_char,
        ) -> c_int;
        type Compile = unsafe extern "C" fn(*mut c_void, c_int, *const *const c_char) -> c_int;
        let (text, name) = (CString::new(text).unwrap(), CString::new(name).unwrap());
        let options = [format!("--gpu-architecture={arch}"), "--std=c++17".into()];
        let options = options.map(|o| CString::new(o).unwrap());
        let pointers = options.each_ref().map(|o| o.as_ptr());
        // SAFETY: the signatures are NVRTC's, all pointers live during the calls, the log is as long as NVRTC says.
        unsafe {
            let mut program = null_mut();
            let create = self.0.get::<Create>(b"nvrtcCreateProgram").unwrap();
            assert_eq!(create(&mut program, text.as_ptr(), name.as_ptr(), 0, null(), null()), 0);
            let compile = self.0.get::<Compile>(b"nvrtcCompileProgram").unwrap();
            let compiled = compile(program, 2, pointers.as_ptr()) == 0;
            let mut size = 0usize;
            type Size = unsafe extern "C" fn(*mut c_void, *mut usize) -> c_int;
            self.0.get::<Size>(b"nvrtcGetProgramLogSize").unwrap()(program, &mut size);
            let mut log = vec![0u8; size.max(1)];
            type Get = unsafe extern "C" fn(*mut c_void, *mut c_char) -> c_int;
            self.0.get::<Get>(b"nvrtcGetProgramLog").unwrap()(program, log.as_mut_ptr().cast());
            let mut ptx = Vec::new();
            if compiled {
                self.0.get::<Size>(b"nvrtcGetPTXSize").unwrap()(program, &mut size);
                ptx.resize(size, 0u8);
                self.0.get::<Get>(b"nvrtcGetPTX").unwrap()(program, ptx.as_mut_ptr().cast());
            }
            type Destroy = unsafe extern "C" fn(*mut *mut c_void) -> c_int;
            self.0.get::<Destroy>(b"nvrtcDestroyProgram").unwrap()(&mut program);
            let text = |bytes: &[u8]| {
                CStr::from_bytes_until_nul(bytes).map_or(String::new(), |l| l.to_string_lossy().into_owned())
            };
            (compiled, text(&log), text(&ptx))
        }
    }
}

#[test]
fn nvrtc_compiles_every_kernel_without_a_warning() {
    let Some(nvrtc) = library() else { return };
    let wrong = nvrtc.compile("wrong.cu", "__global__ void f() { int unused; g(); }", "sm_90");
    assert!(!wrong.0 && wrong.1.contains("\"g\" is undefined"), "NVRTC takes anything: {wrong:?}");
    let mut found = Vec::new();
    for source in sources() {
        for (real, text) in [("f32", source.program::<f32>()), ("f64", source.program::<f64>())] {
            for arch in ARCHITECTURES {
                let (compiled, log) = nvrtc.compile(source.name, &text, arch);
                if !compiled || !log.trim().is_empty() {
                    found.push(format!("{} in {real} for {arch}:\n{log}", source.name));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn fillers_round_each_product_and_sum_by_itself() {
    let Some(nvrtc) = library() else { return };
    let fillers = sources().into_iter().find(|s| s.name == "filler.cu").unwrap();
    for text in [fillers.program::<f32>(), fillers.program::<f64>()] {
        // What could be contracted is.
        let plain = text.replace("return __dadd_rn(__dmul_rn(a, b), c)", "return a * b + c");
        assert!(nvrtc.compile_to_ptx(fillers.name, &plain, "compute_90").2.contains("fma."));
        let (compiled, log, ptx) = nvrtc.compile_to_ptx(fillers.name, &text, "compute_90");
        assert!(compiled && ptx.contains("mul.rn.f64") && !ptx.contains("fma."), "{log}");
    }
}
