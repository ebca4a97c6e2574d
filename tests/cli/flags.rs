//! The flags: as Caffe's users type them, and their help.

use crate::support::{Done, Folder};
use std::process::Stdio;

/// A net with a layer for each condition on its state.
const STATES: &str = "
    layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 2 dim: 3 } } }
    layer { name: 'always' type: 'ReLU' bottom: 'x' top: 'y' }
    layer { name: 'in_train' type: 'ReLU' bottom: 'y' top: 'y' include { phase: TRAIN } }
    layer { name: 'in_test' type: 'ReLU' bottom: 'y' top: 'y' include { phase: TEST } }
    layer { name: 'level_2' type: 'ReLU' bottom: 'y' top: 'y' include { min_level: 2 } }
    layer { name: 'stage_a' type: 'ReLU' bottom: 'y' top: 'y' include { stage: 'a' } }
    layer { name: 'stage_ab' type: 'ReLU' bottom: 'y' top: 'y' include { stage: 'a' stage: 'b' } }
    layer { name: 'not_b' type: 'ReLU' bottom: 'y' top: 'y' exclude { stage: 'b' } }";

#[test]
fn one_dash_or_two_blank_or_equals_sign() {
    for flag in [
        "-solver solver.prototxt",
        "--solver solver.prototxt",
        "-solver=solver.prototxt",
        "--solver=solver.prototxt",
    ] {
        let folder = Folder::new();
        folder.cortado(&format!("train {flag}")).ok();
        assert!(folder.path("snap_iter_4.caffemodel").exists(), "{flag}");
    }
}

#[test]
fn several_weight_files() {
    let folder = Folder::trained();
    std::fs::copy(folder.path("snap_iter_4.caffemodel"), folder.path("b.caffemodel")).unwrap();
    let done =
        folder.cortado("train -solver solver.prototxt -weights snap_iter_4.caffemodel,b.caffemodel").ok();
    for name in ["snap_iter_4.caffemodel", "b.caffemodel"] {
        assert!(done.stderr.contains(&format!("Finetuning from {name}")), "{}", done.stderr);
    }
    folder
        .cortado("test -model net.prototxt -weights=b.caffemodel,snap_iter_4.caffemodel -iterations=2")
        .ok();
}

#[test]
fn phase_level_and_stages() {
    let folder = Folder::empty();
    folder.write("net.prototxt", STATES);
    let layers = |done: Done, start: &str| -> Vec<String> {
        let text = done.stdout + &done.stderr;
        let names = STATES.lines().filter_map(|l| l.split('\'').nth(1)).filter(|&n| n != "x");
        names.filter(|name| text.contains(&format!("{start}{name} "))).map(String::from).collect()
    };
    for (flags, expected) in [
        ("", &["always", "in_train", "not_b"][..]),
        ("-phase TEST", &["always", "in_test", "not_b"]),
        ("--phase=test -level 2", &["always", "in_test", "level_2", "not_b"]),
        ("-phase=TRAIN -level=-1 -stage a", &["always", "in_train", "stage_a", "not_b"]),
        ("--stage a,b --level 3", &["always", "in_train", "level_2", "stage_a", "stage_ab"]),
    ] {
        let done = folder.cortado(&format!("summary net.prototxt {flags}")).ok();
        assert_eq!(layers(done, "\n"), expected, "{flags}");
    }
    // The same flags of the other subcommands.
    let timed = folder.cortado("time -model net.prototxt -phase TEST -iterations 1 -stage a,b --json").ok();
    for name in ["in_test", "stage_ab"] {
        assert!(timed.stdout.contains(&format!("\"{name}\"")), "{}", timed.stdout);
    }
    assert!(!timed.stdout.contains("in_train"));
    let checked = folder.cortado("gradcheck net.prototxt -stage a -level 2").ok();
    assert!(
        checked.stdout.contains("\nlevel_2 ") && checked.stdout.contains("\nstage_a "),
        "{}",
        checked.stdout
    );
}

#[test]
fn stages_reach_the_solver_s_net() {
    let folder = Folder::new();
    let net = String::from_utf8(folder.read("net.prototxt")).unwrap();
    folder.write(
        "net.prototxt",
        net.replace("name: \"drop\"", "name: \"drop\" include { stage: 'a' min_level: 1 }"),
    );
    let table = |flags: &str| folder.cortado(&format!("train -solver solver.prototxt {flags}")).ok().stderr;
    assert!(!table("").contains("\ndrop "));
    assert!(table("-stage b,a -level 1").contains("\ndrop "));
}

#[test]
fn help_names_every_flag() {
    let folder = Folder::empty();
    let help = folder.cortado("--help").ok();
    assert_eq!(help.stderr, "");
    let state = ["--level", "--stage"];
    for (name, flags) in [
        (
            "train",
            &[
                "--solver",
                "--snapshot",
                "--weights",
                "--sigint_effect",
                "--sighup_effect",
                "--gpu",
                "--threads",
            ][..],
        ),
        ("test", &["--model", "--weights", "--iterations", "--gpu", "--threads"]),
        (
            "time",
            &[
                "--model",
                "--weights",
                "--iterations",
                "--phase",
                "--batch",
                "--ceiling",
                "--json",
                "--gpu",
                "--threads",
            ],
        ),
        ("run", &["NET", "--weights", "--phase", "--input", "--output", "--backward", "--gpu"]),
        ("gradcheck", &["NET", "--layer", "--step", "--threshold", "--seed"]),
        ("upgrade", &["IN", "OUT"]),
        ("summary", &["NET", "--phase"]),
        ("layers", &[]),
    ] {
        assert!(help.stdout.contains(&format!("\n  {name} ")), "{}", help.stdout);
        let done = folder.cortado(&format!("{name} --help")).ok();
        let more = if ["upgrade", "layers"].contains(&name) { &[][..] } else { &state };
        for flag in flags.iter().chain(more) {
            assert!(done.stdout.contains(flag), "{name}: no {flag} in {}", done.stdout);
        }
        assert!(done.stdout.contains(&format!("cortado {name}")) && done.stderr.is_empty());
        assert_eq!(folder.cortado(&format!("{name} -help")).ok().stdout, done.stdout);
    }
}

#[test]
fn version() {
    for flag in ["--version", "-version", "-V"] {
        let done = Folder::empty().cortado(flag).ok();
        assert_eq!(done.stdout, format!("cortado {}\n", env!("CARGO_PKG_VERSION")));
    }
}

/// As `cortado layers | head -1`, and a log that nobody reads.
#[test]
fn a_reader_that_goes_away_is_no_mistake() {
    let folder = Folder::new();
    for words in
        ["layers", "train --help", "summary net.prototxt", "gradcheck @tests/gradients/ReLU.prototxt"]
    {
        let mut child = folder.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        Done::of(child.wait_with_output().unwrap()).ok();
    }
    folder.solver("solver.prototxt", "display: 1");
    let mut child = folder.command("train -solver solver.prototxt").stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert!(folder.path("snap_iter_4.solverstate").exists());
}
