//! Rates of the matrix product and of convolutions; criterion's "elements" are floating-point operations, so
//! Gelem/s reads GFLOP/s.
//!
//! One thread unless `RAYON_NUM_THREADS` says otherwise: `cargo bench --bench kernels -- lenet`.

use cortado::math::{Convolution, Ending, Geometry, Transpose, gemm};
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
        ("cifar conv1", [20, 1, 3, 32, 32, 5, 2, 1]),
        ("cifar conv2", [20, 1, 32, 32, 16, 5, 2, 1]),
        ("cifar conv3", [20, 1, 32, 64, 8, 5, 2, 1]),
        ("squeezenet expand", [4, 1, 16, 64, 56, 3, 1, 1]),
        ("depthwise 3x3", [4, 128, 128, 128, 56, 3, 1, 1]),
        ("depthwise 3x3 small", [4, 512, 512, 512, 8, 3, 1, 1]),
        ("depthwise 3x3 stride 2", [4, 128, 128, 128, 32, 3, 1, 2]),
    ] {
        convolution(&mut group, name, sizes);
    }
}

fn convolution(group: &mut BenchmarkGroup<WallTime>, name: &str, sizes: [usize; 8]) {
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
    let mut x = numbers(batch * channels * input * input);
    let mut w = numbers(num_output * channels / groups * kernel * kernel);
    let mut y = numbers(batch * num_output * output);
    group.throughput(Throughput::Elements(2 * plan.multiply_adds() as u64));
    group.bench_function(format!("{name} forward"), |b| {
        b.iter(|| plan.forward(&x, &w, &Ending::none(), &mut y))
    });
    group.bench_function(format!("{name} data"), |b| b.iter(|| plan.backward_data(&w, &y, &mut x)));
    // Gradients would add up to infinity otherwise.
    y.iter_mut().for_each(|y| *y *= 1e-6);
    group.bench_function(format!("{name} weights"), |b| b.iter(|| plan.backward_weights(&x, &y, &mut w)));
}
