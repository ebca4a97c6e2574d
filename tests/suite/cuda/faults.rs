//! The stand-in must notice each kind of mistake that a kernel can make.

use super::emulator;
use std::process::Command;

#[test]
fn every_fault_is_noticed_and_named() {
    let Ok(folder) = emulator::build().map_err(|reason| eprintln!("not tested: {reason}")) else { return };
    let run = |name: &str| {
        let mut command = Command::new(folder.join("faults"));
        let output = command.arg(name).env("LD_LIBRARY_PATH", &folder).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for name in ["none", "reversed", "sum", "streams", "devices"] {
        let (right, said) = run(name);
        assert!(right, "{name}: {said}");
    }
    for (name, words) in [
        ("other_device", "another device: a copy on the device touches memory of device 2 on device 1"),
        (
            "counts",
            "rank 0 asks for ncclAllReduce of 4 values of type 7, op 4, root 0, in a group of 1 where rank 1 asks for ncclAllReduce of 3",
        ),
        ("captured_here_alone", "in a group of 1, captured where rank 1 asks for"),
    ] {
        let (right, said) = run(name);
        assert!(!right && said.contains(words), "{name}: {said}");
    }
    for (name, words, thread) in [
        ("read_beyond", "out of bounds: the kernel reads 4 bytes", "block (1, 0, 0), thread (31, 0, 0)"),
        ("write_beyond", "out of bounds: the kernel writes 4 bytes", "block (0, 0, 0), thread (0, 0, 0)"),
        ("host_pointer", "which is no device memory", "thread (0, 0, 0)"),
        ("read_unwritten", "never written: the kernel reads 4 bytes", "thread (0, 0, 0)"),
        ("shared_unwritten", "never written: reads byte", "of shared memory"),
        ("race", "data race on shared memory: reads byte", "thread (16, 0, 0)"),
        ("race_of_writes", "data race on shared memory: writes byte", "thread (1, 0, 0)"),
        (
            "race_of_blocks",
            "data race on device memory: the kernel writes",
            "block (1, 0, 0), thread (0, 0, 0)",
        ),
        ("race_on_device", "data race on device memory: the kernel reads", "thread (1, 0, 0)"),
        ("barrier_in_branch", "barrier not reached by all", "thread (16, 0, 0)"),
        ("two_barriers", "barrier not reached by all", "block (0, 0, 0)"),
        ("shuffle_in_branch", "warp shuffle not reached by all", "thread (0, 0, 0)"),
    ] {
        let (right, said) = run(name);
        assert!(!right, "{name} was not noticed");
        for part in [words, thread, &format!("kernel {name} of faults.cu")] {
            assert!(said.contains(part), "{name}: \"{part}\" is missing in {said}");
        }
    }
}
