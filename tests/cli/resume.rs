//! Signals, and runs that go on where they stopped: the same weights as without a stop, bit for bit.

use crate::running::Running;
use crate::support::{Folder, number_behind};

const ENDLESS: &str = "max_iter: 100000000\ndisplay: 1\naverage_loss: 7\nlr_policy: \"inv\"\ngamma: 0.01\npower: 0.75\ntest_iter: 2\ntest_interval: 9";

/// The lines of a log that show the loss of an iteration above `from`, without their times.
fn losses(log: &str, from: usize) -> Vec<(usize, String)> {
    let lines = log.lines().filter(|line| line.contains("iter/s") && line.contains(", loss = "));
    let parts = lines
        .map(|line| (number_behind(line, "] Iteration "), line.rsplit(", ").next().unwrap().to_string()));
    parts.filter(|(iteration, _)| *iteration > from).collect()
}

#[test]
fn interrupted_and_resumed_is_the_same_as_not_interrupted() {
    let folder = Folder::new();
    folder.solver("endless.prototxt", ENDLESS);
    let mut run = Running::start(&folder, "train -solver endless.prototxt -threads 2");
    run.wait_for("Iteration 20 (");
    run.signal("INT");
    let done = run.end().ok();
    let line = done.stderr.lines().rfind(|l| l.contains("Optimization stopped early")).unwrap();
    let stop = number_behind(line, "after ");
    assert!(stop > 20, "{line}");
    assert!(
        done.stderr.contains(&format!("binary proto file snap_iter_{stop}.solverstate")),
        "{}",
        done.stderr
    );

    let end = stop + 20;
    let rest = ENDLESS.replace("100000000", &end.to_string());
    folder.solver("rest.prototxt", &rest);
    // One thread or two: the same.
    let state = format!("snap_iter_{stop}.solverstate");
    let resumed = folder.cortado(&format!("train -solver rest.prototxt -snapshot {state} -threads 1")).ok();
    let straight = Folder::new();
    straight.solver("rest.prototxt", &rest);
    let whole = straight.cortado("train -solver rest.prototxt -threads 2").ok();
    for kind in ["caffemodel", "solverstate"] {
        let name = format!("snap_iter_{end}.{kind}");
        assert!(
            folder.read(&name) == straight.read(&name),
            "{name} differs from that of a run without a stop"
        );
    }
    // What is shown goes on, too, the mean over seven iterations included.
    let shown = losses(&resumed.stderr, stop);
    assert_eq!(shown.len(), 19, "{shown:?}");
    assert_eq!(shown, losses(&whole.stderr, stop));
    // And the weights were really trained on: another 20 iterations change them.
    assert!(
        folder.read(&format!("snap_iter_{stop}.caffemodel"))
            != folder.read(&format!("snap_iter_{end}.caffemodel"))
    );
}

#[test]
fn threads_do_not_change_the_weights() {
    let runs = ["1", "2", "3"].map(|threads| {
        let folder = Folder::new();
        folder.solver("solver.prototxt", "max_iter: 30");
        folder.cortado(&format!("train -solver solver.prototxt -threads {threads}")).ok();
        ["caffemodel", "solverstate"].map(|kind| folder.read(&format!("snap_iter_30.{kind}")))
    });
    assert!(runs[0] == runs[1] && runs[0] == runs[2]);
}

#[test]
fn hang_up_writes_a_snapshot_and_goes_on() {
    let folder = Folder::new();
    folder.solver("endless.prototxt", ENDLESS);
    let mut run = Running::start(&folder, "train -solver endless.prototxt");
    run.wait_for("Iteration 3 (");
    run.signal("HUP");
    let line = run.wait_for("Snapshotting solver state to binary proto file snap_iter_");
    let at = number_behind(&line, "snap_iter_");
    run.wait_for(&format!("Iteration {} (", at + 3));
    // The pair is usable while the run goes on.
    folder.solver("more.prototxt", &format!("max_iter: {}\nsnapshot_prefix: \"more\"", at + 1));
    folder.cortado(&format!("train -solver more.prototxt -snapshot snap_iter_{at}.solverstate")).ok();
    run.signal("INT");
    assert!(run.end().ok().stderr.contains("Optimization stopped early"));
}

#[test]
fn effects_of_signals_can_be_chosen() {
    let folder = Folder::new();
    folder.solver("endless.prototxt", ENDLESS);
    let start = |flags: &str| {
        let mut run = Running::start(&folder, &format!("train -solver endless.prototxt {flags}"));
        run.wait_for("Iteration 3 (");
        run
    };
    // none: the signal is caught and nothing comes of it; the other one still stops the run.
    let mut run = start("-sigint_effect none -sighup_effect stop");
    run.signal("INT");
    for _ in 0..50 {
        run.wait_for(" lr = ");
    }
    run.signal("HUP");
    let log = run.end().ok().stderr;
    let snapshots = log.matches("Snapshotting solver state").count();
    assert!(snapshots == 1 && log.contains("Optimization stopped early"), "{log}");

    let mut run = start("-sigint_effect=snapshot --sighup_effect=none");
    run.signal("INT");
    let at = number_behind(&run.wait_for("Snapshotting solver state"), "snap_iter_");
    run.signal("HUP");
    run.wait_for(&format!("Iteration {} (", at + 20));
    run.kill();
    assert!(folder.path(format!("snap_iter_{at}.solverstate")).exists());

    let mut run = start("-sigint_effect stop");
    run.signal("INT");
    run.wait_for("Snapshotting solver state");
    assert!(run.end().ok().stderr.contains("Optimization stopped early"));
}

/// A snapshot that is asked for in the midst of a test is one of the moment before: the test runs again as a whole, on the
/// same records.
#[test]
fn a_signal_in_a_test_shifts_no_data() {
    const TESTS: &str = "test_iter: 1003\ntest_interval: 5\nmax_iter: ";
    let straight = Folder::new();
    straight.solver("solver.prototxt", &format!("{TESTS}9"));
    straight.cortado("train -solver solver.prototxt").ok();
    for signal in ["INT", "HUP"] {
        let folder = Folder::new();
        folder.solver("endless.prototxt", &format!("{TESTS}100000"));
        let mut run = Running::start(&folder, "train -solver endless.prototxt");
        run.wait_for("Iteration 5, Testing net (#0)");
        run.signal(signal);
        let at = number_behind(&run.wait_for("Snapshotting solver state"), "snap_iter_");
        run.kill();
        // On a machine that is very busy the signal may come after the test, and this shows nothing.
        if at < 9 {
            folder.solver("rest.prototxt", &format!("{TESTS}9"));
            folder.cortado(&format!("train -solver rest.prototxt -snapshot snap_iter_{at}.solverstate")).ok();
            for kind in ["caffemodel", "solverstate"] {
                let name = format!("snap_iter_9.{kind}");
                assert!(folder.read(&name) == straight.read(&name), "{signal} at {at}: {name} differs");
            }
        }
    }
}
