use super::axis::Axis;
use crate::proto::caffe::pooling_parameter::RoundMode;
use crate::testing::{Bench, assert_close, refusal};

/// Lanes, sizes of an image, sides of its windows with stride and pad, how they are counted.
type Windows = (usize, [usize; 2], [usize; 3], RoundMode);

/// Windows of all kinds for images in blocks.
pub(super) const WINDOWS: [Windows; 10] = [
    (16, [9, 11], [3, 2, 0], RoundMode::Ceil),
    (16, [9, 11], [3, 1, 1], RoundMode::Ceil),
    (8, [10, 7], [2, 2, 0], RoundMode::Ceil),
    (4, [13, 30], [5, 3, 2], RoundMode::Ceil),
    (2, [7, 70], [3, 2, 1], RoundMode::Floor),
    (16, [12, 12], [5, 4, 0], RoundMode::Floor),
    (16, [4, 4], [4, 4, 3], RoundMode::Ceil),
    (4, [5, 6], [7, 1, 3], RoundMode::Ceil),
    (8, [6, 6], [6, 1, 0], RoundMode::Ceil),
    (4, [9, 9], [2, 3, 0], RoundMode::Floor),
];

/// Their lanes and axes.
pub(super) fn shape((lanes, sizes, [kernel, stride, pad], round): Windows) -> (usize, [Axis; 2]) {
    (lanes, sizes.map(|size| Axis::new(size, kernel, stride, pad, round).expect("a valid window")))
}

/// A plane of each channel, side by side or one after another.
pub(super) fn turn<U: Copy + Default>(x: &[U], lanes: usize, pixels: usize, forth: bool) -> Vec<U> {
    let mut to = vec![U::default(); x.len()];
    for i in 0..x.len() {
        let (block, channel, pixel) = (i / pixels / lanes, i / pixels % lanes, i % pixels);
        let at = (block * pixels + pixel) * lanes + channel;
        let (from, at) = if forth { (i, at) } else { (at, i) };
        to[at] = x[from];
    }
    to
}

fn layer(param: &str) -> String {
    format!("layer {{ name: 'p' type: 'Pooling' bottom: 'x' top: 'y' pooling_param {{ {param} }} }}")
}

fn run(param: &str, x: &[f64], dims: &[usize], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut b = Bench::<f64>::new(&layer(param), &[("x", dims, x)]).unwrap();
    b.forward();
    b.backward(&[("y", dy)]);
    (b.get("y"), b.grad("x"))
}

#[rustfmt::skip]
const X: [f64; 12] = [
    1.0, 5.0, 2.0, 0.0,
    3.0, 4.0, 2.0, 7.0,
    9.0, 8.0, 6.0, 6.0,
];

#[test]
fn largest_values_and_where_they_were() {
    // Windows of 2 by 2; the last row of windows has one row of the image.
    let (y, dx) = run("kernel_size: 2 stride: 2", &X, &[1, 1, 3, 4], &[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(y, [5.0, 7.0, 9.0, 6.0]);
    assert_eq!(dx, [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 3.0, 0.0, 4.0, 0.0]);
    // Overlapping windows: gradients meet in the 9.
    let (y, dx) = run("kernel_size: 3 stride: 1", &X, &[1, 1, 3, 4], &[1.0, 2.0]);
    assert_eq!(y, [9.0, 8.0]);
    assert_eq!((dx[8], dx[9], dx.iter().sum::<f64>()), (1.0, 2.0, 3.0));
}

#[test]
fn every_stride_and_pad_agrees_with_the_definition() {
    let (h, w) = (7usize, 9usize);
    let x: Vec<f64> = (0..2 * h * w).map(|i| ((i * 37 + 11) % 101) as f64 - 50.0).collect();
    for (k, s, p) in [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1), (4, 3, 2), (5, 1, 2), (2, 1, 0), (7, 7, 0)]
    {
        let n = |size: usize| {
            let n = (size + 2 * p - k).div_ceil(s) + 1;
            if p > 0 && (n - 1) * s >= size + p { n - 1 } else { n }
        };
        let (mut largest, mut mean) = (Vec::new(), Vec::new());
        for (c, a, b) in (0..2).flat_map(|c| (0..n(h)).flat_map(move |a| (0..n(w)).map(move |b| (c, a, b)))) {
            let span = |q: usize, size: usize| (q * s).saturating_sub(p)..(q * s + k - p).min(size);
            let len = |q: usize, size: usize| (q * s + k).min(size + 2 * p) - q * s;
            let values = span(a, h).flat_map(|i| span(b, w).map(move |j| (c * h + i) * w + j));
            let values: Vec<f64> = values.map(|i| x[i]).collect();
            largest.push(values.iter().copied().fold(f64::MIN, f64::max));
            mean.push(values.iter().sum::<f64>() / (len(a, h) * len(b, w)) as f64);
        }
        let param = format!("kernel_size: {k} stride: {s} pad: {p}");
        let dy = vec![1.0; mean.len()];
        let (y, dx) = run(&param, &x, &[1, 2, h, w], &dy);
        assert_close(&y, &largest, 0.0);
        assert_eq!(dx.iter().sum::<f64>(), dy.len() as f64);
        let (y, _) = run(&format!("{param} pool: AVE"), &x, &[1, 2, h, w], &dy);
        assert_close(&y, &mean, 1e-12);
    }
}

#[test]
fn means_count_the_pad() {
    let x = [1.0, 2.0, 3.0, 4.0];
    let (y, dx) =
        run("pool: AVE kernel_size: 2 stride: 2 pad: 1", &x, &[1, 1, 2, 2], &[4.0, 8.0, 12.0, 16.0]);
    assert_close(&y, &[0.25, 0.5, 0.75, 1.0], 1e-12);
    assert_close(&dx, &[1.0, 2.0, 3.0, 4.0], 1e-12);
    let (y, dx) = run("pool: AVE global_pooling: true", &x, &[1, 1, 2, 2], &[4.0]);
    assert_eq!((y, dx), (vec![2.5], vec![1.0; 4]));
}

#[test]
fn the_mask_is_a_second_top() {
    let text = layer("kernel_size: 2 stride: 2").replace("top: 'y'", "top: 'y' top: 'mask'");
    let mut b = Bench::<f32>::new(&text, &[("x", &[1, 1, 3, 4], &X)]).unwrap();
    b.forward();
    assert_eq!(b.get("mask"), [1.0, 7.0, 8.0, 10.0]);
    assert_eq!(b.shape("mask"), b.shape("y"));
    b.backward(&[("y", &[1.0; 4]), ("mask", &[100.0; 4])]);
    assert_eq!(b.grad("x").iter().sum::<f64>(), 4.0);
    let e = refusal(&text.replace("stride", "pool: AVE stride"), &[("x", &[1, 1, 3, 4], &X)]);
    assert_eq!(e.field(), Some("top"), "{e}");
}

#[test]
fn not_a_number_is_not_hidden() {
    for at in 0..4 {
        for param in ["kernel_size: 2 stride: 2", "kernel_size: 2", "kernel_size: 2 stride: 3"] {
            let mut x = [1.0, 2.0, 3.0, 4.0];
            x[at] = f64::NAN;
            let (y, _) = run(param, &x, &[1, 1, 2, 2], &[1.0]);
            assert!(y[0].is_nan(), "{param} {at}");
        }
    }
    let (y, _) = run("kernel_size: 2", &[f64::NEG_INFINITY; 4], &[1, 1, 2, 2], &[1.0]);
    assert_eq!(y, [f64::NEG_INFINITY]);
}

#[test]
fn stochastic_draws_in_training_and_expects_in_testing() {
    let text = layer("pool: STOCHASTIC kernel_size: 2 stride: 2");
    let planes = 4000;
    let x = [1.0, 0.0, 3.0, 0.0].repeat(planes);
    let feed: (&str, &[usize], &[f64]) = ("x", &[1, planes, 2, 2], &x);
    let mut b = Bench::<f64>::new(&format!("state {{ phase: TRAIN }} {text}"), &[feed]).unwrap();
    b.forward();
    let y = b.get("y");
    let threes = y.iter().filter(|&&y| y == 3.0).count();
    assert_eq!(threes + y.iter().filter(|&&y| y == 1.0).count(), planes);
    // 3 is drawn with probability 3/4: 3000 times, give or take 27.
    assert!((2850..3150).contains(&threes), "{threes}");
    b.backward(&[("y", &vec![2.0; planes])]);
    for (y, dx) in y.iter().zip(b.grad("x").chunks(4)) {
        assert_eq!(dx, if *y == 3.0 { [0.0, 0.0, 2.0, 0.0] } else { [2.0, 0.0, 0.0, 0.0] });
    }

    let mut b = Bench::<f64>::new(&format!("state {{ phase: TEST }} {text}"), &[feed]).unwrap();
    b.forward();
    assert_eq!(b.get("y"), vec![2.5; planes]);
    b.backward(&[("y", &vec![1.0; planes])]);
    // (2x − 2.5) / 4
    assert_close(&b.grad("x")[..4], &[-0.125, -0.625, 0.875, -0.625], 1e-12);
}

#[test]
fn bad_parameters_are_refused() {
    let x: (&str, &[usize], &[f64]) = ("x", &[1, 1, 3, 4], &X);
    for (param, field, words) in [
        ("", "kernel_size", "no size"),
        ("kernel_size: 0", "kernel_size", "of no size"),
        ("kernel_size: 2 kernel_h: 2", "kernel_size", "one value and another"),
        ("kernel_h: 2", "kernel_size", "only one"),
        ("kernel_size: 2 pad: 1 pad_w: 1", "pad", "one value and another"),
        ("kernel_size: 2 stride_h: 1", "stride", "only one"),
        ("kernel_size: 2 stride: 0", "stride", "stride of 0"),
        ("kernel_size: 2 pad: 2", "pad", "pad alone"),
        ("kernel_size: 2 global_pooling: true", "kernel_size", "global"),
        ("global_pooling: true pad: 1", "pad", "global"),
        ("global_pooling: true stride: 2", "stride", "global"),
        ("kernel_size: 2 pad: 1 pool: STOCHASTIC", "pad", "no pad"),
        ("kernel_size: 9 round_mode: FLOOR", "kernel_size", "larger"),
        ("kernel_size: 1 stride: 2", "kernel_size", "outside"),
    ] {
        let e = refusal(&layer(param), &[x]);
        assert_eq!(e.field(), Some(format!("pooling_param.{field}").as_str()), "{e}");
        assert!(e.message().contains(words), "{e}");
    }
    let e = refusal(&layer("kernel_size: 2"), &[("x", &[3, 4], &X)]);
    assert!(e.message().contains("images"), "{e}");
}
