//! Nets whose blobs share memory against the same nets whose blobs do not: random ones, and what is refused.

use crate::blob::{Shape, Weights};
use crate::math::{Purpose, Stream};
use crate::net::{Keep, Net};
use crate::proto::caffe::NetParameter;
use crate::proto::parse_net;

/// A net of random layers over images of one shape: branches, in-place chains, shared values, several losses, loose
/// ends.
fn random_net(stream: &mut Stream) -> String {
    let mut below = |n: usize| stream.below(n as u64) as usize;
    let mut text = String::from("name: 'random' state { phase: PHASE }\n");
    text += ["", "force_backward: true\n"][below(4) / 3];
    text += [
        "layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 2 dim: 4 dim: 5 dim: 5 } } }
         layer { name: 't' type: 'Input' top: 't' input_param { shape { dim: 2 } } }\n",
        "layer { name: 'x' type: 'DummyData' top: 'x' top: 't' dummy_data_param {
           shape { dim: 2 dim: 4 dim: 5 dim: 5 } shape { dim: 2 }
           data_filler { type: 'gaussian' } data_filler { value: 1 } } }\n",
    ][below(2)];
    let mut blobs = vec!["x".to_string()];
    for i in 0..4 + below(14) {
        // Mostly the newest: chains, with a branch now and then.
        let any = |n: usize| blobs.len() - 1 - if n.is_multiple_of(3) { n % blobs.len() } else { 0 };
        let (a, b) = (blobs[any(below(60))].clone(), blobs[any(below(60))].clone());
        let y = format!("b{i}");
        let one = |kind: &str, top: &str, more: &str| {
            format!("layer {{ name: 'l{i}' type: '{kind}' bottom: '{a}' top: '{top}' {more} }}\n")
        };
        let (layers, top) = match below(19) {
            0 | 1 => (
                one(
                    "Convolution",
                    &y,
                    "convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: 'msra' } }",
                ),
                y,
            ),
            2 => (
                one(
                    "Convolution",
                    &y,
                    "param { lr_mult: 0 } param { lr_mult: 0 } convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: 'xavier' } }",
                ),
                y,
            ),
            3 | 4 => (one("ReLU", &a, ""), a),
            5 => (one("ReLU", &y, ""), y),
            6 => (one("Sigmoid", &y, ""), y),
            7 => (one("Dropout", &a, ""), a),
            8 => (one("LRN", &y, "lrn_param { local_size: 3 alpha: 0.5 }"), y),
            9 => (one("Pooling", &y, "pooling_param { kernel_size: 3 stride: 1 pad: 1 }"), y),
            10 => (one("BatchNorm", &y, ""), y),
            // Its gradient needs no values at all.
            17 => (one("Power", &y, "power_param { scale: 2 shift: 1 }"), y),
            // A chain that runs as one.
            16 => {
                let norm = one("BatchNorm", &y, "");
                let scale = format!(
                    "layer {{ name: 's{i}' type: 'Scale' bottom: '{y}' top: '{y}' scale_param {{ bias_term: true }} }}\n"
                );
                (
                    norm + &scale
                        + &scale
                            .replace("'s", "'r")
                            .replace("Scale", "ReLU")
                            .replace("scale_param { bias_term: true }", ""),
                    y,
                )
            }
            11 => (one("Scale", &y, "scale_param { bias_term: true filler { type: 'uniform' } }"), y),
            12 => {
                let operation = ["SUM", "PROD", "MAX"][below(3)];
                (one("Eltwise", &y, &format!("bottom: '{b}' eltwise_param {{ operation: {operation} }}")), y)
            }
            13 => {
                let wide = one("Concat", &format!("{y}w"), &format!("bottom: '{b}'"));
                let cut =
                    format!("layer {{ name: 'c{i}' type: 'Slice' bottom: '{y}w' top: '{y}' top: '{y}o' }}\n");
                (wide + &cut, y)
            }
            14 => {
                let flat = one("Flatten", &format!("{y}f"), "");
                let back = format!(
                    "layer {{ name: 'r{i}' type: 'Reshape' bottom: '{y}f' top: '{y}' reshape_param {{ shape {{ dim: 0 dim: 4 dim: 5 dim: 5 }} }} }}\n"
                );
                (flat + &back, y)
            }
            _ => (one("EuclideanLoss", &format!("{y}e"), &format!("bottom: '{b}' loss_weight: 0.5")), a),
        };
        text += &layers;
        blobs.push(top);
    }
    let last = &blobs[blobs.len() - 1];
    text + &format!(
        "layer {{ name: 'ip' type: 'InnerProduct' bottom: '{last}' top: 'ip' inner_product_param {{ num_output: 3 weight_filler {{ type: 'xavier' }} }} }}
         layer {{ name: 'loss' type: 'SoftmaxWithLoss' bottom: 'ip' bottom: 't' top: 'loss' }}\n"
    )
}

/// Bits of all that can be read of a net, in the order of three passes.
#[derive(Default)]
struct Record {
    values: Vec<(String, Vec<u32>)>,
    /// What a second backward pass after the last forward pass gave; none where it was refused.
    again: Option<Vec<Vec<u32>>>,
    bytes: usize,
}

fn record(param: &NetParameter, keep: &Keep, readable: &[String], backward: bool) -> Record {
    let mut weights = Weights::<f32>::new();
    let mut net = Net::keeping(param, 3, &mut weights, keep).unwrap();
    let (inputs, draw) = (net.inputs(), Stream::of(Purpose::Check, 9, 0, 0));
    for &x in &inputs {
        let mut shape = net.blobs()[x].shape.to_vec();
        shape[0] = 3;
        net.set_input_shape(x, Shape::new(shape).unwrap()).unwrap();
    }
    net.reshape().unwrap();
    for x in inputs {
        let label = net.blobs()[x].name == "t";
        let value = |i: usize| if label { i as f32 } else { draw.gaussian_at(i as u64) as f32 };
        net.data_mut(x).iter_mut().enumerate().for_each(|(i, v)| *v = value(i));
    }
    let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let gradients = |weights: &Weights<f32>| weights.iter().map(|p| bits(p.diff.host())).collect::<Vec<_>>();
    let mut r = Record { bytes: net.bytes(), ..Record::default() };
    let x = net.blob("x").unwrap();
    for _ in 0..3 {
        let loss = net.forward(&mut weights).unwrap();
        r.values.push(("the loss".into(), vec![loss.to_bits() as u32]));
        if backward && param.force_backward() {
            net.outputs().into_iter().for_each(|b| net.diff_mut(b).fill(0.125));
        }
        if backward {
            net.backward(&mut weights).unwrap();
            r.values.extend(gradients(&weights).into_iter().map(|g| ("a gradient".into(), g)));
        }
        if backward && param.force_backward() {
            r.values.push(("the gradient of x".into(), bits(net.diff(x))));
        }
        r.values.extend(readable.iter().map(|b| (b.clone(), bits(net.data(net.blob(b).unwrap())))));
        r.values.extend(weights.iter().map(|p| (p.layer.clone(), bits(p.data.host()))));
    }
    if backward {
        r.again = net.backward(&mut weights).ok().map(|()| gradients(&weights));
    }
    r
}

#[test]
fn sharing_memory_changes_no_bit() {
    let mut stream = Stream::of(Purpose::Check, 11, 0, 0);
    let (mut compared, mut refused, mut saved) = (0, 0, 0.0);
    for _ in 0..150 {
        let text = random_net(&mut stream);
        for phase in ["TRAIN", "TEST"] {
            let text = text.replace("PHASE", phase);
            let param = parse_net(&text, "random").unwrap().message;
            let Ok(net) = Net::<f32>::new(&param, 3, &mut Weights::new()) else {
                continue; // in place over what is still needed
            };
            let name = |b: usize| net.blobs()[b].name.clone();
            let mut readable: Vec<String> = net.inputs().into_iter().chain(net.outputs()).map(name).collect();
            let some = name(stream.below(net.blobs().len() as u64) as usize);
            for keep in [Keep::Outputs, Keep::Blobs(vec![some.clone()])] {
                if keep != Keep::Outputs {
                    readable.push(some.clone());
                }
                let backward = phase == "TRAIN" || param.force_backward();
                let shared = record(&param, &keep, &readable, backward);
                let apart = record(&param, &Keep::All, &readable, backward);
                assert_eq!(shared.values.len(), apart.values.len());
                for (s, a) in shared.values.iter().zip(&apart.values) {
                    assert_eq!(s, a, "{keep:?} in\n{text}");
                }
                match shared.again {
                    None => refused += i32::from(backward),
                    again => assert_eq!(again, apart.again, "{keep:?} in\n{text}"),
                }
                saved += shared.bytes as f64 / apart.bytes as f64;
                compared += 1;
            }
        }
    }
    assert!(
        compared > 100 && refused > 10,
        "{compared} nets could be built, {refused} ran backward but once"
    );
    let share = saved / f64::from(compared);
    assert!(share < 0.8, "sharing takes {share} of the memory");
}

fn net(text: &str, keep: &Keep) -> (Net<f32>, Weights<f32>) {
    let mut weights = Weights::new();
    let net = Net::keeping(&parse_net(text, "test").unwrap().message, 1, &mut weights, keep);
    (net.unwrap(), weights)
}

const CHAIN: &str = "
    layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 2 dim: 3 } } }
    layer { name: 'a' type: 'Sigmoid' bottom: 'x' top: 'a' }
    layer { name: 'b' type: 'TanH' bottom: 'a' top: 'b' }
    layer { name: 'c' type: 'Sigmoid' bottom: 'b' top: 'c' }
    layer { name: 'd' type: 'TanH' bottom: 'c' top: 'd' }
    layer { name: 'ip' type: 'InnerProduct' bottom: 'd' top: 'y' inner_product_param { num_output: 1 } }
    layer { name: 'loss' type: 'EuclideanLoss' bottom: 'y' bottom: 'y' top: 'loss' }";

#[test]
fn what_is_not_kept_cannot_be_read() {
    let text = format!("state {{ phase: TEST }} {CHAIN}");
    let (mut net, mut weights) = net(&text, &Keep::Blobs(vec!["b".into()]));
    net.forward(&mut weights).unwrap();
    for (name, kept) in [("x", true), ("a", false), ("b", true), ("c", false), ("loss", true)] {
        let b = net.blob(name).unwrap();
        assert_eq!((net.keeps(b), net.view(name).is_ok(), net.view_mut(name).is_ok()), (kept, kept, kept));
        assert_eq!((net.data(b).is_empty(), net.data_mut(b).is_empty()), (!kept, !kept), "{name}");
    }
    let error = net.view("c").unwrap_err().to_string();
    assert!(error.contains("\"c\" are not kept") && error.contains("Keep::Blobs"), "{error}");
    assert!(
        Net::<f32>::keeping(
            &parse_net(&text, "test").unwrap().message,
            1,
            &mut weights,
            &Keep::Blobs(vec!["bb".into()])
        )
        .is_err()
    );
}

#[test]
fn passes_that_would_read_lost_values_are_refused() {
    let (mut forward, mut weights) = net(&format!("state {{ phase: TEST }} {CHAIN}"), &Keep::Outputs);
    assert!(forward.forward_only());
    forward.forward(&mut weights).unwrap();
    assert!(forward.backward(&mut weights).unwrap_err().to_string().contains("forward passes alone"));
    assert!(forward.forward_layer(3, &mut weights).unwrap_err().to_string().contains("made room"));

    let (mut train, mut weights) = net(&format!("force_backward: true {CHAIN}"), &Keep::Outputs);
    train.forward(&mut weights).unwrap();
    train.backward(&mut weights).unwrap();
    train.forward(&mut weights).unwrap();
    train.backward(&mut weights).unwrap();
}

#[test]
fn a_forward_net_needs_two_places() {
    let (apart, _) = net(&format!("state {{ phase: TEST }} {CHAIN}"), &Keep::All);
    let (shared, mut weights) = net(&format!("state {{ phase: TEST }} {CHAIN}"), &Keep::Outputs);
    assert!(shared.bytes() < apart.bytes() / 2, "{} against {}", shared.bytes(), apart.bytes());
    // No gradients of parameters either.
    assert!(weights.iter_mut().all(|p| p.diff.host().is_empty()));
}
