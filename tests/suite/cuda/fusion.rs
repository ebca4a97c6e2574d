//! Layers that do others' work along on a device: the same values from fewer launches.

use cortado::blob::Weights;
use cortado::device::{Cudnn, Gpu};
use cortado::math::Real;
use cortado::net::{Keep, Net};
use cortado::proto::parse_net;
use cortado::tools::time;

const FILLER: &str = "weight_filler { type: 'gaussian' std: 0.3 } bias_filler { type: 'gaussian' std: 0.5 }";
const SCALE: &str = "scale_param { bias_term: true filler { type: 'gaussian' mean: 1 std: 0.5 }
    bias_filler { type: 'gaussian' std: 0.3 } }";

fn layer(kind: &str, name: &str, bottom: &str, top: &str, more: &str) -> String {
    let bottoms: String = bottom.split(' ').map(|b| format!("bottom: '{b}' ")).collect();
    format!("layer {{ name: '{name}' type: '{kind}' {bottoms} top: '{top}' {more} }}\n")
}

fn convolution(name: &str, bottom: &str, fields: &str) -> String {
    layer(
        "Convolution",
        name,
        bottom,
        name,
        &format!("convolution_param {{ num_output: 6 {fields} {FILLER} }}"),
    )
}

fn input(phase: &str) -> String {
    format!(
        "state {{ phase: {phase} }} force_backward: {}
         layer {{ name: 'x' type: 'Input' top: 'x' input_param {{ shape {{ dim: 2 dim: 6 dim: 9 dim: 8 }} }} }}\n",
        phase == "TRAIN"
    )
}

/// What a pass leaves, and how many kernels it launched: the second pass, forward, and in training backward.
struct Pass {
    values: Vec<Vec<f64>>,
    launches: u32,
    /// How many kernels of an element-wise layer's forward pass.
    relus: u32,
}

fn pass<T: Real>(text: &str, keep: &Keep, device: Option<&Gpu>, fusion: bool) -> Pass {
    let mut weights = Weights::<T>::new();
    let mut net =
        Net::<T>::keeping(&parse_net(text, "test").unwrap().message, 3, &mut weights, keep).unwrap();
    time::prepare(&mut net, &mut weights);
    for p in weights.iter_mut().filter(|p| p.layer.starts_with("bn")) {
        let value = [0.2, 1.7, 1.5][p.index];
        p.data.host_mut().fill(T::from_f64(value));
    }
    net.set_device(device.cloned(), &mut weights).unwrap();
    net.set_fusion(fusion);
    let counts = || (super::launches(), super::runs("forward").unwrap_or(0));
    net.forward(&mut weights).unwrap();
    let before = counts();
    net.forward(&mut weights).unwrap();
    let after = counts();
    net.fetch(&mut weights).unwrap();
    if !net.forward_only() {
        for blob in net.outputs() {
            net.diff_mut(blob)
                .iter_mut()
                .enumerate()
                .for_each(|(i, d)| *d = T::from_f64((i % 11) as f64 / 4.0 - 1.0));
        }
        net.backward(&mut weights).unwrap();
        net.fetch(&mut weights).unwrap();
    }
    let values = |v: &[T]| v.iter().map(|v| v.as_f64()).collect::<Vec<f64>>();
    let mut all = Vec::new();
    for b in (0..net.blobs().len()).filter(|&b| net.keeps(b)) {
        all.extend([values(net.data(b)), values(net.diff(b))]);
    }
    all.extend(weights.iter().flat_map(|p| [values(p.data.host()), values(p.diff.host())]));
    Pass { values: all, launches: after.0 - before.0, relus: after.1 - before.1 }
}

fn close(a: &Pass, b: &Pass, tolerance: f64) {
    assert_eq!(a.values.len(), b.values.len());
    for (a, b) in a.values.iter().zip(&b.values) {
        assert_eq!(a.len(), b.len());
        let largest = a.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst <= tolerance * largest, "{worst} of {largest}");
    }
}

#[test]
fn in_training_a_relu_is_done_along_forward() {
    let Some(gpu) = super::gpu() else { return };
    // Launches are counted, and what cuBLASLt does along is none.
    gpu.set_cublaslt(false);
    let slope = "relu_param { negative_slope: 0.2 }";
    let text = input("TRAIN")
        + &convolution("a", "x", "kernel_size: 3 pad: 1 group: 2")
        + &layer("ReLU", "ra", "a", "a", "")
        + &convolution("b", "a", "kernel_size: 1 bias_term: false")
        + &layer("BatchNorm", "bn", "b", "b", "")
        + &layer("Scale", "s", "b", "b", SCALE)
        + &layer("ReLU", "rs", "b", "b", slope)
        + &layer("Eltwise", "e", "a b", "e", "eltwise_param { coeff: 0.5 coeff: 2 }")
        + &layer("ReLU", "re", "e", "e", "")
        + &layer("BatchNorm", "bn2", "e", "n", "")
        + &layer("ReLU", "rn", "n", "n", slope)
        + &layer("InnerProduct", "i", "n", "i", &format!("inner_product_param {{ num_output: 5 {FILLER} }}"))
        + &layer("ReLU", "ri", "i", "i", slope)
        // Not in place: by itself.
        + &layer("ReLU", "last", "i", "y", "");
    for keep in [Keep::All, Keep::Outputs] {
        let [fused, apart] = [true, false].map(|on| pass::<f64>(&text, &keep, Some(&gpu), on));
        assert!(fused.values == apart.values && fused.values.len() > 10, "fusion changes bits");
        // Apart on the host: a leader there leaves other gradients in between.
        close(&fused, &pass::<f64>(&text, &keep, None, false), 1e-11);
        let [single, alone] = [true, false].map(|on| pass::<f32>(&text, &keep, Some(&gpu), on));
        close(&single, &alone, 1e-5);
        if super::runs("").is_some() {
            assert_eq!((fused.relus, apart.relus), (1, 6), "ReLUs by themselves");
            assert_eq!(apart.launches - fused.launches, 5);
        }
    }
}

#[test]
fn in_a_test_whole_chains_are_one_launch() {
    let Some(gpu) = super::gpu() else { return };
    // Its launches are counted, what cuDNN and cuBLASLt do is not.
    gpu.set_cudnn(Cudnn::Off);
    gpu.set_cublaslt(false);
    let text = input("TEST")
        + &convolution("a", "x", "kernel_size: 3 pad: 1")
        + &layer("BatchNorm", "bn", "a", "a", "")
        + &layer("Scale", "s", "a", "a", SCALE)
        + &layer("ReLU", "r", "a", "a", "")
        + &layer("TanH", "skip", "a", "skip", "")
        + &convolution("c", "a", "kernel_size: 1 bias_term: false")
        + &layer("Scale", "sc", "c", "c", SCALE)
        + &layer("Eltwise", "e", "skip c", "y", "")
        + &layer("ReLU", "re", "y", "y", "")
        + &layer("BatchNorm", "bn2", "y", "n", "")
        + &layer("Scale", "s2", "n", "n", SCALE)
        + &layer("ReLU", "r2", "n", "n", "relu_param { negative_slope: 0.1 }")
        + &layer("InnerProduct", "i", "n", "i", &format!("inner_product_param {{ num_output: 5 {FILLER} }}"))
        + &layer("ReLU", "ri", "i", "i", "")
        + &layer("Softmax", "soft", "i", "p", "");
    for keep in [Keep::All, Keep::Outputs] {
        let [fused, apart] = [true, false].map(|on| pass::<f64>(&text, &keep, Some(&gpu), on));
        let host = pass::<f64>(&text, &keep, None, false);
        close(&fused, &apart, 1e-12);
        close(&fused, &host, 1e-11);
        let [single, alone] = [true, false].map(|on| pass::<f32>(&text, &keep, Some(&gpu), on));
        close(&single, &alone, 1e-4);
        if super::runs("").is_some() && keep == Keep::Outputs {
            // Apart: columns, bias, two of the normalisation, scale, ReLU; TanH; scale, sum, ReLU; two, scale, ReLU; bias, ReLU; softmax.
            // Fused: columns and the rest; TanH; all behind c; two; all behind i; softmax.
            assert_eq!((fused.launches, apart.launches), (8, 17));
        }
    }
}

#[test]
fn where_somebody_looks_between_layers_do_their_own_work() {
    let Some(gpu) = super::gpu() else { return };
    let relus = |text: &str, debug: bool| {
        let mut weights = Weights::<f32>::new();
        let mut net = Net::new(&parse_net(text, "test").unwrap().message, 3, &mut weights).unwrap();
        time::prepare(&mut net, &mut weights);
        net.set_device(Some(gpu.clone()), &mut weights).unwrap();
        net.set_debug_info(debug);
        let before = super::runs("forward").unwrap_or(0);
        net.forward(&mut weights).unwrap();
        net.fetch(&mut weights).unwrap();
        super::runs("forward").map(|after| after - before)
    };
    let chain = input("TRAIN") + &convolution("a", "x", "kernel_size: 1") + &layer("ReLU", "r", "a", "a", "");
    for (text, debug, count) in [
        (chain.clone(), false, 0),
        (chain.clone(), true, 1),
        (chain.replace("bottom: 'a'  top: 'a'", "bottom: 'a' top: 'z'"), false, 1),
    ] {
        match relus(&text, debug) {
            Some(made) => assert_eq!(made, count, "{text}"),
            None => return,
        }
    }
}
