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
