//! Caffe's own runs: the same net, solver and data end in the same weights and log the same losses.

use super::common::*;
use cortado::net::load_weights;
use cortado::proto::binary::read_solver_state;
use cortado::proto::{StoredWeights, parse_net, read_solver, read_weights};
use cortado::solver::{Silent, Solver};
use std::fs;

const CASES: [&str; 5] =
    ["average_loss", "sgd_clip_inv", "sgd_itersize_exp", "sgd_l1_poly", "sgd_momentum_step"];

/// The solver of a case, which reads its rows through `TestRows` and snapshots to `folder`.
fn open(case: &str, folder: &std::path::Path) -> Solver<f32> {
    register();
    let dir = golden(case);
    let mut parsed = read_solver(dir.join("solver.prototxt")).unwrap();
    let net = fs::read_to_string(dir.join("net.prototxt")).unwrap();
    let rows = dir.join("train.npz").display().to_string();
    let net = net.replace("HDF5Data", "TestRows").replace("train.txt", &rows);
    let param = &mut parsed.message;
    param.net = None;
    param.net_param = Some(parse_net(&net, "net.prototxt").unwrap().message);
    param.snapshot_prefix = Some(folder.join("snap").display().to_string());
    Solver::new(param, Some(&parsed.source), &mut Silent).unwrap()
}

/// Asserts that the weights are those of Caffe's snapshot.
fn assert_weights(solver: &Solver<f32>, case: &str, snapshot: &str) {
    let file = read_weights(golden(case).join(snapshot)).unwrap();
    let expected: Vec<f64> =
        file.layers.iter().flat_map(|l| &l.blobs).flat_map(|b| b.values::<f64>().unwrap()).collect();
    assert_eq!(expected.len(), 4 * 2 * 9 + 4 + 5 * 24 + 5);
    assert_close(&values(solver), &expected, 1e-4);
}

/// The numbers behind `marker` in the lines of Caffe's log.
fn logged(case: &str, marker: &str) -> Vec<f64> {
    let log = fs::read_to_string(golden(case).join("train.log")).unwrap();
    let lines = log.lines().filter(|l| l.starts_with("Iteration"));
    let numbers = lines.filter_map(|l| l.split_once(marker)).map(|(_, n)| n.trim().parse().unwrap());
    numbers.collect()
}

fn assert_logged(listener: &Listener, case: &str, from: usize) {
    let losses: Vec<f64> = listener.displays.iter().map(|d| d.1).chain(listener.last).collect();
    assert_close(&losses, &logged(case, ", loss =")[from..], 1e-4);
    let rates: Vec<f64> = listener.displays.iter().map(|d| d.2).collect();
    assert_close(&rates, &logged(case, ", lr =")[from..], 1e-6);
}

#[test]
fn training_ends_in_caffes_weights() {
    for case in CASES {
        println!("{case}");
        let folder = tempfile::tempdir().unwrap();
        let mut solver = open(case, folder.path());
        let (net, weights) = solver.net_and_weights();
        let mut init = StoredWeights::open(golden(case).join("init.caffemodel")).unwrap();
        let report = load_weights(net, weights, &mut init).unwrap();
        assert_eq!((report.loaded.len(), report.missing.len(), report.misfits.len()), (2, 0, 0));
        let mut listener = Listener::default();
        solver.solve(&mut listener).unwrap();
        assert_weights(&solver, case, "snap_iter_20.caffemodel");
        assert_logged(&listener, case, 0);

        // The history, and all that Caffe writes into its state.
        for n in [10, 20] {
            let name = format!("snap_iter_{n}.solverstate");
            let ours = read_solver_state(folder.path().join(&name)).unwrap();
            let caffes = read_solver_state(golden(case).join(&name)).unwrap();
            assert_eq!((ours.iter, ours.current_step), (caffes.iter, caffes.current_step), "{case}");
            assert_eq!(ours.history.len(), caffes.history.len());
            for (a, b) in ours.history.iter().zip(&caffes.history) {
                assert_eq!(a.shape, b.shape);
                assert_close(&a.values::<f64>().unwrap(), &b.values::<f64>().unwrap(), 1e-4);
            }
            assert!(ours.resume.is_some() && caffes.resume.is_none());
        }
    }
}

#[test]
fn training_goes_on_from_caffes_snapshots() {
    for case in CASES {
        println!("{case}");
        let folder = tempfile::tempdir().unwrap();
        let mut solver = open(case, folder.path());
        let mut listener = Listener::default();
        solver.restore(golden(case).join("snap_iter_10.solverstate"), &mut listener).unwrap();
        assert_eq!(solver.iteration(), 10);
        assert_weights(&solver, case, "snap_iter_10.caffemodel");
        solver.solve(&mut listener).unwrap();
        assert_weights(&solver, case, "snap_iter_20.caffemodel");
        if case != "average_loss" {
            // Caffe's state does not hold the window of average_loss.
            assert_logged(&listener, case, 2);
        }
    }
}

#[test]
fn snapshots_hold_what_caffes_hold() {
    let case = "sgd_momentum_step";
    let folder = tempfile::tempdir().unwrap();
    let mut solver = open(case, folder.path());
    solver.restore(golden(case).join("snap_iter_10.solverstate"), &mut Silent).unwrap();
    let (model, _) = solver.snapshot(&mut Silent).unwrap();
    let (ours, caffes) =
        (read_weights(model).unwrap(), read_weights(golden(case).join("snap_iter_10.caffemodel")).unwrap());
    assert_eq!(ours.name, caffes.name);
    assert_eq!(ours.layers.len(), caffes.layers.len());
    for (a, b) in ours.layers.iter().zip(&caffes.layers) {
        assert_eq!((&a.name, &a.blobs), (&b.name, &b.blobs));
    }
}
