//! TF32 and bf16: results near those of full precision but not the same, in training too, from graphs too; never in a gradient check.

use super::graphs::{same, train};
use super::training::lenet;
use cortado::blob::Weights;
use cortado::device::{Cudnn, Gpu, Precision};
use cortado::error::Kind;
use cortado::math::Real;
use cortado::net::{Iterations, Net};
use cortado::proto::parse_net;
use cortado::solver::{Event, Solver};
use cortado::tools::{GradientChecker, Subject, gradcheck, time};

fn gpu(precision: Precision) -> Option<Gpu> {
    let gpu = super::gpu()?;
    // Its products are counted, those of cuDNN not.
    gpu.set_cudnn(Cudnn::Off);
    gpu.set_precision(precision).unwrap();
    assert_eq!(gpu.precision(), precision);
    Some(gpu)
}

/// Products that this thread has asked cuBLAS and cuBLASLt for, of full width and in bf16; nothing on a real GPU.
fn products() -> Option<[u32; 2]> {
    let (blas, lt) = ("libcublas.so", "libcublasLt.so");
    let full = super::count(blas, b"emulator_products")? + super::count(lt, b"emulator_lt_products")?;
    let rounded = super::count(blas, b"emulator_products_in_bf16")?
        + super::count(lt, b"emulator_lt_products_in_bf16")?;
    Some([full, rounded])
}

/// Convolutions of all kinds, with a batch in one part, and inner products both ways round.
const NET: &str = "force_backward: true
    layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 3 dim: 4 dim: 9 dim: 8 } } }
    layer { name: 'c1' type: 'Convolution' bottom: 'x' top: 'c1'
            convolution_param { num_output: 8 kernel_size: 3 pad: 1 group: 2 weight_filler { type: 'xavier' } } }
    layer { name: 'c2' type: 'Convolution' bottom: 'c1' top: 'c2'
            convolution_param { num_output: 6 kernel_size: 1 weight_filler { type: 'xavier' } } }
    layer { name: 'c3' type: 'Convolution' bottom: 'c2' top: 'c3'
            convolution_param { num_output: 5 kernel_size: 3 dilation: 2 stride: 2 bias_term: false weight_filler { type: 'xavier' } } }
    layer { name: 'i1' type: 'InnerProduct' bottom: 'c3' top: 'i1'
            inner_product_param { num_output: 7 weight_filler { type: 'xavier' } } }
    layer { name: 'i2' type: 'InnerProduct' bottom: 'i1' top: 'i2'
            inner_product_param { num_output: 4 transpose: true weight_filler { type: 'xavier' } } }";

/// All that a pass forward and backward leaves, blob by blob.
fn results(gpu: &Gpu) -> Vec<(String, Vec<f32>)> {
    let mut weights = Weights::<f32>::new();
    let mut net = Net::new(&parse_net(NET, "test").unwrap().message, 7, &mut weights).unwrap();
    time::prepare(&mut net, &mut weights);
    net.set_device(Some(gpu.clone()), &mut weights).unwrap();
    net.forward(&mut weights).unwrap();
    let out = net.blob("i2").unwrap();
    net.fetch(&mut weights).unwrap();
    net.diff_mut(out).iter_mut().enumerate().for_each(|(i, d)| *d = (i * 37 % 11) as f32 / 4.0 - 1.0);
    net.backward(&mut weights).unwrap();
    net.fetch(&mut weights).unwrap();
    let blobs = net.blobs().iter().enumerate();
    let mut all: Vec<_> = blobs.clone().map(|(b, blob)| (blob.name.clone(), net.data(b).to_vec())).collect();
    all.extend(blobs.map(|(b, blob)| (format!("{} diff", blob.name), net.diff(b).to_vec())));
    all.extend(weights.iter().map(|p| (format!("{}/{} diff", p.layer, p.index), p.diff.host().to_vec())));
    all
}

#[test]
fn products_are_rounded_where_that_is_asked_for_and_nowhere_else() {
    let Some(full) = gpu(Precision::Full) else { return };
    let expected = results(&full);
    for (precision, error) in [(Precision::Tf32, 2e-3), (Precision::Bf16, 2e-2)] {
        let before = products();
        let found = results(&gpu(precision).unwrap());
        if let (Some(before), Some(after)) = (before, products()) {
            let made = [after[0] - before[0], after[1] - before[1]];
            let used = usize::from(precision == Precision::Bf16);
            assert!(made[used] >= 15 && made[1 - used] == 0, "{precision:?}: {made:?}");
        }
        for ((what, a), (_, b)) in expected.iter().zip(&found) {
            let largest = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= error * largest, "{precision:?}, {what}: {worst} of {largest}");
            // What is given, and gradients that no product makes, are as they were.
            let given = ["x", "i2 diff", "i2/1 diff"].contains(&what.as_str());
            assert_eq!(a == b, given, "{precision:?}, {what}");
        }
    }
    // And back again, on the same device.
    let twice = gpu(Precision::Bf16).unwrap();
    let rounded = results(&twice);
    twice.set_precision(Precision::Full).unwrap();
    assert_eq!(results(&twice), expected);
    twice.set_precision(Precision::Bf16).unwrap();
    assert_eq!(results(&twice), rounded);
    // So does cuDNN.
    let tf32 = gpu(Precision::Tf32).unwrap();
    tf32.set_cudnn(Cudnn::Search);
    for ((what, a), (_, b)) in
        expected.iter().zip(&results(&tf32)).filter(|((what, _), _)| what.starts_with('c'))
    {
        let largest = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 2e-3 * largest && a != b, "cuDNN, {what}: {worst} of {largest}");
    }
}

#[test]
fn bf16_is_the_nearest_ties_to_even() {
    let Some(gpu) = gpu(Precision::Bf16) else { return };
    let text = "layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 16 dim: 1 } } }
        layer { name: 'i' type: 'InnerProduct' bottom: 'x' top: 'y' inner_product_param { num_output: 1 bias_term: false } }";
    let mut weights = Weights::<f32>::new();
    let mut net = Net::new(&parse_net(text, "test").unwrap().message, 1, &mut weights).unwrap();
    let w = weights.find("i", 0).unwrap();
    weights.get_mut(w).data.host_mut()[0] = 1.0;
    let (x, y) = (net.blob("x").unwrap(), net.blob("y").unwrap());
    let bits = [
        0x3f80_0000,
        0x3f80_8000,
        0x3f81_8000,
        0x3f80_8001,
        0x3f80_7fff,
        0xc049_0fdb,
        0x0000_0001,
        0x0000_8001,
        0x7f7f_0000,
        0x7f80_0000,
        0xff80_0000,
        0x8000_0000,
        0x4b7f_ffff,
        0x3eaa_aaab,
        0x7fff_ffff,
        0x7f80_0001u32,
    ];
    net.data_mut(x).iter_mut().zip(bits).for_each(|(x, bits)| *x = f32::from_bits(bits));
    net.set_device(Some(gpu), &mut weights).unwrap();
    net.forward(&mut weights).unwrap();
    net.fetch(&mut weights).unwrap();
    for (bits, y) in bits.into_iter().zip(net.data(y)) {
        if f32::from_bits(bits).is_nan() {
            assert!(y.is_nan(), "{bits:x}");
            continue;
        }
        // The two neighbours that have 16 bits: the nearer one, or the even one.
        let (below, rest) = (bits & 0xffff_0000, bits & 0xffff);
        let up = rest > 0x8000 || (rest == 0x8000 && below & 0x1_0000 != 0);
        let expected = f32::from_bits(if up { below + 0x1_0000 } else { below });
        assert!(expected == *y, "{bits:x}: {expected}, not {y}");
    }
}

#[test]
fn lenet_trains_in_each_precision_from_graphs_too() {
    let Some(full) = gpu(Precision::Full) else { return };
    let expected = train(&lenet(), &full, true, 5);
    for (precision, error) in [(Precision::Tf32, 5e-3), (Precision::Bf16, 3e-2)] {
        let gpu = gpu(precision).unwrap();
        let run = same(&lenet(), &gpu, 5);
        assert_eq!(run.iterations, Iterations::Replayed);
        let pairs = || expected.losses.iter().zip(&run.losses);
        let worst = pairs().map(|(a, b)| (a - b).abs() / a.max(1.0)).fold(0.0, f64::max);
        assert!(worst < error, "{precision:?}: {:?}, in full precision {:?}", run.losses, expected.losses);
        assert!(pairs().all(|(a, b)| a != b), "{precision:?} changes nothing");
        assert!(run.weights != expected.weights);
    }
}

#[test]
fn a_captured_iteration_does_not_outlive_its_precision() {
    let Some(gpu) = gpu(Precision::Full) else { return };
    let mut solver = Solver::<f32>::new(&lenet(), None, &mut |_: &Event<'_>| {}).unwrap();
    solver.set_device(Some(&gpu)).unwrap();
    solver.step(4, &mut |_: &Event<'_>| {}).unwrap();
    assert_eq!(solver.net().iterations(), Iterations::Replayed);
    gpu.set_precision(Precision::Bf16).unwrap();
    solver.step(1, &mut |_: &Event<'_>| {}).unwrap();
    assert_eq!(solver.net().iterations(), Iterations::Launched);
    solver.step(3, &mut |_: &Event<'_>| {}).unwrap();
    assert_eq!(solver.net().iterations(), Iterations::Replayed);
}

fn refused<T: Real>(gpu: &Gpu) -> Option<cortado::Error> {
    let mut weights = Weights::<T>::new();
    let mut net = Net::<T>::new(&parse_net(NET, "test").unwrap().message, 1, &mut weights).unwrap();
    net.set_device(Some(gpu.clone()), &mut weights).err()
}

#[test]
fn double_precision_is_not_rounded() {
    let Some(bf16) = gpu(Precision::Bf16) else { return };
    let error = refused::<f64>(&bf16).unwrap();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.message().contains("double precision") && error.suggestion().unwrap().contains("--amp"));
    assert!(refused::<f32>(&bf16).is_none());
    assert!(refused::<f64>(&gpu(Precision::Tf32).unwrap()).is_none(), "doubles are multiplied as they are");
}

#[test]
fn gradients_are_checked_in_full_precision() {
    let Some(full) = gpu(Precision::Full) else { return };
    let net = parse_net(NET, "test").unwrap().message;
    let checker = GradientChecker { step: 1e-2, threshold: 1e-2, ..Default::default() };
    let check = |device: &Gpu| {
        let checker = GradientChecker { device: Some(device.clone()), ..checker.clone() };
        gradcheck::check_net::<f32>(&net, None, &checker, &mut |_| {})
    };
    assert!(check(&full).is_ok());
    for precision in [Precision::Tf32, Precision::Bf16] {
        let gpu = gpu(precision).unwrap();
        let error = check(&gpu).err().unwrap();
        assert!(error.message().contains("checked in full precision"), "{error}");
        let layer =
            parse_net("layer { name: 'i' type: 'Softmax' bottom: 'x' top: 'y' }", "test").unwrap().message;
        let shape = cortado::blob::Shape::new([2, 3]).unwrap();
        let mut subject = Subject::<f32>::new(
            &layer.layer[0],
            cortado::proto::caffe::Phase::Train,
            &[(shape, vec![0.5; 6])],
            1,
        )
        .unwrap();
        assert_eq!(subject.set_device(Some(gpu)).unwrap_err().kind(), Kind::Usage);
    }
}
