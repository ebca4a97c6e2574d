//! The gradient suite: every layer of the registry in f32 and f64, and checkers that notice a wrong backward.

use cortado::blob::Shape;
use cortado::device::{Context, Gpu};
use cortado::layers::{Backward, Forward, Layer, Setup, registry};
use cortado::math::Real;
use cortado::proto::caffe::{LayerParameter, NetParameter, Phase};
use cortado::tools::{GradientChecker, Report, Subject, gradcheck};
use cortado::{Error, Result, proto};
use std::{fs, path::Path};

/// What Caffe's own tests take in single precision.
fn single() -> GradientChecker {
    GradientChecker { step: 1e-2, threshold: 1e-2, ..Default::default() }
}

fn net(text: &str) -> NetParameter {
    proto::parse_net(text, "test").unwrap().message
}

fn check<T: Real>(text: &str, checker: &GradientChecker) -> Result<Report> {
    gradcheck::check_net::<T>(&net(text), None, checker, &mut |_| {})
}

fn assert_passes<T: Real>(name: &str, text: &str, checker: &GradientChecker) {
    let report = check::<T>(text, checker).unwrap_or_else(|e| panic!("{name}: {e}"));
    let wrong: Vec<_> = report.failures().collect();
    assert!(wrong.is_empty(), "{name} in {}: {wrong:#?}", T::NAME);
}

#[test]
fn every_layer_of_the_registry() {
    check_all(None);
}

/// Checks the nets of all layers in both precisions, on a device or on the host.
pub fn check_all(device: Option<&Gpu>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gradients");
    let missing: Vec<&str> = registry::LAYERS
        .iter()
        .map(|row| row.name)
        .filter(|name| !folder.join(format!("{name}.prototxt")).exists())
        .collect();
    assert!(missing.is_empty(), "layers without a file in tests/gradients: {missing:?}");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "prototxt")) {
        check_file(file, device);
    }
}

/// Checks the net of a file in both precisions, on a device or on the host.
pub fn check_file(file: &Path, device: Option<&Gpu>) {
    let (name, text) = (file.display().to_string(), fs::read_to_string(file).unwrap());
    let on = |checker| GradientChecker { device: device.cloned(), ..checker };
    assert_passes::<f64>(&name, &text, &on(GradientChecker::default()));
    assert_passes::<f32>(&name, &text, &on(single()));
}

/// y = x², with a derivative that can be wrong: `power_param.scale` times what is right, plus `shift` in its last
/// element alone.
struct Square {
    scale: f32,
    shift: f32,
}

fn square<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let power = param.power_param.unwrap_or_default();
    Ok(Box::new(Square { scale: power.scale(), shift: power.shift() }))
}

impl<T: Real> Layer<T> for Square {
    fn reshape(&mut self, bottom: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        Ok(vec![bottom[0].clone()])
    }
    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        for (y, &x) in io.top.get(0).iter_mut().zip(io.bottom.get(0)) {
            *y = x * x;
        }
        Ok(())
    }
    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let scale = T::from_f64(2.0 * f64::from(self.scale));
        let elements = io.bottom.get(0).iter().zip(io.top_diff.get(0));
        for (dx, (&x, &dy)) in io.bottom_diff.get(0).iter_mut().zip(elements) {
            *dx = scale * x * dy;
        }
        if let Some(last) = io.bottom_diff.get(0).last_mut() {
            *last += T::from_f64(self.shift.into());
        }
        Ok(())
    }
}

/// Registers the layer above, which has code for the host alone, once for all tests.
pub fn with_square() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| registry::register("Square", "test", "a square", square, square).unwrap());
}

fn square_net(scale: f32, shift: f32, dims: &str) -> String {
    with_square();
    format!(
        "layer {{ name: 'data' type: 'Input' top: 'x' input_param {{ shape {{ {dims} }} }} }}
         layer {{ name: 'square' type: 'Square' bottom: 'x' top: 'y' power_param {{ scale: {scale} shift: {shift} }} }}"
    )
}

#[test]
fn a_wrong_backward_is_noticed() {
    let dims = "dim: 3 dim: 4";
    assert_passes::<f64>("right", &square_net(1.0, 0.0, dims), &GradientChecker::default());
    assert_passes::<f32>("right", &square_net(1.0, 0.0, dims), &single());
    for (scale, shift) in [(1.001, 0.0), (-1.0, 0.0), (0.0, 0.0), (1.0, 0.1)] {
        let report = check::<f64>(&square_net(scale, shift, dims), &GradientChecker::default()).unwrap();
        assert!(report.checks.iter().all(|c| !c.passed()), "{scale} {shift}: {report:#?}");
    }
    let report = check::<f32>(&square_net(1.05, 0.0, dims), &single()).unwrap();
    assert!(!report.passed());
    // The failure says which element is wrong and by how much.
    let report = check::<f64>(&square_net(1.0, 0.5, dims), &GradientChecker::default()).unwrap();
    let wrong = report.failures().next().unwrap();
    assert_eq!((wrong.layer.as_str(), wrong.what.as_str()), ("square", "bottom 0 \"x\""));
    assert_eq!((wrong.elements, wrong.failed, wrong.index), (12, 1, 11));
    assert!((wrong.analytic - wrong.numeric - 0.5).abs() < 1e-6);
}

#[test]
fn a_wrong_backward_of_a_large_blob_is_noticed_by_sample_and_direction() {
    let dims = "dim: 20 dim: 1000";
    let report = check::<f64>(&square_net(1.0, 0.0, dims), &GradientChecker::default()).unwrap();
    assert!(report.passed(), "{report:#?}");
    assert_eq!((report.checks[0].elements, report.checks[0].total), (300, 20_000));
    let report = check::<f64>(&square_net(1.01, 0.0, dims), &GradientChecker::default()).unwrap();
    assert_eq!(report.failures().count(), 3, "sample, direction, whole net: {report:#?}");
}

fn subject(scale: f32, shift: f32) -> Subject<f64> {
    let net = net(&square_net(scale, shift, "dim: 2 dim: 3"));
    let values = vec![-1.5, -1.0, -0.5, 0.5, 1.0, 1.5];
    let bottom = (Shape::new([2, 3]).unwrap(), values);
    Subject::new(&net.layer[1], Phase::Train, &[bottom], 1).unwrap()
}

#[test]
fn exhaustive_and_eltwise_checks() {
    let checker = GradientChecker::default();
    let report = checker.check_exhaustive(&mut subject(1.0, 0.0)).unwrap();
    assert!(report.passed(), "{report:#?}");
    assert_eq!(report.checks[0].elements, 36);
    assert!(checker.check_eltwise(&mut subject(1.0, 0.0)).unwrap().passed());
    assert!(checker.check_layer(&mut subject(1.0, 0.0)).unwrap().passed());
    for (scale, shift) in [(1.001, 0.0), (1.0, 0.01)] {
        assert!(!checker.check_exhaustive(&mut subject(scale, shift)).unwrap().passed());
        assert!(!checker.check_eltwise(&mut subject(scale, shift)).unwrap().passed());
        assert!(!checker.check_layer(&mut subject(scale, shift)).unwrap().passed());
    }
}

#[test]
fn elements_near_a_known_kink_are_left_out_and_counted() {
    // Of six elements the two at ±1 are left out; that many kinks still say something, all six do not.
    let checker = GradientChecker { kink: 1.0, kink_range: 0.1, ..Default::default() };
    let report = checker.check_layer(&mut subject(1.0, 0.0)).unwrap();
    assert_eq!((report.checks[0].kinks, report.passed()), (2, true));
    let checker = GradientChecker { kink: 1.0, kink_range: 0.6, ..Default::default() };
    let report = checker.check_layer(&mut subject(1.0, 0.0)).unwrap();
    assert_eq!((report.checks[0].kinks, report.passed()), (6, false));
}

#[test]
fn an_unknown_layer_is_an_error_with_the_nearest_name() {
    let param = net(&square_net(1.0, 0.0, "dim: 2"));
    let refused =
        gradcheck::check_net::<f64>(&param, Some("sqare"), &GradientChecker::default(), &mut |_| {});
    let error: Error = refused.unwrap_err();
    assert_eq!(error.suggestion(), Some("did you mean \"square\"?"));
}
