//! Nets that are wrong: the error has the line, the column, a caret, and the nearest valid name.

use crate::support::{Folder, NET};

const INPUT: &str = "layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 4 dim: 3 } } }\n";

#[test]
fn names() {
    let folder = Folder::empty();
    for (layers, parts) in [
        (
            "layer { name: 'c' type: 'Convolutoin' bottom: 'x' top: 'y' }",
            ["net.prototxt:2:25", "unknown layer type \"Convolutoin\"", "did you mean \"Convolution\"?"],
        ),
        (
            "layer { name: 'c' type: 'ReLU' bottom: 'xx' top: 'y' }",
            ["net.prototxt:2:40", "unknown bottom blob \"xx\"", "did you mean \"x\"?"],
        ),
        (
            "layer {\n  name: 'c' type: 'InnerProduct' bottom: 'x' top: 'y'\n  inner_product_param { num_outptu: 3 }\n}",
            ["net.prototxt:4:25", "unknown field \"num_outptu\"", "did you mean \"num_output\"?"],
        ),
        (
            "layer { name: 'c' type: 'Pooling' bottom: 'x' top: 'y' pooling_param { pool: MAXX } }",
            ["net.prototxt:2:78", "MAXX", "did you mean \"MAX\"?"],
        ),
        (
            "layer { name: 'c' type: 'Eltwise' bottom: 'x' bottom: 'e' top: 'd' }
             layer { name: 'e' type: 'ReLU' bottom: 'd' top: 'e' }",
            ["net.prototxt:2:55", "a top of the later layer \"e\"", "no cycles"],
        ),
        (
            "layer { name: 'a' type: 'ReLU' bottom: 'x' top: 'y' }\nlayer { name: 'b' type: 'TanH' bottom: 'x' top: 'y' }",
            ["net.prototxt:3:49", "layer \"b\"", "made already, by layer \"a\""],
        ),
        ("layer { name: 'c' type: 'ReLU' bottom: 'x' top: 'y'", ["net.prototxt:2:", "expected", "^"]),
        (
            "layer { name: 'c' type: 'Concat' bottom: 'x' top: 'y' concat_param { axis: 5 } }",
            ["net.prototxt:2:76", "layer \"c\"", "axis"],
        ),
    ] {
        folder.net_refused(&format!("{INPUT}{layers}\n"), &[&parts[..], &["\n  |", "^"]].concat());
    }
}

#[test]
fn nets_without_layers() {
    let folder = Folder::empty();
    for text in ["", "name: 'none'\n", "# only a comment"] {
        folder.net_refused(text, &["the net has no layers", "net.prototxt"]);
        for words in ["summary net.prototxt", "gradcheck net.prototxt", "time -model net.prototxt"] {
            folder.refused(words, &["the net has no layers", "net.prototxt"]);
        }
    }
    let text = INPUT.replace("type:", "include { phase: TRAIN stage: 's' } type:");
    folder.net_refused(&text, &["no layer of the net", "phase TEST, level 0, stages []", "net.prototxt"]);
    folder.cortado("summary net.prototxt -phase TRAIN -stage s").ok();
}

#[test]
fn a_label_outside_the_classes() {
    let folder = Folder::new();
    folder.write("net.prototxt", NET.replace("num_output: 10 ", "num_output: 5 "));
    for words in ["run net.prototxt", "train -solver solver.prototxt"] {
        let parts = ["layer \"loss\"", "is not one of the 5 classes", "net.prototxt:8:68", "^", "0 to 4"];
        folder.refused(words, &parts);
    }
}

#[test]
fn rank_hard_loss() {
    let folder = Folder::empty();
    let good = "neg_num: 4 pair_size: 2 hard_ratio: 0.5 rand_ratio: 0.5";
    let net = |rows: usize, fields: &str| {
        format!(
            "layer {{ name: 'in' type: 'Input' top: 'x' top: 'l' input_param {{ shape {{ dim: {rows} dim: 3 }} shape {{ dim: {rows} }} }} }}
layer {{ name: 'rank' type: 'RankHardLoss' bottom: 'x' bottom: 'l' top: 'loss'
  rank_param {{ {fields} }} }}"
        )
    };
    for (rows, fields, parts) in [
        (5, good, ["net.prototxt:3:38", "a multiple of pair_size = 2", "a batch of 5"]),
        (
            4,
            "neg_num: 4 pair_size: 1 hard_ratio: 1",
            ["net.prototxt:3:38", "rank_param.pair_size", "2 or more"],
        ),
        (
            4,
            "neg_num: 0 pair_size: 2 hard_ratio: 1",
            ["net.prototxt:3:25", "rank_param.neg_num", "1 or more"],
        ),
        (4, "neg_num: 4 pair_size: 2", ["net.prototxt:3:3", "neither hard_ratio nor rand_ratio", "0.5"]),
    ] {
        folder.net_refused(&net(rows, fields), &[&parts[..], &["layer \"rank\"", "^"]].concat());
    }
    // Shares that are not 1 together are allowed, with a warning.
    folder.write("net.prototxt", net(4, &good.replace("rand_ratio: 0.5", "rand_ratio: 0.9")));
    let done = folder.cortado("run net.prototxt").ok();
    assert!(done.stderr.contains("hard_ratio + rand_ratio = 1.4"), "{}", done.stderr);
}
