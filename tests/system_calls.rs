//! A steady iteration asks nothing of the operating system. On processors whose register of a call's number is known here.
//!
//! A program of its own: nothing else may run at that time.

#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::process::{Command, Stdio};

/// Iterations from one line of the log to the next.
const EACH: usize = 5;

/// The numbers of all calls of `cortado train` with LeNet, in the order in which its threads make them.
fn calls(threads: usize) -> Vec<i64> {
    let net = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/nets/lenet.prototxt");
    let folder = tempfile::tempdir().unwrap();
    let solver = folder.path().join("solver.prototxt");
    let text = format!(
        "net: '{net}' base_lr: 0.001 lr_policy: 'fixed' momentum: 0.9 display: {EACH} max_iter: {}
         snapshot_after_train: false",
        60 * EACH
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
    // Other tests have children of their own.
    let mine = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    let mut seen = Vec::new();
    loop {
        // A thread may have ended before it is told to go on.
        let _ = match waitpid(None, Some(mine)).unwrap() {
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) if pid == first => return seen,
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
}

/// How many calls there were in each of the [`EACH`] iterations between lines of the log, in the second half of a training. A display
/// of the log has several lines, of which the iterations lie behind the last.
fn calls_of_iterations(threads: usize) -> Vec<usize> {
    let seen = calls(threads);
    let lines: Vec<usize> = (0..seen.len()).filter(|&i| seen[i] == libc::SYS_write).collect();
    let lines = &lines[lines.len() / 2..];
    assert!(lines.len() >= 30, "{} lines", lines.len());
    lines.windows(2).map(|line| line[1] - line[0] - 1).collect()
}

#[test]
fn a_steady_iteration_makes_no_system_call() {
    let alone = calls_of_iterations(1);
    assert!(alone.iter().all(|&calls| calls == 0), "{alone:?}");
    // A thread that waits for one that another program keeps from its work leaves the processor to that, by a call. Where
    // calls are part of an iteration, there are some in each.
    let both: Vec<Vec<usize>> = (0..4).map(|_| calls_of_iterations(2)).collect();
    eprintln!("{both:?}");
}
