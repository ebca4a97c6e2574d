//! Rates of matrix products and convolutions, whose "elements" are floating-point operations in criterion's words, so that
//! Gelem/s reads GFLOP/s; of max pooling and of the solver's update.
//!
//! One thread unless `RAYON_NUM_THREADS` says otherwise: `cargo bench --bench kernels -- lenet`.

use cortado::blob::{Buffer, Weights};
use cortado::math::{Convolution, Ending, Geometry, Layout, Layouts, Transpose, gemm};
use cortado::net::Net;
use cortado::proto::{parse_net, parse_solver};
use cortado::solver::update::{self, Step};
use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use std::time::Duration;

fn main() {
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
        return pool.install(run);
    }
    run();
}

fn run() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
        .configure_from_args();
    products(&mut criterion);
    convolutions(&mut criterion);
    poolings(&mut criterion);
    updates(&mut criterion);
    criterion.final_summary();
}

/// Numbers without a pattern that a processor could profit from; no denormals.
fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 1009.0 - 0.5).collect()
}

fn products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gemm");
    let (no, yes) = (Transpose::No, Transpose::Yes);
    for (name, ta, tb, m, n, k) in [
        ("square 1024", no, no, 1024, 1024, 1024),
        ("square 256", no, no, 256, 256, 256),
        ("lenet ip1 forward", no, yes, 64, 500, 800),
        ("lenet ip1 data", no, no, 64, 800, 500),
        ("lenet ip1 weights", yes, no, 500, 800, 64),
        ("lenet ip2 forward", no, yes, 64, 10, 500),
        ("lenet ip2 data", no, no, 64, 500, 10),
        ("lenet ip2 weights", yes, no, 10, 500, 64),
        ("alexnet fc7 forward", no, yes, 32, 4096, 4096),
        ("alexnet fc7 data", no, no, 32, 4096, 4096),
        ("alexnet fc7 weights", yes, no, 4096, 4096, 32),
        ("one sample", no, yes, 1, 4096, 4096),
        ("thin 4 samples", no, yes, 4, 4096, 4096),
        ("thin 8 samples data", no, no, 8, 4096, 4096),
        ("thin 8 samples weights", yes, no, 4096, 4096, 8),
        ("thin 12 outputs", no, no, 12, 3136, 256),
    ] {
        let (a, b, mut c) = (numbers(m * k), numbers(k * n), numbers(m * n));
        group.throughput(Throughput::Elements((2 * m * n * k) as u64));
        group.bench_function(name, |bench| {
            bench.iter(|| gemm(ta, tb, m, n, k, 1.0, &a, &b, 0.0, &mut c));
        });
    }
}

fn convolutions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conv");
    // batch, groups, channels, outputs, input, kernel, pad, stride
    for (name, sizes) in [
        ("lenet conv1", [64, 1, 1, 20, 28, 5, 0, 1]),
        ("lenet conv2", [64, 1, 20, 50, 12, 5, 0, 1]),
        ("alexnet conv1", [4, 1, 3, 96, 227, 11, 0, 4]),
        ("alexnet conv2", [4, 2, 96, 256, 27, 5, 2, 1]),
        ("alexnet conv3", [4, 1, 256, 384, 13, 3, 1, 1]),
        ("vgg conv1_2", [1, 1, 64, 64, 224, 3, 1, 1]),
        ("vgg conv4_2", [2, 1, 512, 512, 28, 3, 1, 1]),
        ("resnet conv1", [2, 1, 3, 64, 224, 7, 3, 2]),
        ("resnet 3x3", [4, 1, 64, 64, 56, 3, 1, 1]),
        ("resnet 1x1", [4, 1, 256, 64, 56, 1, 0, 1]),
        ("resnet 1x1 wide", [4, 1, 512, 2048, 7, 1, 0, 1]),
        ("resnet 1x1 stride 2", [4, 1, 256, 512, 56, 1, 0, 2]),
        ("winograd 3x3 128", [8, 1, 128, 128, 28, 3, 1, 1]),
        ("winograd 3x3 512", [8, 1, 512, 512, 7, 3, 1, 1]),
        ("winograd 5x5", [8, 1, 48, 128, 14, 5, 2, 1]),
        ("direct 5x5", [8, 1, 8, 16, 32, 5, 2, 1]),
        ("cifar conv1", [20, 1, 3, 32, 32, 5, 2, 1]),
        ("cifar conv2", [20, 1, 32, 32, 16, 5, 2, 1]),
        ("cifar conv3", [20, 1, 32, 64, 8, 5, 2, 1]),
        ("squeezenet expand", [4, 1, 16, 64, 56, 3, 1, 1]),
        ("depthwise 3x3", [4, 128, 128, 128, 56, 3, 1, 1]),
        ("depthwise 3x3 small", [4, 512, 512, 512, 8, 3, 1, 1]),
        ("depthwise 3x3 stride 2", [4, 128, 128, 128, 32, 3, 1, 2]),
        ("depthwise 5x5", [4, 128, 128, 128, 28, 5, 2, 1]),
    ] {
        convolution(&mut group, name, sizes);
    }
    // Forward passes of one image, with filters put in order before.
    for (name, sizes) in [
        ("one image 1x1 wide", [1, 1, 512, 2048, 7, 1, 0, 1]),
        ("one image 3x3 128", [1, 1, 128, 128, 28, 3, 1, 1]),
        ("one image 3x3 256", [1, 1, 256, 256, 14, 3, 1, 1]),
        ("one image 3x3 512", [1, 1, 512, 512, 7, 3, 1, 1]),
    ] {
        one_image(&mut group, name, Layouts::default(), sizes);
    }
    // The same for images with their channels in blocks.
    let blocks = Layouts { bottom: Layout::Blocks, other: Layout::Blocks, top: Layout::Blocks };
    for (name, sizes) in [
        ("blocks 1x1 narrow", [1, 1, 256, 64, 56, 1, 0, 1]),
        ("blocks 1x1 stride 2", [1, 1, 256, 512, 56, 1, 0, 2]),
        ("blocks 3x3 64", [1, 1, 64, 64, 56, 3, 1, 1]),
        ("blocks 3x3 256", [1, 1, 256, 256, 14, 3, 1, 1]),
    ] {
        one_image(&mut group, name, blocks, sizes);
    }
    for (name, sizes) in [
        ("blocks 1x1 narrow", [8, 1, 256, 64, 56, 1, 0, 1]),
        ("blocks 1x1 to one vector", [16, 1, 192, 16, 28, 1, 0, 1]),
        ("blocks 3x3 to an odd vector", [16, 1, 96, 208, 14, 3, 1, 1]),
        ("blocks 1x1 wide", [8, 1, 256, 1024, 14, 1, 0, 1]),
        ("blocks 1x1 stride 2", [8, 1, 512, 256, 28, 1, 0, 2]),
        ("blocks 3x3 64", [8, 1, 64, 64, 56, 3, 1, 1]),
        ("blocks 3x3 128", [8, 1, 128, 128, 28, 3, 1, 1]),
        ("blocks 3x3 512", [8, 1, 512, 512, 7, 3, 1, 1]),
        ("blocks 5x5 32", [20, 1, 32, 32, 16, 5, 2, 1]),
        ("blocks depthwise 3x3", [16, 32, 32, 32, 64, 3, 1, 1]),
        ("blocks depthwise 3x3 stride 2", [16, 128, 128, 128, 32, 3, 1, 2]),
    ] {
        all_passes(&mut group, name, blocks, sizes);
    }
    // First layers, whose images lie in planes.
    let top = Layouts { top: Layout::Blocks, ..Layouts::default() };
    for (name, sizes) in [
        ("few channels 3x3", [4, 1, 3, 64, 112, 3, 1, 1]),
        ("few channels 7x7 stride 2", [8, 1, 3, 64, 224, 7, 3, 2]),
        ("few channels 11x11 stride 4", [8, 1, 3, 96, 227, 11, 0, 4]),
    ] {
        all_passes(&mut group, name, top, sizes);
    }
    // Channels that nearly fill blocks.
    all_passes(
        &mut group,
        "nearly full 1x1",
        Layouts { bottom: Layout::Blocks, ..Layouts::default() },
        [16, 1, 512, 24, 14, 1, 0, 1],
    );
}

/// Forward and both gradients of images that lie so.
fn all_passes(group: &mut BenchmarkGroup<WallTime>, name: &str, layouts: Layouts, sizes: [usize; 8]) {
    let (plan, [mut x, mut w, mut y]) = plan(sizes);
    assert!(plan.takes_blocks::<f32>(), "{name} takes no blocks");
    group.throughput(Throughput::Elements(2 * plan.multiply_adds() as u64));
    group.bench_function(format!("{name} forward"), |b| {
        b.iter(|| plan.forward_laid(&x, &w, layouts, &Ending::none(), &mut y))
    });
    group.bench_function(format!("{name} data"), |b| {
        b.iter(|| plan.backward_data_laid(&w, &y, layouts, &mut x))
    });
    // They would add up to infinity otherwise.
    [&mut x, &mut y].into_iter().flatten().for_each(|x| *x *= 1e-6);
    group.bench_function(format!("{name} weights"), |b| {
        b.iter(|| plan.backward_weights_laid(&x, &y, layouts, &mut w))
    });
}

fn one_image(group: &mut BenchmarkGroup<WallTime>, name: &str, layouts: Layouts, sizes: [usize; 8]) {
    let (plan, [x, w, mut y]) = plan(sizes);
    let mut prepared = vec![0.0; plan.prepared_len::<f32>(layouts)];
    assert!(!prepared.is_empty(), "{name} has no order of its own");
    assert!(layouts == Layouts::default() || plan.takes_blocks::<f32>(), "{name} takes no blocks");
    plan.prepare(&w, layouts, &mut prepared);
    group.throughput(Throughput::Elements(2 * plan.multiply_adds() as u64));
    group.bench_function(format!("{name} prepared"), |b| {
        b.iter(|| plan.forward_prepared(&x, &prepared, layouts, &Ending::none(), &mut y))
    });
}

/// A convolution with numbers for its bottom, its weights and its top.
fn plan(sizes: [usize; 8]) -> (Convolution, [Vec<f32>; 3]) {
    let [batch, groups, channels, num_output, input, kernel, pad, stride] = sizes;
    let plan = Convolution::new(&Geometry {
        batch,
        groups,
        channels,
        num_output,
        input: vec![input; 2],
        kernel: vec![kernel; 2],
        pad: vec![pad; 2],
        stride: vec![stride; 2],
        dilation: vec![1; 2],
    })
    .expect("a valid geometry");
    let output: usize = plan.output().iter().product();
    let x = numbers(batch * channels * input * input);
    let w = numbers(num_output * channels / groups * kernel * kernel);
    (plan, [x, w, numbers(batch * num_output * output)])
}

fn convolution(group: &mut BenchmarkGroup<WallTime>, name: &str, sizes: [usize; 8]) {
    let (plan, [mut x, mut w, mut y]) = plan(sizes);
    group.throughput(Throughput::Elements(2 * plan.multiply_adds() as u64));
    group.bench_function(format!("{name} forward"), |b| {
        b.iter(|| plan.forward(&x, &w, &Ending::none(), &mut y))
    });
    group.bench_function(format!("{name} data"), |b| b.iter(|| plan.backward_data(&w, &y, &mut x)));
    // Gradients would add up to infinity otherwise.
    y.iter_mut().for_each(|y| *y *= 1e-6);
    group.bench_function(format!("{name} weights"), |b| b.iter(|| plan.backward_weights(&x, &y, &mut w)));
}

/// Max pooling, forward and backward; elements are those of the bottom.
fn poolings(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("max pooling");
    for (name, [batch, channels, input, kernel, stride, pad]) in [
        ("lenet 2x2/2", [64, 50, 8, 2, 2, 0]),
        ("resnet 3x3/2", [4, 64, 112, 3, 2, 1]),
        ("alexnet 3x3/2", [4, 256, 27, 3, 2, 0]),
        ("googlenet 3x3/1", [4, 256, 28, 3, 1, 1]),
    ] {
        let net = format!(
            "force_backward: true
             layer {{ name: 'x' type: 'Input' top: 'x' input_param {{
               shape {{ dim: {batch} dim: {channels} dim: {input} dim: {input} }} }} }}
             layer {{ name: 'pool' type: 'Pooling' bottom: 'x' top: 'y'
               pooling_param {{ pool: MAX kernel_size: {kernel} stride: {stride} pad: {pad} }} }}"
        );
        let mut weights = Weights::<f32>::new();
        let net = parse_net(&net, "bench").expect("a net").message;
        let mut net = Net::new(&net, 1, &mut weights).expect("a net");
        for (blob, values) in [("x", false), ("y", true)] {
            let blob = net.blob(blob).expect("a blob");
            let values = if values { net.diff_mut(blob) } else { net.data_mut(blob) };
            values.copy_from_slice(&numbers(values.len()));
        }
        group.throughput(Throughput::Elements((batch * channels * input * input) as u64));
        group.bench_function(format!("{name} forward"), |b| b.iter(|| net.forward_layer(1, &mut weights)));
        group.bench_function(format!("{name} backward"), |b| b.iter(|| net.backward_layer(1, &mut weights)));
    }
}

/// Updates of all parameters of AlexNet; elements are parameters. The gradient is cleared by a pass of its own, as before an iteration
/// that finds it otherwise, or along.
fn updates(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("update");
    let lens =
        [96 * 363, 256 * 1200, 384 * 2304, 384 * 1728, 256 * 1728, 4096 * 9216, 4096 * 4096, 1000 * 4096];
    group.throughput(Throughput::Elements(lens.iter().sum::<usize>() as u64));
    let solver = parse_solver("momentum: 0.9", "bench").expect("a solver").message;
    let rule = update::create::<f32>(&solver).expect("SGD");
    let mut params: Option<Vec<_>> = None;
    for (name, clear) in [("alexnet sgd", false), ("alexnet sgd, clearing", true)] {
        let step = Step { iteration: 0, rate: 0.01, scale: 1.0, l1: 0.0, l2: 5e-4, clear };
        group.bench_function(name, |bench| {
            let params = params.get_or_insert_with(|| {
                let of = |n: usize| {
                    (numbers(n), Buffer::from_slice(&numbers(n)), [Buffer::from_slice(&numbers(n))])
                };
                lens.iter().map(|&n| of(n)).collect()
            });
            bench.iter(|| {
                for (data, diff, history) in params.iter_mut() {
                    rule.update(&step, data, diff.host_mut(), history);
                    if !clear {
                        diff.host_mut().fill(0.0);
                    }
                }
            });
        });
    }
}
