//! Arithmetic that can be checked without Caffe: accumulation, clipping, threads.

use super::common::*;
use cortado::device::Pool;
use cortado::solver::{Silent, Solver};

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
    // Caffe clips what iter_size passes added up, and divides afterwards.
    let (clipped, events) = step(free);
    assert!((clipped - free / 2.0).abs() < 1e-12 && events == 1, "{clipped} of {free}");
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
