//! Fillers on a device: the CPU's numbers, and `DummyData` without a transfer.

use cortado::blob::{Buffer, Weights};
use cortado::device::{Gpu, Memory, Transfers};
use cortado::math::filler::FILLERS;
use cortado::math::{Purpose, Real, Stream, fill, fill_on_device};
use cortado::net::{Iterations, Keep, Net};
use cortado::proto::caffe::FillerParameter;
use cortado::proto::{parse_net, parse_solver};
use cortado::solver::{Event, Solver};

/// Fillers as one writes them, with shapes.
const CASES: [(&str, &[usize]); 14] = [
    ("type: 'constant' value: -0.3", &[3, 5]),
    ("type: 'uniform' min: -0.7 max: 1.9", &[7, 13, 5]),
    ("type: 'uniform' min: 2 max: 2", &[3]),
    ("type: 'gaussian' mean: 0.3 std: 1.7", &[33, 31]),
    ("type: 'gaussian'", &[1]),
    ("type: 'gaussian' std: 0.01 sparse: 3", &[10, 27]),
    ("type: 'gaussian' sparse: 0", &[2, 3]),
    ("type: 'positive_unitball'", &[5, 3, 40]),
    ("type: 'positive_unitball'", &[9, 1]),
    ("type: 'positive_unitball'", &[2, 5000]),
    ("type: 'xavier' variance_norm: AVERAGE", &[6, 5, 3, 3]),
    ("type: 'msra' variance_norm: FAN_OUT", &[6, 5, 3, 3]),
    ("type: 'bilinear'", &[2, 3, 4, 4]),
    ("type: 'bilinear'", &[1, 2, 7, 7]),
];

fn filler(text: &str) -> FillerParameter {
    let net = format!(
        "layer {{ name: 'x' type: 'DummyData' top: 'x' dummy_data_param {{ data_filler {{ {text} }} }} }}"
    );
    parse_net(&net, "test").unwrap().message.layer[0].dummy_data_param.as_ref().unwrap().data_filler[0]
        .clone()
}

fn agree<T: Real>(gpu: &Gpu) {
    // The device has the pass from its memory: the one of the stream there is another.
    let pass = Memory::<u64>::new(gpu, 1).unwrap();
    pass.write(&[1 << 33 | 5]).unwrap();
    let stream = |pass| Stream::of(Purpose::Forward, 0x0123_4567_89ab_cdef, 7, pass);
    let (mut on_host, mut on_device) = (stream(1 << 33 | 5), stream(0));
    for (text, shape) in CASES {
        let (param, count) = (filler(text), shape.iter().product());
        let mut host = vec![T::nan(); count];
        fill(&param, shape, &mut on_host, &mut host).unwrap();
        let mut device = Buffer::<T>::new(count);
        device.overwrite_on_device(gpu).unwrap();
        let out = device.on_device_mut().unwrap();
        fill_on_device(gpu, &param, shape, &mut on_device, pass.view(), out).unwrap();
        device.to_host(&mut Transfers::default()).unwrap();
        let spread = host.iter().any(|v| *v != host[0]);
        assert!(
            spread
                || count == 1
                || text.contains("constant")
                || text.contains("max: 2")
                || text.contains("sparse: 0")
                || shape == [9, 1],
            "{text}"
        );
        for (i, (a, b)) in host.iter().zip(device.host()).enumerate() {
            let (a, b) = (a.as_f64(), b.as_f64());
            // Sums of rows are added in another order.
            let off = if text.contains("unitball") { 4.0 * T::epsilon().as_f64() * a.abs() } else { 0.0 };
            assert!(
                (a - b).abs() <= off,
                "{text} {shape:?} in {}, element {i}: {a} on the host, {b} on the device",
                T::NAME
            );
        }
    }
    // Both streams stand at the same word now.
    assert_eq!(on_host.reserve(0), on_device.reserve(0));
}

#[test]
fn every_filler_gives_the_numbers_of_the_cpu() {
    let Some(gpu) = super::gpu() else { return };
    for kind in FILLERS {
        assert!(CASES.iter().any(|(text, _)| text.contains(&format!("'{kind}'"))), "{kind} is not tested");
    }
    agree::<f32>(&gpu);
    agree::<f64>(&gpu);
}

#[test]
fn a_wrong_filler_is_refused_as_on_the_cpu() {
    let Some(gpu) = super::gpu() else { return };
    let mut values = Buffer::<f32>::new(6);
    values.overwrite_on_device(&gpu).unwrap();
    let out = values.on_device_mut().unwrap();
    let pass = Memory::<u64>::new(&gpu, 1).unwrap();
    for (text, shape) in [
        ("type: 'gausian'", &[2, 3][..]),
        ("type: 'uniform' min: 2", &[2, 3]),
        ("", &[2, 2]),
        ("type: 'bilinear'", &[6]),
    ] {
        let param = filler(text);
        let mut streams = [Stream::new(1, 0, 0), Stream::new(1, 0, 0)];
        let device = fill_on_device(&gpu, &param, shape, &mut streams[0], pass.view(), out).unwrap_err();
        let host = fill::<f32>(&param, shape, &mut streams[1], &mut [0.0; 6]).unwrap_err();
        assert_eq!(device.to_string(), host.to_string());
    }
}

/// Random images in front of a constant, of which one depends on nobody's pass.
const DUMMY: &str = "
    layer { name: 'dummy' type: 'DummyData' top: 'x' top: 't' top: 'c'
            dummy_data_param { shape { dim: 4 dim: 3 dim: 5 dim: 5 } shape { dim: 4 } shape { dim: 4 dim: 2 }
              data_filler { type: 'gaussian' std: 0.5 } data_filler { value: 1 } data_filler { type: 'uniform' min: -1 } } }";

/// Bits of the tops.
fn tops(net: &mut Net<f32>, weights: &mut Weights<f32>) -> Vec<u32> {
    net.fetch(weights).unwrap();
    ["x", "t", "c"]
        .iter()
        .flat_map(|name| net.data(net.blob(name).unwrap()).iter().map(|v| v.to_bits()).collect::<Vec<_>>())
        .collect()
}

#[test]
fn dummy_data_is_made_on_the_device() {
    let Some(gpu) = super::gpu() else { return };
    let build = |weights: &mut Weights<f32>| {
        Net::<f32>::new(&parse_net(DUMMY, "test").unwrap().message, 3, weights).unwrap()
    };
    let (mut w, mut v) = (Weights::new(), Weights::new());
    let (mut host, mut net) = (build(&mut w), build(&mut v));
    // The other device has a seed of its own, as the second of a group has.
    for (gpu, seed) in [(Some(&gpu), 0), (None, 0), (super::gpu().as_ref(), 1)] {
        net.set_device(gpu.cloned(), &mut v).unwrap();
        host.set_share(3, seed, 2);
        net.set_share(3, seed, 2);
        for _ in 0..2 {
            host.forward(&mut w).unwrap();
            net.forward(&mut v).unwrap();
            assert!(tops(&mut host, &mut w) == tops(&mut net, &mut v));
        }
        // What somebody puts into a constant stays there.
        for net in [&mut host, &mut net] {
            let t = net.blob("t").unwrap();
            net.data_mut(t)[2] += 1.0;
        }
        host.forward(&mut w).unwrap();
        net.forward(&mut v).unwrap();
        assert!(tops(&mut host, &mut w) == tops(&mut net, &mut v));
    }
    assert_eq!(host.data(host.blob("t").unwrap()), [1.0, 1.0, 4.0, 1.0]);
}

/// A solver of a net with random images; `before` stands in front of them.
fn solver(before: &str) -> cortado::proto::caffe::SolverParameter {
    let text = format!(
        "train_net_param {{ {before} {DUMMY}
           layer {{ name: 'ip' type: 'InnerProduct' bottom: 'x' top: 's' inner_product_param {{ num_output: 2 weight_filler {{ type: 'xavier' }} }} }}
           layer {{ name: 'sum' type: 'Eltwise' bottom: 's' bottom: 'c' top: 'y' }}
           layer {{ name: 'loss' type: 'SoftmaxWithLoss' bottom: 'y' bottom: 't' top: 'l' }} }}
         base_lr: 0.1 lr_policy: 'fixed' momentum: 0.9 random_seed: 5 snapshot_after_train: false"
    );
    parse_solver(&text, "test").unwrap().message
}

/// Losses, final weights, and copies to the device and back for each iteration of a long run.
fn train(before: &str, gpu: Option<&Gpu>, graphs: bool) -> (Vec<f64>, Vec<f32>, [u64; 2], Iterations) {
    let mut losses = Vec::new();
    let mut watch = |event: &Event<'_>| {
        if let Event::Iterated { loss, .. } = event {
            losses.push(*loss);
        }
    };
    let mut solver = Solver::<f32>::keeping(&solver(before), None, &mut watch, &Keep::Outputs).unwrap();
    solver.set_device(gpu).unwrap();
    solver.set_graphs(graphs);
    let mut copies = |solver: &mut Solver<f32>, iterations| {
        let before = solver.net().transfers();
        solver.step(iterations, &mut watch).unwrap();
        let after = solver.net().transfers();
        [after.to_device - before.to_device, after.to_host - before.to_host]
    };
    copies(&mut solver, 1);
    let (one, five) = (copies(&mut solver, 1), copies(&mut solver, 5));
    let weights = solver.weights().iter().flat_map(|p| p.data.host().to_vec()).collect();
    let iterations = solver.net().iterations();
    (losses, weights, [five[0] - one[0], five[1] - one[1]], iterations)
}

#[test]
fn random_data_costs_no_transfer_and_goes_into_the_graph() {
    let Some(gpu) = super::gpu() else { return };
    let host = train("", None, false);
    // A layer that makes its data on the host, in front of it: what it makes is uploaded.
    let input = "layer { name: 'in' type: 'Input' top: 'i' input_param { shape { dim: 2 } } } layer { name: 'quiet' type: 'Silence' bottom: 'i' }";
    for (before, graphs) in [("", true), ("", false), (input, true)] {
        let launched = super::runs("fill_gaussian");
        let device = train(before, Some(&gpu), graphs);
        assert_eq!(device.2, [0, 4], "copies of four iterations: none to the device, the losses back");
        let expected = if graphs { Iterations::Replayed } else { Iterations::Launched };
        assert_eq!(device.3, expected);
        if let Some(launched) = launched {
            // Each pass draws, whether it is repeated from a graph or not.
            assert_eq!(super::runs("fill_gaussian").unwrap() - launched, 7);
        }
        if before.is_empty() {
            let close = |a: &f64, b: &f64| (a - b).abs() < 1e-5 * a.max(1.0);
            assert!(host.0.iter().zip(&device.0).all(|(a, b)| close(a, b)), "{:?} {:?}", host.0, device.0);
            let worst = host.1.iter().zip(&device.1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "weights differ by {worst}");
        }
        assert!(device.0.windows(2).all(|w| w[0] != w[1]), "other numbers in each pass: {:?}", device.0);
    }
}
