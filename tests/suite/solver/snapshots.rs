//! Snapshots on the disk: names, leftovers, failures half-way.

use super::common::*;
use cortado::proto::read_weights;
use cortado::solver::{Silent, Solver};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

fn fields(folder: &Path, more: &str) -> String {
    let prefix = folder.join("s").display().to_string();
    format!("base_lr: 0.1 lr_policy: 'fixed' momentum: 0.9 random_seed: 1 snapshot_prefix: '{prefix}' {more}")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn nothing_but_the_pairs_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut solver: Solver<f32> =
        solver(&plain_net(4), &fields(folder.path(), "snapshot: 2 max_iter: 3"), &mut Silent).unwrap();
    solver.solve(&mut Silent).unwrap();
    let expected =
        ["s_iter_2.caffemodel", "s_iter_2.solverstate", "s_iter_3.caffemodel", "s_iter_3.solverstate"];
    assert_eq!(names(folder.path()), expected);
}

#[test]
fn a_failed_write_leaves_the_pair_before() {
    for broken in ["s_iter_4.caffemodel", "s_iter_4.solverstate"] {
        let folder = tempfile::tempdir().unwrap();
        // Where the file should go there is a folder.
        fs::create_dir(folder.path().join(broken)).unwrap();
        let text = fields(folder.path(), "snapshot: 2 max_iter: 6");
        let mut first: Solver<f32> = solver(&plain_net(4), &text, &mut Silent).unwrap();
        let error = first.solve(&mut Silent).unwrap_err();
        assert!(error.to_string().contains(broken), "{error}");
        assert!(names(folder.path()).iter().all(|n| n.starts_with("s_iter_")), "{:?}", names(folder.path()));

        fs::remove_dir(folder.path().join(broken)).unwrap();
        let mut second: Solver<f32> = solver(&plain_net(4), &text, &mut Silent).unwrap();
        second.restore(folder.path().join("s_iter_2.solverstate"), &mut Silent).unwrap();
        second.solve(&mut Silent).unwrap();
        let mut whole: Solver<f32> = solver(&plain_net(4), &text, &mut Silent).unwrap();
        whole.solve(&mut Silent).unwrap();
        assert_eq!(bits(&second), bits(&whole));
    }
}

#[test]
fn a_moved_pair_is_restored_from_where_it_lies() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut first: Solver<f32> = solver(&plain_net(4), &fields(a.path(), ""), &mut Silent).unwrap();
    first.step(2, &mut Silent).unwrap();
    let (model, state) = first.snapshot(&mut Silent).unwrap();
    let moved = |from: &Path| b.path().join(from.file_name().unwrap());
    fs::rename(&model, moved(&model)).unwrap();
    fs::rename(&state, moved(&state)).unwrap();
    let mut second: Solver<f32> = solver(&plain_net(4), &fields(a.path(), ""), &mut Silent).unwrap();
    second.restore(moved(&state), &mut Silent).unwrap();
    assert_eq!(bits(&second), bits(&first));
}

#[test]
fn gradients_are_written_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let diffs = |more: &str| {
        let mut solver: Solver<f64> =
            solver(&plain_net(4), &fields(folder.path(), more), &mut Silent).unwrap();
        solver.step(1, &mut Silent).unwrap();
        let (model, _) = solver.snapshot(&mut Silent).unwrap();
        let file = read_weights(model).unwrap();
        let ip2 = file.layers.iter().find(|l| l.name == "ip2").unwrap();
        assert_eq!((ip2.blobs[0].double_data.len(), ip2.blobs[0].data.len()), (80, 0));
        ip2.blobs[0].diffs::<f64>().unwrap()
    };
    assert!(diffs("").is_empty());
    assert!(diffs("snapshot_diff: true").iter().any(|&d| d != 0.0));
}

#[test]
fn weights_of_the_field_are_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let mut first: Solver<f32> = solver(&plain_net(4), &fields(folder.path(), ""), &mut Silent).unwrap();
    first.step(2, &mut Silent).unwrap();
    let (model, _) = first.snapshot(&mut Silent).unwrap();
    let mut listener = Listener::default();
    let more = format!("weights: '{0}, {0}' random_seed: 9", model.display());
    let text = fields(folder.path(), "").replace("random_seed: 1", &more);
    let second: Solver<f32> = solver(&plain_net(4), &text, &mut listener).unwrap();
    assert_eq!(bits(&second), bits(&first));
    assert_eq!(listener.lines[1..], ["weights ip1 ip2", "weights ip1 ip2"]);
    let missing = text.replace("s_iter_2", "s_iter_3");
    let error = solver::<f32>(&plain_net(4), &missing, &mut Silent).err().unwrap();
    assert_eq!(error.field(), Some("weights[0]"));
}

/// Where [`victim`] writes its snapshots.
const FOLDER: &str = "CORTADO_TEST_VICTIM";

/// Not a test by itself: writes snapshots until it is killed, in a process of its own.
#[test]
fn victim() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let text = fields(Path::new(&folder), "snapshot: 1");
    let mut solver: Solver<f32> = solver(&wide(), &text, &mut Silent).unwrap();
    solver.step(1_000_000, &mut Silent).unwrap();
}

/// Weights of some 400 kB, so that a write can be interrupted.
fn wide() -> String {
    plain_net(4).replace("num_output: 16", "num_output: 1000")
}

#[test]
fn a_killed_process_leaves_a_usable_pair() {
    // The test program knows its tests by their path without the crate.
    let victim = format!("{}::victim", module_path!().split_once("::").unwrap().1);
    for delay in [0, 3, 7, 13] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &victim])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let states = || names(folder.path()).into_iter().filter(|n| n.ends_with(".solverstate"));
        let start = Instant::now();
        while states().count() < 3 && start.elapsed() < Duration::from_secs(60) {
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        let iteration = |name: &String| -> usize {
            name.trim_end_matches(".solverstate").rsplit('_').next().unwrap().parse().unwrap()
        };
        let newest = states().max_by_key(iteration).unwrap();
        let mut solver: Solver<f32> = solver(&wide(), &fields(folder.path(), ""), &mut Silent).unwrap();
        solver.restore(folder.path().join(&newest), &mut Silent).unwrap();
        assert_eq!(solver.iteration(), iteration(&newest));
        solver.step(1, &mut Silent).unwrap();
    }
}
