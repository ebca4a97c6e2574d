mod blocks;

use super::*;
use crate::error::Kind;
use crate::math::gemm::tests::{assert_near, assert_same_for_any_pool, isas, noise};
use blocks::{laid, layouts_of};
use direct::Direct;

/// A geometry with the same number on each of `axes` axes.
#[allow(clippy::too_many_arguments)]
fn square(
    batch: usize,
    groups: usize,
    channels: usize,
    num_output: usize,
    input: &[usize],
    kernel: usize,
    pad: usize,
    stride: usize,
    dilation: usize,
) -> Geometry {
    let all = |x: usize| vec![x; input.len()];
    Geometry {
        batch,
        groups,
        channels,
        num_output,
        input: input.to_vec(),
        kernel: all(kernel),
        pad: all(pad),
        stride: all(stride),
        dilation: all(dilation),
    }
}

/// Calls `f(y, x, w)` with the index of every product of the definition.
fn each_product(g: &Geometry, mut f: impl FnMut(usize, usize, usize)) {
    let output = g.output().expect("a valid geometry");
    let count = |n: &[usize]| n.iter().product::<usize>();
    let coordinates = |mut index: usize, sizes: &[usize]| {
        let mut all = vec![0; sizes.len()];
        for (c, &n) in all.iter_mut().zip(sizes).rev() {
            (*c, index) = (index % n, index / n);
        }
        all
    };
    let (channels, outputs) = (g.channels / g.groups, g.num_output / g.groups);
    let (pixels, taps, inner) = (count(&output), count(&g.kernel), count(&g.input));
    // Where the tap of each pixel reads in its plane; taps in the padding are left out.
    let mut reads = Vec::new();
    for pixel in 0..pixels {
        let at = coordinates(pixel, &output);
        for tap in 0..taps {
            let tap_at = coordinates(tap, &g.kernel);
            let mut position = Some(0);
            for i in 0..at.len() {
                let x = (at[i] * g.stride[i] + tap_at[i] * g.dilation[i]).checked_sub(g.pad[i]);
                let x = x.filter(|&x| x < g.input[i]);
                position = position.zip(x).map(|(p, x)| p * g.input[i] + x);
            }
            reads.extend(position.map(|position| (pixel, tap, position)));
        }
    }
    for sample in 0..g.batch {
        for output_channel in 0..g.num_output {
            for channel in 0..channels {
                let from = output_channel / outputs * channels + channel;
                let y = (sample * g.num_output + output_channel) * pixels;
                let x = (sample * g.channels + from) * inner;
                let w = (output_channel * channels + channel) * taps;
                for &(pixel, tap, position) in &reads {
                    f(y + pixel, x + position, w + tap);
                }
            }
        }
    }
}

fn check<T: Real>(isa: Isa, g: &Geometry) {
    check_plan::<T>(isa, &Convolution::on(isa, g).expect("a valid geometry"));
}

/// Checks the plan that `change` makes, on every instruction set and in both number types.
fn check_everywhere(g: &Geometry, change: impl Fn(&mut Convolution)) {
    for isa in isas() {
        let mut plan = Convolution::on(isa, g).expect("a valid geometry");
        change(&mut plan);
        check_plan::<f32>(isa, &plan);
        check_plan::<f64>(isa, &plan);
    }
}

fn check_plan<T: Real>(isa: Isa, plan: &Convolution) {
    let g = plan.geometry();
    let what = |pass: &str| format!("{isa:?} {} {pass} {g:?}", T::NAME);
    let x = noise::<T>(plan.bottom_len(), 1);
    let w = noise::<T>(plan.weights_len(), 2);
    let b = noise::<T>(g.num_output, 3);
    let dy = noise::<T>(plan.top_len(), 4);
    let wide = |v: &[T]| v.iter().map(|&x| x.as_f64()).collect::<Vec<f64>>();
    let (x64, w64, dy64) = (wide(&x), wide(&w), wide(&dy));
    let pixels: usize = plan.output().iter().product();
    let mut want = vec![0.0; dy.len()];
    let (mut want_dx, mut want_dw) = (vec![0.0; x.len()], vec![0.25; w.len()]);
    each_product(g, |y, i, j| {
        want[y] += x64[i] * w64[j];
        want_dx[i] += dy64[y] * w64[j];
        want_dw[j] += dy64[y] * x64[i];
    });
    let narrow = |v: &[f64]| v.iter().map(|&x| T::from_f64(x)).collect::<Vec<T>>();

    let forward = |end: &Ending<T>, want: &[f64], pass: &str| {
        let mut y = vec![T::nan(); dy.len()];
        plan.forward(&x, &w, end, &mut y);
        assert_near(&y, &narrow(want), plan.depth(), &what(pass));
        let lanes = simd::kernels::<T>(isa).lanes();
        // Planes alone, blocks alone, and with numbers to add all mixtures.
        let step = if end.other.is_some() || plan.padded.is_some() { 1 } else { 7 };
        let layouts = || layouts_of::<T>(plan).step_by(step);
        for layouts in layouts().filter(|l| plan.prepared_len::<T>(*l) > 0) {
            let mut prepared = vec![T::nan(); plan.prepared_len::<T>(layouts)];
            plan.prepare(&w, layouts, &mut prepared);
            let x = laid(&x, g.channels, g.input.iter().product(), lanes, layouts.bottom, true);
            let other = end.other.map(|x| laid(x, g.num_output, pixels, lanes, layouts.other, true));
            y.fill(T::nan());
            let end = Ending { other: other.as_deref(), ..*end };
            plan.forward_prepared(&x, &prepared, layouts, &end, &mut y);
            let y = laid(&y, g.num_output, pixels, lanes, layouts.top, false);
            assert_near(&y, &narrow(want), plan.depth(), &what(&format!("{pass}, prepared, {layouts:?}")));
        }
        for layouts in layouts() {
            let x = laid(&x, g.channels, g.input.iter().product(), lanes, layouts.bottom, true);
            let other = end.other.map(|x| laid(x, g.num_output, pixels, lanes, layouts.other, true));
            let mut y = vec![T::nan(); dy.len()];
            let end = Ending { other: other.as_deref(), ..*end };
            plan.forward_laid(&x, &w, layouts, &end, &mut y);
            let y = laid(&y, g.num_output, pixels, lanes, layouts.top, false);
            assert_near(&y, &narrow(want), plan.depth(), &what(&format!("{pass}, laid, {layouts:?}")));
        }
    };
    forward(&Ending::none(), &want, "forward");
    let channel = |i: usize| i / pixels % g.num_output;
    want.iter_mut().enumerate().for_each(|(i, y)| *y += b[channel(i)].as_f64());
    forward(&Ending::bias(Some(&b)), &want, "forward with bias");

    let scale = noise::<T>(g.num_output, 5);
    for (i, y) in want.iter_mut().enumerate() {
        let (scale, bias) = (scale[channel(i)].as_f64(), b[channel(i)].as_f64());
        *y = scale * (*y - bias) + bias;
    }
    let relu = |y: &[f64]| y.iter().map(|y| y.max(0.0)).collect::<Vec<_>>();
    let end = Ending { scale: Some(&scale), bias: Some(&b), other: None, floor: T::zero() };
    forward(&end, &relu(&want), "forward with scale, bias and ReLU");
    let other = noise::<T>(dy.len(), 6);
    want.iter_mut().zip(&other).for_each(|(y, x)| *y += x.as_f64());
    forward(&Ending { other: Some(&other), ..end }, &relu(&want), "forward with all that and other numbers");

    let lanes = simd::kernels::<T>(isa).lanes();
    for layouts in layouts_of::<T>(plan).filter(|l| l.other == Layout::Planes) {
        let what = |pass: &str| what(&format!("backward {pass}, {layouts:?}"));
        let inner = g.input.iter().product();
        let x = laid(&x, g.channels, inner, lanes, layouts.bottom, true);
        let dy = laid(&dy, g.num_output, pixels, lanes, layouts.top, true);
        let mut dx = vec![T::nan(); x.len()];
        plan.backward_data_laid(&w, &dy, layouts, &mut dx);
        let dx = laid(&dx, g.channels, inner, lanes, layouts.bottom, false);
        assert_near(&dx, &narrow(&want_dx), plan.depth() * g.num_output, &what("data"));

        let mut dw = vec![T::from_f64(0.25); w.len()];
        plan.backward_weights_laid(&x, &dy, layouts, &mut dw);
        assert_near(&dw, &narrow(&want_dw), g.batch * pixels, &what("weights"));

        let mut db = vec![T::from_f64(0.5); g.num_output];
        plan.backward_bias_laid(&dy, layouts.top, &mut db);
        let mut want = vec![0.5; g.num_output];
        dy64.iter().enumerate().for_each(|(i, &dy)| want[i / pixels % g.num_output] += dy);
        let want_db = narrow(&want);
        assert_near(&db, &want_db, g.batch * pixels, &what("bias"));

        let (mut dw, mut db) = (vec![T::from_f64(0.25); w.len()], vec![T::from_f64(0.5); g.num_output]);
        plan.backward_params_laid(&x, &dy, layouts, &mut dw, &mut db);
        assert_near(&dw, &narrow(&want_dw), g.batch * pixels, &what("weights, with that of the bias"));
        assert_near(&db, &want_db, g.batch * pixels, &what("bias, with that of the weights"));
    }
}

fn geometries() -> Vec<Geometry> {
    let mut all = vec![
        // 1 x 1, with and without stride
        square(3, 1, 5, 7, &[4, 6], 1, 0, 1, 1),
        square(2, 2, 6, 4, &[7, 7], 1, 0, 2, 1),
        square(2, 1, 9, 33, &[5, 5], 1, 1, 1, 1),
        square(2, 2, 18, 26, &[12, 13], 1, 0, 1, 1),
        square(2, 1, 6, 70, &[25], 1, 0, 3, 1),
        square(9, 1, 530, 60, &[14, 14], 1, 0, 2, 1),
        // LeNet, smaller
        square(3, 1, 1, 20, &[14, 14], 5, 0, 1, 1),
        square(5, 1, 20, 50, &[12, 12], 5, 0, 1, 1),
        square(2, 1, 9, 10, &[7, 7], 3, 1, 1, 1),
        square(2, 1, 16, 3, &[13, 13], 3, 1, 1, 1),
        square(7, 1, 8, 17, &[3, 3], 3, 1, 1, 1),
        square(2, 2, 16, 20, &[8, 9], 5, 2, 1, 1),
        square(2, 1, 3, 12, &[23, 23], 7, 3, 2, 1),
        square(1, 1, 3, 9, &[27, 27], 11, 0, 4, 1),
        square(2, 1, 4, 6, &[11, 10], 3, 2, 1, 2),
        square(2, 1, 8, 6, &[9, 9], 3, 2, 1, 2),
        square(2, 1, 4, 6, &[11, 10], 3, 3, 2, 3),
        // more padding than window
        square(1, 1, 8, 3, &[4, 4], 2, 2, 1, 1),
        // a window of the whole image
        square(9, 1, 4, 5, &[6, 6], 6, 0, 1, 1),
        // depthwise, with and without multiplier
        square(2, 6, 6, 6, &[9, 9], 3, 1, 1, 1),
        square(2, 4, 4, 8, &[10, 9], 3, 1, 2, 1),
        square(2, 3, 3, 3, &[20, 21], 3, 0, 1, 2),
        square(2, 3, 3, 3, &[11, 16], 3, 1, 3, 1),
        square(2, 2, 2, 2, &[7, 18], 2, 1, 4, 1),
        square(3, 5, 5, 5, &[4, 4], 5, 2, 1, 1),
        square(2, 3, 3, 6, &[33, 40], 5, 2, 2, 1),
        square(2, 3, 3, 3, &[19], 3, 1, 2, 1),
        square(2, 3, 3, 6, &[5, 4, 6], 3, 1, 1, 1),
        // 0, 1 and 3 axes
        square(3, 1, 4, 5, &[], 1, 0, 1, 1),
        square(2, 1, 3, 4, &[50], 5, 2, 1, 1),
        square(2, 1, 8, 4, &[17], 3, 1, 2, 1),
        square(2, 1, 2, 3, &[5, 6, 7], 3, 1, 1, 1),
        square(1, 2, 4, 6, &[6, 5, 7], 3, 1, 2, 1),
        square(0, 1, 2, 3, &[5, 5], 3, 1, 1, 1),
    ];
    all.push(Geometry {
        batch: 2,
        groups: 1,
        channels: 3,
        num_output: 5,
        input: vec![9, 14],
        kernel: vec![1, 7],
        pad: vec![0, 3],
        stride: vec![2, 1],
        dilation: vec![1, 2],
    });
    all
}

#[test]
fn every_pass_agrees_with_the_definition() {
    for g in geometries() {
        check_everywhere(&g, |_| ());
    }
}

#[test]
fn tiles_agree_with_the_definition() {
    for g in [
        square(1, 1, 1, 1, &[4, 4], 3, 0, 1, 1),
        square(2, 1, 3, 20, &[9, 14], 3, 1, 1, 1),
        square(3, 2, 8, 34, &[13, 13], 3, 1, 1, 1),
        square(40, 1, 5, 3, &[7, 5], 3, 2, 1, 1),
        square(9, 1, 20, 18, &[12, 12], 5, 0, 1, 1),
        square(2, 2, 4, 6, &[9, 8], 5, 2, 1, 1),
        square(3, 1, 5, 16, &[8, 11], 4, 1, 1, 1),
        square(3, 1, 17, 5, &[8, 11], 2, 1, 1, 1),
        square(1, 1, 6, 5, &[70, 66], 3, 1, 1, 1),
    ] {
        check_everywhere(&g, |plan| {
            plan.winograd = Winograd::forced(&g, plan.output()).expect("kernels of 2 to 5");
        });
    }
    // Many channels: sums in several blocks.
    check::<f32>(Isa::detect(), &square(2, 1, 530, 40, &[6, 6], 3, 1, 1, 1));
    for g in [square(2, 1, 8, 8, &[9, 9], 3, 1, 2, 1), square(1, 1, 8, 8, &[9, 9], 7, 3, 1, 1)] {
        assert!(Tiles::suited(&g, &g.output().expect("a valid geometry")).is_none());
    }
}

#[test]
fn windows_read_in_place_agree_with_the_definition() {
    for g in [
        square(2, 1, 3, 33, &[9, 16], 3, 1, 1, 1),
        square(3, 2, 8, 30, &[13, 24], 5, 2, 1, 1),
        square(2, 1, 5, 50, &[12, 12], 5, 0, 1, 1),
        square(2, 1, 2, 150, &[8, 9], 3, 1, 1, 1),
        square(2, 1, 3, 20, &[23, 39], 7, 3, 2, 1),
        square(1, 1, 2, 15, &[27, 30], 11, 2, 4, 1),
        square(2, 1, 8, 8, &[10, 22], 3, 2, 1, 2),
        square(1, 1, 40, 17, &[50, 50], 3, 1, 1, 1),
        // Outputs in three, four and five vectors of the widest.
        square(2, 1, 3, 96, &[23, 27], 11, 0, 4, 1),
        square(2, 2, 6, 128, &[23, 27], 7, 3, 2, 1),
        square(1, 1, 2, 70, &[80, 20], 4, 1, 1, 1),
    ] {
        check_everywhere(&g, |plan| {
            plan.winograd = Winograd::default();
            let direct = Direct::suited(&g, plan.output());
            assert!(direct.is_some());
            plan.direct = InPlace { forward: direct, weights: direct };
            if let DataForm::Gather(gather) = &mut plan.data {
                let turned = Geometry { input: plan.output.clone(), ..g.clone() };
                let pad = (0..2).map(|i| (g.kernel[i] - 1) * g.dilation[i] - g.pad[i]).collect();
                gather.direct = Direct::suited(&Geometry { pad, ..turned }, &g.input);
            }
        });
    }
}

#[test]
fn pixels_side_by_side_agree_with_the_definition() {
    for g in [
        square(3, 1, 1, 20, &[28, 28], 5, 0, 1, 1),
        square(2, 1, 1, 6, &[70, 40], 3, 1, 1, 1),
        square(3, 2, 4, 12, &[19, 32], 3, 1, 1, 1),
        square(2, 1, 3, 9, &[31, 63], 7, 3, 2, 1),
        square(40, 1, 2, 3, &[20, 18], 3, 2, 1, 2),
        // An odd number of lines that end in half a vector of 16, or of 8.
        square(2, 1, 1, 20, &[19, 28], 5, 0, 1, 1),
        square(2, 1, 1, 6, &[13, 22], 3, 0, 1, 1),
    ] {
        check_everywhere(&g, |plan| {
            plan.winograd = Winograd::default();
            plan.direct.weights = Direct::suited(&g, plan.output());
            assert!(plan.shifted::<f32>().is_some(), "{:?} {g:?}", plan.isa);
        });
    }
    // Where outputs fill vectors and pixels do not, outputs lie side by side.
    let plan = Convolution::new(&square(3, 1, 3, 32, &[18, 18], 5, 2, 1, 1)).expect("a valid geometry");
    assert!(plan.shifted::<f32>().is_none());
}

#[test]
fn spread_gradients_agree_with_the_definition() {
    for g in geometries() {
        check_everywhere(&g, |plan| plan.data = DataForm::Spread(spread::planes(&g, &plan.windows)));
    }
    let chosen = |g| Convolution::new(&g).expect("a valid geometry").data;
    assert!(matches!(chosen(square(5, 1, 20, 50, &[12, 12], 5, 0, 1, 1)), DataForm::Spread(_)));
    assert!(matches!(chosen(square(2, 1, 3, 50, &[12, 12], 5, 0, 1, 1)), DataForm::Scatter));
}

#[test]
fn packed_windows_agree_with_the_definition() {
    for g in geometries().into_iter().filter(|g| g.groups == 1 || g.groups < g.channels) {
        for isa in isas() {
            let mut plan = Convolution::on(isa, &g).expect("a valid geometry");
            (plan.winograd, plan.direct) = (Winograd::default(), InPlace::default());
            if let DataForm::Gather(gather) = &mut plan.data {
                gather.direct = None;
            }
            check_plan::<f32>(isa, &plan);
        }
    }
}

#[test]
fn one_image_with_few_windows_agrees_with_the_definition() {
    for (g, is_prepared) in [
        (square(1, 1, 530, 70, &[7, 7], 1, 0, 1, 1), true),
        (square(1, 1, 70, 61, &[9, 9], 3, 1, 2, 1), true),
        (square(1, 1, 600, 65, &[13, 12], 1, 0, 2, 1), true),
        (square(1, 2, 140, 122, &[9, 9], 3, 1, 2, 1), true),
        (square(1, 1, 90, 50, &[11, 8], 3, 2, 1, 2), true),
        (square(1, 1, 64, 64, &[7, 7], 1, 0, 1, 1), false),
        (square(1, 1, 160, 75, &[14, 13], 3, 1, 1, 1), true),
        (square(2, 2, 130, 140, &[12, 14], 3, 1, 1, 1), true),
    ] {
        check_everywhere(&g, |plan| {
            assert_eq!(plan.prepared_len::<f32>(Layouts::default()) > 0, is_prepared, "{g:?}");
        });
    }
}

#[test]
fn large_images_are_cut_into_bands() {
    check::<f32>(Isa::detect(), &square(2, 1, 9, 8, &[60, 61], 3, 1, 1, 1));
    check::<f32>(Isa::detect(), &square(2, 1, 60, 16, &[30, 30], 3, 1, 1, 1));
    check::<f32>(Isa::detect(), &square(1, 1, 3, 8, &[65, 67], 7, 3, 2, 1));
}

#[test]
fn bits_do_not_depend_on_threads() {
    for g in [
        square(64, 1, 1, 20, &[28, 28], 5, 0, 1, 1),
        square(64, 1, 20, 50, &[12, 12], 5, 0, 1, 1),
        square(3, 2, 32, 64, &[28, 28], 3, 1, 1, 1),
        square(3, 1, 32, 64, &[28, 28], 3, 1, 2, 1),
        square(3, 32, 32, 32, &[28, 28], 3, 1, 1, 1),
        square(3, 32, 32, 64, &[28, 28], 3, 1, 2, 1),
        square(100, 1, 8, 32, &[16, 16], 5, 2, 1, 1),
        square(100, 1, 32, 32, &[16, 16], 5, 2, 1, 1),
        square(1, 1, 96, 112, &[14, 14], 3, 1, 1, 1),
        square(1, 1, 512, 256, &[14, 14], 1, 0, 2, 1),
        square(2, 1, 64, 64, &[28, 28], 1, 0, 1, 1),
        square(2, 1, 32, 64, &[28, 28], 3, 1, 1, 1),
    ] {
        let plan = Convolution::new(&g).expect("a valid geometry");
        let (x, w) = (noise::<f32>(plan.bottom_len(), 1), noise::<f32>(plan.weights_len(), 2));
        let dy = noise::<f32>(plan.top_len(), 3);
        assert_same_for_any_pool(|| {
            let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
            let mut db = vec![0.0; g.num_output];
            plan.forward(&x, &w, &Ending::bias(Some(&w[..g.num_output])), &mut y);
            plan.backward_data(&w, &dy, &mut dx);
            plan.backward_weights(&x, &dy, &mut dw);
            plan.backward_bias(&dy, &mut db);
            let mut again = Vec::new();
            for layouts in layouts_of::<f32>(&plan) {
                let (mut prepared, mut y) =
                    (vec![0.0; plan.prepared_len::<f32>(layouts)], vec![0.0; dy.len()]);
                if !prepared.is_empty() {
                    plan.prepare(&w, layouts, &mut prepared);
                    plan.forward_prepared(&x, &prepared, layouts, &Ending::none(), &mut y);
                }
                again.extend(y);
            }
            for layouts in layouts_of::<f32>(&plan).filter(|_| plan.takes_blocks::<f32>()) {
                let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
                plan.forward_laid(&x, &w, layouts, &Ending::none(), &mut y);
                plan.backward_data_laid(&w, &dy, layouts, &mut dx);
                plan.backward_weights_laid(&x, &dy, layouts, &mut dw);
                plan.backward_bias_laid(&dy, layouts.top, &mut db);
                plan.backward_params_laid(&x, &dy, layouts, &mut dw, &mut db);
                again.extend([y, dx, dw].concat());
            }
            (y, dx, dw, (db, again))
        });
    }
}

#[test]
fn impossible_sizes_are_errors() {
    let good = square(1, 2, 4, 6, &[5, 5], 3, 0, 1, 1);
    assert_eq!(good.output().expect("a valid geometry"), [3, 3]);
    let bad = |change: &dyn Fn(&mut Geometry)| {
        let mut g = good.clone();
        change(&mut g);
        Convolution::new(&g).map(|_| ()).expect_err("must be refused").kind()
    };
    assert_eq!(bad(&|g| g.kernel[1] = 6), Kind::Shape);
    assert_eq!(bad(&|g| g.dilation[0] = 3), Kind::Shape);
    assert_eq!(bad(&|g| g.kernel[0] = 0), Kind::Value);
    assert_eq!(bad(&|g| g.stride[0] = 0), Kind::Value);
    assert_eq!(bad(&|g| g.groups = 0), Kind::Value);
    assert_eq!(bad(&|g| g.groups = 4), Kind::Value);
    assert_eq!(bad(&|g| g.channels = 5), Kind::Value);
    assert_eq!(bad(&|g| g.pad = vec![0]), Kind::Value);
    assert_eq!(bad(&|g| g.kernel[0] = usize::MAX), Kind::Shape);
}
