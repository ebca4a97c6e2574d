//! The command line with a GPU: the stand-in of `tests/cuda_emulator`, in every state that a machine may be in.

use crate::emulator;
use crate::support::{Done, Folder};
use std::path::PathBuf;

/// The folder of the stand-in; nothing, with the reason printed, where it cannot be built.
fn libraries() -> Option<PathBuf> {
    emulator::build().map_err(|reason| eprintln!("not tested on the stand-in for CUDA: {reason}")).ok()
}

fn run(folder: &Folder, libraries: &PathBuf, words: &str, environment: &[(&str, &str)]) -> Done {
    let mut command = folder.command(words);
    command.env("LD_LIBRARY_PATH", libraries).envs(environment.iter().copied());
    command.env("CORTADO_CACHE", folder.path("cache"));
    command.env_remove("CUDA_HOME").env_remove("CUDA_PATH");
    Done::of(command.output().unwrap())
}

#[test]
fn every_subcommand_runs_on_a_gpu() {
    let Some(libraries) = libraries() else { return };
    let folder = Folder::new();
    let train = run(&folder, &libraries, "train -solver solver.prototxt -gpu 0", &[]).ok();
    assert!(train.stderr.contains("Use GPU with device ID 0"), "{}", train.stderr);
    let weights = folder.read("snap_iter_4.caffemodel");
    folder.solver("mode.prototxt", "solver_mode: GPU\nsnapshot_prefix: \"mode\"");
    let mode = run(&folder, &libraries, "train -solver mode.prototxt", &[]).ok();
    assert!(mode.stderr.contains("Use GPU with device ID 0"), "{}", mode.stderr);
    assert_eq!(weights, folder.read("mode_iter_4.caffemodel"), "-gpu and solver_mode train alike");
    run(&folder, &libraries, "train -solver mode.prototxt --graphs off", &[]).ok();
    assert_eq!(weights, folder.read("mode_iter_4.caffemodel"), "graphs change nothing");
    for (words, graph) in [("", true), (" --graphs off", false)] {
        let time =
            run(&folder, &libraries, &format!("time -model net.prototxt -iterations 2 -gpu 0{words}"), &[]);
        let said = time.ok().stderr;
        assert_eq!(said.contains("as a CUDA graph"), graph);
        assert!(said.contains("Memory of the GPU: "), "{said}");
    }
    // What a GPU wrote, the CPU goes on from, and the other way round.
    folder.solver("more.prototxt", "max_iter: 6\nsnapshot_prefix: \"more\"");
    folder.cortado("train -solver more.prototxt -snapshot snap_iter_4.solverstate").ok();
    run(&folder, &libraries, "train -solver more.prototxt -snapshot more_iter_6.solverstate -gpu 0", &[])
        .ok();
    for words in [
        "test -model net.prototxt -weights snap_iter_4.caffemodel -iterations 2 -gpu 0",
        "time -model net.prototxt -iterations 1 -gpu 0",
        "gradcheck net.prototxt -gpu 0",
        "run net.prototxt -gpu 0",
    ] {
        run(&folder, &libraries, words, &[]).ok();
    }
}

#[test]
fn device_query_says_what_caffe_says() {
    let Some(libraries) = libraries() else { return };
    let done = run(&Folder::empty(), &libraries, "device_query -gpu 0", &[]).ok();
    for line in [
        "Querying GPUs 0",
        "Device id:                     0",
        "Major revision number:         9",
        "Name:                          Cortado's CUDA emulator",
        "Total global memory:           4294967296",
        "Maximum dimension of block:    1024, 1024, 64",
        "Concurrent copy and execution: Yes",
        "Kernel execution timeout:      No",
    ] {
        assert!(done.stderr.contains(line), "no {line:?} in\n{}", done.stderr);
    }
}

/// A net of one convolution, of which `ENGINE` is the engine.
const CONVOLUTION: &str = "force_backward: true
    layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
    layer { name: 'conv' type: 'Convolution' bottom: 'x' top: 'y'
            convolution_param { ENGINE num_output: 4 kernel_size: 3 weight_filler { type: 'xavier' } } }";

#[test]
fn the_log_says_what_convolves() {
    let Some(libraries) = libraries() else { return };
    let folder = Folder::empty();
    for (name, engine) in [("any", ""), ("caffe", "engine: CAFFE"), ("cudnn", "engine: CUDNN")] {
        folder.write(&format!("{name}.prototxt"), CONVOLUTION.replace("ENGINE", engine));
    }
    // The same libraries without cuDNN.
    let without = folder.path("without");
    std::fs::create_dir_all(&without).unwrap();
    for name in ["libcuda.so", "libnvrtc.so", "libcublas.so"] {
        std::fs::copy(libraries.join(name), without.join(name)).unwrap();
    }
    let time = |libraries: &PathBuf, words: &str, environment: &[(&str, &str)]| {
        run(&folder, libraries, &format!("time -iterations 1 -gpu 0 -model {words}"), environment)
    };
    let here = "Convolutions: cuDNN 9.10.2 (search), in a workspace of at most";
    let said = |done: Done, what: &str| {
        let stderr = done.ok().stderr;
        assert!(stderr.contains(what), "no {what:?} in\n{stderr}");
    };
    said(time(&libraries, "any.prototxt", &[]), &format!("{here} 256.0 MB."));
    said(time(&libraries, "cudnn.prototxt --workspace 1G", &[]), &format!("{here} 1024.0 MB."));
    said(time(&libraries, "any.prototxt --workspace 64", &[]), &format!("{here} 64.0 MB."));
    said(time(&libraries, "any.prototxt --workspace=512K", &[]), &format!("{here} 0.5 MB."));
    said(time(&libraries, "any.prototxt --cudnn off", &[]), "by cuBLAS, since cuDNN is switched off");
    said(time(&libraries, "any.prototxt --cudnn forecast", &[]), "cuDNN 9.10.2 (forecast), in");
    let wrong = time(&libraries, "any.prototxt --cudnn auto", &[]);
    assert_eq!(wrong.code, Some(1), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("search, forecast, off"), "{}", wrong.stderr);
    let old = ("CUDA_EMULATOR_CUDNN", "7605");
    said(
        time(&libraries, "any.prototxt", &[old]),
        "by cuBLAS, since the cuDNN that was found is of another version",
    );
    said(time(&libraries, "any.prototxt", &[("CUDA_EMULATOR_CUDNN", "8907")]), "cuDNN 8.9.7");
    let caffe = time(&libraries, "caffe.prototxt", &[]).ok().stderr;
    assert!(!caffe.contains("Convolutions:"), "{caffe}");
    let query = run(&folder, &libraries, "device_query -gpu 0", &[]).ok().stderr;
    assert!(query.contains("cuDNN:                         9.10.2"), "{query}");
    let wrong = time(&libraries, "any.prototxt --workspace lots", &[]);
    assert_eq!(wrong.code, Some(1), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("--workspace is no size of memory"), "{}", wrong.stderr);
    // Where a real one is installed, it is found.
    if std::env::var_os("CORTADO_REQUIRE_GPU").is_none() {
        said(time(&without, "any.prototxt", &[]), "by cuBLAS, since the library cuDNN was not found");
        let refused = time(&without, "cudnn.prototxt", &[]);
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        for part in [
            "cuDNN was not found",
            "layer \"conv\"",
            "engine",
            "libcudnn.so.9",
            "/usr/local/cuda",
            "nvidia-cudnn",
        ] {
            assert!(refused.stderr.contains(part), "no {part:?} in\n{}", refused.stderr);
        }
        let query = run(&folder, &without, "device_query", &[]).ok().stderr;
        assert!(query.contains("the library cuDNN was not found"), "{query}");
    }
}

#[test]
fn the_search_gives_way_where_memory_is_short() {
    let Some(libraries) = libraries() else { return };
    let folder = Folder::empty();
    let large = CONVOLUTION.replace("ENGINE num_output: 4", "num_output: 1");
    folder.write("net.prototxt", large.replace("dim: 3 dim: 8 dim: 8", "dim: 8 dim: 64 dim: 64"));
    // The library expects those to be the fastest that take the columns of the batch, 2.2 MB; cuBLAS takes 33.6 MB, and the blobs 0.6 MB. Forward
    // finds room to try that; backward, which tries beside the workspace that forward has taken, does not.
    for (bytes, found) in [("1000000000", 3), ("37400000", 1)] {
        let words = "time -model net.prototxt -iterations 1 -gpu 0 -graphs off";
        run(&folder, &libraries, words, &[("CUDA_EMULATOR_MEMORY", bytes)]).ok();
        let kept = folder.path("cache").join("convolutions");
        assert_eq!(std::fs::read_dir(&kept).unwrap().count(), found, "in {bytes} bytes");
        std::fs::remove_dir_all(kept).unwrap();
    }
}

/// A net of one inner product with a ReLU behind it.
const PRODUCT: &str = "force_backward: true
    layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 4 dim: 24 } } }
    layer { name: 'ip' type: 'InnerProduct' bottom: 'x' top: 'y'
            inner_product_param { num_output: 5 weight_filler { type: 'xavier' } } }
    layer { name: 'relu' type: 'ReLU' bottom: 'y' top: 'y' }";

#[test]
fn nothing_fails_without_cublaslt() {
    let Some(libraries) = libraries() else { return };
    let folder = Folder::new();
    folder.write("product.prototxt", PRODUCT);
    let without = folder.path("without");
    std::fs::create_dir_all(&without).unwrap();
    for name in ["libcuda.so", "libnvrtc.so", "libcublas.so"] {
        std::fs::copy(libraries.join(name), without.join(name)).unwrap();
    }
    let query = |libraries: &PathBuf, version: &str| {
        let environment = [("CUDA_EMULATOR_CUBLASLT", version)];
        run(&folder, libraries, "device_query -gpu 0", &environment).ok().stderr
    };
    let says = |text: String, what: &str| assert!(text.contains(what), "no {what:?} in\n{text}");
    says(query(&libraries, "130401"), "cuBLASLt:                      13.4.1\n");
    says(query(&libraries, "111103"), "the CUDA library cuBLASLt is too old (expected 12.0.0 or later)");
    let train = |libraries: &PathBuf, flags: &str, version: &str| {
        let (words, version) =
            (format!("train -solver solver.prototxt -gpu 0 {flags}"), ("CUDA_EMULATOR_CUBLASLT", version));
        run(&folder, libraries, &words, &[version]).ok();
        folder.read("snap_iter_4.caffemodel")
    };
    // The weights say which of the two has multiplied: they add up in another order.
    let with = train(&libraries, "", "130401");
    let off = train(&libraries, "--cublaslt off", "130401");
    assert!(with != off && with == train(&libraries, "--cublaslt auto", "130401"));
    assert!(off == train(&libraries, "", "111103"), "one that is too old is not used");
    let wrong = run(&folder, &libraries, "train -solver solver.prototxt -gpu 0 --cublaslt on", &[]);
    assert!(wrong.code == Some(1) && wrong.stderr.contains("--cublaslt"), "{}", wrong.stderr);
    // Where a real one is installed, it is found.
    if std::env::var_os("CORTADO_REQUIRE_GPU").is_none() {
        let text = query(&without, "");
        for part in ["the CUDA library cuBLASLt was not found", "libcublasLt.so.13", "/usr/local/cuda"] {
            says(text.clone(), part);
        }
        assert!(off == train(&without, "", ""), "cuBLAS does without");
    }
}

/// As of cuDNN: `pip install --no-deps --target target/cublas nvidia-cublas`, or `CORTADO_CUBLAS_LIB` names the folder.
#[test]
fn the_real_cublaslt_has_what_is_called() {
    let Some(libraries) = libraries() else { return };
    let given = std::env::var_os("CORTADO_CUBLAS_LIB").map(PathBuf::from);
    let ours = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/cublas/nvidia/cu13/lib");
    let real = given.unwrap_or(ours);
    if !["libcublasLt.so.13", "libcublasLt.so.12"].iter().any(|name| real.join(name).exists()) {
        eprintln!("not looked for in the real cuBLASLt: there is none in {}", real.display());
        return;
    }
    let folder = Folder::empty();
    folder.write("product.prototxt", PRODUCT);
    // The stand-in's other libraries: its cuBLASLt would be found first.
    let others = folder.path("others");
    std::fs::create_dir_all(&others).unwrap();
    for name in ["libcuda.so", "libnvrtc.so", "libcublas.so"] {
        std::fs::copy(libraries.join(name), others.join(name)).unwrap();
    }
    let path = PathBuf::from(format!("{}:{}", others.display(), real.display()));
    let query = run(&folder, &path, "device_query -gpu 0", &[]).ok().stderr;
    let version = query.lines().find_map(|l| Some(l.split_once("cuBLASLt:")?.1.trim().to_string()));
    let version = version.expect("device_query says nothing of cuBLASLt");
    assert!(version.starts_with("13.") || version.starts_with("12."), "{version}");
    // It does not take the stand-in for a driver; that is no reason to give up.
    run(&folder, &path, "time -model product.prototxt -iterations 1 -gpu 0", &[]).ok();
}

/// The real library needs no GPU to be found and looked through. It comes into `target/cudnn` by
/// `pip install --no-deps --target target/cudnn nvidia-cudnn-cu13`, or `CORTADO_CUDNN_LIB` names its folder.
#[test]
fn the_real_cudnn_has_what_is_called() {
    let Some(libraries) = libraries() else { return };
    let given = std::env::var_os("CORTADO_CUDNN_LIB").map(PathBuf::from);
    let ours = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/cudnn/nvidia/cudnn/lib");
    let real = given.unwrap_or(ours);
    if !["libcudnn.so.9", "libcudnn.so.8"].iter().any(|name| real.join(name).exists()) {
        eprintln!("not looked for in the real cuDNN: there is none in {}", real.display());
        return;
    }
    let folder = Folder::empty();
    folder.write("net.prototxt", CONVOLUTION.replace("ENGINE", ""));
    // In front of the stand-in's.
    let path = PathBuf::from(format!("{}:{}", real.display(), libraries.display()));
    let query = run(&folder, &path, "device_query -gpu 0", &[]).ok().stderr;
    let version = query.lines().find_map(|l| Some(l.split_once("cuDNN:")?.1.trim().to_string()));
    let version = version.expect("device_query says nothing of cuDNN");
    assert!(version.starts_with("8.9.") || version.starts_with("9."), "{version}");
    // It does not take the stand-in for a driver, and says so; that is no reason to give up.
    let time = run(&folder, &path, "time -model net.prototxt -iterations 1 -gpu 0", &[]).ok().stderr;
    assert!(
        time.contains("by cuBLAS, since cuDNN cannot start: CUDNN_STATUS_NOT_INITIALIZED.")
            || time.contains(&version),
        "{time}"
    );
}

#[test]
fn several_gpus_train_together() {
    let Some(libraries) = libraries() else { return };
    let folder = Folder::new();
    let two = ("CUDA_EMULATOR_DEVICES", "2");
    let train = run(&folder, &libraries, "train -solver solver.prototxt -gpu 1,0", &[two]).ok();
    for line in ["Using GPUs 1, 0\n", "GPU 1: Cortado's CUDA emulator", "GPUs 1, 0 train together"] {
        assert!(train.stderr.contains(line), "no {line:?} in\n{}", train.stderr);
    }
    let weights = folder.read("snap_iter_4.caffemodel");
    run(&folder, &libraries, "train -solver solver.prototxt -gpu all --graphs off", &[two]).ok();
    assert_eq!(weights, folder.read("snap_iter_4.caffemodel"), "which GPU is the first changes nothing");
    run(&folder, &libraries, "train -solver solver.prototxt -gpu all", &[]).ok();
    assert_ne!(weights, folder.read("snap_iter_4.caffemodel"), "one GPU alone has other records");
    let query = run(&folder, &libraries, "device_query -gpu all", &[two]).ok();
    for line in ["Querying GPUs all", "Device id:                     0", "Device id:                     1"]
    {
        assert!(query.stderr.contains(line), "no {line:?} in\n{}", query.stderr);
    }
}

#[test]
fn what_is_missing_is_said() {
    let Some(libraries) = libraries() else { return };
    let folder = Folder::new();
    let partial = |names: &[&str]| {
        let place = folder.path(format!("only{}", names.len()));
        std::fs::create_dir_all(&place).unwrap();
        for name in names {
            std::fs::copy(libraries.join(name), place.join(name)).unwrap();
        }
        place
    };
    let said = |libraries: &PathBuf, words: &str, environment: &[(&str, &str)], parts: &[&str]| {
        let done = run(&folder, libraries, words, environment);
        assert_eq!(done.code, Some(1), "{words}: {}", done.stderr);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
        for part in parts {
            assert!(done.stderr.contains(part), "{words}: no {part:?} in\n{}", done.stderr);
        }
    };
    let time = "time -model net.prototxt -iterations 1 -gpu 0";
    // Where real ones are installed, they are found.
    if std::env::var_os("CORTADO_REQUIRE_GPU").is_none() {
        said(
            &partial(&[]),
            time,
            &[],
            &["the NVIDIA driver was not found", "libcuda.so.1", "LD_LIBRARY_PATH"],
        );
        said(
            &partial(&["libcuda.so"]),
            time,
            &[],
            &["NVRTC was not found", "libnvrtc.so.13", "/usr/local/cuda"],
        );
        let two = partial(&["libcuda.so", "libnvrtc.so"]);
        said(&two, time, &[], &["cuBLAS was not found", "libcublas.so.13", "nvidia-cublas"]);
    }
    let devices = ("CUDA_EMULATOR_DEVICES", "2");
    let train = "train -solver solver.prototxt -gpu";
    let three = partial(&["libcuda.so", "libnvrtc.so", "libcublas.so"]);
    if std::env::var_os("CORTADO_REQUIRE_GPU").is_none() {
        let parts = ["NCCL was not found", "libnccl.so.2", "/usr/local/cuda", "train on one GPU"];
        said(&three, &format!("{train} 0,1"), &[devices], &parts);
        run(&folder, &three, &format!("{train} 1"), &[devices]).ok();
    }
    let early = ("CUDA_EMULATOR_NCCL", "20805");
    said(&libraries, &format!("{train} 0,1"), &[devices, early], &["NCCL is too old", "2.10", "20805"]);
    said(&libraries, &format!("{train} 0,5"), &[devices], &["there is no GPU 5", "0 to 1"]);
    said(&libraries, &format!("{train} 0,1,0"), &[devices], &["GPU 0 is named twice"]);
    said(&libraries, &time.replace("-gpu 0", "-gpu 0,1"), &[devices], &["only train runs on several GPUs"]);
    said(&libraries, &time.replace("-gpu 0", "-gpu all"), &[devices], &["only train", "-gpu all"]);
    let old = ("CUDA_EMULATOR_DRIVER", "11080");
    said(&libraries, time, &[old], &["driver is too old", "12.0 or later", "of CUDA 11.8"]);
    said(
        &libraries,
        time,
        &[("CUDA_EMULATOR_DEVICES", "0")],
        &["there is no GPU 0", "the driver finds none"],
    );
    said(&libraries, &time.replace("-gpu 0", "-gpu 3"), &[], &["there is no GPU 3", "0, the only GPU"]);
    said(
        &libraries,
        time,
        &[("CUDA_EMULATOR_ARCH", "60")],
        &["older than what NVRTC compiles for", "75 or later"],
    );
    let little = ("CUDA_EMULATOR_MEMORY", "20000");
    said(&libraries, time, &[little], &["MB of memory", "CUDA_ERROR_OUT_OF_MEMORY", "a smaller batch_size"]);
}

#[test]
fn tf32_and_bf16_are_asked_for() {
    let Some(libraries) = libraries() else { return };
    let folder = Folder::new();
    let weights = |flags: &str| {
        run(&folder, &libraries, &format!("train -solver solver.prototxt -gpu 0 {flags}"), &[]).ok();
        folder.read("snap_iter_4.caffemodel")
    };
    let [full, tf32, bf16] = ["--amp off", "--tf32", "--amp bf16"].map(weights);
    assert!(full != tf32 && tf32 != bf16 && bf16 != full);
    for (flag, name) in [("-tf32", "Products are in TF32."), ("--amp=bf16", "Products are in bf16.")] {
        for words in [
            "test -model net.prototxt -weights snap_iter_4.caffemodel -iterations 1",
            "time -model net.prototxt -iterations 1",
        ] {
            let said = run(&folder, &libraries, &format!("{words} -gpu 0 {flag}"), &[]).ok().stderr;
            assert!(said.contains(name), "{said}");
        }
        let words = format!("time -model net.prototxt -phase TEST -iterations 1 -gpu 0 {flag}");
        let said = run(&folder, &libraries, &words, &[]).ok().stderr;
        assert!(said.contains("Median Forward as a CUDA graph: "), "{said}");
        run(&folder, &libraries, &format!("run net.prototxt -gpu 0 {flag}"), &[]).ok();
    }
    for (words, environment, parts) in [
        (
            "test -model net.prototxt -weights snap_iter_4.caffemodel --tf32",
            "90",
            &["--tf32 is for a GPU", "-gpu 0"][..],
        ),
        ("train -solver solver.prototxt --amp bf16", "90", &["--amp is for a GPU"]),
        ("time -model net.prototxt -gpu 0 --tf32 --amp bf16", "90", &["--tf32 or --amp, not both"]),
        ("time -model net.prototxt -gpu 0 --amp fp16", "90", &["--amp", "bf16, off", "\"fp16\""]),
        (
            "time -model net.prototxt -gpu 0 --amp bf16",
            "75",
            &["multiplies in full precision only", "7.5", "8.0 or later"],
        ),
        ("gradcheck net.prototxt -gpu 0 --tf32", "90", &["tf32"]),
        ("gradcheck net.prototxt -gpu 0 --amp bf16", "90", &["amp"]),
    ] {
        let done = run(&folder, &libraries, words, &[("CUDA_EMULATOR_ARCH", environment)]);
        assert!(done.code.is_some_and(|code| code != 0), "{words}");
        for part in parts {
            assert!(done.stderr.contains(part), "{words}: no {part:?} in\n{}", done.stderr);
        }
    }
}
