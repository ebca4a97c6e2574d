//! Upgrades against pairs made by Caffe's own tools, byte for byte.

use crate::golden;
use cortado::error::Kind;
use cortado::proto::caffe::{NetParameter, SolverParameter};
use cortado::proto::{parse_net, parse_solver, print, read_net, read_solver, text};

fn compare(name: &str, printed: String) {
    let wanted = std::fs::read_to_string(golden(&format!("upgrade/{name}.upgraded.prototxt"))).unwrap();
    assert_eq!(printed, wanted, "{name}");
}

#[test]
fn nets_are_upgraded_to_caffes_bytes() {
    for name in ["v0_net", "v1_train", "v1_input", "bn_old"] {
        let parsed = read_net(golden(&format!("upgrade/{name}.prototxt"))).unwrap();
        assert!(!parsed.upgrades.is_empty());
        compare(name, print(&parsed.message).unwrap());
    }
}

#[test]
fn upgraded_nets_need_nothing_and_print_the_same_again() {
    for name in ["v0_net", "v1_train", "v1_input", "bn_old"] {
        let parsed = read_net(golden(&format!("upgrade/{name}.upgraded.prototxt"))).unwrap();
        assert_eq!(parsed.upgrades, Vec::<String>::new(), "{name}");
        compare(name, print(&parsed.message).unwrap());
    }
}

#[test]
fn solvers_are_upgraded_to_caffes_bytes() {
    let text = std::fs::read_to_string(golden("upgrade/solver_old.prototxt")).unwrap();
    let parsed = parse_solver(&text, "solver_old.prototxt").unwrap();
    assert_eq!(parsed.upgrades, ["solver_type became type: \"AdaGrad\""]);
    compare("solver_old", print(&parsed.message).unwrap());
}

#[test]
fn a_solver_file_gets_caffes_snapshot_prefix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my_solver.prototxt");
    std::fs::write(&path, "base_lr: 0.1").unwrap();
    let prefix = folder.path().join("my_solver").display().to_string();
    assert_eq!(read_solver(&path).unwrap().message.snapshot_prefix(), prefix);
    std::fs::write(&path, format!("snapshot_prefix: \"{}\"", folder.path().display())).unwrap();
    assert_eq!(read_solver(&path).unwrap().message.snapshot_prefix(), prefix);
    std::fs::write(&path, "snapshot_prefix: \"a/b\"").unwrap();
    assert_eq!(read_solver(&path).unwrap().message.snapshot_prefix(), "a/b");
}

#[test]
fn nets_inside_solvers_are_upgraded() {
    let text = "net_param { layers { name: 'r' type: RELU bottom: 'a' top: 'b' } }";
    let solver = parse_solver(text, "s").unwrap().message;
    assert_eq!(solver.net_param.unwrap().layer[0].r#type(), "ReLU");
}

#[test]
fn old_data_fields_make_empty_messages_as_in_caffe() {
    // Caffe touches data_param and transform_param of every data layer as soon as one layer is old.
    let text = "layers { type: DATA name: 'a' data_param { mirror: false } }
                layers { type: WINDOW_DATA name: 'b' transform_param { scale: 2 } window_data_param { scale: 3 } }
                layers { type: DATA name: 'c' }";
    let net = parse_net(text, "n").unwrap().message;
    assert_eq!(net.layer[0].transform_param.as_ref().unwrap().mirror, Some(false));
    assert_eq!(net.layer[1].transform_param.as_ref().unwrap().scale, Some(3.0));
    assert!(net.layer[2].data_param.is_some() && net.layer[2].transform_param.is_some());
    // Today's layers stay as they are.
    let net = parse_net("layer { type: 'Data' data_param { scale: 2 } }", "n").unwrap().message;
    assert_eq!(net.layer[0].data_param.as_ref().unwrap().scale, Some(2.0));
    assert!(net.layer[0].transform_param.is_none());
}

#[test]
fn inputs_with_shapes_dims_or_none() {
    let text = "input: 'a' input: 'b' input_shape { dim: 2 } input_shape { dim: [3, 4] } layer { name: 'x' }";
    let parsed = parse_net(text, "n").unwrap();
    let input = &parsed.message.layer[0];
    assert_eq!((input.name(), input.r#type(), input.top.len()), ("input", "Input", 2));
    assert_eq!(input.input_param.as_ref().unwrap().shape[1].dim, [3, 4]);
    assert_eq!(parsed.message.layer[1].name(), "x");
    assert_eq!(parsed.source.place_of_layer("input", 0, None).unwrap().column, 8);
    let net = parse_net("input: 'a'", "n").unwrap().message;
    assert!(net.layer.is_empty() && net.input.is_empty());
    let error = parse_net("input: 'a'\ninput_dim: [1, 2, 3]", "n").unwrap_err();
    assert_eq!(error.place().unwrap().line, 2);
}

#[test]
fn what_caffe_refuses_to_upgrade_is_an_error_with_its_place() {
    let place = |text: &str| {
        let error = parse_net(text, "n").unwrap_err();
        let place = error.place().unwrap_or_else(|| panic!("{error}")).clone();
        (error.kind(), place.line, error.to_string())
    };
    let (kind, line, text) = place("layers { layer { name: 'c'\n type: 'convv' } }");
    assert_eq!((kind, line), (Kind::UnknownName, 2));
    assert!(text.contains("did you mean \"conv\"?"), "{text}");
    let (kind, line, _) = place("layer { name: 'a' }\nlayers { name: 'b' }");
    assert_eq!((kind, line), (Kind::Net, 2));
    let (_, line, text) = place(
        "input: 'd'\nlayers { layer { name: 'p' type: 'padding' pad: 1 } bottom: 'd' top: 'p' }\n
         layers { layer { name: 'r' type: 'relu' } bottom: 'p' top: 'r' }",
    );
    assert_eq!(line, 4);
    assert!(text.contains("relu"), "{text}");
    let (_, _, text) = place("layers { layer { name: 'r' type: 'relu' } bottom: 'nope' top: 'r' }");
    assert!(text.contains("nope"), "{text}");
    let error = parse_solver("type: 'SGD'\nsolver_type: ADAM", "s").unwrap_err();
    assert_eq!(error.place().unwrap().line, 2);
}

#[test]
fn v0_fields_that_mean_nothing_are_named() {
    let text = "layers { layer { name: 'r' type: 'relu' num_output: 3 } }";
    let parsed = parse_net(text, "n").unwrap();
    assert!(parsed.upgrades[0].contains("num_output"), "{:?}", parsed.upgrades);
}

#[test]
fn printing_reads_back_as_the_same_message() {
    let text = "name: 'a\\n\\'\\xc3\\xa9\"' state { phase: TRAIN } layer { loss_weight: [0.1, -inf, 1e-9]
        blobs { shape { dim: 3 } data: 1 data: 0.333333333 data: -0.0 double_data: 0.1 } clip_param { min: -1 max: 1 } }";
    let net = text::parse::<NetParameter>(text, "n").unwrap().message;
    let printed = print(&net).unwrap();
    assert!(
        printed.starts_with("name: \"a\\n\\'\\303\\251\\\"\"\nstate {\n  phase: TRAIN\n}\n"),
        "{printed}"
    );
    assert_eq!(text::parse::<NetParameter>(&printed, "n").unwrap().message, net);
    let empty = print(&SolverParameter::default()).unwrap();
    assert_eq!(empty, "");
}
