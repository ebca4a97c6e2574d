//! The nets that ship with the project: each builds, in train and deploy form, and passes a gradient check along a random direction.

use cortado::blob::Weights;
use cortado::net::Net;
use cortado::proto::caffe::{NetState, Phase};
use cortado::proto::{read_net, read_solver};
use cortado::tools::GradientChecker;
use std::fs;
use std::path::{Path, PathBuf};

fn prototxts() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in fs::read_dir("nets").unwrap().map(|f| f.unwrap().path()).filter(|p| p.is_dir()) {
        files.extend(fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()));
    }
    files.retain(|f| f.extension().is_some_and(|e| e == "prototxt"));
    files.sort();
    assert!(files.len() >= 20, "{files:?}");
    files
}

fn is_solver(path: &Path) -> bool {
    path.to_string_lossy().contains("solver")
}

#[test]
fn solvers_read_and_name_their_nets() {
    for file in prototxts().iter().filter(|f| is_solver(f)) {
        let solver = read_solver(file).unwrap_or_else(|e| panic!("{e}")).message;
        assert!(Path::new(solver.net()).exists(), "{}: no net \"{}\"", file.display(), solver.net());
    }
}

/// Images in a batch: enough for BatchNorm, few enough for VGG-16 in double precision.
const BATCH: i64 = 2;

#[test]
fn nets_build_and_their_gradients_hold() {
    for file in prototxts().iter().filter(|f| !is_solver(f)) {
        let mut param = read_net(file).unwrap_or_else(|e| panic!("{e}")).message;
        let pairs = param.layer.iter().any(|l| l.r#type() == "RankHardLoss");
        for layer in &mut param.layer {
            let shapes = layer.dummy_data_param.iter_mut().flat_map(|p| p.shape.iter_mut());
            let shapes = shapes.chain(layer.input_param.iter_mut().flat_map(|p| p.shape.iter_mut()));
            shapes.for_each(|s| s.dim[0] = BATCH);
            if let Some(data) = layer.data_param.as_mut().filter(|_| !pairs) {
                data.batch_size = Some(4);
            }
        }
        param.force_backward = Some(true);
        param.state = Some(NetState { phase: Some(Phase::Train as i32), ..Default::default() });
        let mut weights = Weights::<f64>::new();
        let mut net = Net::new(&param, 1, &mut weights).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let report = GradientChecker::default().check_net_direction(&mut net, &mut weights);
        let report = report.unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert!(report.passed(), "{}: {report:?}", file.display());
    }
}
