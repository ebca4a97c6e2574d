//! Mistakes on the command line and in solvers.

use crate::support::{Folder, SMALL};

#[test]
fn words() {
    let folder = Folder::empty();
    folder.refused("", &["a subcommand is missing", "gradcheck"]);
    folder.refused("trian", &["'trian'", "'train'"]);
    folder.refused("train", &["--solver <SOLVER>"]);
    folder.refused("train -slver x", &["'--slver'", "'--solver'"]);
    folder.refused("train -solver", &["--solver <SOLVER>"]);
    folder.refused("train -solver a -solver b", &["'--solver <SOLVER>'", "multiple times"]);
    folder.refused("test -model x", &["--weights"]);
    folder.refused("run", &["<NET>"]);
    folder.refused("run a b", &["'b'"]);
    folder.refused("layers -x", &["'-x'"]);
}

#[test]
fn values() {
    let folder = Folder::empty();
    folder.write("net.prototxt", SMALL);
    for (words, parts) in [
        ("time -model net.prototxt -iterations many", ["--iterations", "many"]),
        ("time -model net.prototxt -iterations -3", ["--iterations", "-3"]),
        ("time -model net.prototxt -iterations 0", ["--iterations", "1 or more"]),
        ("time -model net.prototxt -phase TRIAN", ["TRAIN, TEST", "did you mean \"TRAIN\"?"]),
        ("time -model net.prototxt -batch 0", ["a batch of no samples", "1 or more"]),
        ("time -model net.prototxt -batch -2", ["--batch", "-2"]),
        ("time -model net.prototxt -ceiling sky", ["--ceiling", "auto, off"]),
        ("time -model net.prototxt -level high", ["--level", "high"]),
        ("time -model net.prototxt -threads x", ["--threads", "x"]),
        ("time -model net.prototxt -threads 1000000", ["1000000", "threads"]),
        ("test -model net.prototxt -weights w -iterations 1.5", ["--iterations", "1.5"]),
        ("run net.prototxt -seed x", ["--seed", "x"]),
        ("gradcheck net.prototxt -step -1", ["--step", "above 0"]),
        ("gradcheck net.prototxt -threshold nan", ["--threshold", "above 0"]),
        ("gradcheck net.prototxt -layer rlu", ["no layer \"rlu\"", "did you mean \"relu\"?"]),
    ] {
        folder.refused(words, &parts);
    }
}

#[test]
fn there_is_no_gpu() {
    let folder = Folder::new();
    for words in [
        "train -solver solver.prototxt -gpu 77",
        "test -model net.prototxt -weights x -gpu 77",
        "time -model net.prototxt --gpu=77",
        "run net.prototxt -gpu=77",
        "gradcheck net.prototxt --gpu 77",
    ] {
        // No driver, or a driver with fewer devices.
        folder.refused(words, &["everything runs on the CPU"]);
    }
    folder.refused("time -model net.prototxt -gpu 0,1", &["several GPUs", "-gpu 0,1"]);
    folder.refused("gradcheck net.prototxt -gpu one", &["--gpu", "no number of a device", "0 or more"]);
}

#[test]
fn files_that_are_missing() {
    let folder = Folder::new();
    for words in ["summary", "run", "gradcheck", "time -model", "upgrade"] {
        let end = if words == "upgrade" { " out" } else { "" };
        folder.refused(&format!("{words} none.prototxt{end}"), &["cannot read none.prototxt"]);
    }
    folder.refused("train -solver none.prototxt", &["cannot read none.prototxt"]);
    // One that the solver names has the solver's line.
    folder.solver("missing.prototxt", "net: \"none.prototxt\"");
    folder.refused(
        "train -solver missing.prototxt",
        &["cannot read none.prototxt", "missing.prototxt:7:6", "^"],
    );
    folder.refused("run net.prototxt --output no/out.npz", &["cannot write no/out.npz"]);
    folder.refused("upgrade net.prototxt no/out.prototxt", &["cannot write no/out.prototxt"]);
    folder.refused("upgrade net.prototxt .", &["it is a folder"]);
}

#[test]
fn solvers() {
    let folder = Folder::new();
    // (The changed field is the last line, the seventh or eighth.)
    for (line, parts) in [
        ("lr_policy: \"fixd\"", ["7:12", "learning-rate policy \"fixd\"", "did you mean \"fixed\"?"]),
        ("type: \"Adm\"", ["8:7", "solver type \"Adm\"", "did you mean"]),
        ("snapshot_prefix: \"no/such/snap\"", ["7:18", "no/such", "make the folder"]),
        ("momentun: 0.9", ["8:1", "unknown field \"momentun\"", "did you mean \"momentum\"?"]),
        ("base_lr: fast", ["7:10", "base_lr", "fast"]),
        ("iter_size: 0", ["8:12", "iter_size", "1 or more"]),
        ("test_iter: 3", ["test_interval", "1 or more", "bad.prototxt"]),
        ("weight_decay: 0.1\nregularization_type: \"L3\"", ["9:22", "L3", "L2"]),
        ("train_net: \"net.prototxt\"", ["8:12", "more than one training net", "train_net, net"]),
    ] {
        folder.solver("bad.prototxt", line);
        folder.refused("train -solver bad.prototxt", &parts);
    }
    folder
        .write("bad.prototxt", "base_lr: 0.1\nlr_policy: 'fixed'\nmax_iter: 1\nsnapshot_after_train: false");
    folder.refused("train -solver bad.prototxt", &["no training net", "net_param", "bad.prototxt"]);
    folder.refused(
        "train -solver net.prototxt",
        &["net.prototxt:1:1", "unknown field \"name\" in SolverParameter"],
    );
    folder.refused(
        "train -solver solver.prototxt -weights a -snapshot b",
        &["a snapshot to resume training or weights to finetune, not both"],
    );
    folder
        .refused("train -solver solver.prototxt -sigint_effect halt", &["stop, snapshot, none", "\"halt\""]);
}
