//! The nets that ship with the project: each builds, in train and deploy form, and passes a gradient check along a random direction.

use cortado::blob::Weights;
use cortado::net::Net;
use cortado::proto::caffe::{NetParameter, NetState, Phase};
use cortado::proto::{read_net, read_solver};
use cortado::tools::{GradientChecker, time};
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

/// The nets in the state of training, or of a deploy net.
fn nets() -> Vec<(PathBuf, NetParameter)> {
    let files = prototxts().into_iter().filter(|f| !is_solver(f));
    files
        .map(|file| {
            let mut param = read_net(&file).unwrap_or_else(|e| panic!("{e}")).message;
            param.force_backward = Some(true);
            param.state = Some(NetState { phase: Some(Phase::Train as i32), ..Default::default() });
            (file, param)
        })
        .collect()
}

#[test]
fn nets_build_as_they_are() {
    for (file, mut param) in nets() {
        // The values of the parameters do not matter here, and VGG-16 has many.
        for layer in &mut param.layer {
            layer.inner_product_param.iter_mut().for_each(|p| p.weight_filler = None);
        }
        Net::<f32>::new(&param, 1, &mut Weights::new()).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
}

/// Nets whose inner products hold most of their parameters, and a size of image that leaves some for them: in double
/// precision and without vector instructions for the rest, the published size would take minutes.
const SMALLER: &[(&str, i64)] = &[("alexnet", 99), ("vgg16", 32)];

#[test]
fn gradients_of_nets_hold() {
    for (file, mut param) in nets() {
        let pairs = param.layer.iter().any(|l| l.r#type() == "RankHardLoss");
        for layer in &mut param.layer {
            let shapes = layer.dummy_data_param.iter_mut().flat_map(|p| p.shape.iter_mut());
            let shapes = shapes.chain(layer.input_param.iter_mut().flat_map(|p| p.shape.iter_mut()));
            for dims in shapes.map(|s| &mut s.dim) {
                dims[0] = 1; // BatchNorm has its mean over the image
                let smaller = SMALLER.iter().find(|(name, _)| file.to_string_lossy().contains(name));
                dims.iter_mut().skip(2).for_each(|d| *d = smaller.map_or(*d, |s| s.1));
            }
            if let Some(data) = layer.data_param.as_mut().filter(|_| !pairs) {
                data.batch_size = Some(4);
            }
        }
        let mut weights = Weights::<f64>::new();
        let mut net = Net::new(&param, 1, &mut weights).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        time::prepare(&mut net, &mut weights); // deploy nets have no fillers
        let report = GradientChecker::default().check_net_direction(&mut net, &mut weights);
        let report = report.unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert!(report.passed(), "{}: {report:?}", file.display());
    }
}
