//! Nets as a whole: sharing, in place, which gradients flow, what is refused.

use super::Net;
use crate::blob::{Shape, Weights};
use crate::proto::parse_net;
use crate::testing::{Bench, assert_close, refusal};

const X: (&str, &[usize], &[f64]) = ("x", &[2, 3], &[1.0, -2.0, 3.0, 0.5, 2.0, -1.0]);
const T: (&str, &[usize], &[f64]) = ("t", &[2, 2], &[0.0, 1.0, 1.0, 0.0]);

/// x → InnerProduct "ip" (2 outputs) → top.
fn ip(name: &str, bottom: &str, top: &str, more: &str) -> String {
    format!(
        "layer {{ name: '{name}' type: 'InnerProduct' bottom: '{bottom}' top: '{top}' {more}
           inner_product_param {{ num_output: 2 weight_filler {{ type: 'xavier' }} }} }}\n"
    )
}

fn simple(kind: &str, name: &str, bottom: &str, top: &str) -> String {
    format!("layer {{ name: '{name}' type: '{kind}' bottom: '{bottom}' top: '{top}' }}\n")
}

fn euclidean(bottom: &str, more: &str) -> String {
    format!(
        "layer {{ name: 'loss' type: 'EuclideanLoss' bottom: '{bottom}' bottom: 't' top: 'loss' {more} }}\n"
    )
}

#[test]
fn what_backward_still_reads_is_not_overwritten() {
    // Sigmoid's backward reads its top, which the ReLU overwrites.
    let net = simple("Sigmoid", "s", "x", "y") + &simple("ReLU", "r", "y", "y");
    let error = refusal(&net, &[X]);
    assert_eq!((error.layer(), error.field()), (Some("r"), Some("top[0]")));
    assert!(error.to_string().contains("layer \"s\" reads it"), "{error}");
    // ReLU asks for the sign alone, which Dropout keeps; every published net does this.
    let net = ip("ip", "x", "y", "") + &simple("ReLU", "r", "y", "y") + &simple("Dropout", "d", "y", "y");
    assert!(Bench::<f32>::new(&net, &[X]).is_ok());
    // With nothing to learn and no force_backward, nothing is lost.
    let text = "layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 2 } } }".to_string();
    let net = text + &simple("Sigmoid", "s", "x", "y") + &simple("ReLU", "r", "y", "y");
    assert!(Net::<f32>::new(&parse_net(&net, "test").unwrap().message, 1, &mut Weights::new()).is_ok());
}

#[test]
fn a_shared_value_is_not_overwritten_under_a_later_reader() {
    let net = simple("Flatten", "f", "x", "flat")
        + &simple("ReLU", "r", "flat", "flat")
        + &simple("Sigmoid", "s", "x", "y");
    let error = refusal(&net, &[X]);
    assert!(error.to_string().contains("layer \"s\" reads the same values later"), "{error}");
}

#[test]
fn split_gradients_add_up() {
    let net = simple("Power", "a", "x", "a") + &simple("Power", "b", "x", "b");
    let mut b = Bench::<f64>::new(&net, &[X]).unwrap();
    b.forward();
    b.backward(&[("a", &[1.0; 6]), ("b", &[2.0; 6])]);
    assert_close(&b.grad("x"), &[3.0; 6], 0.0);
}

#[test]
fn shared_parameters_are_one_and_their_gradients_add_up() {
    let shared = "param { name: 'w' } param { name: 'b' }";
    let net = ip("one", "x", "p", shared) + &ip("two", "x", "q", shared);
    let mut b = Bench::<f64>::new(&net, &[X]).unwrap();
    assert_eq!(b.weights.len(), 2);
    b.forward();
    assert_eq!(b.get("p"), b.get("q"));
    b.backward(&[("p", &[1.0; 4]), ("q", &[2.0; 4])]);
    assert_close(&b.param("one", 1).1, &[6.0, 6.0], 1e-12);
}

#[test]
fn shapes_of_shared_parameters_are_checked() {
    let y = ("y", [3, 2].as_slice(), [0.0; 6].as_slice());
    let three = "layer { name: 'two' type: 'InnerProduct' bottom: 'y' top: 'q'
        param { name: 'w' share_mode: MODE } inner_product_param { num_output: 3 bias_term: false } }";
    let one = ip("one", "x", "p", "param { name: 'w' }");
    // 2×3 against 3×2: as many values, another shape.
    let error = refusal(&(one.clone() + &three.replace("MODE", "STRICT")), &[X, y]);
    assert!(error.to_string().contains("PERMISSIVE") && error.field() == Some("param[0]"), "{error}");
    assert!(Bench::<f32>::new(&(one.clone() + &three.replace("MODE", "PERMISSIVE")), &[X, y]).is_ok());
    let rates = ip("one", "x", "p", "param { name: 'w' lr_mult: 1 }")
        + &ip("two", "x", "q", "param { name: 'w' lr_mult: 2 }");
    assert!(refusal(&rates, &[X]).to_string().contains("lr_mult"));
    let many = ip("one", "x", "p", "param {} param {} param {}");
    assert_eq!(refusal(&many, &[X]).field(), Some("param[2]"));
}

#[test]
fn a_test_net_takes_the_train_nets_parameters() {
    let text =
        "layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 2 dim: 3 } } }".to_string();
    let param = parse_net(&(text.clone() + &ip("ip", "x", "y", "")), "test").unwrap().message;
    let mut weights = Weights::<f32>::new();
    Net::new(&param, 1, &mut weights).unwrap();
    let more =
        parse_net(&(text + &ip("ip", "x", "y", "") + &ip("new", "y", "z", "")), "test").unwrap().message;
    Net::new(&more, 2, &mut weights).unwrap();
    let names: Vec<_> = weights.iter().map(|p| (p.layer.as_str(), p.index)).collect();
    assert_eq!(names, [("ip", 0), ("ip", 1), ("new", 0), ("new", 1)]);
}

#[test]
fn gradients_flow_only_where_somebody_learns() {
    let text = "layer { name: 'in' type: 'Input' top: 'x' top: 't' input_param { shape { dim: 2 dim: 2 } } }"
        .to_string()
        + &simple("Power", "p", "x", "px")
        + &ip("ip", "px", "y", "")
        + &ip("unused", "px", "z", "")
        + &euclidean("y", "");
    let mut weights = Weights::<f64>::new();
    let net = Net::new(&parse_net(&text, "test").unwrap().message, 1, &mut weights).unwrap();
    let needs = |name: &str| net.nodes().iter().find(|n| n.name == name).unwrap().need_backward;
    assert!(needs("ip") && needs("loss"));
    assert!(!needs("p"), "nothing to learn below");
    assert!(!needs("unused"), "takes no part in the loss");
}

#[test]
fn propagate_down_and_lr_mult_stop_gradients() {
    let below = ip("below", "x", "h", "");
    let stop = below.clone() + &ip("ip", "h", "y", "propagate_down: false") + &euclidean("y", "");
    let mut b = Bench::<f64>::new(&stop, &[X, T]).unwrap();
    b.forward();
    b.backward(&[]);
    assert!(b.param("below", 0).1.iter().all(|g| *g == 0.0));
    assert!(b.param("ip", 0).1.iter().any(|g| *g != 0.0));
    let frozen = ip("ip", "x", "y", "param { lr_mult: 0 } param { lr_mult: 0 }");
    let text = "layer { name: 'in' type: 'Input' top: 'x' top: 't' input_param { shape { dim: 2 dim: 2 } } }"
        .to_string()
        + &frozen
        + &euclidean("y", "");
    let net = Net::<f32>::new(&parse_net(&text, "test").unwrap().message, 1, &mut Weights::new()).unwrap();
    assert!(net.nodes().iter().all(|n| !n.need_backward));
    assert!(
        refusal(&ip("ip", "x", "y", "propagate_down: true propagate_down: true"), &[X])
            .to_string()
            .contains("propagate_down")
    );
}

#[test]
fn losses_are_weighted_and_get_a_top() {
    let unnamed = "layer { name: 'loss' type: 'EuclideanLoss' bottom: 'y' bottom: 't' loss_weight: 0.5 }";
    let net = ip("ip", "x", "y", "");
    let mut half = Bench::<f64>::new(&(net.clone() + unnamed), &[X, T]);
    // loss_weight is counted against the tops that are there, the added one included.
    let loss = half.as_mut().map(|b| b.forward()).unwrap();
    let whole = Bench::<f64>::new(&(net + &euclidean("y", "")), &[X, T]).unwrap().forward();
    assert_close(&[loss], &[whole / 2.0], 1e-12);
}

#[test]
fn a_new_batch_size_reshapes_the_net() {
    let net = ip("ip", "x", "y", "") + &simple("ReLU", "r", "y", "y");
    let mut b = Bench::<f32>::new(&net, &[X]).unwrap();
    let x = b.net.blob("x").unwrap();
    b.net.set_input_shape(x, Shape::new([5, 3]).unwrap()).unwrap();
    b.net.reshape().unwrap();
    assert_eq!(b.shape("y").to_vec(), [5, 2]);
    b.set("x", &[1.0; 15]);
    b.forward();
    assert_eq!(b.get("y").len(), 10);
    b.net.set_input_shape(x, Shape::new([5, 4]).unwrap()).unwrap();
    let error = b.net.reshape().unwrap_err();
    assert!(error.layer() == Some("ip") && error.to_string().contains("parameter 0 changes"), "{error}");
}

#[test]
fn mistakes_name_the_layer_and_what_is_near() {
    let unknown = refusal(&simple("Sigmoyd", "s", "x", "y"), &[X]);
    assert_eq!((unknown.layer(), unknown.field()), (Some("s"), Some("type")));
    assert!(unknown.to_string().contains("did you mean \"Sigmoid\"?"), "{unknown}");
    let twice = refusal(&(simple("Sigmoid", "a", "x", "y") + &simple("Sigmoid", "b", "x", "y")), &[X]);
    assert!(twice.to_string().contains("is made already, by layer \"a\""), "{twice}");
    let place = refusal(&ip("ip", "x", "x", ""), &[X]);
    assert!(place.to_string().contains("cannot run in place"), "{place}");
    let count = refusal("layer { name: 'r' type: 'ReLU' bottom: 'x' bottom: 'x' top: 'y' }", &[X]);
    assert_eq!((count.field(), count.expectation()), (Some("bottom"), Some("1")));
    let weights = refusal(&euclidean("x", "loss_weight: 1 loss_weight: 1"), &[X, ("t", X.1, X.2)]);
    assert_eq!(weights.field(), Some("loss_weight"));
}

#[test]
fn debug_info_describes_every_blob() {
    let net = String::from("debug_info: true\n") + &ip("ip", "x", "y", "");
    let mut b = Bench::<f32>::new(&net, &[X]).unwrap();
    b.set_param("ip", 0, &[1.0; 6]);
    b.forward();
    b.backward(&[("y", &[1.0; 4])]);
    let lines = b.net.take_debug();
    assert!(lines.contains(&"    [Forward] Layer ip, param blob 0 data: 1".to_string()), "{lines:#?}");
    assert!(lines.contains(&"    [Forward] Layer ip, top blob y data: 1.75".to_string()), "{lines:#?}");
    assert!(lines.contains(&"    [Backward] Layer ip, bottom blob x diff: 2".to_string()), "{lines:#?}");
    assert!(b.net.take_debug().is_empty());
}

#[test]
fn equal_passes_draw_equal_numbers() {
    let net = String::from("state { phase: TRAIN }\n") + &simple("Dropout", "d", "x", "y");
    let mut b = Bench::<f32>::new(&net, &[("x", &[64], &[1.0; 64])]).unwrap();
    b.forward();
    let first = b.get("y");
    b.forward();
    assert_ne!(first, b.get("y"));
    b.net.set_next_pass(0);
    b.forward();
    assert_eq!(first, b.get("y"));
}
