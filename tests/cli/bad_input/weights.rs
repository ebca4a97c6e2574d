//! Weights, snapshots and arrays that are missing, cut short, of another kind or of another net.

use crate::support::{Folder, NET, SMALL};
use cortado::tools::npz::{self, Arrays};
use ndarray::{ArrayD, IxDyn};

/// `net.prototxt` becomes one with another number of hidden units.
fn widen(folder: &Folder) {
    folder.write("net.prototxt", NET.replace("num_output: 12", "num_output: 13"));
}

#[test]
fn weights() {
    let folder = Folder::trained();
    let refused = |file: &str, parts: &[&str]| {
        folder.refused(&format!("train -solver solver.prototxt -weights {file}"), parts);
        for words in ["test -model net.prototxt", "time -model net.prototxt", "run net.prototxt"] {
            folder.refused(&format!("{words} -weights {file}"), parts);
        }
    };
    refused("none.caffemodel", &["cannot read none.caffemodel"]);
    refused("snap_iter_4.caffemodel,none.caffemodel", &["cannot read none.caffemodel"]);
    refused("net.prototxt", &["not a file of this kind", "--> net.prototxt"]);
    let whole = folder.read("snap_iter_4.caffemodel");
    for length in [5, 100, whole.len() / 2, whole.len() - 1] {
        folder.write("cut.caffemodel", &whole[..length]);
        refused("cut.caffemodel", &["broken off", "--> cut.caffemodel", "is the file complete?"]);
    }
    widen(&folder);
    refused(
        "snap_iter_4.caffemodel",
        &["layer \"ip1\"", "another shape", "--> snap_iter_4.caffemodel", "13 784", "12 784", "ip2"],
    );
    // Those that a solver names have its line.
    folder.solver("named.prototxt", "weights: \"none.caffemodel\"");
    folder.refused(
        "train -solver named.prototxt",
        &["weights[0]: cannot read none.caffemodel", "named.prototxt:8:10", "^"],
    );
}

#[test]
fn snapshots() {
    let folder = Folder::trained();
    let refused = |file: &str, parts: &[&str]| {
        folder.refused(&format!("train -solver solver.prototxt -snapshot {file}"), parts);
    };
    refused("none.solverstate", &["cannot read none.solverstate"]);
    refused("net.prototxt", &["not a file of this kind", "--> net.prototxt"]);
    let whole = folder.read("snap_iter_4.solverstate");
    for length in [10, whole.len() / 2] {
        folder.write("cut.solverstate", &whole[..length]);
        refused("cut.solverstate", &["broken off", "--> cut.solverstate"]);
    }
    // The weights in the place of the state.
    folder.refused(
        "train -solver solver.prototxt -snapshot snap_iter_4.caffemodel",
        &["snap_iter_4.caffemodel"],
    );
    // A good state whose weights are gone or broken.
    let model = folder.read("snap_iter_4.caffemodel");
    folder.cut("snap_iter_4.caffemodel", 1000);
    refused("snap_iter_4.solverstate", &["broken off", "--> snap_iter_4.caffemodel"]);
    std::fs::remove_file(folder.path("snap_iter_4.caffemodel")).unwrap();
    refused(
        "snap_iter_4.solverstate",
        &["snap_iter_4.caffemodel, are missing", "--> snap_iter_4.solverstate"],
    );
    folder.write("snap_iter_4.caffemodel", model);
    // A net with other shapes, and one with more layers.
    widen(&folder);
    refused("snap_iter_4.solverstate", &["of another net", "layer \"ip1\"", "13 784", "12 784"]);
    let more = "layer { name: 'ip3' type: 'InnerProduct' bottom: 'ip2' top: 'ip3' inner_product_param { num_output: 10 } }";
    folder.write("net.prototxt", format!("{NET}{more}\n"));
    refused("snap_iter_4.solverstate", &["of another net", "6 parameters", "4 blobs"]);
}

#[test]
fn arrays() {
    let folder = Folder::empty();
    folder.write("net.prototxt", SMALL);
    folder.refused("run net.prototxt --input none.npz", &["cannot open none.npz"]);
    folder.write("text.npz", "no zip");
    folder.refused("run net.prototxt --input text.npz", &[".npz file cannot be read", "--> text.npz"]);
    let write = |key: &str, dims: &[usize]| {
        let arrays = Arrays::from([(key.into(), ArrayD::from_elem(IxDyn(dims), 1.0))]);
        npz::write(folder.path("in.npz"), &arrays).unwrap();
    };
    for (key, dims, word) in [
        ("in/z", &[2, 3][..], "no blob \"z\""),
        ("in/x", &[2, 4], "[2, 3]"),
        ("in/y", &[2, 3], "computed by the net"),
        ("param/relu/0", &[1, 1], "no parameter"),
        ("param/rel/0", &[1, 1], "did you mean \"relu\"?"),
        ("topdiff/x", &[2, 3], "no output"),
    ] {
        write(key, dims);
        folder.refused("run net.prototxt --input in.npz --backward", &[key, word, "in.npz"]);
    }
    write("in/x", &[2, 3]);
    folder.cut("in.npz", 100);
    folder.refused("run net.prototxt --input in.npz", &["cannot be read", "--> in.npz"]);
}
