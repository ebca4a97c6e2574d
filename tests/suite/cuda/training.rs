//! Training on a device: the same losses and weights as on the host, no transfers but the batch and the losses.

use cortado::device::Gpu;
use cortado::net::Keep;
use cortado::proto::caffe::SolverParameter;
use cortado::proto::{read_net, read_solver};
use cortado::solver::{Event, Solver};

/// LeNet on MNIST with batches of 8.
pub fn lenet() -> SolverParameter {
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

#[test]
fn one_launch_updates_all_parameters() {
    let Some(gpu) = super::gpu() else { return };
    let param = SolverParameter { clip_gradients: Some(1e-3), ..lenet() };
    let mut counts = Vec::new();
    let count = |name| super::runs(name).unwrap_or(0);
    let mut clipped = 0;
    let mut watch = |event: &Event<'_>| match event {
        Event::Clipped { norm, limit, scale } => {
            assert!((norm * scale - limit).abs() < 1e-9);
            clipped += 1;
        }
        Event::Iterated { .. } => counts.push([count("update"), count("norm_of_gradients"), count("clear")]),
        _ => {}
    };
    let mut solver = Solver::<f32>::new(&param, None, &mut watch).unwrap();
    solver.set_device(Some(&gpu)).unwrap();
    solver.step(4, &mut watch).unwrap();
    assert!(
        solver.weights().iter().all(|p| p.diff.host().iter().any(|d| *d != 0.0)),
        "the last step is there to be read"
    );
    solver.step(2, &mut watch).unwrap();
    assert_eq!((clipped, counts.len()), (6, 6));
    if super::runs("").is_some() {
        // One of each kernel in an iteration; gradients are cleared by the update itself, but where the one before left them to be read.
        let clear = counts[0][2];
        for (i, [update, norm, cleared]) in counts.iter().enumerate() {
            let after_a_call = u32::from(i >= 4);
            assert_eq!(
                [*update, *norm, *cleared],
                [i as u32 + 1, i as u32 + 1, clear + after_a_call],
                "{counts:?}"
            );
        }
    }
}

#[test]
fn the_next_batch_comes_while_this_one_trains() {
    for gpu in [super::gpu(), super::hasty_gpu()].into_iter().flatten() {
        batches_come_aside(&gpu);
    }
}

fn batches_come_aside(gpu: &Gpu) {
    let before = super::pinned_copies();
    let mut copies = Vec::new();
    let mut watch = |event: &Event<'_>| {
        if let Event::Iterated { .. } = event {
            // Of images and labels: those of this iteration and of the next.
            copies.push(super::pinned_copies() - before);
        }
    };
    let mut solver = Solver::<f32>::new(&lenet(), None, &mut watch).unwrap();
    solver.set_device(Some(gpu)).unwrap();
    solver.step(3, &mut watch).unwrap();
    let records = |solver: &Solver<f32>| solver.net().nodes().iter().find_map(|n| n.layer.records());
    assert_eq!(records(&solver), Some(24), "a batch that is on its way has not been handed out");
    // Another place in the data: the batch that is on its way is the wrong one.
    for node in solver.net_mut().nodes_mut() {
        if node.layer.records().is_some() {
            node.layer.seek(0).unwrap();
        }
    }
    solver.step(2, &mut watch).unwrap();
    assert_eq!(records(&solver), Some(16));
    let labels = |net: &cortado::net::Net<f32>| net.data(net.blob("label").unwrap()).to_vec();
    let mut fresh = Solver::<f32>::new(&lenet(), None, &mut |_: &Event<'_>| {}).unwrap();
    fresh.step(2, &mut |_: &Event<'_>| {}).unwrap();
    assert_eq!(labels(solver.net()), labels(fresh.net()));
    let images = |net: &cortado::net::Net<f32>| net.data(net.blob("data").unwrap()).to_vec();
    assert_eq!(images(solver.net()), images(fresh.net()));
    if super::runs("").is_some() {
        // The copy of one batch was for nothing.
        assert_eq!(copies, [4, 6, 8, 12, 14]);
    }
}
