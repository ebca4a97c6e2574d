//! What a solver refuses, and how.

use super::common::*;
use cortado::error::{Error, Kind};
use cortado::proto::binary::{read_solver_state, write_solver_state};
use cortado::proto::read_solver;
use cortado::solver::{Silent, Solver};
use std::fs;

const SGD: &str = "base_lr: 0.1 lr_policy: 'fixed' random_seed: 1";

fn refused(fields: &str) -> Error {
    solver::<f32>(&plain_net(4), fields, &mut Silent).err().unwrap()
}

#[test]
fn fields_are_named_with_their_line() {
    let cases = [
        ("lr_policy: 'fixed'", Kind::Value, "base_lr"),
        ("base_lr: 1 lr_policy: 'fixd'", Kind::UnknownName, "lr_policy"),
        ("type: 'Adam'", Kind::Unsupported, "type"),
        ("type: 'Sgdd'", Kind::UnknownName, "type"),
        ("iter_size: 0", Kind::Value, "iter_size"),
        ("average_loss: 0", Kind::Value, "average_loss"),
        ("weight_decay: 1 regularization_type: 'L3'", Kind::UnknownName, "regularization_type"),
        ("snapshot_format: HDF5", Kind::Unsupported, "snapshot_format"),
        ("snapshot: 5", Kind::Value, "snapshot_prefix"),
        ("snapshot_prefix: '/no/such/folder/x'", Kind::Io, "snapshot_prefix"),
        ("test_iter: 1", Kind::Value, "test_interval"),
        ("test_iter: -1 test_interval: 1", Kind::Value, "test_iter[0]"),
        ("test_iter: 1 test_interval: 1 test_state {} test_state {}", Kind::Value, "test_state"),
        ("test_net: 'a' test_net: 'b' test_iter: 1 test_interval: 1", Kind::Value, "test_iter"),
        ("net: 'x.prototxt'", Kind::Value, "net_param"),
        ("test_net: 'missing.prototxt' test_iter: 1 test_interval: 1", Kind::Io, "test_net[0]"),
        ("weights: 'missing.caffemodel'", Kind::Io, "weights[0]"),
    ];
    for (fields, kind, field) in cases {
        let fields =
            if fields.contains("lr_policy") { fields.to_string() } else { format!("{SGD} {fields}") };
        let error = refused(&fields);
        assert_eq!((error.kind(), error.field()), (kind, Some(field)), "{fields}: {error}");
        let given = fields.contains(field.split('[').next().unwrap());
        assert_eq!(error.place().is_some(), given, "{fields}: {error}");
    }
    register();
    let none = cortado::proto::parse_solver(SGD, "s").unwrap();
    let error = Solver::<f32>::new(&none.message, None, &mut Silent).err().unwrap();
    assert!(error.to_string().contains("names no training net"), "{error}");
}

#[test]
fn a_run_without_an_end_is_refused() {
    let mut solver: Solver<f32> = solver(&plain_net(4), SGD, &mut Silent).unwrap();
    assert_eq!(solver.solve(&mut Silent).unwrap_err().field(), Some("max_iter"));
}

#[test]
fn nets_are_found_beside_the_solver_and_their_errors_point_into_them() {
    register();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("solver.prototxt");
    fs::write(&path, format!("net: 'net.prototxt' {SGD}")).unwrap();
    let open = || {
        let parsed = read_solver(&path).unwrap();
        Solver::<f32>::new(&parsed.message, Some(&parsed.source), &mut Silent)
    };
    let missing = open().err().unwrap();
    assert_eq!((missing.kind(), missing.place().map(|p| p.line)), (Kind::Io, Some(1)), "{missing}");
    fs::write(folder.path().join("net.prototxt"), plain_net(4)).unwrap();
    // The prefix of its snapshots is its own name.
    let solver = open().unwrap();
    let prefix = folder.path().join("solver").display().to_string();
    assert_eq!(solver.param().snapshot_prefix(), prefix);
    let wrong = plain_net(4).replace("bottom: 'ip1' top: 'ip2'", "bottom: 'ip7' top: 'ip2'");
    fs::write(folder.path().join("net.prototxt"), wrong).unwrap();
    let error = open().err().unwrap();
    assert_eq!(error.layer(), Some("ip2"));
    assert!(error.place().is_some_and(|p| p.file.ends_with("net.prototxt")), "{error}");
}

#[test]
fn snapshots_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("s").display().to_string();
    let fields = format!("{SGD} momentum: 0.9 snapshot_prefix: '{prefix}'");
    let mut first: Solver<f32> = solver(&plain_net(4), &fields, &mut Silent).unwrap();
    first.step(1, &mut Silent).unwrap();
    let (model, state) = first.snapshot(&mut Silent).unwrap();
    let restore = |net: &str| {
        let mut solver: Solver<f32> = solver(net, &fields, &mut Silent).unwrap();
        solver.restore(&state, &mut Silent).err().map_or(String::new(), |e| e.to_string())
    };
    assert_eq!(restore(&plain_net(4)), "");
    // Another shape, another number of parameters, another name.
    let said = restore(&plain_net(4).replace("num_output: 16", "num_output: 17"));
    assert!(said.contains("layer \"ip1\"") && said.contains("17 84") && said.contains("16 84"), "{said}");
    let fewer = data(4) + &ip("ip2", "data", 5) + LOSS;
    let said = restore(&fewer);
    assert!(said.contains("2 blobs") && said.contains("4 blobs"), "{said}");
    let said = restore(&plain_net(4).replace("name: 'ip1'", "name: 'ipx'"));
    assert!(said.contains("no weights for the layer") && said.contains("ip1"), "{said}");

    let good = read_solver_state(&state).unwrap();
    let bytes = fs::read(&state).unwrap();
    fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
    let said = restore(&plain_net(4));
    assert!(said.contains("broken off") && said.contains("s_iter_1.solverstate"), "{said}");
    let mut short = good.clone();
    short.history[0].data.pop();
    write_solver_state(&state, &short).unwrap();
    assert!(restore(&plain_net(4)).contains("another number of values"));
    write_solver_state(&state, &good).unwrap();
    let weights = fs::read(&model).unwrap();
    fs::write(&model, &weights[..weights.len() - 100]).unwrap();
    let said = restore(&plain_net(4));
    assert!(said.contains("broken off") && said.contains("s_iter_1.caffemodel"), "{said}");
    fs::remove_file(&model).unwrap();
    assert!(restore(&plain_net(4)).contains("are missing"));
    fs::remove_file(&state).unwrap();
    assert!(restore(&plain_net(4)).contains("cannot read"));
}
