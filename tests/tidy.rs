//! The rules of the house, held by a test (DESIGN: floors, no panics, small files, every layer documented and checked).

use std::fs;
use std::path::{Path, PathBuf};

/// Floors from the ground up; a module uses only what stands lower, or on its own floor where listed together.
const FLOORS: &[&[&str]] = &[
    &["error", "proto"],
    &["blob", "device"],
    &["math"],
    &["data"],
    &["layers"],
    &["net"],
    &["solver"],
    &["tools"],
    &["cli"],
];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|f| f.contains(&module))
}

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, out: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                out.push((path, text));
            }
        }
    }
    let mut out = Vec::new();
    walk(&root().join("src"), &mut out);
    assert!(out.len() > 20, "the sources were not found");
    out
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The part of a file that is not tests.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or(text)
}

/// Whether a whole file is for tests.
fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|s| s == "tests" || s == "testing")
        || path.components().any(|c| c.as_os_str() == "tests")
}

/// The module of `src/` that a file belongs to.
fn module(path: &Path) -> String {
    let below = path.strip_prefix(root().join("src")).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

/// Lines of code that break a rule, as `file:line: text`. Comments are passed over.
fn offenders(wrong: impl Fn(&Path, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources().iter().filter(|(p, _)| !is_test(p)) {
        for (i, line) in product(text).lines().enumerate() {
            let code = line.trim_start();
            if !code.starts_with("//") && wrong(path, code) {
                found.push(format!("{}:{}: {code}", path.display(), i + 1));
            }
        }
    }
    found
}

#[test]
fn modules_use_only_lower_floors() {
    let found = offenders(|path, code| {
        let Some(mine) = floor(&module(path)) else { return false }; // lib.rs and main.rs see everything
        code.match_indices("crate::").any(|(at, _)| {
            let name: String =
                code[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            floor(&name).is_some_and(|other| other > mine)
        })
    });
    assert!(found.is_empty(), "these reach up:\n{}", found.join("\n"));
}

#[test]
fn every_module_has_a_floor() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for line in lib.lines().filter_map(|l| l.strip_prefix("pub mod ")) {
        let name = line.trim_end_matches(';');
        assert!(
            floor(name).is_some(),
            "module {name} stands on no floor: add it to FLOORS and docs/architecture.md"
        );
    }
}

#[test]
fn no_panics_in_the_product() {
    let words = [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "unreachable!("];
    let found = offenders(|_, code| words.iter().any(|w| code.contains(w)));
    assert!(found.is_empty(), "a user must never see a panic:\n{}", found.join("\n"));
}

#[test]
fn only_the_command_line_prints_or_exits() {
    let words = ["println!(", "eprintln!(", "print!(", "eprint!(", "process::exit", "dbg!("];
    let found = offenders(|path, code| module(path) != "cli" && words.iter().any(|w| code.contains(w)));
    assert!(found.is_empty(), "only cli/ prints or exits:\n{}", found.join("\n"));
}

#[test]
fn unsafe_stays_in_kernels_and_has_a_reason() {
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let opens = code.contains("unsafe {") || code.starts_with("unsafe impl");
            if !opens || code.starts_with("//") {
                continue;
            }
            let place = format!("{}:{}", path.display(), i + 1);
            let allowed = ["math", "device", "data"].contains(&module(&path).as_str());
            assert!(allowed, "{place}: unsafe outside kernels and device launches");
            let reason = lines[i.saturating_sub(4)..=i].iter().any(|l| l.contains("SAFETY"));
            assert!(reason, "{place}: unsafe without a SAFETY line");
        }
    }
}

#[test]
fn nothing_above_device_names_a_device_api() {
    let found = offenders(|path, code| module(path) != "device" && code.contains("cudarc"));
    assert!(found.is_empty(), "only device/ talks to cudarc:\n{}", found.join("\n"));
}

#[test]
fn files_stay_small() {
    for (path, text) in sources() {
        let lines = product(&text).lines().count();
        assert!(lines <= 450, "{} has {lines} lines before its tests: split it", path.display());
    }
}

/// Layers for which Caffe's tool computed no case, with the reason.
const WITHOUT_GOLDEN: &[(&str, &str)] = &[
    ("Data", "reads files: its unit tests compare it with Caffe's own LMDB"),
    ("DummyData", "its values are random or constant: unit tests"),
    ("Silence", "has no tops: unit tests"),
];

#[test]
fn every_layer_has_doc_gradient_net_and_golden_case() {
    let sources = sources();
    let golden: String = fs::read_dir(root().join("tests/golden/layers"))
        .unwrap()
        .map(|d| fs::read_to_string(d.unwrap().path().join("net.prototxt")).unwrap())
        .collect();
    for row in cortado::layers::registry::LAYERS {
        let quoted = format!("type: \"{}\"", row.name);
        let room = format!("src/layers/{}", row.family);
        let file = sources.iter().find(|(p, t)| {
            p.to_string_lossy().contains(&room)
                && t.lines().any(|l| l.starts_with("///") && l.contains(&quoted))
        });
        let (path, text) =
            file.unwrap_or_else(|| panic!("{}: no doc with a prototxt sample in {room}", row.name));
        for part in ["```prototxt", "Source: "] {
            assert!(text.contains(part), "{}: the doc of {} lacks {part}", path.display(), row.name);
        }
        let net = root().join(format!("tests/gradients/{}.prototxt", row.name));
        assert!(net.exists(), "{}: no gradient check {}", row.name, net.display());
        let excused = WITHOUT_GOLDEN.iter().any(|(name, _)| *name == row.name);
        assert!(excused != golden.contains(&quoted), "{}: golden case missing, or excuse outdated", row.name);
    }
}
