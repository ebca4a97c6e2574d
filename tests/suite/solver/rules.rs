//! Arithmetic that can be checked without Caffe: accumulation, clipping, threads.

use super::common::*;
use cortado::device::Pool;
use cortado::solver::{Action, Silent, Solver};

const SGD: &str =
    "base_lr: 0.1 lr_policy: 'fixed' momentum: 0.9 weight_decay: 0.01 random_seed: 3 max_iter: 6";

#[test]
fn two_half_batches_are_one_batch() {
    let train = |batch: usize, iter_size: usize| {
        let fields = format!("{SGD} iter_size: {iter_size}");
        let mut listener = Listener::default();
        let mut solver: Solver<f64> = solver(&plain_net(batch), &fields, &mut listener).unwrap();
        let before = values(&solver);
        solver.solve(&mut listener).unwrap();
        assert_ne!(values(&solver), before);
        (values(&solver), listener.losses)
    };
    let (whole, halves) = (train(8, 1), train(4, 2));
    assert_close(&halves.0, &whole.0, 1e-12);
    assert_close(&halves.1, &whole.1, 1e-12);
    assert!((train(4, 1).0[0] - whole.0[0]).abs() > 1e-6);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let train = |threads| {
        Pool::new(threads).unwrap().install(|| {
            let mut solver: Solver<f32> = solver(&wide_net(), SGD, &mut Silent).unwrap();
            solver.solve(&mut Silent).unwrap();
            bits(&solver)
        })
    };
    let one = train(1);
    assert_eq!(one, train(2));
    assert_eq!(one, train(3));
}

/// Parameters larger than the piece that one thread updates.
fn wide_net() -> String {
    dropout_net(8).replace("num_output: 16", "num_output: 700")
}

#[test]
fn clipping_limits_the_step_of_all_parameters_together() {
    let step = |clip: f64| {
        let fields = format!(
            "base_lr: 1 lr_policy: 'fixed' random_seed: 3 max_iter: 1 iter_size: 2 clip_gradients: {clip}"
        );
        let mut listener = Listener::default();
        let mut solver: Solver<f64> = solver(&plain_net(4), &fields, &mut listener).unwrap();
        let before = values(&solver);
        solver.step(1, &mut listener).unwrap();
        let change = values(&solver).iter().zip(&before).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        (change.sqrt(), listener.lines.iter().filter(|l| *l == "clipped").count())
    };
    let (free, events) = step(-1.0);
    assert_eq!((events, step(1e6)), (0, (free, 0)));
    // Caffe clips what iter_size passes added up, and divides afterwards. The limit itself is a float.
    let (clipped, events) = step(free);
    assert!((clipped - free / 2.0).abs() < 1e-6 && events == 1, "{clipped} of {free}");
}

/// The last iteration of each call of `step` leaves its gradients to who may read them; the update of the others clears them along.
#[test]
fn gradients_cleared_along_change_no_bit() {
    let net = dropout_net(8).replace("name: 'ip2'", "name: 'ip2' param { lr_mult: 2 } param { lr_mult: 0 }");
    let fields = format!("{SGD} iter_size: 2 clip_gradients: 0.3");
    let open = || -> Solver<f32> { solver(&net, &fields, &mut Silent).unwrap() };
    let train = |steps: &[usize]| {
        let mut solver = open();
        steps.iter().for_each(|&n| assert!(!solver.step(n, &mut Silent).unwrap()));
        let diffs: Vec<Vec<f32>> = solver.weights().iter().map(|p| p.diff.host().to_vec()).collect();
        assert!(diffs[0].iter().any(|&d| d != 0.0), "the last gradients are left");
        (bits(&solver), diffs)
    };
    let apart = train(&[1; 6]);
    assert_eq!(train(&[6]), apart);
    assert_eq!(train(&[2, 1, 3]), apart);

    // Stopped in between, all are zeros; what somebody then writes there is cleared like any other.
    let mut listener =
        Listener { actions: vec![(2, Action::Stop { snapshot: false })], ..Default::default() };
    let mut stopped = open();
    assert!(stopped.step(6, &mut listener).unwrap());
    assert_eq!(stopped.iteration(), 2);
    assert!(stopped.weights().iter().all(|p| p.diff.host().iter().all(|&d| d == 0.0)));
    stopped.weights_mut().iter_mut().for_each(|p| p.diff.host_mut().fill(1e3));
    stopped.step(4, &mut Silent).unwrap();
    assert_eq!(bits(&stopped), apart.0);
}

#[test]
fn parameters_that_are_not_learned_stay() {
    let net = plain_net(4).replace("name: 'ip1'", "name: 'ip1' param { lr_mult: 0 }");
    let mut solver: Solver<f32> = solver(&net, SGD, &mut Silent).unwrap();
    let param = |s: &Solver<f32>, i| s.weights().iter().nth(i).unwrap().data.host().to_vec();
    let before = [param(&solver, 0), param(&solver, 1)];
    solver.solve(&mut Silent).unwrap();
    assert_eq!(param(&solver, 0), before[0]);
    assert_ne!(param(&solver, 1), before[1]);
}
