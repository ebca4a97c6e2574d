//! Builds the stand-in for CUDA. See README.md beside this file.
#![allow(dead_code)] // each test program uses a part

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The libraries, each with its sources and the one it is linked to.
pub const LIBRARIES: [(&str, &[&str], Option<&str>); 6] = [
    ("libcuda.so", &["driver.cpp", "stream.cpp", "memory.cpp", "shared.cpp", "launch.cpp"], None),
    ("libnvrtc.so", &["nvrtc.cpp"], None),
    ("libcublas.so", &["cublas.cpp"], Some("libcuda.so")),
    ("libcublasLt.so", &["cublaslt.cpp"], Some("libcuda.so")),
    ("libcudnn.so.9", &["cudnn.cpp"], Some("libcuda.so")),
    ("libnccl.so.2", &["nccl.cpp"], Some("libcuda.so")),
];

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda_emulator")
}

fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_| "c++".into())
}

/// The folder with the built libraries, under `target/`; an explanation where they cannot be built.
pub fn build() -> Result<PathBuf, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(build_once).clone()
}

fn build_once() -> Result<PathBuf, String> {
    if !cfg!(target_os = "linux") {
        return Err("the stand-in for CUDA needs Linux".into());
    }
    let version = Command::new(compiler()).arg("--version").output();
    let version = version.map_err(|e| format!("no C++ compiler ({}: {e}); set CXX", compiler()))?;
    let mut hash = DefaultHasher::new();
    version.stdout.hash(&mut hash);
    let mut files: Vec<PathBuf> = fs::read_dir(sources()).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "cpp" || e == "h")) {
        fs::read(file).unwrap().hash(&mut hash);
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cuda_emulator_{:016x}", hash.finish()));
    if folder.join("done").exists() {
        return Ok(folder);
    }
    // Two test programs may build at once: each beside the place, with the place's own path in it, then renamed.
    let mine = folder.with_extension(std::process::id().to_string());
    fs::create_dir_all(mine.join("cache")).unwrap();
    for (library, parts, needs) in LIBRARIES {
        let mut command = Command::new(compiler());
        command.args(["-std=c++17", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]);
        command.arg(format!("-Wl,-soname,{library}"));
        command.arg(format!("-DEMULATOR_SOURCE=\"{}\"", sources().display()));
        command.arg(format!("-DEMULATOR_CACHE=\"{}\"", folder.join("cache").display()));
        command.arg(format!("-DEMULATOR_LIBRARY=\"{}\"", folder.join("libcuda.so").display()));
        command.arg("-o").arg(mine.join(library)).args(parts.iter().map(|p| sources().join(p)));
        command.args(needs.map(|n| mine.join(n))).arg("-ldl");
        run(&mut command);
    }
    let mut command = Command::new(compiler());
    command.args(["-std=c++17", "-O1", "-o"]).arg(mine.join("faults")).arg(sources().join("faults.cpp"));
    command.args(["libcuda.so", "libnvrtc.so", "libnccl.so.2"].map(|library| mine.join(library)));
    run(&mut command);
    fs::write(mine.join("done"), "").unwrap();
    if fs::rename(&mine, &folder).is_err() {
        fs::remove_dir_all(&mine).unwrap(); // the other one was first
    }
    assert!(folder.join("done").exists(), "{} was not built", folder.display());
    Ok(folder)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}
