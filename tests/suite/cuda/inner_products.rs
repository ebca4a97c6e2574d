//! Inner products on a device: by cuBLASLt, with bias and ReLU in the same launch, and without it.

use super::training::lenet;
use crate::{golden, gradients};
use cortado::blob::Weights;
use cortado::device::{Gpu, Precision, WORKSPACE};
use cortado::math::Real;
use cortado::net::{Iterations, Net};
use cortado::proto::parse_net;
use cortado::solver::{Event, Solver};
use std::path::Path;

/// The stand-in's algorithms, by their numbers.
const PLAIN: i32 = 0;
const SPLIT: i32 = 1;
const UNORDERED: i32 = 2;
const GREEDY: i32 = 3;
const REFUSED: i32 = 4;
const FANCIED: i32 = 5;

/// Products that this thread has asked the stand-in's cuBLASLt for; nothing on a real GPU.
fn products() -> Option<u32> {
    super::count("libcublasLt.so", b"emulator_lt_products")
}

/// How often this thread has had algorithms looked for.
fn searches() -> Option<u32> {
    super::count("libcublasLt.so", b"emulator_lt_searches")
}

fn ask<R: Default>(question: impl Fn(&libloading::Library) -> R) -> R {
    match super::emulator::build() {
        // SAFETY: the library is loaded already.
        Ok(folder) if !super::real() => unsafe {
            question(&libloading::Library::new(folder.join("libcublasLt.so")).unwrap())
        },
        _ => R::default(),
    }
}

/// How often this thread has had an algorithm run, trials included.
fn runs(number: i32) -> u32 {
    // SAFETY: the signature is the stand-in's.
    ask(|library| unsafe {
        library.get::<unsafe extern "C" fn(i32) -> u32>(b"emulator_lt_runs").unwrap()(number)
    })
}

/// Has the ReLU of the stand-in make a zero of what is not a number, for this thread.
fn drop_nan(on: bool) {
    // SAFETY: the signature is the stand-in's.
    ask(|library| unsafe {
        library.get::<unsafe extern "C" fn(i32)>(b"emulator_lt_drops_nan").unwrap()(on.into())
    })
}

/// The device without cuBLASLt.
fn own() -> Option<Gpu> {
    let gpu = super::gpu()?;
    gpu.set_cublaslt(false);
    Some(gpu)
}

#[test]
fn both_ways_compute_what_caffe_computes() {
    let (Some(gpu), Some(own)) = (super::gpu(), own()) else { return };
    let multiply = |gpu: &Gpu| {
        let before = products();
        golden::cases_of(Some(gpu), |name| name.starts_with("ip") || name.starts_with("net_"));
        gradients::check_file(Path::new("tests/gradients/InnerProduct.prototxt"), Some(gpu));
        products().zip(before).map(|(after, before)| after - before)
    };
    assert_eq!(multiply(&own).unwrap_or(0), 0);
    let made = multiply(&gpu);
    assert!(made.is_none_or(|made| made > 50), "cuBLASLt made {made:?} products");
    // What is not the same twice has no place in a net.
    assert_eq!((runs(UNORDERED), runs(FANCIED)), (0, 0));
}

/// An inner product of `outputs` of 40 inputs, with `more` behind it.
fn text(outputs: usize, fields: &str, more: &str) -> String {
    format!(
        "force_backward: true
         layer {{ name: 'x' type: 'Input' top: 'x' input_param {{ shape {{ dim: 6 dim: 40 }} }} }}
         layer {{ name: 'ip' type: 'InnerProduct' bottom: 'x' top: 'y'
                  inner_product_param {{ num_output: {outputs} {fields} weight_filler {{ type: 'xavier' }} }} }}
         {more}"
    )
}

fn relu(slope: f32) -> String {
    format!(
        "layer {{ name: 'relu' type: 'ReLU' bottom: 'y' top: 'y' relu_param {{ negative_slope: {slope} }} }}"
    )
}

/// A net with weights and inputs of small waves, on a device that has run it twice: its top, and kernels of ours that the second pass launched.
fn second<T: Real>(text: &str, gpu: Option<&Gpu>, bias: f64) -> (Vec<f64>, u32) {
    let mut weights = Weights::<T>::new();
    let mut net = Net::<T>::new(&parse_net(text, "test").unwrap().message, 1, &mut weights).unwrap();
    let wave = |i: usize| T::from_f64(((i * 37 + 11) % 23) as f64 / 8.0 - 1.4);
    for param in weights.iter_mut() {
        param.data.host_mut().iter_mut().enumerate().for_each(|(i, v)| *v = wave(i * 5 + param.index));
    }
    if let Some(b) = weights.find("ip", 1) {
        weights.get_mut(b).data.host_mut()[1] = T::from_f64(bias);
    }
    let (x, y) = (net.blob("x").unwrap(), net.blob("y").unwrap());
    net.data_mut(x).iter_mut().enumerate().for_each(|(i, v)| *v = wave(i));
    net.set_device(gpu.cloned(), &mut weights).unwrap();
    net.forward(&mut weights).unwrap();
    let before = super::launches();
    net.forward(&mut weights).unwrap();
    let launched = super::launches() - before;
    net.fetch(&mut weights).unwrap();
    (net.data(y).iter().map(|v| v.as_f64()).collect(), launched)
}

fn close(a: &[f64], b: &[f64], tolerance: f64, what: &str) {
    assert_eq!(a.len(), b.len());
    let near =
        |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance * a.abs().max(10.0) || a.is_nan() && b.is_nan();
    assert!(a.iter().zip(b).all(near), "{what}: {a:?}, not {b:?}");
}

#[test]
fn bias_and_relu_take_no_launch_of_their_own() {
    let (Some(gpu), Some(own)) = (super::gpu(), own()) else { return };
    // What stands behind, and the launches with cuBLASLt and without.
    for (fields, more, with, without) in [
        ("", String::new(), 0, 1),
        ("", relu(0.0), 0, 1),
        ("transpose: true", relu(0.0), 0, 1),
        ("bias_term: false", relu(0.0), 0, 1),
        ("bias_term: false", String::new(), 0, 0),
        // Another ReLU is the library's none.
        ("", relu(0.2), 1, 1),
        ("", relu(0.0).replace("top: 'y'", "top: 'z'"), 1, 2),
    ] {
        let (text, what) = (text(7, fields, &more), format!("{fields} {more}"));
        let host = second::<f64>(&text, None, 0.5).0;
        for (gpu, launches) in [(&gpu, with), (&own, without)] {
            let (full, launched) = second::<f64>(&text, Some(gpu), 0.5);
            close(&host, &full, 1e-13, &what);
            assert!(super::runs("").is_none() || launched == launches, "{what}: {launched} launches");
            close(&host, &second::<f32>(&text, Some(gpu), 0.5).0, 1e-5, &what);
        }
    }
}

#[test]
fn an_algorithm_fits_and_is_the_same_twice() {
    let Some(gpu) = super::gpu() else { return };
    let text = text(9, "", &relu(0.0));
    // Results are 6 · 9 numbers; the greedy algorithm wants 64 times their bytes, the one that adds up parts 4 times.
    for (room, expected) in
        [(WORKSPACE, GREEDY), (64 * 54 * 4 - 1, SPLIT), (4 * 54 * 4 - 1, PLAIN), (0, PLAIN)]
    {
        gpu.set_workspace(room);
        let before = [PLAIN, SPLIT, GREEDY, REFUSED, UNORDERED, FANCIED].map(runs);
        let (first, _) = second::<f32>(&text, Some(&gpu), 0.5);
        let (again, _) = second::<f32>(&text, Some(&gpu), 0.5);
        assert_eq!(first, again, "in {room} bytes");
        let after = [PLAIN, SPLIT, GREEDY, REFUSED, UNORDERED, FANCIED].map(runs);
        if !super::real() {
            // Two nets, each with a trial and two passes.
            let made: Vec<u32> = after.iter().zip(before).map(|(after, before)| after - before).collect();
            let wanted = [PLAIN, SPLIT, GREEDY].map(|number| if number == expected { 6 } else { 0 });
            assert_eq!((&made[..3], &made[3..]), (&wanted[..], &[2, 0, 0][..]), "in {room} bytes");
        }
    }
}

#[test]
fn a_relu_keeps_what_is_not_a_number() {
    let (Some(gpu), Some(own)) = (super::gpu(), own()) else { return };
    let text = text(7, "", &relu(0.0));
    for precision in [Precision::Full, Precision::Tf32, Precision::Bf16] {
        for drops in [false, true] {
            drop_nan(drops);
            for (gpu, apart) in [(&gpu, u32::from(drops)), (&own, 1)] {
                gpu.set_precision(precision).unwrap();
                let (y, launched) = second::<f32>(&text, Some(gpu), f64::NAN);
                let rounding = if precision == Precision::Bf16 { 2 } else { 0 };
                for (i, y) in y.iter().enumerate() {
                    assert_eq!(y.is_nan(), i % 7 == 1, "{precision:?}, {drops}: {i}");
                }
                assert!(super::real() || launched == apart + rounding, "{launched} launches");
            }
        }
    }
    drop_nan(false);
}

#[test]
fn precisions_are_those_asked_for() {
    let Some(gpu) = super::gpu() else { return };
    let text = text(9, "", "");
    let full = second::<f32>(&text, Some(&gpu), 0.5).0;
    for (precision, error) in [(Precision::Tf32, 2e-3), (Precision::Bf16, 2e-2)] {
        gpu.set_precision(precision).unwrap();
        let before = products().zip(super::count("libcublasLt.so", b"emulator_lt_products_in_bf16"));
        let y = second::<f32>(&text, Some(&gpu), 0.5).0;
        close(&full, &y, error, precision.name());
        let after = products().zip(super::count("libcublasLt.so", b"emulator_lt_products_in_bf16"));
        if let Some((before, after)) = before.zip(after) {
            let made = (after.0 - before.0, after.1 - before.1);
            assert_eq!(made, if precision == Precision::Bf16 { (0, 3) } else { (3, 0) });
        }
    }
}

#[test]
fn algorithms_are_looked_for_once() {
    let Some(gpu) = super::gpu() else { return };
    let mut solver = Solver::<f32>::new(&lenet(), None, &mut |_: &Event<'_>| {}).unwrap();
    solver.set_device(Some(&gpu)).unwrap();
    solver.set_graphs(false);
    let before = searches();
    solver.step(1, &mut |_: &Event<'_>| {}).unwrap();
    let first = searches();
    assert_eq!(first.zip(before).map(|(a, b)| a - b).unwrap_or(2), 2, "two inner products");
    solver.step(3, &mut |_: &Event<'_>| {}).unwrap();
    assert_eq!(searches(), first);
    solver.set_graphs(true);
    solver.step(4, &mut |_: &Event<'_>| {}).unwrap();
    assert_eq!((solver.net().iterations(), searches()), (Iterations::Replayed, first));
}
