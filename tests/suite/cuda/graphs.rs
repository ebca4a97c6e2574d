//! Iterations as graphs: the same numbers as from single launches, and fewer calls.

use super::training::lenet;
use cortado::device::{Gpu, Memory};
use cortado::layers::registry;
use cortado::net::{Iterations, Keep};
use cortado::proto::caffe::SolverParameter;
use cortado::proto::{parse_net, parse_solver, read_net, read_solver};
use cortado::solver::{Event, Solver};
use cortado::tools::time;

/// What a run leaves: losses, bits of the final weights, launches one by one before the end of each iteration.
#[derive(Debug, PartialEq)]
pub struct Run {
    pub losses: Vec<f64>,
    pub weights: Vec<u32>,
    launches: Vec<u32>,
    pub iterations: Iterations,
}

pub fn train(param: &SolverParameter, gpu: &Gpu, graphs: bool, iterations: usize) -> Run {
    let (mut losses, mut launches) = (Vec::new(), Vec::new());
    let mut watch = |event: &Event<'_>| {
        if let Event::Iterated { loss, .. } = event {
            losses.push(*loss);
            launches.push(super::launches());
        }
    };
    let mut solver = Solver::<f32>::keeping(param, None, &mut watch, &Keep::Outputs).unwrap();
    solver.set_device(Some(gpu)).unwrap();
    solver.set_graphs(graphs);
    // Several calls: what they bring home in between must not matter.
    for part in [iterations - iterations / 2, iterations / 2] {
        solver.step(part, &mut watch).unwrap();
    }
    let weights = solver.weights().iter().flat_map(|p| p.data.host().to_vec()).map(f32::to_bits);
    let (weights, iterations) = (weights.collect(), solver.net().iterations());
    Run { losses, weights, launches, iterations }
}

/// The losses of the host must be these, within rounding: so its random numbers are too.
fn as_on_host(param: &SolverParameter, losses: &[f64]) {
    let mut host = Vec::new();
    let mut watch = |event: &Event<'_>| {
        if let Event::Iterated { loss, .. } = event {
            host.push(*loss);
        }
    };
    Solver::<f32>::new(param, None, &mut watch).unwrap().step(losses.len(), &mut watch).unwrap();
    let close = host.iter().zip(losses).all(|(a, b)| (a - b).abs() < 2e-3 * a.max(1.0));
    assert!(close && host.len() == losses.len(), "{host:?} on the host, {losses:?} on the device");
}

/// Trains with a graph and without: everything must be the same.
pub fn same(param: &SolverParameter, gpu: &Gpu, iterations: usize) -> Run {
    let (with, without) = (train(param, gpu, true, iterations), train(param, gpu, false, iterations));
    assert_eq!(without.iterations, Iterations::Launched);
    assert_eq!((&with.losses, with.losses.len()), (&without.losses, iterations));
    assert!(with.weights == without.weights && !with.weights.is_empty(), "weights differ");
    with
}

#[test]
fn captured_training_is_the_same_bit_for_bit() {
    let Some(gpu) = super::gpu() else { return };
    let mut param = SolverParameter {
        // Another rate in each iteration.
        lr_policy: Some("step".into()),
        stepsize: Some(1),
        gamma: Some(0.5),
        clip_gradients: Some(0.3),
        ..lenet()
    };
    let dropout = "layer { name: 'drop' type: 'Dropout' bottom: 'ip1' top: 'ip1' dropout_param { dropout_ratio: 0.4 } }";
    let net = param.train_net_param.as_mut().unwrap();
    let behind = net.layer.iter().position(|l| l.name() == "relu1").unwrap() + 1;
    net.layer.insert(behind, parse_net(dropout, "test").unwrap().message.layer.remove(0));
    let run = same(&param, &gpu, 8);
    assert_eq!(run.iterations, Iterations::Replayed);
    if super::runs("").is_some() {
        // Two iterations as a warm-up, and one launch clears the gradients that the first call of `step` left to be read.
        let steps: Vec<u32> = run.launches.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(steps[0] > 20, "{steps:?}");
        assert_eq!(steps[1..], [0, 0, 1, 0, 0, 0], "launches one by one");
    }
    as_on_host(&param, &run.losses);
    // The rate of the step counts: a graph that had kept the first one would train as this does.
    let fixed = SolverParameter { lr_policy: Some("fixed".into()), ..param.clone() };
    assert_ne!(same(&fixed, &gpu, 8).losses[3..], run.losses[3..]);
    // So do the masks.
    let seed = SolverParameter { random_seed: Some(4), ..param };
    assert_ne!(train(&seed, &gpu, true, 8).losses, run.losses);
}

#[test]
fn captured_ranking_is_the_same_bit_for_bit() {
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
    let run = same(&param, &gpu, 5);
    assert_eq!(run.iterations, Iterations::Replayed);
    as_on_host(&param, &run.losses);
}

#[test]
fn several_passes_and_looking_in_between_go_along() {
    let Some(gpu) = super::gpu() else { return };
    let several = SolverParameter { iter_size: Some(2), weight_decay: Some(0.01), ..lenet() };
    assert_eq!(same(&several, &gpu, 4).iterations, Iterations::Replayed);
    // Every third iteration describes itself, and is run layer by layer.
    let told = SolverParameter { debug_info: Some(true), display: Some(3), ..lenet() };
    assert_eq!(same(&told, &gpu, 8).iterations, Iterations::Replayed);
}

/// A solver of a small net: `layers` behind inputs of 4 samples and their labels.
fn small(layers: &str) -> SolverParameter {
    let text = format!(
        "train_net_param {{
           layer {{ name: 'in' type: 'Input' top: 'x' top: 't'
                    input_param {{ shape {{ dim: [4, 1, 3, 3, 3] }} shape {{ dim: 4 }} }} }}
           {layers}
           layer {{ name: 'ip' type: 'InnerProduct' bottom: 'y' top: 's'
                    inner_product_param {{ num_output: 3 weight_filler {{ type: 'xavier' }} }} }}
           layer {{ name: 'loss' type: 'SoftmaxWithLoss' bottom: 's' bottom: 't' top: 'l' }}
         }}
         base_lr: 0.1 lr_policy: 'fixed' momentum: 0.9 random_seed: 5 snapshot_after_train: false"
    );
    parse_solver(&text, "test").unwrap().message
}

fn fill(solver: &mut Solver<f32>, round: usize) {
    let net = solver.net_mut();
    let [x, t] = ["x", "t"].map(|name| net.blob(name).unwrap());
    for (i, v) in net.data_mut(x).iter_mut().enumerate() {
        *v = ((i * 7 + round * 3) % 11) as f32 / 5.0 - 1.0;
    }
    net.data_mut(t).iter_mut().enumerate().for_each(|(i, v)| *v = ((i + round) % 3) as f32);
}

#[test]
fn a_layer_of_the_host_in_the_middle_keeps_single_launches() {
    let Some(gpu) = super::gpu() else { return };
    let conv = "layer { name: 'volume' type: 'Convolution' bottom: 'x' top: 'y'
                convolution_param { num_output: 2 kernel_size: 2 weight_filler { type: 'xavier' } } }";
    let mut results = Vec::new();
    for device in [None, Some(&gpu)] {
        let mut losses = Vec::new();
        let mut watch = |event: &Event<'_>| {
            if let Event::Iterated { loss, .. } = event {
                losses.push(*loss);
            }
        };
        let mut solver = Solver::<f32>::new(&small(conv), None, &mut watch).unwrap();
        solver.set_device(device).unwrap();
        for round in 0..5 {
            fill(&mut solver, round);
            solver.step(1, &mut watch).unwrap();
        }
        results.push(losses);
        if device.is_some() {
            let state = solver.net().iterations();
            let why = match &state {
                Iterations::Refused(why) => why.as_str(),
                other => panic!("{other:?}"),
            };
            assert!(why.contains("\"volume\" (Convolution) runs on the host"), "{why}");
        }
    }
    assert!(results[0].iter().zip(&results[1]).all(|(a, b)| (a - b).abs() < 1e-5), "{results:?}");
}

#[test]
fn new_shapes_and_wrong_labels_are_seen() {
    let Some(gpu) = super::gpu() else { return };
    let flat = "layer { name: 'flat' type: 'Flatten' bottom: 'x' top: 'y' }";
    let run = |graphs: bool| {
        let mut losses = Vec::new();
        let mut watch = |event: &Event<'_>| {
            if let Event::Iterated { loss, .. } = event {
                losses.push(*loss);
            }
        };
        let mut solver = Solver::<f32>::new(&small(flat), None, &mut watch).unwrap();
        solver.set_device(Some(&gpu)).unwrap();
        solver.set_graphs(graphs);
        for round in 0..10 {
            if round == 5 {
                let net = solver.net_mut();
                for (name, shape) in [("x", vec![6, 1, 3, 3, 3]), ("t", vec![6])] {
                    let blob = net.blob(name).unwrap();
                    net.set_input_shape(blob, cortado::blob::Shape::new(shape).unwrap()).unwrap();
                }
                net.reshape().unwrap();
            }
            fill(&mut solver, round);
            solver.step(1, &mut watch).unwrap();
        }
        let state = solver.net().iterations();
        let t = solver.net().blob("t").unwrap();
        solver.net_mut().data_mut(t)[2] = 9.0;
        let error = solver.step(1, &mut watch).unwrap_err();
        (losses, state, error.to_string())
    };
    let (with, without) = (run(true), run(false));
    assert_eq!((&with.0, with.1), (&without.0, Iterations::Replayed));
    assert_eq!(with.2, without.2);
    assert!(with.2.contains('9'), "{}", with.2);
}

/// What four iterations of a layer's own net leave: losses, all blobs, parameters and gradients as bits; and how the last one was run.
fn layer_alone(name: &str, gpu: &Gpu, graphs: bool) -> Option<(Vec<u64>, Iterations)> {
    let mut net = read_net(format!("tests/gradients/{name}.prototxt")).unwrap().message;
    net.force_backward = Some(true);
    let mut param = small("layer { name: 'flat' type: 'Flatten' bottom: 'x' top: 'y' }");
    param.train_net_param = Some(net);
    let mut bits = Vec::new();
    let mut losses = Vec::new();
    let mut watch = |event: &Event<'_>| {
        if let Event::Iterated { loss, .. } = event {
            losses.push(loss.to_bits());
        }
    };
    let mut solver = Solver::<f64>::new(&param, None, &mut watch).unwrap();
    let (net, weights) = solver.net_and_weights();
    time::prepare(net, weights);
    solver.set_device(Some(gpu)).unwrap();
    solver.set_graphs(graphs);
    solver.step(4, &mut watch).ok()?; // inputs without sense, as random marks of pairs, are refused on both
    bits.append(&mut losses);
    let net = solver.net();
    for (b, _) in net.blobs().iter().enumerate() {
        bits.extend(net.data(b).iter().chain(net.diff(b)).map(|v| v.to_bits()));
    }
    for p in solver.weights().iter() {
        bits.extend(p.data.host().iter().chain(p.diff.host()).map(|v| v.to_bits()));
    }
    Some((bits, net.iterations()))
}

#[test]
fn every_layer_is_captured_or_says_why_not() {
    let Some(gpu) = super::gpu() else { return };
    let mut replayed = 0;
    for row in registry::LAYERS {
        let (with, without) = (layer_alone(row.name, &gpu, true), layer_alone(row.name, &gpu, false));
        assert_eq!(with.is_some(), without.is_some(), "{}", row.name);
        let (Some(with), Some(without)) = (with, without) else { continue };
        assert!(
            with.0 == without.0 && !with.0.is_empty(),
            "{} computes something else from a graph",
            row.name
        );
        match with.1 {
            Iterations::Replayed => replayed += 1,
            Iterations::Refused(why) => assert!(why.contains("runs on the host"), "{}: {why}", row.name),
            Iterations::Launched => panic!("{} was not captured, and nobody says why", row.name),
        }
    }
    assert!(replayed > registry::LAYERS.len() / 2, "only {replayed}");
}

#[test]
fn what_a_capture_cannot_hold_is_an_error() {
    let Some(gpu) = super::gpu() else { return };
    let refused =
        |work: &dyn Fn() -> cortado::error::Result<()>| gpu.capture(work).err().unwrap().to_string();
    let held = gpu.bytes();
    drop(Memory::<f64>::new(&gpu, 10).unwrap());
    let memory = Memory::<u64>::new(&gpu, 1).unwrap();
    assert_eq!(gpu.bytes(), held + 8);
    for (doing, said) in [
        ("take memory", refused(&|| Memory::<f32>::new(&gpu, 4).map(drop))),
        ("take values from the host", refused(&|| memory.write(&[7]))),
        ("give values to the host", refused(&|| memory.read(&mut [0]))),
        ("be waited for", refused(&|| gpu.synchronize())),
    ] {
        assert!(said.contains(&format!("the GPU cannot {doing} while its work is captured")), "{said}");
    }
    // The device is as before.
    memory.write(&[8]).unwrap();
    let twin = Memory::<u64>::new(&gpu, 1).unwrap();
    let graph = gpu.capture(|| gpu.copy(memory.view(), twin.view())).unwrap();
    let mut word = [0];
    for value in [9, 10] {
        memory.write(&[value]).unwrap();
        graph.launch().unwrap();
        twin.read(&mut word).unwrap();
        assert_eq!(word, [value]);
    }
}

/// What passes of a test net give, new inputs each time, and how many launches each took.
fn test_passes(gpu: Option<&Gpu>, graphs: bool) -> (Vec<Vec<f32>>, Vec<u32>, Iterations) {
    let mut param = lenet().train_net_param.unwrap();
    param.state = Some(cortado::proto::caffe::NetState {
        phase: Some(cortado::proto::caffe::Phase::Test as i32),
        ..Default::default()
    });
    let mut weights = cortado::blob::Weights::<f32>::new();
    let mut net = cortado::net::Net::keeping(&param, 3, &mut weights, &Keep::Outputs).unwrap();
    time::prepare(&mut net, &mut weights);
    let values: Vec<Vec<f32>> = weights.iter().map(|p| p.data.host().to_vec()).collect();
    net.set_device(gpu.cloned(), &mut weights).unwrap();
    net.set_graphs(graphs);
    let (mut outputs, mut launches) = (Vec::new(), Vec::new());
    for pass in 0..7 {
        let before = super::launches();
        let loss = net.forward(&mut weights).unwrap() as f32;
        launches.push(super::launches() - before);
        net.fetch_outputs().unwrap();
        let out = net.outputs().into_iter().flat_map(|b| net.data(b).to_vec());
        outputs.push(out.chain([loss]).collect());
        // The weights stay where the host can read them, and what it writes counts.
        assert!(weights.iter().zip(&values).all(|(p, v)| p.data.host() == v || pass > 4), "pass {pass}");
        if pass == 4 {
            weights.iter_mut().next().unwrap().data.host_mut().iter_mut().for_each(|w| *w *= 0.5);
        }
    }
    (outputs, launches, net.iterations())
}

#[test]
fn passes_of_a_test_are_captured() {
    let Some(gpu) = super::gpu() else { return };
    let (with, without) = (test_passes(Some(&gpu), true), test_passes(Some(&gpu), false));
    assert_eq!((&with.0, with.2), (&without.0, Iterations::Replayed));
    assert_eq!(without.2, Iterations::Launched);
    if super::runs("").is_some() {
        assert!(with.1[0] > 5 && with.1[2..].iter().all(|&n| n == 0 || n == with.1[0]), "{:?}", with.1);
        assert_eq!(with.1[3..], [0; 4], "launches one by one");
    }
    let host = test_passes(None, true).0;
    for (host, device) in host.iter().flatten().zip(with.0.iter().flatten()) {
        assert!(
            (host - device).abs() < 1e-4 * host.abs().max(1.0),
            "{host} on the host, {device} on the device"
        );
    }
    // Another batch each time, other weights at last.
    assert!(with.0.windows(2).all(|w| w[0] != w[1]), "{:?}", with.0);
}

#[test]
fn tests_between_iterations_are_captured_and_change_nothing() {
    let Some(gpu) = super::gpu() else { return };
    let net_param = lenet().train_net_param;
    let both = SolverParameter { net_param, train_net_param: None, ..lenet() };
    let param = SolverParameter { test_interval: Some(2), test_iter: vec![4], ..both };
    let run = |graphs: bool| {
        let (mut results, mut launches) = (Vec::new(), Vec::new());
        let mut watch = |event: &Event<'_>| match event {
            Event::TestStart { .. } => launches.push(super::launches()),
            Event::TestResult { outputs, .. } => {
                launches.push(super::launches());
                results.push(outputs.iter().map(|o| o.value).collect::<Vec<f64>>());
            }
            Event::Iterated { loss, .. } => results.push(vec![*loss]),
            _ => {}
        };
        let mut solver = Solver::<f32>::keeping(&param, None, &mut watch, &Keep::Outputs).unwrap();
        solver.set_device(Some(&gpu)).unwrap();
        solver.set_graphs(graphs);
        solver.step(7, &mut watch).unwrap();
        let weights: Vec<u32> =
            solver.weights().iter().flat_map(|p| p.data.host().to_vec()).map(f32::to_bits).collect();
        (results, weights, launches)
    };
    let (with, without) = (run(true), run(false));
    assert!(
        with.0 == without.0 && with.1 == without.1 && with.0.len() == 7 + 4,
        "{:?} {:?}",
        with.0,
        without.0
    );
    if super::runs("").is_some() {
        let tests: Vec<u32> = with.2.chunks(2).map(|c| c[1] - c[0]).collect();
        assert!(tests[0] > 0 && tests[1..].iter().all(|&n| n == 0), "launches in each test: {tests:?}");
    }
}
