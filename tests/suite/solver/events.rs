//! What is told, and in which order; several test nets; stages.

use super::common::*;
use cortado::solver::{Action, Silent, Solver};

#[test]
fn the_order_of_events_is_caffes() {
    let folder = tempfile::tempdir().unwrap();
    let fields = format!(
        "base_lr: 0.1 lr_policy: 'multistep' gamma: 0.5 stepvalue: 1 random_seed: 1 display: 2 max_iter: 4
         test_iter: 2 test_interval: 2 test_compute_loss: true snapshot: 2 snapshot_prefix: '{}'",
        folder.path().join("s").display()
    );
    let mut listener = Listener::default();
    let mut solver: Solver<f32> = solver(&plain_net(4), &fields, &mut listener).unwrap();
    solver.solve(&mut listener).unwrap();
    let expected = [
        "seed false",
        "start 0 4 multistep",
        "test 0 #0",
        "result 0 #0 loss true",
        "display 0 loss",
        "step 1 1",
        "snapshot 2 s_iter_2.caffemodel s_iter_2.solverstate",
        "test 2 #0",
        "result 2 #0 loss true",
        "display 2 loss",
        "snapshot 4 s_iter_4.caffemodel s_iter_4.solverstate",
        "final 4",
        "test 4 #0",
        "result 4 #0 loss true",
        "done 4",
    ];
    assert_eq!(listener.lines, expected);
}

#[test]
fn several_test_nets_in_their_stages() {
    let accuracy = "layer { name: 'acc' type: 'Accuracy' bottom: 'ip2' bottom: 'label' top: 'acc'
        include { phase: TEST stage: 'deep' } }\n";
    let train_only = "layer { name: 'quiet' type: 'Silence' bottom: 'data' include { phase: TRAIN } }\n";
    let net = plain_net(4) + accuracy + train_only;
    let fields = "base_lr: 0.1 lr_policy: 'fixed' random_seed: 1 max_iter: 3 test_iter: 5 test_iter: 3
        test_interval: 1 test_initialization: false test_state {} test_state { stage: 'deep' }";
    let mut listener = Listener::default();
    let mut solver: Solver<f64> = solver(&net, fields, &mut listener).unwrap();
    assert_eq!(solver.weights().len(), 4, "test nets share the weights");
    assert!(solver.net().nodes().iter().any(|n| n.name == "quiet"));
    solver.step(2, &mut listener).unwrap();
    let lines: Vec<&str> = listener.lines.iter().skip(1).map(String::as_str).collect();
    assert_eq!(lines, ["test 1 #0", "result 1 #0 loss false", "test 1 #1", "result 1 #1 acc loss false"]);

    // Five batches of 4 are all 20 rows: the mean of them is the loss of one batch of 20 in the same weights.
    let mut listener = Listener::default();
    solver.test(&mut listener).unwrap();
    let mean = listener.tests[0].2[0];
    let mut one: Solver<f64> = self::solver(&plain_net(20), SILENT, &mut Silent).unwrap();
    for (to, from) in one.weights_mut().iter_mut().zip(solver.weights().iter()) {
        to.data.host_mut().copy_from_slice(from.data.host());
    }
    let (net, weights) = one.net_and_weights();
    assert_close(&[mean], &[net.forward(weights).unwrap()], 1e-12);
}

const SILENT: &str = "base_lr: 0.1 lr_policy: 'fixed' random_seed: 1";

#[test]
fn train_state_chooses_layers() {
    let net =
        plain_net(4) + "layer { name: 'extra' type: 'Silence' bottom: 'data' include { stage: 'more' } }\n";
    let has = |fields: &str| {
        let solver: Solver<f32> = solver(&net, fields, &mut Silent).unwrap();
        solver.net().nodes().iter().any(|n| n.name == "extra")
    };
    assert!(!has(SILENT));
    assert!(has(&format!("{SILENT} train_state {{ stage: 'more' }}")));
}

#[test]
fn actions_snapshot_and_stop() {
    let folder = tempfile::tempdir().unwrap();
    let fields = format!("{SILENT} max_iter: 9 snapshot_prefix: '{}'", folder.path().join("s").display());
    let actions = vec![(2, Action::Snapshot), (4, Action::Stop { snapshot: false })];
    let mut listener = Listener { actions, ..Default::default() };
    let mut solver: Solver<f32> = solver(&plain_net(4), &fields, &mut listener).unwrap();
    solver.solve(&mut listener).unwrap();
    let expected =
        ["seed false", "start 0 9 fixed", "snapshot 2 s_iter_2.caffemodel s_iter_2.solverstate", "stopped 4"];
    assert_eq!(listener.lines, expected);
}

#[test]
fn a_stop_ends_a_test() {
    let fields = format!("{SILENT} max_iter: 9 test_iter: 4 test_interval: 5");
    let mut listener =
        Listener { actions: vec![(3, Action::Stop { snapshot: false })], ..Default::default() };
    let mut solver: Solver<f32> = solver(&plain_net(4), &fields, &mut listener).unwrap();
    solver.solve(&mut listener).unwrap();
    assert_eq!(listener.lines[2..], ["test 0 #0", "test interrupted", "stopped 0"]);
}

#[test]
fn seeds_repeat_a_run_and_the_clock_gives_one() {
    let train = |fields: &str| {
        let mut listener = Listener::default();
        let mut solver: Solver<f32> = solver(&dropout_net(4), fields, &mut listener).unwrap();
        solver.step(3, &mut Silent).unwrap();
        (bits(&solver), solver.seed(), listener.lines[0].clone())
    };
    let clock = train("base_lr: 0.1 lr_policy: 'fixed'");
    assert_eq!(clock.2, "seed true");
    let again = train(&format!("base_lr: 0.1 lr_policy: 'fixed' random_seed: {}", clock.1));
    assert_eq!((again.0, again.2.as_str()), (clock.0, "seed false"));
    assert_ne!(train(SILENT).0, train(&SILENT.replace("seed: 1", "seed: 2")).0);
}

#[test]
fn debug_info_tells_of_displayed_iterations() {
    let mut listener = Listener::default();
    let fields = format!("{SILENT} display: 2 debug_info: true");
    let mut solver: Solver<f32> = solver(&plain_net(4), &fields, &mut listener).unwrap();
    solver.step(2, &mut listener).unwrap();
    let count = |what: &str| listener.lines.iter().filter(|l| l.contains(what)).count();
    assert_eq!(count("[Forward] Layer ip1, top blob ip1 data"), 1);
    assert_eq!(count("[Backward] All net params (data, diff): L1 norm = ("), 1);
}

#[test]
fn gpu_mode_is_warned_of() {
    let mut listener = Listener::default();
    let _: Solver<f32> =
        solver(&plain_net(4), &format!("{SILENT} solver_mode: GPU device_id: 77"), &mut listener).unwrap();
    assert!(listener.lines[0].contains("training on the CPU"), "{:?}", listener.lines);
}
