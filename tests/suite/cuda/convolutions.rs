//! Convolutions on a device: by cuDNN and without, over any number of axes, and in a workspace that is bounded and shared.

use super::training::lenet;
use crate::{golden, gradients};
use cortado::blob::Weights;
use cortado::device::{Cudnn, Gpu, WORKSPACE};
use cortado::net::{Iterations, Keep, Net};
use cortado::proto::parse_net;
use cortado::solver::{Event, Solver};
use std::path::Path;

/// Two convolutions, one behind the other, of which the second needs the larger columns: 4 images of 3600 and of 14400 values.
pub const TWO: &str = "force_backward: true
    layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 4 dim: 4 dim: 10 dim: 10 } } }
    layer { name: 'a' type: 'Convolution' bottom: 'x' top: 'a' convolution_param { ENGINE num_output: 16 kernel_size: 3 pad: 1 } }
    layer { name: 'b' type: 'Convolution' bottom: 'a' top: 'b' convolution_param { ENGINE num_output: 8 kernel_size: 3 pad: 1 } }";

/// What a pass over a net of convolutions leaves, as bits: tops, gradients of the inputs, of the filters and of the bias.
pub fn pass(text: &str, gpu: Option<&Gpu>) -> cortado::error::Result<Vec<u32>> {
    let mut weights = Weights::<f32>::new();
    let mut net = Net::<f32>::new(&parse_net(text, "test").unwrap().message, 1, &mut weights)?;
    let wave = |i: usize| ((i * 37 + 11) % 23) as f32 / 8.0 - 1.4;
    for (p, param) in weights.iter_mut().enumerate() {
        param.data.host_mut().iter_mut().enumerate().for_each(|(i, v)| *v = wave(i * 5 + p) / 4.0);
    }
    let inputs: Vec<usize> = net.nodes().iter().filter(|n| n.bottom.is_empty()).map(|n| n.top[0]).collect();
    for &b in &inputs {
        net.data_mut(b).iter_mut().enumerate().for_each(|(i, v)| *v = wave(i));
    }
    net.set_device(gpu.cloned(), &mut weights)?;
    net.forward(&mut weights)?;
    net.fetch(&mut weights)?;
    let outputs = net.outputs();
    for &b in &outputs {
        net.diff_mut(b).iter_mut().enumerate().for_each(|(i, v)| *v = wave(i + 7));
    }
    net.backward(&mut weights)?;
    net.fetch(&mut weights)?;
    let mut bits = Vec::new();
    bits.extend(outputs.iter().flat_map(|&b| net.data(b)).map(|v| v.to_bits()));
    bits.extend(inputs.iter().flat_map(|&b| net.diff(b)).map(|v| v.to_bits()));
    bits.extend(weights.iter().flat_map(|p| p.diff.host()).map(|v| v.to_bits()));
    Ok(bits)
}

/// How far two passes are apart, relative to the largest value.
pub fn distance(a: &[u32], b: &[u32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let pairs = || a.iter().zip(b).map(|(a, b)| (f32::from_bits(*a), f32::from_bits(*b)));
    let largest = pairs().fold(1.0f32, |m, (a, _)| m.max(a.abs()));
    pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

/// Forward, gradient of the bottom, gradient of the filters, as the stand-in numbers them.
pub const WAYS: [i32; 3] = [0, 1, 2];

/// How often the stand-in's cuDNN has run an algorithm in a direction, for this thread. Nothing on a real GPU.
pub fn dnn_runs(way: i32, algorithm: i32) -> u32 {
    ask(|library| {
        // SAFETY: the signature is the stand-in's.
        unsafe {
            let runs = library.get::<unsafe extern "C" fn(i32, i32) -> u32>(b"emulator_cudnn_runs").unwrap();
            runs(way, algorithm)
        }
    })
}

/// How often it has run at all.
pub fn all_dnn_runs() -> u32 {
    WAYS.iter().flat_map(|&way| (0..8).map(move |algorithm| dnn_runs(way, algorithm))).sum()
}

/// The largest workspace that this thread gave it.
pub fn largest_workspace() -> usize {
    ask(|library| {
        // SAFETY: the signature is the stand-in's.
        unsafe { library.get::<unsafe extern "C" fn() -> usize>(b"emulator_cudnn_workspace").unwrap()() }
    })
}

fn ask<R: Default>(question: impl Fn(&libloading::Library) -> R) -> R {
    match super::emulator::build() {
        // SAFETY: the library is loaded already.
        Ok(folder) if !super::real() => unsafe {
            question(&libloading::Library::new(folder.join("libcudnn.so.9")).unwrap())
        },
        _ => R::default(),
    }
}

/// Has an algorithm take so many milliseconds whenever this thread runs it; 0 for what cuDNN expects.
pub fn takes(way: i32, algorithm: i32, ms: f64) {
    ask(|library| {
        // SAFETY: the signature is the stand-in's.
        unsafe {
            let say = library.get::<unsafe extern "C" fn(i32, i32, f64)>(b"emulator_cudnn_takes").unwrap();
            say(way, algorithm, ms)
        }
    })
}

/// A device that takes what cuDNN expects to be the fastest.
pub fn forecasting() -> Option<Gpu> {
    let gpu = super::gpu()?;
    gpu.set_cudnn(Cudnn::Forecast);
    Some(gpu)
}

/// The device without cuDNN.
fn own() -> Option<Gpu> {
    let gpu = super::gpu()?;
    gpu.set_cudnn(Cudnn::Off);
    Some(gpu)
}

#[test]
fn both_ways_compute_what_caffe_computes() {
    let (Some(gpu), Some(own)) = (super::gpu(), own()) else { return };
    let convolve = |gpu: &Gpu| {
        let before = all_dnn_runs();
        golden::cases_of(Some(gpu), |name| name.starts_with("conv") || name == "net_lenet");
        gradients::check_file(Path::new("tests/gradients/Convolution.prototxt"), Some(gpu));
        all_dnn_runs() - before
    };
    assert_eq!(convolve(&own), 0);
    // And without room for columns.
    own.set_workspace(0);
    let launched = ["im2col2", "tops2", "bottoms2", "filters2"].map(|name| super::runs(name).unwrap_or(0));
    golden::cases_of(Some(&own), |name| name.starts_with("conv") || name == "net_lenet");
    let now = ["im2col2", "tops2", "bottoms2", "filters2"].map(|name| super::runs(name).unwrap_or(1));
    assert!(super::real() || now[0] == launched[0] && (1..4).all(|i| now[i] > launched[i]), "{now:?}");
    let runs = convolve(&gpu);
    // Many more come from graphs, which are not counted.
    assert!(super::real() || runs > 100, "cuDNN ran {runs} times");
    // What is not the same twice has no place in a net.
    for (way, algorithm) in [(1, 0), (2, 0), (2, 3)] {
        assert_eq!(dnn_runs(way, algorithm), 0);
    }
}

#[test]
fn engines_choose_between_them() {
    let (Some(gpu), Some(own)) = (forecasting(), own()) else { return };
    let host = pass(&TWO.replace("ENGINE", ""), None).unwrap();
    for (engine, gpu, dnn) in [
        ("", &gpu, true),
        ("engine: DEFAULT", &gpu, true),
        ("engine: CUDNN", &gpu, true),
        ("engine: CAFFE", &gpu, false),
        ("", &own, false),
        ("engine: CAFFE", &own, false),
    ] {
        let (ran, launched) = (all_dnn_runs(), super::runs("im2col2"));
        let bits = pass(&TWO.replace("ENGINE", engine), Some(gpu)).unwrap();
        // In full precision: TF32 would be a hundred times as far away.
        let off = distance(&host, &bits);
        assert!(off < 3e-6, "{engine}: {off}");
        if let Some(launched) = launched {
            let counts = (all_dnn_runs() - ran, super::runs("im2col2").unwrap() - launched);
            assert_eq!(counts, if dnn { (6, 0) } else { (0, 4) }, "{engine:?}");
        }
        let again = pass(&TWO.replace("ENGINE", engine), Some(gpu)).unwrap();
        assert!(bits == again, "two runs are alike");
    }
    let e = pass(&TWO.replace("ENGINE", "engine: CUDNN"), Some(&own)).unwrap_err();
    assert_eq!((e.layer(), e.field()), (Some("a"), Some("convolution_param.engine")), "{e}");
    assert!(e.to_string().contains("cuDNN"), "{e}");
    let four = "layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: [1, 2, 3, 3, 3, 3] } } }
                layer { name: 'a' type: 'Convolution' bottom: 'x' top: 'a'
                        convolution_param { engine: CUDNN num_output: 3 kernel_size: 2 } }";
    let e = pass(four, Some(&gpu)).unwrap_err();
    assert!(e.to_string().contains("one to three axes"), "{e}");
    assert!(pass(&four.replace("CUDNN", "DEFAULT"), Some(&gpu)).is_ok());
}

#[test]
fn algorithms_fit_into_the_workspace() {
    let Some(gpu) = forecasting() else { return };
    let text = TWO.replace("ENGINE", "");
    let host = pass(&text, None).unwrap();
    let held = gpu.bytes();
    // What the stand-in's algorithms need is a share of the columns of an image, 14400 and 57600 bytes, or of those of the batch.
    for (limit, chosen) in [
        (0, [[0, 0], [-1, -1], [-1, -1]]),
        (14_400, [[2, 0], [1, -1], [1, -1]]),
        (57_600, [[7, 2], [5, 1], [5, 1]]),
        (WORKSPACE, [[7, 7], [5, 5], [5, 5]]),
    ] {
        let gpu = forecasting().unwrap();
        gpu.set_workspace(limit);
        let count = || WAYS.map(|way| [0, 1, 2, 5, 7].map(|algorithm| dnn_runs(way, algorithm)));
        let before = count();
        let bits = pass(&text, Some(&gpu)).unwrap();
        assert!(distance(&host, &bits) < 3e-6, "{limit}");
        if super::real() {
            continue;
        }
        let after = count();
        for (way, chosen) in chosen.iter().enumerate() {
            for (i, algorithm) in [0, 1, 2, 5, 7].iter().enumerate() {
                let expected = chosen.iter().filter(|a| *a == algorithm).count() as u32;
                let ran = after[way][i] - before[way][i];
                assert_eq!(ran, expected, "algorithm {algorithm} of way {way} in {limit} bytes");
            }
        }
        assert!(largest_workspace() <= limit, "{} bytes of {limit}", largest_workspace());
        // Nor is more taken where no algorithm fits.
        assert!(gpu.bytes() - held <= limit, "{} bytes of {limit}", gpu.bytes() - held);
    }
    assert!(super::real() || largest_workspace() == 4 * 57_600);
}

#[test]
fn captured_convolutions_are_the_same_bit_for_bit() {
    for gpu in [forecasting(), own()].into_iter().flatten() {
        let mut runs = Vec::new();
        for graphs in [true, false] {
            gpu.set_workspace(1 << 20);
            let (mut losses, before) = (Vec::new(), all_dnn_runs());
            let mut watch = |event: &Event<'_>| {
                if let Event::Iterated { loss, .. } = event {
                    losses.push(loss.to_bits());
                }
            };
            let mut solver = Solver::<f32>::keeping(&lenet(), None, &mut watch, &Keep::Outputs).unwrap();
            solver.set_device(Some(&gpu)).unwrap();
            solver.set_graphs(graphs);
            solver.step(4, &mut watch).unwrap();
            // Another net on the device gets a larger workspace; the graph goes on in its own.
            let held = gpu.bytes();
            gpu.set_workspace(WORKSPACE);
            let large = TWO.replace("ENGINE", "").replace("dim: 10 dim: 10", "dim: 40 dim: 40");
            pass(&large, Some(&gpu)).unwrap();
            assert!(super::real() || !graphs || gpu.bytes() > held, "the workspace did not grow");
            solver.step(3, &mut watch).unwrap();
            let state = solver.net().iterations();
            assert_eq!(state, if graphs { Iterations::Replayed } else { Iterations::Launched });
            let weights = solver.weights().iter().flat_map(|p| p.data.host().to_vec()).map(f32::to_bits);
            runs.push((weights.collect::<Vec<u32>>(), losses, all_dnn_runs() - before));
        }
        assert!(runs[0].0 == runs[1].0 && runs[0].1 == runs[1].1 && runs[0].1.len() == 7);
        if !super::real() {
            // Two iterations and the capture were asked for one by one, and the large net; without a graph all seven.
            let dnn = gpu.cudnn().is_ok();
            assert_eq!(runs[0].2 > 0, dnn);
            assert_eq!(runs[1].2 > runs[0].2, dnn);
        }
    }
}

#[test]
fn columns_stay_within_the_workspace_and_share_it() {
    let Some(gpu) = super::gpu() else { return };
    let own = TWO.replace("ENGINE", "engine: CAFFE");
    assert_eq!(gpu.workspace_limit(), WORKSPACE);
    let before = gpu.bytes();
    let columns = |limit: usize| {
        let gpu = super::gpu().unwrap();
        gpu.set_workspace(limit);
        let runs = super::runs("im2col2").unwrap_or(0);
        let bits = pass(&own, Some(&gpu)).unwrap();
        (bits, gpu.bytes() - before, super::runs("im2col2").map(|now| now - runs))
    };
    let all = columns(WORKSPACE);
    // Forward and the gradient of the filters, in both layers.
    assert_eq!((all.1, all.2.unwrap_or(4)), (4 * 14400 * 4, 4), "one workspace, for the larger columns");
    // Room for two images of the second layer: two parts there, one in the first.
    let half = columns(2 * 14400 * 4);
    assert_eq!((half.1, half.2.unwrap_or(6)), (2 * 14400 * 4, 6));
    // Room for an image of the second layer and all of the first.
    let one = columns(14400 * 4);
    assert_eq!((one.1, one.2.unwrap_or(10)), (14400 * 4, 10));
    assert!(all.0 == half.0 && all.0 == one.0, "parts change nothing");
    // Room for the columns of the first alone, and for none at all: then they are gathered while they are multiplied.
    let first = columns(3600 * 4);
    assert_eq!((first.1, first.2.unwrap_or(8)), (3600 * 4, 8));
    let none = columns(0);
    assert_eq!((none.1, none.2.unwrap_or(0)), (0, 0));
    let host = pass(&own, None).unwrap();
    for bits in [all.0, first.0, none.0] {
        assert!(distance(&host, &bits) < 3e-6);
    }
}

#[test]
fn any_number_of_axes_runs_on_a_device() {
    let Some(gpu) = super::gpu() else { return };
    for axes in 0..=5usize {
        let dims: String = (0..axes).map(|a| format!("dim: {} ", 3 + a % 2)).collect();
        let kernel = if axes == 0 { "" } else { "kernel_size: 2 pad: 1 stride: 2" };
        let text = format!(
            "force_backward: true
             layer {{ name: 'x' type: 'Input' top: 'x' input_param {{ shape {{ dim: 2 dim: 2 {dims} }} }} }}
             layer {{ name: 'a' type: 'Convolution' bottom: 'x' top: 'a'
                      convolution_param {{ engine: CAFFE num_output: 3 {kernel} }} }}"
        );
        let names = ["im2col", "im2col1", "im2col2", "im2col3"];
        let count = || names.map(|name| super::runs(name).unwrap_or(0));
        let before = count();
        let device = pass(&text, Some(&gpu)).unwrap();
        let runs = count();
        let host = pass(&text, None).unwrap();
        assert!(distance(&host, &device) < 1e-5, "{axes} axes");
        let narrow = super::gpu().unwrap();
        narrow.set_workspace(0);
        assert!(distance(&host, &pass(&text, Some(&narrow)).unwrap()) < 1e-5, "{axes} axes without columns");
        let grouped = text.replace("num_output: 3", "num_output: 4 group: 2");
        let (host, device) = (pass(&grouped, None).unwrap(), pass(&grouped, Some(&narrow)).unwrap());
        assert!(distance(&host, &device) < 1e-5, "{axes} axes in groups without columns");
        assert!(super::runs("im2col2").is_none() || count() == runs, "there was no room for columns");
        if super::runs("").is_some() && axes > 0 {
            let kernel = if axes < 4 { axes } else { 0 };
            assert!(runs[kernel] > before[kernel], "{axes} axes did not run on the device");
        }
    }
}
