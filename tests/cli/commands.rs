//! What each subcommand prints and writes.

use crate::support::{Folder, NET, SMALL, number_behind, repository};
use cortado::tools::npz::{self, Arrays};
use ndarray::{ArrayD, IxDyn};

/// The text of a log line behind glog's head, which must be one: `I1122 16:40:00.123456 12345 solver.cpp:239] `.
fn message(line: &str) -> &str {
    let (head, message) = line.split_once("] ").unwrap_or_else(|| panic!("no head in {line}"));
    let words: Vec<&str> = head.split_whitespace().collect();
    let [date, time, process, place] = words[..] else { panic!("{line}") };
    // As Caffe's extract_seconds.py takes them apart.
    let (month, day): (u32, u32) = (date[1..3].parse().unwrap(), date[3..].parse().unwrap());
    assert!("IWE".contains(&date[..1]) && (1..=12).contains(&month) && (1..=31).contains(&day), "{line}");
    let (clock, micros) = time.split_once('.').unwrap();
    assert!(micros.len() == 6 && micros.parse::<u32>().is_ok(), "{line}");
    assert_eq!(clock.split(':').filter_map(|n| n.parse::<u32>().ok()).count(), 3, "{line}");
    assert!(process.parse::<u32>().is_ok() && place.contains(".cpp:"), "{line}");
    message
}

/// A number as the patterns of Caffe's `parse_log.py` accept it, alone or before a blank.
fn number(text: &str) -> f64 {
    let word = text.split(' ').next().unwrap();
    assert!(word.chars().all(|c| c.is_ascii_digit() || ".eE+-".contains(c)), "{text}");
    word.parse().unwrap_or_else(|_| panic!("no number: {text}"))
}

/// `NAME = NUMBER ...` behind `Train net output #0: `.
fn output(message: &str, kind: &str) -> Option<(usize, String, f64)> {
    let head = format!("    {kind} net output #");
    let (index, rest) = message.strip_prefix(&head)?.split_once(": ").unwrap();
    let (name, value) = rest.split_once(" = ").unwrap();
    Some((index.parse().unwrap(), name.to_string(), number(value)))
}

#[test]
fn train_logs_what_caffe_s_parser_reads() {
    let folder = Folder::new();
    folder.solver(
        "solver.prototxt",
        "display: 2\ntest_iter: 3\ntest_interval: 2\nlr_policy: \"step\"\ngamma: 0.1\nstepsize: 2",
    );
    let log = folder.cortado("train -solver solver.prototxt").ok().stderr;
    let lines: Vec<&str> = log.lines().filter(|l| l.contains(".cpp:")).map(message).collect();
    assert_eq!(lines.iter().filter(|l| **l == "Solving tiny").count(), 1, "{log}");

    let (mut iteration, mut rates, mut train, mut test, mut speeds) = (None, vec![], vec![], vec![], 0);
    for line in lines {
        if let Some(rest) = line.strip_prefix("Iteration ") {
            let at = number_behind(line, "Iteration ");
            iteration = Some(at);
            if let Some((_, rate)) = rest.split_once(", lr = ") {
                rates.push((at, number(rate)));
            }
            if rest.contains(" iter/s, ") {
                assert!(rest.contains("s/2 iters), loss = "), "{line}");
                speeds += 1;
            }
        }
        train.extend(output(line, "Train").map(|(i, name, value)| (iteration.unwrap(), i, name, value)));
        test.extend(output(line, "Test").map(|(i, name, value)| (iteration.unwrap(), i, name, value)));
    }
    assert_eq!(speeds, 2, "{log}");
    assert_eq!(rates, [(0, 0.05), (2, 0.005)]);
    let places = |outputs: &[(usize, usize, String, f64)]| -> Vec<(usize, usize, String)> {
        outputs.iter().map(|(at, i, name, _)| (*at, *i, name.clone())).collect()
    };
    assert_eq!(places(&train), [0, 2].map(|at| (at, 0, "loss".to_string())));
    let expected = [0, 2, 4].map(|at| [(at, 0, "acc".to_string()), (at, 1, "loss".to_string())]);
    assert_eq!(places(&test), expected.concat());
    assert!(test.iter().filter(|t| t.2 == "acc").all(|t| (0.0..=1.0).contains(&t.3)), "{test:?}");
    assert!(
        log.contains(", Testing net (#0)") && log.contains(" (* 1 = ") && log.contains(" loss)\n"),
        "{log}"
    );
    // The table comes before all.
    let table = log.find("layer  type").unwrap();
    assert!(log[table..].contains("ip1    InnerProduct") && table < log.find("Solving").unwrap(), "{log}");
}

#[test]
fn test_prints_each_batch_and_the_means() {
    let folder = Folder::trained();
    let log =
        folder.cortado("test -model net.prototxt -weights snap_iter_4.caffemodel -iterations 3").ok().stderr;
    let lines: Vec<&str> = log.lines().map(message).collect();
    let value = |start: &str| -> f64 {
        let found = lines.iter().find_map(|l| l.strip_prefix(start));
        number(found.unwrap_or_else(|| panic!("no {start:?} in {log}")))
    };
    assert!(lines.contains(&"Running for 3 iterations."), "{log}");
    let mean = |name: &str| (0..3).map(|i| value(&format!("Batch {i}, {name} = "))).sum::<f64>() / 3.0;
    for (total, of) in [("Loss: ", "loss"), ("acc = ", "acc"), ("loss = ", "loss")] {
        assert!((value(total) - mean(of)).abs() < 1e-4, "{log}");
    }
    assert!(lines.last().unwrap().ends_with(" loss)"), "{log}");
}

#[test]
fn time_gives_json_on_standard_output_alone() {
    let folder = Folder::new();
    let done = folder.cortado("time -model net.prototxt -iterations 3 --threads 2 --json").ok();
    let json: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    for key in ["forward_ms", "backward_ms", "forward_backward_ms"] {
        assert!(json[key].as_f64().is_some_and(|ms| ms >= 0.0), "{json}");
    }
    assert_eq!((json["iterations"].as_u64(), json["threads"].as_u64()), (Some(3), Some(2)));
    assert!(json["blob_bytes"].as_u64().is_some_and(|n| n > 0), "{json}");
    assert_eq!(json["param_bytes"].as_u64().map(|n| n >= 2 * 4 * 9_550), Some(true), "{json}");
    #[cfg(target_os = "linux")]
    assert!(json["peak_bytes"].as_u64().is_some_and(|n| n > 1 << 20), "{json}");
    let layers = json["layers"].as_array().unwrap();
    let names: Vec<&str> = layers.iter().filter_map(|l| l["name"].as_str()).collect();
    assert_eq!(names, ["data", "ip1", "relu1", "drop", "ip2", "loss"]);
    assert!(layers.iter().all(|l| l["forward_ms"].is_f64() && l["backward_ms"].is_f64()), "{json}");
    for part in
        ["Average Forward pass: ", "Average Backward pass: ", "Average Forward-Backward: ", "forward: "]
    {
        assert!(done.stderr.contains(part), "no {part:?} in {}", done.stderr);
    }
    // Without --json nothing but the log.
    assert_eq!(folder.cortado("time -model net.prototxt -iterations 1").ok().stdout, "");
}

#[test]
fn time_gives_rates_and_shares_of_the_ceiling() {
    let folder = Folder::new();
    let time = |flags: &str| {
        let done = folder
            .cortado(&format!("time -model net.prototxt -iterations 2 --threads 1 --json {flags}"))
            .ok();
        (serde_json::from_str::<serde_json::Value>(&done.stdout).unwrap(), done.stderr)
    };
    let (json, log) = time("");
    let layer = |json: &serde_json::Value, name: &str| {
        let mut layers = json["layers"].as_array().unwrap().iter();
        layers.find(|l| l["name"] == name).unwrap().clone()
    };
    // 10 images of 784 pixels, 12 outputs; the gradient of the weights alone, as the pixels want none.
    let ip1 = layer(&json, "ip1");
    assert_eq!(
        (ip1["flops_forward"].as_u64(), ip1["flops_backward"].as_u64()),
        (Some(188_160), Some(188_160))
    );
    let ip2 = layer(&json, "ip2");
    assert_eq!((ip2["flops_forward"].as_u64(), ip2["flops_backward"].as_u64()), (Some(2400), Some(4800)));
    let relu = layer(&json, "relu1");
    assert!(relu["flops_forward"] == 0 && relu["gflops_forward"].is_null(), "{relu}");
    assert_eq!(json["flops_forward"].as_u64(), Some(190_560));
    let number =
        |json: &serde_json::Value, key: &str| json[key].as_f64().unwrap_or_else(|| panic!("{key}: {json}"));
    let ceiling = number(&json, "ceiling_gflops");
    for which in ["forward", "backward"] {
        let gflops = number(&ip1, &format!("gflops_{which}"));
        let ms = number(&ip1, &format!("{which}_ms"));
        assert!((gflops * ms * 1e6 / 188_160.0 - 1.0).abs() < 1e-6, "{ip1}");
        assert!((number(&ip1, &format!("share_{which}")) * ceiling / gflops - 1.0).abs() < 1e-6, "{ip1}");
    }
    let (all, apart) =
        (number(&json, "forward_backward_ms"), number(&json, "forward_backward_without_data_ms"));
    assert!(0.0 < apart && apart <= all, "{json}");
    for part in ["net without data ", "ceiling: ", "forward and backward without data: "] {
        assert!(log.contains(part), "no {part:?} in {log}");
    }

    let (json, log) = time("--ceiling off -phase TEST -batch 20");
    assert!(json["ceiling_gflops"].is_null() && layer(&json, "ip1")["share_forward"].is_null(), "{json}");
    assert!(!log.contains("ceiling"), "{log}");
    // Twice the batch, and forward alone.
    let ip1 = layer(&json, "ip1");
    assert_eq!((ip1["flops_forward"].as_u64(), ip1["flops_backward"].as_u64()), (Some(376_320), Some(0)));
    assert_eq!(ip1["backward_ms"].as_f64(), Some(0.0));
}

#[test]
fn gradcheck_prints_a_table() {
    let folder = Folder::empty();
    let done = folder.cortado("gradcheck @tests/gradients/ReLU.prototxt").ok();
    for part in ["layer", "leaky", "whole net", "checks passed"] {
        assert!(done.stdout.contains(part), "no {part:?} in {}", done.stdout);
    }
    let one = folder.cortado("gradcheck @tests/gradients/ReLU.prototxt --layer leaky").ok();
    assert!(one.stdout.contains("\nleaky ") && !one.stdout.contains("folded"), "{}", one.stdout);
    // A threshold that nothing can meet makes it fail.
    let done = folder.cortado("gradcheck @tests/gradients/TanH.prototxt --threshold 1e-30");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stdout.contains("FAIL") && done.stderr.is_empty(), "{done:?}");
}

#[test]
fn run_takes_and_gives_the_arrays_of_a_golden_case() {
    let folder = Folder::empty();
    let case = "tests/golden/layers/ip0";
    let expected = npz::read(repository(case).join("case.npz"), |_| true).unwrap();
    let words = format!(
        "run @{case}/net.prototxt --phase TRAIN --input @{case}/case.npz --output out.npz --backward"
    );
    folder.cortado(&words).ok();
    let found = npz::read(folder.path("out.npz"), |_| true).unwrap();
    let mut compared = 0;
    for (key, array) in &expected {
        if ["in/", "param/", "topdiff/"].iter().any(|input| key.starts_with(input)) {
            continue;
        }
        let ours = found.get(key).unwrap_or_else(|| panic!("no {key}"));
        assert_eq!(ours.shape(), array.shape(), "{key}");
        assert!(ours.iter().zip(array).all(|(a, b)| (a - b).abs() <= 1e-5 + 1e-4 * b.abs()), "{key}");
        compared += 1;
    }
    assert!(compared >= 4 && found.contains_key("grad/x") && found.contains_key("pgrad/innerproduct/0"));
}

#[test]
fn run_takes_another_batch_and_ignores_other_arrays() {
    let folder = Folder::empty();
    folder.write("net.prototxt", SMALL);
    let array = |dims: &[usize]| ArrayD::from_shape_fn(IxDyn(dims), |i| i[0] as f32 - i[1] as f32);
    let x = array(&[4, 3]);
    let arrays = [("in/x", x.clone()), ("topdiff/y", x.clone()), ("note", array(&[1, 1]))];
    npz::write(folder.path("in.npz"), &Arrays::from(arrays.map(|(k, a)| (k.to_string(), a)))).unwrap();
    folder.cortado("run net.prototxt --input in.npz --output out.npz --backward --phase TRAIN").ok();
    let arrays = npz::read(folder.path("out.npz"), |_| true).unwrap();
    assert_eq!(arrays["out/y"], x.mapv(|x| x.max(0.0)));
    assert_eq!(arrays["grad/x"], x.mapv(|x| if x > 0.0 { x } else { 0.0 }));
    assert_eq!(arrays.keys().collect::<Vec<_>>(), ["grad/x", "out/x", "out/y"]);
    // Without a file to write, the outputs are printed.
    let done = folder.cortado("run net.prototxt --input in.npz").ok();
    assert!(
        done.stdout.replace("-0", "0").starts_with("y [4, 3]: 0 0 0 1 0 0 2 1 0 3 ..."),
        "{}",
        done.stdout
    );
}

#[test]
fn upgrade_writes_what_caffe_writes() {
    let folder = Folder::trained();
    for name in ["v0_net", "v1_train", "v1_input", "bn_old", "solver_old"] {
        let golden = format!("tests/golden/upgrade/{name}");
        let done = folder.cortado(&format!("upgrade @{golden}.prototxt out.prototxt")).ok();
        assert!(done.stdout.contains("upgrade"), "{}", done.stdout);
        let caffe = std::fs::read(repository(&format!("{golden}.upgraded.prototxt"))).unwrap();
        assert!(folder.read("out.prototxt") == caffe, "{name}");
    }
    // Weights of today's format stay what they are.
    folder.cortado("upgrade snap_iter_4.caffemodel same.caffemodel").ok();
    assert!(folder.read("same.caffemodel") == folder.read("snap_iter_4.caffemodel"));
    folder.refused("upgrade @Cargo.toml out", &["Cargo.toml"]);
}

#[test]
fn layers_and_summary() {
    let folder = Folder::empty();
    folder.write("net.prototxt", NET);
    let layers = folder.cortado("layers").ok().stdout;
    for name in ["Convolution ", "SoftmaxWithLoss ", "RankHardLoss ", "Data "] {
        assert_eq!(layers.lines().filter(|line| line.starts_with(name)).count(), 1, "{layers}");
    }
    folder.refused("summary net.prototxt", &["mnist200-images-idx3-ubyte"]);
    let folder = Folder::new();
    let table = folder.cortado("summary net.prototxt --phase TEST").ok().stdout;
    let row: Vec<&str> = table.lines().find(|l| l.starts_with("ip1")).unwrap().split_whitespace().collect();
    assert_eq!(row, ["ip1", "InnerProduct", "ip1", "10x12", "9,420"]);
    assert!(table.contains("Accuracy") && table.contains("9,550 parameters"), "{table}");
    assert!(table.contains("MB of blobs, "), "{table}");
}
