//! Several devices that train together: as one with all their batches.

use cortado::Result;
use cortado::blob::Shape;
use cortado::device::{Context, Gpu, Pool};
use cortado::layers::{Backward, Forward, Layer, Reads, Setup, registry};
use cortado::math::Real;
use cortado::net::{Iterations, Keep};
use cortado::proto::caffe::{FillerParameter, LayerParameter};
use cortado::proto::parse_solver;
use cortado::solver::{Action, Event, Observer, Silent, Solver};
use std::path::Path;
use std::sync::Mutex;

/// Digits of 4 × 4 points in three classes, as files of MNIST's format; `wrong` is the number of one with a label that is none.
fn digits(folder: &Path, wrong: Option<usize>) -> String {
    const COUNT: usize = 203;
    let label = |i: usize| if wrong == Some(i) { 9 } else { (i * i + i / 3) % 3 };
    let head = |magic: u8, dims: &[usize]| {
        let mut bytes = vec![0, 0, 8, magic];
        dims.iter().for_each(|&d| bytes.extend((d as u32).to_be_bytes()));
        bytes
    };
    let mut images = head(3, &[COUNT, 4, 4]);
    images.extend((0..COUNT * 16).map(|p| {
        let (i, at) = (p / 16, p % 16);
        ((i * 37 + at * 11 + i * at) % 64 + if at / 5 == label(i) { 120 } else { 0 }) as u8
    }));
    let mut labels = head(1, &[COUNT]);
    labels.extend((0..COUNT).map(|i| label(i) as u8));
    let path = folder.join("digits-images-idx3-ubyte");
    std::fs::write(&path, images).unwrap();
    std::fs::write(folder.join("digits-labels-idx1-ubyte"), labels).unwrap();
    path.display().to_string()
}

/// A net of two branches that share their weights, with `more` behind the first layer.
fn text(images: &str, batch: usize, fields: &str, more: &str) -> String {
    let ip = |name: &str, bottom: &str, outputs: usize, shared: &str| {
        let param = if shared.is_empty() {
            String::new()
        } else {
            format!("param {{ name: '{shared}' }} param {{ name: '{shared}_b' }}")
        };
        format!(
            "layer {{ name: '{name}' type: 'InnerProduct' bottom: '{bottom}' top: '{name}' {param}
               inner_product_param {{ num_output: {outputs} weight_filler {{ type: 'xavier' }} }} }}"
        )
    };
    format!(
        "net_param {{ name: 'twins'
           layer {{ name: 'digits' type: 'Data' top: 'data' top: 'label'
             transform_param {{ scale: 0.0078125 mirror: true }}
             data_param {{ source: '{images}' backend: IDX batch_size: {batch} shuffle: true }} }}
           {} {more} {} {} {}
           layer {{ name: 'sum' type: 'Eltwise' bottom: 'left' bottom: 'right' top: 'sum' }}
           {}
           layer {{ name: 'loss' type: 'SoftmaxWithLoss' bottom: 'scores' bottom: 'label' top: 'loss' }} }}
         base_lr: 0.05 lr_policy: 'step' stepsize: 3 gamma: 0.8 momentum: 0.9 weight_decay: 0.001 random_seed: 7 {} {fields}",
        ip("first", "data", 12, ""),
        "layer { name: 'relu' type: 'ReLU' bottom: 'first' top: 'first' }",
        ip("left", "first", 12, "twin"),
        ip("right", "left", 12, "twin"),
        ip("scores", "sum", 3, ""),
        if fields.contains("snapshot_prefix") { "" } else { "snapshot_after_train: false" },
    )
}

fn solver<T: Real>(text: &str, gpus: &[Gpu]) -> Solver<T> {
    let parsed = parse_solver(text, "solver.prototxt").unwrap();
    let mut solver =
        Solver::<T>::keeping(&parsed.message, Some(&parsed.source), &mut Silent, &Keep::Outputs).unwrap();
    solver.set_devices(gpus, &mut Silent).unwrap();
    solver
}

/// All weights on all devices, after these iterations in two calls; they are the same everywhere.
fn train<T: Real>(text: &str, gpus: &[Gpu], graphs: bool, iterations: usize) -> (Vec<T>, Iterations) {
    let mut solver = solver::<T>(text, gpus);
    solver.set_graphs(graphs);
    for part in [iterations / 2, iterations - iterations / 2] {
        solver.step(part, &mut Silent).unwrap();
    }
    let first = solver.weights_on(0).unwrap();
    for place in 1..gpus.len() {
        let other = solver.weights_on(place).unwrap();
        assert!(first == other, "the weights on device {place} are not those on the first");
    }
    (first.concat(), solver.net().iterations())
}

fn close<T: Real>(a: &[T], b: &[T], tolerance: f64, what: &str) {
    assert!(a.len() == b.len() && a.len() > 100, "{what}");
    let worst = a.iter().zip(b).map(|(a, b)| (a.as_f64() - b.as_f64()).abs()).fold(0.0, f64::max);
    assert!(worst < tolerance, "{what}: weights differ by {worst}");
}

#[test]
fn two_devices_train_as_one_with_both_batches() {
    let Some(gpus) = super::gpus(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let images = digits(folder.path(), None);
    for (fields, tolerance) in [
        ("", 1e-12),
        ("clip_gradients: 0.4", 1e-12),
        ("iter_size: 2", 1e-12),
        ("iter_size: 3 clip_gradients: 0.3 regularization_type: 'L1'", 1e-12),
        ("display: 2 debug_info: true", 1e-12),
    ] {
        let (alone, _) = train::<f64>(&text(&images, 8, fields, ""), &gpus[..1], true, 7);
        let (both, state) = train::<f64>(&text(&images, 4, fields, ""), &gpus, true, 7);
        assert_eq!(state, Iterations::Replayed, "{fields}");
        close(&alone, &both, tolerance, fields);
        // Layer by layer the same, bit for bit.
        let (launched, state) = train::<f64>(&text(&images, 4, fields, ""), &gpus, false, 7);
        assert_eq!(state, Iterations::Launched, "{fields}");
        assert!(both == launched, "{fields}: other weights without graphs");
    }
    // Other records: something is compared.
    let (alone, _) = train::<f64>(&text(&images, 4, "", ""), &gpus[..1], true, 7);
    let (both, _) = train::<f64>(&text(&images, 4, "", ""), &gpus, true, 7);
    assert!(alone.iter().zip(&both).any(|(a, b)| (a - b).abs() > 1e-4));
}

#[test]
fn lenet_on_three_devices() {
    let Some(gpus) = super::gpus(3) else { return };
    let mut param = super::training::lenet();
    let run = |param: &cortado::proto::caffe::SolverParameter, gpus: &[Gpu]| {
        let mut solver = Solver::<f32>::keeping(param, None, &mut Silent, &Keep::Outputs).unwrap();
        solver.set_devices(gpus, &mut Silent).unwrap();
        solver.step(4, &mut Silent).unwrap();
        let weights: Vec<Vec<Vec<f32>>> = (0..gpus.len()).map(|i| solver.weights_on(i).unwrap()).collect();
        assert!(weights.iter().all(|w| *w == weights[0]));
        weights[0].concat()
    };
    let mut batch = |size| {
        for data in
            param.train_net_param.as_mut().unwrap().layer.iter_mut().filter_map(|l| l.data_param.as_mut())
        {
            data.batch_size = Some(size);
        }
        param.clone()
    };
    close(&run(&batch(6), &gpus[..1]), &run(&batch(2), &gpus), 1e-5, "LeNet");
}

/// What a solver warns of.
fn warnings(said: &mut Vec<String>) -> impl FnMut(&Event<'_>) {
    |event: &Event<'_>| {
        if let Event::Warning(text) = event {
            said.push(text.to_string());
        }
    }
}

const DROPOUT: &str = "layer { name: 'drop' type: 'Dropout' bottom: 'first' top: 'first' }";

#[test]
fn a_resumed_run_is_exact_and_says_where_it_cannot_be() {
    let Some(gpus) = super::gpus(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let images = digits(folder.path(), None);
    let fields = |prefix: &str| {
        format!("max_iter: 9 snapshot: 4 snapshot_prefix: '{}'", folder.path().join(prefix).display())
    };
    let mut whole = solver::<f32>(&text(&images, 4, &fields("whole"), DROPOUT), &gpus);
    whole.solve(&mut Silent).unwrap();
    let state = folder.path().join("whole_iter_4.solverstate");
    // Another seed: that of the snapshot takes its place, on all devices.
    let other = text(&images, 4, &fields("resumed"), DROPOUT).replace("random_seed: 7", "random_seed: 8");
    let mut resumed = solver::<f32>(&other, &gpus);
    resumed.restore(&state, &mut Silent).unwrap();
    resumed.solve(&mut Silent).unwrap();
    for place in 0..2 {
        assert!(whole.weights_on(0).unwrap() == resumed.weights_on(place).unwrap(), "device {place}");
    }
    // The masks count, and they are others on the other device: else both would have had the same weights anyway.
    let plain = text(&images, 4, &fields("plain"), "");
    let mut plain = solver::<f32>(&plain, &gpus);
    plain.solve(&mut Silent).unwrap();
    assert!(plain.weights_on(0).unwrap() != whole.weights_on(0).unwrap());
    let mut said = Vec::new();
    let mut alone = solver::<f32>(&text(&images, 4, &fields("alone"), DROPOUT), &gpus[..1]);
    alone.restore(&state, &mut warnings(&mut said)).unwrap();
    assert!(
        said.len() == 1 && said[0].contains("of a run on 2 devices, this one is on one device"),
        "{said:?}"
    );
    let records = alone.net().nodes().iter().find_map(|n| n.layer.records());
    assert_eq!(records, Some(2 * 4 * 4), "the records that both devices have had");
}

#[test]
fn one_that_fails_ends_all() {
    let Some(gpus) = super::gpus(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    // Records of the second device and of the first, at once and when iterations are graphs.
    for (wrong, before) in [(1, 0), (41, 5), (40, 5)] {
        let images = digits(folder.path(), Some(wrong));
        for graphs in [true, false] {
            let text = text(&images, 4, "", "").replace("shuffle: true", "");
            let mut solver = solver::<f32>(&text, &gpus);
            solver.set_graphs(graphs);
            let error = solver.step(20, &mut Silent).unwrap_err();
            assert_eq!((error.layer(), solver.iteration()), (Some("loss"), before), "{error}");
            assert!(error.to_string().contains('9'), "{error}");
            assert_eq!(error.to_string().contains("on GPU"), wrong % 2 == 1, "{error}");
            // It is over, and says why.
            let again = solver.step(1, &mut Silent).unwrap_err();
            assert_eq!(again.message(), error.message());
        }
    }
}

#[test]
fn gradients_are_averaged_while_backward_goes_on() {
    let Some(gpus) = super::gpus(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let images = digits(folder.path(), None);
    for passes in ["", "iter_size: 3"] {
        let mut solver = solver::<f32>(&text(&images, 4, passes, ""), &gpus);
        solver.set_graphs(false);
        let before = super::collectives().map_or(0, |all| all.len());
        solver.step(4, &mut Silent).unwrap();
        let Some(all) = super::collectives() else { return };
        // Weights and histories are sent to all. Then weights and bias of three layers in each iteration, however many passes it has, the shared ones behind
        // the first layer that has them. In the first iterations all are behind backward; then there are launches between.
        let asked = &all[before..];
        assert_eq!(asked.len(), 12 + 4 * 6, "{passes}: {asked:?}");
        let iterations: Vec<&[u32]> = asked[12..].chunks(6).collect();
        assert!(
            iterations[..2].iter().all(|one| one.iter().all(|n| *n == one[0])),
            "{passes}: {iterations:?}"
        );
        for one in &iterations[2..] {
            let layers: Vec<&[u32]> = one.chunks(2).collect();
            assert!(layers.iter().all(|l| l[0] == l[1]), "{passes}: {iterations:?}");
            assert!(layers[0][0] < layers[1][0] && layers[1][0] < layers[2][0], "{passes}: {iterations:?}");
        }
    }
}

#[test]
fn what_cannot_train_together_is_refused() {
    let Some(gpus) = super::gpus(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let images = digits(folder.path(), None);
    let mut one = solver::<f32>(&text(&images, 4, "", ""), &gpus[..1]);
    let twice =
        one.set_devices(&[gpus[1].clone(), gpus[0].clone(), gpus[1].clone()], &mut Silent).unwrap_err();
    assert!(twice.to_string().contains(&format!("GPU {} is named twice", gpus[1].ordinal())), "{twice}");
    // From several devices to one and to none.
    one.set_devices(&gpus, &mut Silent).unwrap();
    one.step(3, &mut Silent).unwrap();
    one.set_device(Some(&gpus[1])).unwrap();
    one.step(1, &mut Silent).unwrap();
    one.set_devices(&[], &mut Silent).unwrap();
    one.step(1, &mut Silent).unwrap();
    assert_eq!(one.iteration(), 5);
    let input = parse_solver(
        "net_param { layer { name: 'in' type: 'Input' top: 'x' input_param { shape { dim: 2 dim: 3 } } }
           layer { name: 'ip' type: 'InnerProduct' bottom: 'x' top: 'y' inner_product_param { num_output: 2 } } }
         base_lr: 0.1 lr_policy: 'fixed' snapshot_after_train: false",
        "test",
    );
    let mut fed = Solver::<f32>::new(&input.unwrap().message, None, &mut Silent).unwrap();
    let error = fed.set_devices(&gpus, &mut Silent).unwrap_err();
    assert_eq!(error.layer(), Some("in"), "{error}");
}

/// Asks for a stop, with a snapshot or without, at the nth question.
struct Stopper(usize);

impl Observer for Stopper {
    fn event(&mut self, _: &Event<'_>) {}

    fn action(&mut self) -> Action {
        self.0 -= 1;
        if self.0 == 0 { Action::Stop { snapshot: true } } else { Action::Continue }
    }
}

#[test]
fn a_stop_reaches_all_behind_the_same_iteration() {
    let Some(gpus) = super::gpus(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let images = digits(folder.path(), None);
    let fields = format!("max_iter: 50 snapshot_prefix: '{}'", folder.path().join("stopped").display());
    let mut solver = solver::<f32>(&text(&images, 4, &fields, ""), &gpus);
    solver.solve(&mut Stopper(5)).unwrap();
    assert_eq!(solver.iteration(), 5);
    assert!(folder.path().join("stopped_iter_5.solverstate").exists());
    assert!(solver.weights_on(0).unwrap() == solver.weights_on(1).unwrap());
    // And on from there, as if nothing had been.
    solver.step(3, &mut Silent).unwrap();
    let (whole, _) = train::<f32>(&text(&images, 4, "", ""), &gpus, true, 8);
    assert!(solver.weights_on(0).unwrap().concat() == whole);
}

/// y = g·x with a number g that is learned, and code for the host alone.
struct Gain;

/// Over how many threads the host's loops would have been spread, each time that it ran.
static THREADS: Mutex<Vec<usize>> = Mutex::new(Vec::new());

fn gain<T: Real>(_: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    Ok(Box::new(Gain))
}

impl<T: Real> Layer<T> for Gain {
    fn reads(&self) -> Reads {
        Reads::BOTTOM
    }
    fn reshape(&mut self, bottom: &[&Shape], setup: &mut Setup<T>) -> Result<Vec<Shape>> {
        setup.param(&[1], Some(&FillerParameter { value: Some(0.75), ..FillerParameter::default() }))?;
        Ok(vec![bottom[0].clone()])
    }
    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        THREADS.lock().unwrap().push(rayon::current_num_threads());
        let g = io.params.data(0)[0];
        io.top.get(0).iter_mut().zip(io.bottom.get(0)).for_each(|(y, &x)| *y = g * x);
        Ok(())
    }
    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let (x, dy) = (io.bottom.get(0), io.top_diff.get(0));
        let (g, dg) = io.params.data_and_diff(0);
        dg[0] += x.iter().zip(dy).map(|(&x, &dy)| x * dy).sum::<T>();
        io.bottom_diff.get(0).iter_mut().zip(dy).for_each(|(dx, &dy)| *dx = g[0] * dy);
        Ok(())
    }
}

#[test]
fn gradients_of_a_layer_on_the_host_are_averaged_too() {
    let Some(gpus) = super::gpus(2) else { return };
    registry::register("Gain", "test", "a number times x", gain, gain).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let images = digits(folder.path(), None);
    let volume = "layer { name: 'volume' type: 'Gain' bottom: 'first' top: 'volume' }";
    let text = |batch| {
        text(&images, batch, "", volume)
            .replace("bottom: 'first' top: 'left'", "bottom: 'volume' top: 'left'")
            .replace("'ReLU' bottom: 'first' top: 'first'", "'ReLU' bottom: 'volume' top: 'volume'")
    };
    let (alone, _) = train::<f64>(&text(8), &gpus[..1], true, 5);
    let (both, state) = train::<f64>(&text(4), &gpus, true, 5);
    close(&alone, &both, 1e-12, "a layer on the host");
    assert!(
        matches!(&state, Iterations::Refused(why) if why.contains("\"volume\" (Gain) runs on the host")),
        "{state:?}"
    );
    // The other device's thread has as many threads to compute with as the first's.
    THREADS.lock().unwrap().clear();
    let pool = Pool::new(5).unwrap();
    let (again, _) = pool.install(|| train::<f64>(&text(4), &gpus, true, 5));
    assert!(again == both, "other threads, other weights");
    let threads = THREADS.lock().unwrap();
    assert!(threads.len() == 2 * 5 && threads.iter().all(|n| *n == 5), "{threads:?}");
}
