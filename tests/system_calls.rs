//! A steady iteration asks nothing of the operating system. On processors whose register of a call's number is known here.
//!
//! A program of its own: nothing else may run at that time.

#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::process::{Command, Stdio};

/// Iterations from one display of the log to the next, how many of those there are, and how many lines each has.
const EACH: usize = 5;
const DISPLAYS: usize = 60;
const LINES: usize = 3;

/// The numbers of all calls of `cortado train` with LeNet, in the order in which its threads make them.
fn calls(threads: usize) -> Vec<i64> {
    let net = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/nets/lenet.prototxt");
    let folder = tempfile::tempdir().unwrap();
    let solver = folder.path().join("solver.prototxt");
    let text = format!(
        "net: '{net}' base_lr: 0.001 lr_policy: 'fixed' momentum: 0.9 display: {EACH} max_iter: {}
         snapshot_after_train: false",
        DISPLAYS * EACH
    );
    std::fs::write(&solver, text).unwrap();
    // A shell that waits for a line becomes the program once it is watched.
    let mut child = Command::new("sh")
        .args(["-c", "read line; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_cortado")])
        .args(["train", "--threads", &threads.to_string(), "--solver"])
        .arg(&solver)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let options = Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL;
    let first = Pid::from_raw(child.id() as i32);
    ptrace::seize(first, options).unwrap();
    ptrace::interrupt(first).unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"\n").unwrap();
    let mine = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    let mut seen = Vec::new();
    loop {
        // A thread may have ended before it is told to go on.
        let _ = match waitpid(None, Some(mine)).unwrap() {
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) if pid == first => break,
            WaitStatus::PtraceSyscall(pid) => {
                let enters = |info: libc::ptrace_syscall_info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY;
                if ptrace::syscall_info(pid).is_ok_and(enters) {
                    seen.extend(ptrace::getregs(pid).map(|registers| registers.orig_rax as i64));
                }
                ptrace::syscall(pid, None)
            }
            WaitStatus::PtraceEvent(pid, ..) => ptrace::syscall(pid, None),
            WaitStatus::Stopped(pid, signal) => ptrace::syscall(pid, Some(signal)),
            _ => Ok(()),
        };
    }
    // It has ended, as was seen above.
    let _ = child.wait();
    seen
}

/// How many calls there were in each [`EACH`] iterations between displays of the log, in the second half of a training, the fewest first. A
/// display is several lines, between which there is nothing else to be seen.
fn calls_of_iterations(threads: usize) -> Vec<usize> {
    let seen = calls(threads);
    let lines: Vec<usize> = (0..seen.len()).filter(|&i| seen[i] == libc::SYS_write).collect();
    let between: Vec<usize> = lines.windows(2).map(|line| line[1] - line[0] - 1).collect();
    assert!(lines.len() > LINES * DISPLAYS, "{} lines", lines.len());
    let displays = between[between.len() / 2..].chunks_exact(LINES);
    let mut most: Vec<usize> = displays.filter_map(|display| display.iter().copied().max()).collect();
    most.sort_unstable();
    most
}

#[test]
fn a_steady_iteration_makes_no_system_call() {
    let alone = calls_of_iterations(1);
    assert!(alone.iter().all(|&calls| calls == 0), "{alone:?}");
    // A thread that waits for another one which the system keeps from its work leaves the processor, by a call, after a while: that is not
    // steady. Calls that are part of an iteration are there in each.
    let mut tries: Vec<Vec<usize>> = Vec::new();
    while tries.len() < 8 {
        let both = calls_of_iterations(2);
        if both[0] == 0 && both[both.len() / 2] <= EACH {
            return;
        }
        tries.push(both);
    }
    panic!("{tries:?}");
}
