//! A resumed run ends in the same bits as one that was never stopped.

use super::common::*;
use cortado::solver::{Action, Silent, Solver};
use std::path::Path;

fn fields(folder: &Path, more: &str) -> String {
    format!(
        "base_lr: 0.1 lr_policy: 'multistep' gamma: 0.5 stepvalue: 3 stepvalue: 7 momentum: 0.9 weight_decay: 0.01
         display: 1 average_loss: 4 max_iter: 12 snapshot: 5 snapshot_prefix: '{}' {more}",
        folder.join("run").display()
    )
}

fn check<T: cortado::math::Real>(more: &str, resumed_with: &str) {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let net = dropout_net(8);
    let mut listener = Listener::default();
    let mut whole: Solver<T> = solver(&net, &fields(a.path(), more), &mut Silent).unwrap();
    whole.solve(&mut listener).unwrap();

    let mut again = Listener::default();
    let mut resumed: Solver<T> = solver(&net, &fields(b.path(), resumed_with), &mut again).unwrap();
    resumed.restore(a.path().join("run_iter_5.solverstate"), &mut again).unwrap();
    assert_eq!((resumed.iteration(), resumed.seed()), (5, whole.seed()));
    resumed.solve(&mut again).unwrap();
    assert_eq!(bits(&resumed), bits(&whole));
    // The log goes on as well, the averaged losses and the rates included.
    assert_eq!(again.displays, listener.displays[5..]);
    assert_eq!(again.last, listener.last);
    assert_eq!(again.losses, listener.losses[5..]);
}

#[test]
fn with_the_same_seed() {
    check::<f32>("random_seed: 4", "random_seed: 4");
    check::<f64>("random_seed: 4 iter_size: 3", "random_seed: 4 iter_size: 3");
}

#[test]
fn with_the_seed_of_the_snapshot() {
    // None is given: both take theirs from the clock, and the snapshot brings its own.
    check::<f32>("", "");
    check::<f32>("random_seed: 4", "random_seed: 5");
}

#[test]
fn another_seed_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let mut first: Solver<f32> =
        solver(&dropout_net(8), &fields(folder.path(), "random_seed: 4"), &mut Silent).unwrap();
    first.step(5, &mut Silent).unwrap();
    let mut listener = Listener::default();
    let mut second: Solver<f32> =
        solver(&dropout_net(8), &fields(folder.path(), "random_seed: 5"), &mut Silent).unwrap();
    second.restore(folder.path().join("run_iter_5.solverstate"), &mut listener).unwrap();
    assert!(listener.lines[0].contains("its own seed, 4, not with random_seed 5"), "{:?}", listener.lines);
}

#[test]
fn after_a_stop_by_the_user_and_with_tests_between() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let net = dropout_net(8);
    let tests = "random_seed: 4 test_iter: 2 test_interval: 2";
    let mut listener = Listener::default();
    let mut whole: Solver<f32> = solver(&net, &fields(a.path(), tests), &mut Silent).unwrap();
    whole.solve(&mut listener).unwrap();

    // Two questions per test, one per iteration: the 9th is asked after iteration 3, of which 4 are then done.
    let actions = vec![(8, Action::Stop { snapshot: true })];
    let mut stopped = Listener { actions, ..Default::default() };
    let mut first: Solver<f32> = solver(&net, &fields(b.path(), tests), &mut Silent).unwrap();
    first.solve(&mut stopped).unwrap();
    assert_eq!(first.iteration(), 4);
    let last = &stopped.lines[stopped.lines.len() - 2..];
    assert_eq!(last, ["snapshot 4 run_iter_4.caffemodel run_iter_4.solverstate", "stopped 4"]);

    let mut again = Listener::default();
    let mut resumed: Solver<f32> = solver(&net, &fields(b.path(), tests), &mut Silent).unwrap();
    resumed.restore(b.path().join("run_iter_4.solverstate"), &mut again).unwrap();
    resumed.solve(&mut again).unwrap();
    assert_eq!(bits(&resumed), bits(&whole));
    let from = listener.tests.iter().position(|t| t.0 == 4).unwrap();
    assert_eq!(again.tests, listener.tests[from..]);
}
