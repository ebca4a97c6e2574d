//! Cases that BVLC Caffe itself computed: every folder of `tests/golden/layers` holds a net, its arrays and a phase.

use cortado::device::Gpu;
use cortado::error::Result;
use cortado::net::Keep;
use cortado::proto::caffe::Phase;
use cortado::tools::{NetFile, npz, run};
use std::{fs, path::Path};

/// Largest difference, absolute or relative: that of the tool the cases came with. `net_lenet` needs more than half of it: its
/// `i1` has a 3.97 that is a sum of 800 terms of 9618 in all, where Caffe is 4e-5 from the exact sum, and Winograd's c2 4e-4.
const TOLERANCE: f32 = 2e-4;

/// Runs a case; the first array that differs, if one does.
fn case(folder: &Path, device: Option<&Gpu>) -> Result<Option<String>> {
    let phase = fs::read_to_string(folder.join("phase")).unwrap_or_default();
    let phase = if phase.trim() == "TRAIN" { Phase::Train } else { Phase::Test };
    let file = NetFile::open(folder.join("net.prototxt"), phase, 0, &[])?;
    let arrays = npz::read(folder.join("case.npz"), |_| true)?;
    let is_of = |key: &str, kinds: &[&str]| kinds.iter().any(|k| key.starts_with(k));
    let backward = arrays.keys().any(|k| is_of(k, &["grad/", "pgrad/", "topdiff/"]));
    let (mut net, mut weights) = run::build(&file, backward, 1, &Keep::All)?;
    net.set_device(device.cloned(), &mut weights)?;
    let got = run::run(&mut net, &mut weights, &arrays, backward)?;
    for (key, expected) in
        arrays.iter().filter(|(k, _)| is_of(k, &["out/", "grad/", "pgrad/", "param_after/"]))
    {
        let Some(got) = got.get(key) else { return Ok(Some(format!("{key} is missing"))) };
        if got.len() != expected.len() {
            return Ok(Some(format!("{key} has {} values, not {}", got.len(), expected.len())));
        }
        for (i, (g, e)) in got.iter().zip(expected).enumerate() {
            let close = (g - e).abs() <= TOLERANCE * e.abs().max(1.0);
            if !close {
                return Ok(Some(format!("{key}, element {i}: {g}, Caffe has {e}")));
            }
        }
    }
    Ok(None)
}

#[test]
fn layers_compute_what_caffe_computes() {
    all_cases(None);
}

/// Runs every case, on a device or on the host.
pub fn all_cases(device: Option<&Gpu>) {
    cases_of(device, |_| true);
}

/// Runs the cases that somebody wants by their names.
pub fn cases_of(device: Option<&Gpu>, wanted: impl Fn(&str) -> bool) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/layers");
    let mut cases: Vec<_> = fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    cases.retain(|path| wanted(&path.file_name().unwrap().to_string_lossy()));
    cases.sort();
    assert!(!cases.is_empty(), "{} is empty", folder.display());
    let mut wrong = Vec::new();
    for case_folder in &cases {
        match case(case_folder, device) {
            Ok(None) => {}
            Ok(Some(what)) => wrong.push(format!("{}: {what}", case_folder.display())),
            Err(e) => wrong.push(format!("{}: {e}", case_folder.display())),
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
