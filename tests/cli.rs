//! The command line as users type it: what it prints, where, and its exit code.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn cortado(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cortado")).args(words).current_dir(root()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command line that must fail with exit code 1 and one error that has all these words.
fn refused(words: &[&str], parts: &[&str]) {
    let output = cortado(words);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words:?}: {error}");
    assert!(error.starts_with("error: "), "{words:?}: {error}");
    assert_eq!(error.matches("error: ").count(), 1, "{words:?}: {error}");
    for part in parts {
        assert!(error.contains(part), "{words:?}: no {part:?} in {error}");
    }
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

const SMALL: &str = "
    layer { name: 'data' type: 'Input' top: 'x' input_param { shape { dim: 2 dim: 3 } } }
    layer { name: 'relu' type: 'ReLU' bottom: 'x' top: 'y' }";

#[test]
fn mistakes_on_the_command_line() {
    refused(&[], &["subcommand"]);
    refused(&["trian"], &["'train'"]);
    refused(&["train", "-slver", "x"], &["--solver"]);
    refused(&["train", "--solver", "none.prototxt"], &["none.prototxt"]);
    refused(&["summary", "none.prototxt"], &["none.prototxt"]);
    let net = "tests/gradients/ReLU.prototxt";
    refused(&["time", "-model", net, "-gpu", "0"], &["no CUDA backend", "-gpu 0"]);
    refused(&["time", "-model", net, "-phase", "TRIAN"], &["TRAIN, TEST", "\"TRIAN\""]);
    refused(&["time", "-model", net, "-iterations", "0"], &["iterations"]);
    refused(&["gradcheck", net, "--layer", "leeky"], &["\"leaky\""]);
    refused(&["gradcheck", net, "--step", "-1"], &["--step"]);
    refused(
        &["train", "--solver", "nets/mnist/lenet_solver.prototxt", "-weights", "a", "-snapshot", "b"],
        &["not both"],
    );
}

#[test]
fn mistakes_in_a_net_have_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let net = write(folder.path(), "a.prototxt", &SMALL.replace("'ReLU'", "'Relu'"));
    refused(&["summary", &net], &["a.prototxt:3:", "\"ReLU\"", "^"]);
    let net = write(folder.path(), "b.prototxt", &SMALL.replace("bottom: 'x'", "bottom: 'z'"));
    refused(&["run", &net], &["b.prototxt:3:", "\"z\""]);
}

#[test]
fn help_and_version_go_to_standard_output() {
    for words in [&["--help"][..], &["--version"], &["gradcheck", "--help"]] {
        let output = cortado(words);
        assert!(output.status.success() && output.stderr.is_empty() && !output.stdout.is_empty());
    }
}

#[test]
fn gradcheck_prints_a_table() {
    let output = cortado(&["gradcheck", "tests/gradients/ReLU.prototxt"]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.starts_with("layer") && text.contains("whole net") && text.contains("checks passed"),
        "{text}"
    );
    // A threshold that nothing can meet makes it fail.
    let output = cortado(&["gradcheck", "tests/gradients/TanH.prototxt", "--threshold", "1e-30"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("FAIL"), "{text}");
}

#[test]
fn time_gives_json_on_standard_output_alone() {
    let net = "tests/gradients/InnerProduct.prototxt";
    let output = cortado(&["time", "-model", net, "-iterations", "3", "--threads", "2", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in ["forward_ms", "backward_ms", "forward_backward_ms"] {
        assert!(json[key].as_f64().is_some_and(|ms| ms >= 0.0), "{json}");
    }
    assert_eq!((json["iterations"].as_u64(), json["threads"].as_u64()), (Some(3), Some(2)));
    assert!(json["layers"][0]["name"].is_string());
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        log.contains("] Average Forward pass: ") && log.contains("Iteration: 3 forward-backward"),
        "{log}"
    );
}

#[test]
fn run_takes_and_gives_arrays() {
    use cortado::tools::npz::{self, Arrays};
    use ndarray::{ArrayD, IxDyn};
    let folder = tempfile::tempdir().unwrap();
    let net = write(folder.path(), "net.prototxt", SMALL);
    let (input, output) = (folder.path().join("in.npz"), folder.path().join("out.npz"));
    let [from, to] = [&input, &output].map(|p| p.display().to_string());
    let array = |dims: &[usize]| ArrayD::from_shape_fn(IxDyn(dims), |i| i[0] as f32 - i[1] as f32);
    // Another batch than the net's.
    npz::write(
        &input,
        &Arrays::from([
            ("in/x".into(), array(&[4, 3])),
            ("topdiff/y".into(), array(&[4, 3])),
            ("note".into(), array(&[1, 1])),
        ]),
    )
    .unwrap();
    let done = cortado(&["run", &net, "--input", &from, "--output", &to, "--backward", "--phase", "TRAIN"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let arrays = npz::read(&output, |_| true).unwrap();
    let x = array(&[4, 3]);
    assert_eq!(arrays["out/y"], x.mapv(|x| x.max(0.0)));
    assert_eq!(arrays["grad/x"], x.mapv(|x| if x > 0.0 { x } else { 0.0 }));
    assert_eq!(arrays.keys().collect::<Vec<_>>(), ["grad/x", "out/x", "out/y"]);

    for (key, dims, word) in [
        ("in/z", [2, 3], "no blob \"z\""),
        ("in/x", [2, 4], "[2, 3]"),
        ("param/relu/0", [1, 1], "no parameter"),
        ("topdiff/x", [2, 3], "no output"),
    ] {
        npz::write(&input, &Arrays::from([(key.into(), array(&dims))])).unwrap();
        refused(&["run", &net, "--input", &from, "--backward"], &[key, word, "in.npz"]);
    }
}

#[test]
fn upgrade_writes_what_caffe_writes() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for name in ["v0_net", "v1_train", "bn_old", "solver_old"] {
        let old = format!("tests/golden/upgrade/{name}.prototxt");
        let done = cortado(&["upgrade", &old, &out.display().to_string()]);
        assert!(done.status.success() && stdout(&done).contains("upgrade"), "{done:?}");
        let caffe =
            std::fs::read_to_string(root().join(format!("tests/golden/upgrade/{name}.upgraded.prototxt")));
        assert_eq!(std::fs::read_to_string(&out).unwrap(), caffe.unwrap(), "{name}");
    }
    refused(&["upgrade", "Cargo.toml", &out.display().to_string()], &["Cargo.toml"]);
}
