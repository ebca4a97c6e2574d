//! Softmax, its loss and accuracy: as on the host for vectors of all lengths, and wrong labels that no host has seen.

use cortado::blob::Weights;
use cortado::device::Gpu;
use cortado::error::Error;
use cortado::math::Real;
use cortado::net::{Iterations, Keep, Net};
use cortado::proto::{parse_net, parse_solver};
use cortado::solver::{Event, Solver};

fn layers(dims: &[usize]) -> String {
    let shape = |dims: &[usize]| dims.iter().map(|d| format!("dim: {d} ")).collect::<String>();
    let labels: Vec<usize> = [&dims[..1], &dims[2..]].concat();
    format!(
        "force_backward: true
         layer {{ name: 'in' type: 'Input' top: 'x' top: 't' input_param {{ shape {{ {} }} shape {{ {} }} }} }}
         layer {{ name: 'soft' type: 'Softmax' bottom: 'x' top: 'y' }}
         layer {{ name: 'loss' type: 'SoftmaxWithLoss' bottom: 'x' bottom: 't' top: 'l' top: 'p' loss_weight: 1 loss_weight: 0.5
                  loss_param {{ ignore_label: 1 }} }}
         layer {{ name: 'acc' type: 'Accuracy' bottom: 'x' bottom: 't' top: 'a' top: 'by'
                  accuracy_param {{ ignore_label: 1 top_k: 2 }} }}",
        shape(dims),
        shape(&labels)
    )
}

/// Values of all blobs and the gradient of the scores.
fn results<T: Real>(dims: &[usize], device: Option<&Gpu>) -> Vec<Vec<f64>> {
    let mut weights = Weights::<T>::new();
    let mut net = Net::<T>::new(&parse_net(&layers(dims), "test").unwrap().message, 1, &mut weights).unwrap();
    let [x, t, y] = ["x", "t", "y"].map(|name| net.blob(name).unwrap());
    net.data_mut(x)
        .iter_mut()
        .enumerate()
        .for_each(|(i, v)| *v = T::from_f64((i * 7919 % 1013) as f64 / 200.0));
    let classes = dims[1];
    net.data_mut(t).iter_mut().enumerate().for_each(|(i, v)| *v = T::from_f64((i * 31 % classes) as f64));
    net.set_device(device.cloned(), &mut weights).unwrap();
    net.forward(&mut weights).unwrap();
    net.fetch(&mut weights).unwrap();
    net.diff_mut(y).iter_mut().enumerate().for_each(|(i, v)| *v = T::from_f64((i % 13) as f64 / 6.0 - 1.0));
    net.backward(&mut weights).unwrap();
    net.fetch(&mut weights).unwrap();
    let values = |v: &[T]| v.iter().map(|v| v.as_f64()).collect::<Vec<f64>>();
    (0..net.blobs().len()).map(|b| values(net.data(b))).chain([values(net.diff(x))]).collect()
}

#[test]
fn vectors_of_all_lengths_have_a_team_that_suits_them() {
    let Some(gpu) = super::gpu() else { return };
    let runs = |end: &str| {
        let names = ["softmax_", "softmax_backward_", "compare_"].map(|name| format!("{name}by_{end}"));
        names.map(|name| super::runs(&name).unwrap_or(0))
    };
    // Few classes, many, very many; few places, many; more labels than one block adds up.
    for (dims, team, parts) in [
        (&[5usize, 3][..], "thread", 1),
        (&[5, 10], "warp", 1),
        (&[3, 70, 2, 3], "warp", 1),
        (&[2, 1100], "block", 1),
        (&[2, 1030, 3], "block", 1),
        (&[2, 6, 8, 8], "thread", 1),
        (&[3, 5, 1500], "thread", 2),
    ] {
        let before = runs(team);
        let lone = super::runs("loss").unwrap_or(0);
        for (a, b) in results::<f64>(dims, None).iter().zip(results::<f64>(dims, Some(&gpu))) {
            assert_eq!(a.len(), b.len());
            for (i, (a, b)) in a.iter().zip(&b).enumerate() {
                assert!((a - b).abs() < 1e-12, "{dims:?}, element {i}: {a} on the host, {b} on the device");
            }
        }
        results::<f32>(dims, Some(&gpu));
        if super::runs("").is_some() {
            let after = runs(team);
            // Forward alone and in the loss, backward as well, and once the comparison; in both precisions.
            let made = [0, 1, 2].map(|i| after[i] - before[i]);
            assert_eq!(made, [4, 4, 2], "{dims:?} by {team}");
            assert_eq!(super::runs("loss").unwrap() - lone, if parts > 1 { 2 } else { 0 }, "{dims:?}");
        }
    }
}

/// A net whose labels are computed: one more than the input says.
const COMPUTED: &str = "
    layer { name: 'in' type: 'Input' top: 'x' top: 'from'
            input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }
    layer { name: 'label' type: 'Power' bottom: 'from' top: 't' propagate_down: false power_param { shift: 1 } }
    layer { name: 'ip' type: 'InnerProduct' bottom: 'x' top: 's'
            inner_product_param { num_output: 3 weight_filler { type: 'xavier' } } }
    layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 's' bottom: 't' top: 'l' include { phase: TRAIN } }
    layer { name: 'acc' type: 'Accuracy' bottom: 's' bottom: 't' top: 'a' include { phase: TEST } }";

fn set_labels(net: &mut Net<f32>, labels: [f32; 4]) {
    let [x, from] = ["x", "from"].map(|name| net.blob(name).unwrap());
    net.data_mut(x).iter_mut().enumerate().for_each(|(i, v)| *v = (i % 5) as f32 - 2.0);
    net.data_mut(from).copy_from_slice(&labels);
}

#[test]
fn wrong_labels_that_only_the_device_has_stop_training() {
    let Some(gpu) = super::gpu() else { return };
    let text = format!(
        "train_net_param {{ {COMPUTED} }} base_lr: 0.1 lr_policy: 'fixed' random_seed: 5 snapshot_after_train: false"
    );
    let param = parse_solver(&text, "test").unwrap().message;
    let run = |device: Option<&Gpu>, wrong: f32, graphs: bool| -> (Error, Iterations) {
        let mut solver =
            Solver::<f32>::keeping(&param, None, &mut |_: &Event<'_>| {}, &Keep::Outputs).unwrap();
        solver.set_device(device).unwrap();
        solver.set_graphs(graphs);
        for _ in 0..4 {
            set_labels(solver.net_mut(), [0.0, -1.0, 1.0, 0.0]);
            solver.step(1, &mut |_: &Event<'_>| {}).unwrap();
        }
        let before = solver.net().transfers();
        set_labels(solver.net_mut(), [0.0, 1.0, -1.0, 1.0]);
        solver.step(1, &mut |_: &Event<'_>| {}).unwrap();
        let after = solver.net().transfers();
        let back = after.to_host - before.to_host;
        set_labels(solver.net_mut(), [0.0, 1.0, wrong, 0.0]);
        let error = solver.step(1, &mut |_: &Event<'_>| {}).unwrap_err();
        if device.is_some() {
            // The loss, and at the end of the call what can be read: no label, as long as all is well.
            assert!(back <= 8, "{back}");
        }
        (error, solver.net().iterations())
    };
    for (wrong, says) in
        [(2.0, "label 3 at [2] is not one of the 3 classes"), (0.5, "label 1.5 at [2] is not an integer")]
    {
        let (host, _) = run(None, wrong, true);
        assert!(host.message().contains(says), "{host}");
        for graphs in [true, false] {
            let (device, iterations) = run(Some(&gpu), wrong, graphs);
            assert_eq!(iterations == Iterations::Replayed, graphs);
            assert_eq!((device.to_string(), device.layer()), (host.to_string(), Some("loss")));
        }
    }
}

#[test]
fn wrong_labels_that_only_the_device_has_stop_a_test() {
    let Some(gpu) = super::gpu() else { return };
    let mut param = parse_net(COMPUTED, "test").unwrap().message;
    param.state = Some(cortado::proto::caffe::NetState {
        phase: Some(cortado::proto::caffe::Phase::Test as i32),
        ..Default::default()
    });
    let mut weights = Weights::<f32>::new();
    let mut net = Net::keeping(&param, 1, &mut weights, &Keep::Outputs).unwrap();
    net.set_device(Some(gpu), &mut weights).unwrap();
    set_labels(&mut net, [0.0, 1.0, -1.0, 1.0]);
    net.forward(&mut weights).unwrap();
    net.fetch_outputs().unwrap();
    set_labels(&mut net, [0.0, 1.0, -2.0, 1.0]);
    net.forward(&mut weights).unwrap();
    let error = net.fetch_outputs().unwrap_err();
    assert_eq!(
        (error.message(), error.layer()),
        ("label -1 at [2] is not one of the 3 classes", Some("acc"))
    );
}
