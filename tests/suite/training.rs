//! Real training on real digits: LeNet learns, an embedding learns, and threads change nothing.

use cortado::blob::Weights;
use cortado::data::{IdxSource, Record, RecordSource};
use cortado::device::Pool;
use cortado::net::Net;
use cortado::proto::caffe::SolverParameter;
use cortado::proto::{Parsed, read_net, read_solver};
use cortado::solver::{Event, Silent, Solver};
use std::path::Path;

/// A solver of `nets/mnist`, with fewer iterations and no files written.
fn solver(file: &str, iterations: i32) -> Parsed<SolverParameter> {
    let mut solver = read_solver(format!("nets/mnist/{file}")).unwrap();
    let param = &mut solver.message;
    param.max_iter = Some(iterations);
    param.snapshot = Some(0);
    param.snapshot_after_train = Some(false);
    param.test_initialization = Some(false);
    param.test_interval = Some(iterations);
    solver
}

#[test]
fn lenet_learns_a_slice_of_mnist() {
    let Parsed { message, source, .. } = solver("lenet_solver.prototxt", 400);
    let mut accuracy = Vec::new();
    let mut watch = |event: &Event<'_>| {
        if let Event::TestResult { outputs, .. } = event {
            accuracy.extend(outputs.iter().filter(|o| o.name == "accuracy").map(|o| o.value));
        }
    };
    let mut solver = Solver::<f32>::new(&message, Some(&source), &mut watch).unwrap();
    solver.solve(&mut watch).unwrap();
    // The first 25 600 digits once: Caffe is near 97 % then.
    assert!(matches!(accuracy[..], [a] if a > 0.96), "test accuracy {accuracy:?}");
}

#[test]
fn ranking_loss_learns_an_embedding() {
    let Parsed { message, source, .. } = solver("rank_solver.prototxt", 500);
    let mut message = message;
    message.test_interval = Some(0);
    message.test_iter.clear();
    message.net = None;
    message.train_net = Some("nets/mnist/rank_train_test.prototxt".into());
    let mut solver = Solver::<f32>::new(&message, Some(&source), &mut Silent).unwrap();
    let untrained = recall_at_1(solver.weights_mut());
    solver.solve(&mut Silent).unwrap();
    let trained = recall_at_1(solver.weights_mut());
    println!("recall@1: untrained {untrained:.4}, trained {trained:.4}");
    assert!(untrained < 0.93, "the untrained net is this good already: {untrained}");
    assert!(trained > 0.95, "recall@1 is {trained}, from {untrained}");
}

/// The share of 2000 held-out digits whose nearest other one (largest inner product of embeddings) is of their class.
fn recall_at_1(weights: &mut Weights<f32>) -> f64 {
    const COUNT: usize = 2000;
    let param = read_net("nets/mnist/rank.prototxt").unwrap().message;
    let mut net = Net::<f32>::new(&param, 1, weights).unwrap();
    let mut digits = IdxSource::open(Path::new("nets/mnist/data/t10k-images-idx3-ubyte.gz")).unwrap();
    let (input, output) = (net.blob("data").unwrap(), net.blob("embedding").unwrap());
    let batch = net.blobs()[input].shape[0];
    let (mut record, mut rows, mut labels) = (Record::default(), Vec::new(), Vec::new());
    for first in (0..COUNT).step_by(batch) {
        for (i, pixels) in net.data_mut(input).chunks_mut(28 * 28).enumerate() {
            digits.read(first + i, &mut record).unwrap();
            pixels.iter_mut().zip(&record.bytes).for_each(|(x, &b)| *x = f32::from(b) / 256.0);
            labels.push(record.label.unwrap());
        }
        net.forward(weights).unwrap();
        let size = net.data(output).len() / batch;
        rows.extend(net.data(output).chunks(size).map(<[f32]>::to_vec));
    }
    let nearest = |i: usize| {
        let near = |j: usize| rows[i].iter().zip(&rows[j]).map(|(a, b)| a * b).sum::<f32>();
        (0..COUNT).filter(|&j| j != i).max_by(|&a, &b| near(a).total_cmp(&near(b))).unwrap()
    };
    (0..COUNT).filter(|&i| labels[nearest(i)] == labels[i]).count() as f64 / COUNT as f64
}

#[test]
fn threads_do_not_change_a_bit() {
    let train = |threads: usize, file: &str| {
        let Parsed { message, source, .. } = solver(file, 20);
        let mut message = message;
        message.test_interval = Some(0);
        message.test_iter.clear();
        message.train_net = message.net.take();
        Pool::new(threads).unwrap().install(|| {
            let mut solver = Solver::<f32>::new(&message, Some(&source), &mut Silent).unwrap();
            solver.solve(&mut Silent).unwrap();
            let weights = solver.weights();
            weights.iter().flat_map(|p| p.data.host().iter().map(|v| v.to_bits())).collect::<Vec<u32>>()
        })
    };
    for file in ["lenet_solver.prototxt", "rank_solver.prototxt"] {
        let one = train(1, file);
        assert!(one.len() > 400_000);
        for threads in [2, 3] {
            assert!(one == train(threads, file), "{file}: {threads} threads end in other weights");
        }
    }
}
