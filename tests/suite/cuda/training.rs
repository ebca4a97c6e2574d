//! Training on a device: the same losses and weights as on the host, no transfers but the batch and the losses.

use cortado::device::Gpu;
use cortado::net::Keep;
use cortado::proto::caffe::SolverParameter;
use cortado::proto::{read_net, read_solver};
use cortado::solver::{Event, Solver};

/// LeNet on MNIST with batches of 8.
fn lenet() -> SolverParameter {
    let mut net = read_net("nets/mnist/lenet_train_test.prototxt").unwrap().message;
    for data in net.layer.iter_mut().filter_map(|l| l.data_param.as_mut()) {
        data.batch_size = Some(8);
    }
    SolverParameter {
        net: None,
        train_net_param: Some(net),
        test_interval: Some(0),
        test_iter: vec![],
        display: Some(0),
        snapshot: Some(0),
        snapshot_after_train: Some(false),
        random_seed: Some(3),
        ..read_solver("nets/mnist/lenet_solver.prototxt").unwrap().message
    }
}

/// Losses and final weights.
fn train(param: &SolverParameter, device: Option<&Gpu>, iterations: usize) -> (Vec<f64>, Vec<f32>) {
    let mut losses = Vec::new();
    let mut watch = |event: &Event<'_>| {
        if let Event::Iterated { loss, .. } = event {
            losses.push(*loss);
        }
    };
    // On the device blobs share memory, as the command line has it.
    let keep = if device.is_some() { Keep::Outputs } else { Keep::All };
    let mut solver = Solver::<f32>::keeping(param, None, &mut watch, &keep).unwrap();
    solver.set_device(device).unwrap();
    solver.step(iterations, &mut watch).unwrap();
    let weights = solver.weights().iter().flat_map(|p| p.data.host().to_vec()).collect();
    (losses, weights)
}

#[test]
fn lenet_trains_as_on_the_host() {
    let Some(gpu) = super::gpu() else { return };
    let (host, device) = (train(&lenet(), None, 5), train(&lenet(), Some(&gpu), 5));
    for (i, (a, b)) in host.0.iter().zip(&device.0).enumerate() {
        assert!((a - b).abs() < 1e-4 * a.max(1.0), "iteration {i}: loss {a} on the host, {b} on the device");
    }
    assert_eq!((host.1.len(), host.0.len()), (device.1.len(), 5));
    let worst = host.1.iter().zip(&device.1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-4, "weights differ by {worst}");
    assert!(host.1.iter().any(|w| *w != 0.0));
}

#[test]
fn a_steady_iteration_transfers_the_batch_and_the_loss_alone() {
    let Some(gpu) = super::gpu() else { return };
    let mut watch = |_: &Event<'_>| {};
    let mut solver = Solver::<f32>::new(&lenet(), None, &mut watch).unwrap();
    solver.set_device(Some(&gpu)).unwrap();
    // `step` brings the weights home when it is done, so that whoever called it can read them: count one long call.
    let count = |solver: &mut Solver<f32>, iterations| {
        let before = solver.net().transfers();
        solver.step(iterations, &mut |_: &Event<'_>| {}).unwrap();
        let after = solver.net().transfers();
        [after.to_device - before.to_device, after.to_host - before.to_host]
    };
    count(&mut solver, 1);
    let (one, four) = (count(&mut solver, 1), count(&mut solver, 4));
    assert_eq!(
        [four[0] - one[0], four[1] - one[1]],
        [3 * 2, 3],
        "data and label in, loss out: {one:?}, {four:?}"
    );
}

#[test]
fn gradients_are_clipped_and_accumulated_on_the_device() {
    let Some(gpu) = super::gpu() else { return };
    let param = SolverParameter {
        clip_gradients: Some(0.5),
        iter_size: Some(2),
        weight_decay: Some(0.01),
        regularization_type: Some("L1".into()),
        ..lenet()
    };
    let (host, device) = (train(&param, None, 3), train(&param, Some(&gpu), 3));
    for (a, b) in host.0.iter().zip(&device.0) {
        assert!((a - b).abs() < 1e-4 * a.max(1.0), "{:?} {:?}", host.0, device.0);
    }
    let worst = host.1.iter().zip(&device.1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-4, "weights differ by {worst}");
}

#[test]
fn a_run_moves_from_device_to_host_and_back() {
    let Some(gpu) = super::gpu() else { return };
    let mut losses = Vec::new();
    let mut watch = |event: &Event<'_>| {
        if let Event::Iterated { loss, .. } = event {
            losses.push(*loss);
        }
    };
    let mut solver = Solver::<f32>::keeping(&lenet(), None, &mut watch, &Keep::Outputs).unwrap();
    let other = super::gpu().unwrap();
    for device in [Some(&gpu), None, Some(&other), Some(&gpu)] {
        solver.set_device(device).unwrap();
        solver.step(1, &mut watch).unwrap();
    }
    let host = train(&lenet(), None, 4).0;
    assert!(host.iter().zip(&losses).all(|(a, b)| (a - b).abs() < 1e-4 * a.max(1.0)), "{host:?} {losses:?}");
}

#[test]
fn ranking_loss_trains_as_on_the_host() {
    let Some(gpu) = super::gpu() else { return };
    let param = SolverParameter {
        net: None,
        train_net: Some("nets/mnist/rank_train_test.prototxt".into()),
        test_interval: Some(0),
        test_iter: vec![],
        display: Some(0),
        snapshot: Some(0),
        snapshot_after_train: Some(false),
        random_seed: Some(3),
        ..read_solver("nets/mnist/rank_solver.prototxt").unwrap().message
    };
    let (host, device) = (train(&param, None, 2), train(&param, Some(&gpu), 2));
    for (i, (a, b)) in host.0.iter().zip(&device.0).enumerate() {
        assert!((a - b).abs() < 1e-4 * a.max(1.0), "iteration {i}: loss {a} on the host, {b} on the device");
    }
}

#[test]
fn several_precisions_share_a_device() {
    let Some(gpu) = super::gpu() else { return };
    let mut solver = Solver::<f64>::new(&lenet(), None, &mut |_: &Event<'_>| {}).unwrap();
    solver.set_device(Some(&gpu)).unwrap();
    let mut losses = Vec::new();
    solver
        .step(2, &mut |event: &Event<'_>| {
            if let Event::Iterated { loss, .. } = event {
                losses.push(*loss);
            }
        })
        .unwrap();
    let single = train(&lenet(), Some(&gpu), 2).0;
    assert!(losses.iter().zip(&single).all(|(a, b)| (a - b).abs() < 1e-3), "{losses:?} {single:?}");
}
