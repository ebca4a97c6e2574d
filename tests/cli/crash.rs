//! `kill -9` at any moment leaves a snapshot from which training goes on as if nothing had happened.

use crate::running::Running;
use crate::support::{Done, Folder};
use std::thread::sleep;
use std::time::Duration;

/// Seeded numbers below 2^31 (the generator of MINSTD).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0 * 48_271 % 0x7fff_ffff;
        self.0 % bound
    }
}

/// The iterations of the visible files `snap_iter_N.KIND`, ascending. Any other file that came up is an error.
fn snapshots(folder: &Folder, kind: &str) -> Vec<usize> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder.path("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(rest) = name.strip_prefix("snap_iter_") {
            let (iteration, ending) = rest.split_once('.').unwrap();
            assert!(["caffemodel", "solverstate"].contains(&ending), "{name}");
            if ending == kind {
                found.push(iteration.parse().unwrap());
            }
        } else {
            // What was not finished is hidden.
            let ours =
                ["net.prototxt", "solver.prototxt"].contains(&name.as_str()) || name.starts_with("mnist200");
            assert!(ours || name.starts_with('.'), "{name}");
        }
    }
    found.sort();
    found
}

/// Trains from a snapshot of `from`, to an iteration, in a new folder.
fn resumed(from: &Folder, snapshot: usize, to: usize) -> (Folder, Done) {
    let folder = Folder::new();
    for kind in ["caffemodel", "solverstate"] {
        let name = format!("snap_iter_{snapshot}.{kind}");
        folder.write(&name, from.read(&name));
    }
    folder.solver("solver.prototxt", &format!("max_iter: {to}"));
    let done =
        folder.cortado(&format!("train -solver solver.prototxt -snapshot snap_iter_{snapshot}.solverstate"));
    (folder, done)
}

#[test]
fn any_moment_leaves_a_usable_pair() {
    let folder = Folder::new();
    folder.solver("solver.prototxt", "max_iter: 1000000\nsnapshot: 1");
    let mut draw = Draw(2_026);
    let mut newest = None;
    for round in 0..10 {
        let words = "train -solver solver.prototxt".to_string();
        let words = newest.map_or(words.clone(), |n| format!("{words} -snapshot snap_iter_{n}.solverstate"));
        let mut run = Running::start(&folder, &words);
        // Some die early, some in the midst of their snapshots.
        if round % 3 != 0 {
            run.wait_for("Snapshotting solver state");
        }
        sleep(Duration::from_micros(draw.below(80_000)));
        run.kill();

        let (models, states) = (snapshots(&folder, "caffemodel"), snapshots(&folder, "solverstate"));
        // Whoever was not waited for may have died before its first one.
        let Some(&last) = states.last() else { continue };
        assert!(newest.is_none_or(|n| n <= last), "{newest:?} before, {last} after");
        assert!(states.iter().all(|state| models.contains(state)), "{models:?}, {states:?}");
        // The weights may be one snapshot ahead of the states, and are whole then, too.
        for model in &models[models.len().saturating_sub(2)..] {
            let words =
                format!("test -model net.prototxt -weights snap_iter_{model}.caffemodel -iterations 1");
            folder.cortado(&words).ok();
        }
        let (_, done) = resumed(&folder, last, last + 1);
        assert!(done.ok().stderr.contains(&format!("at iteration {last}")));
        newest = Some(last);
    }
    // After all these deaths the weights are those of a run that was left in peace.
    let last = newest.expect("no snapshot in ten runs");
    let peace = Folder::new();
    peace.solver("solver.prototxt", &format!("max_iter: {last}"));
    peace.cortado("train -solver solver.prototxt").ok();
    let name = format!("snap_iter_{last}.caffemodel");
    assert!(peace.read(&name) == folder.read(&name), "{name} differs from an undisturbed run's");
}
