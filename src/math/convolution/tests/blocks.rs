//! Images whose channels lie in blocks.

use super::*;

/// Every way in which the images of a convolution may lie, planes alone first.
pub(super) fn layouts_of<T: Real>(plan: &Convolution) -> impl Iterator<Item = Layouts> {
    let layout = |i: usize| if i.is_multiple_of(2) { Layout::Planes } else { Layout::Blocks };
    let all = (0..8).map(move |i| Layouts { bottom: layout(i), other: layout(i / 2), top: layout(i / 4) });
    let (g, lanes) = (plan.geometry(), simd::kernels::<T>(plan.isa).lanes());
    let [bottom, top] = [g.channels, g.num_output].map(|n| n.is_multiple_of(lanes));
    let fits = move |layout: Layout, whole: bool| whole || layout == Layout::Planes;
    let takes = plan.takes_blocks::<T>();
    all.filter(move |l| {
        fits(l.bottom, bottom && takes) && fits(l.top, top && takes) && fits(l.other, top && takes)
    })
}

/// A batch of planes as `layout` has it or, if not `forth`, the way back.
pub(super) fn laid<T: Real>(
    x: &[T],
    channels: usize,
    pixels: usize,
    lanes: usize,
    layout: Layout,
    forth: bool,
) -> Vec<T> {
    let mut to = x.to_vec();
    if layout == Layout::Blocks {
        for i in 0..x.len() {
            let (image, channel, pixel) = (i / pixels / channels, i / pixels % channels, i % pixels);
            let block = image * channels / lanes + channel / lanes;
            let j = (block * pixels + pixel) * lanes + channel % lanes;
            let (from, at) = if forth { (i, j) } else { (j, i) };
            to[at] = x[from];
        }
    }
    to
}

#[test]
fn channels_that_nearly_fill_blocks_agree_with_the_definition() {
    for g in [
        square(2, 1, 24, 64, &[13, 11], 1, 0, 1, 1),
        square(2, 1, 64, 24, &[13, 11], 1, 0, 1, 1),
        square(2, 1, 24, 32, &[13, 11], 5, 2, 1, 1),
        square(2, 1, 32, 44, &[13, 12], 3, 1, 1, 1),
        square(2, 1, 46, 12, &[13, 12], 1, 0, 2, 1),
    ] {
        for isa in isas() {
            let mut plan = Convolution::on(isa, &g).expect("a valid geometry");
            if let Some(padded) = &mut plan.padded {
                let rest = &mut padded.rest;
                rest.winograd = Winograd::forced(&rest.geometry, &rest.output).unwrap_or_default();
            }
            if plan.takes_blocks::<f32>() && plan.takes_blocks::<f64>() {
                check_plan::<f32>(isa, &plan);
                check_plan::<f64>(isa, &plan);
            }
        }
        let plan = Convolution::new(&g).expect("a valid geometry");
        assert!(plan.takes_blocks::<f32>(), "{g:?}");
    }
}

#[test]
fn few_channels_to_blocks_agree_with_the_definition() {
    for g in [
        square(2, 1, 3, 32, &[23, 39], 7, 3, 2, 1),
        square(2, 1, 3, 96, &[27, 31], 11, 0, 4, 1),
        square(3, 1, 1, 48, &[9, 13], 3, 1, 1, 1),
        square(1, 1, 5, 16, &[10, 22], 3, 2, 1, 2),
        // Several bands.
        square(1, 1, 3, 32, &[70, 66], 5, 2, 1, 1),
    ] {
        check_everywhere(&g, |plan| {
            assert!(plan.takes_blocks::<f32>() && plan.takes_blocks::<f64>() && plan.narrow.is_some());
        });
    }
}

#[test]
fn images_in_blocks_agree_with_the_definition() {
    for g in [
        square(1, 1, 32, 64, &[13, 11], 1, 0, 1, 1),
        square(5, 1, 16, 32, &[5, 3], 1, 0, 1, 1),
        square(2, 1, 48, 32, &[7, 9], 1, 0, 2, 1),
        // Back, too: several tiles of weights, several sums of them, images in parts and together.
        square(2, 1, 64, 32, &[8, 9], 1, 0, 2, 1),
        square(7, 1, 288, 96, &[5, 7], 1, 0, 1, 1),
        square(3, 1, 32, 64, &[20, 21], 1, 0, 1, 1),
        square(2, 1, 32, 32, &[9, 8], 3, 1, 1, 1),
        square(2, 1, 64, 32, &[7, 11], 5, 2, 1, 1),
        // Panels of one vector, at the end and alone.
        square(2, 1, 48, 16, &[9, 13], 1, 0, 1, 1),
        square(2, 1, 16, 112, &[6, 7], 1, 0, 2, 1),
        square(1, 1, 512, 272, &[6, 5], 1, 0, 1, 1),
        square(2, 1, 16, 48, &[9, 13], 3, 1, 1, 1),
        square(2, 1, 48, 16, &[31, 37], 3, 1, 1, 1),
        square(1, 1, 112, 208, &[9, 8], 5, 2, 1, 1),
        // Sums in several blocks, large weights, large images.
        square(2, 1, 528, 32, &[9, 9], 1, 0, 1, 1),
        square(2, 1, 512, 288, &[6, 5], 1, 0, 1, 1),
        square(1, 1, 16, 32, &[60, 61], 1, 0, 1, 1),
        // A gradient that is written past the caches.
        square(1, 1, 64, 16, &[130, 141], 1, 0, 2, 1),
        // Winograd's way: few tiles, many, and many channels.
        square(1, 1, 32, 64, &[13, 14], 3, 1, 1, 1),
        square(3, 1, 16, 32, &[7, 6], 3, 1, 1, 1),
        square(2, 1, 16, 32, &[9, 11], 5, 2, 1, 1),
        square(1, 1, 16, 32, &[9, 11], 2, 1, 1, 1),
        square(1, 1, 16, 32, &[9, 11], 4, 0, 1, 1),
        square(1, 1, 16, 32, &[38, 37], 3, 0, 1, 1),
        square(3, 1, 16, 96, &[17, 17], 3, 1, 1, 1),
        square(1, 1, 256, 32, &[8, 8], 3, 1, 1, 1),
    ] {
        check_everywhere(&g, |plan| {
            plan.winograd = Winograd::forced(&g, plan.output()).unwrap_or_default();
            assert!(plan.takes_blocks::<f32>() && plan.takes_blocks::<f64>(), "{g:?}");
        });
    }
    for g in [
        square(1, 1, 20, 64, &[13, 11], 1, 0, 1, 1),
        square(1, 2, 64, 64, &[13, 11], 1, 0, 1, 1),
        square(1, 1, 64, 64, &[13, 11], 1, 1, 1, 1),
        square(1, 1, 64, 64, &[13, 11], 3, 1, 2, 1),
        square(1, 64, 64, 128, &[13, 11], 3, 1, 1, 1),
    ] {
        let plan = Convolution::on(Isa::detect(), &g).expect("a valid geometry");
        assert!(!plan.takes_blocks::<f32>() || simd::kernels::<f32>(plan.isa).lanes() < 16, "{g:?}");
    }
}

#[test]
fn depthwise_images_in_blocks_agree_with_the_definition() {
    for g in [
        square(2, 32, 32, 32, &[13, 11], 3, 1, 1, 1),
        square(2, 16, 16, 16, &[12, 9], 3, 1, 2, 1),
        square(1, 16, 16, 16, &[16, 17], 5, 2, 1, 1),
        square(2, 32, 32, 32, &[10, 23], 3, 2, 2, 2),
        square(1, 16, 16, 16, &[14, 13], 2, 0, 3, 1),
        // Pixels of the image that no window reads, and windows that read none.
        square(1, 16, 16, 16, &[9, 8], 1, 0, 2, 1),
        square(1, 16, 16, 16, &[3, 2], 3, 3, 1, 1),
        square(1, 16, 16, 16, &[19], 3, 1, 1, 1),
        square(0, 16, 16, 16, &[5, 6], 3, 1, 1, 1),
    ] {
        check_everywhere(&g, |plan| {
            assert!(plan.takes_blocks::<f32>() && plan.takes_blocks::<f64>(), "{g:?}");
        });
    }
}

/// The gradient of weights of images in blocks, and what it should be: by the definition, or as images in planes have it.
fn check_weights<T: Real>(plan: &Convolution, is_small: bool) {
    let g = plan.geometry();
    let (lanes, pixels) = (simd::kernels::<T>(plan.isa).lanes(), plan.output().iter().product());
    let (x, dy) = (noise::<T>(plan.bottom_len(), 1), noise::<T>(plan.top_len(), 4));
    let mut want = vec![T::from_f64(0.25); plan.weights_len()];
    if is_small {
        let mut wide = vec![0.25; want.len()];
        each_product(g, |y, i, j| wide[j] += dy[y].as_f64() * x[i].as_f64());
        want.iter_mut().zip(&wide).for_each(|(to, &x)| *to = T::from_f64(x));
    } else {
        plan.backward_weights(&x, &dy, &mut want);
    }
    let x = laid(&x, g.channels, g.input.iter().product(), lanes, Layout::Blocks, true);
    let dy = laid(&dy, g.num_output, pixels, lanes, Layout::Blocks, true);
    let tiles = Tiles::suited(g, plan.output()).expect("a kernel of 2 to 5");
    let kernels = simd::kernels::<T>(plan.isa);
    let weights = || {
        let mut dw = vec![T::from_f64(0.25); want.len()];
        tiles.weights_blocks(kernels, [g.channels, g.num_output], &x, &dy, &mut dw);
        dw
    };
    let what = format!("{:?} {} weights in blocks {g:?}", plan.isa, T::NAME);
    assert_near(&weights(), &want, g.batch * pixels, &what);
    assert_same_for_any_pool(weights);
}

#[test]
fn weights_of_images_in_blocks_agree_with_the_definition() {
    for g in [
        square(1, 1, 16, 32, &[13, 14], 3, 1, 1, 1),
        square(3, 1, 48, 16, &[7, 6], 3, 0, 1, 1),
        square(2, 1, 16, 80, &[9, 11], 5, 2, 1, 1),
        square(1, 1, 32, 32, &[9, 11], 2, 1, 1, 1),
        square(2, 1, 16, 16, &[10, 8], 4, 2, 1, 1),
        square(1, 1, 16, 32, &[3, 2], 3, 1, 1, 1),
        // Several groups of tiles, products longer than one goes.
        square(2, 1, 16, 32, &[40, 50], 3, 1, 1, 1),
        // Many sums, few tiles.
        square(2, 1, 112, 96, &[5, 7], 3, 1, 1, 1),
        square(0, 1, 16, 32, &[5, 7], 3, 1, 1, 1),
    ] {
        for isa in isas() {
            let plan = Convolution::on(isa, &g).expect("a valid geometry");
            check_weights::<f32>(&plan, true);
            check_weights::<f64>(&plan, true);
        }
    }
    // Partial sums; many sums and many tiles, in one group and in several.
    for g in [
        square(2, 1, 64, 64, &[59, 83], 3, 1, 1, 1),
        square(1, 1, 112, 96, &[46, 47], 3, 1, 1, 1),
        square(2, 1, 112, 96, &[46, 70], 3, 1, 1, 1),
    ] {
        let plan = Convolution::new(&g).expect("a valid geometry");
        check_weights::<f32>(&plan, false);
    }
}

#[test]
fn weights_of_images_turned_into_blocks_agree_with_the_definition() {
    let turn = |plan: &mut Convolution| {
        let turned = Tiles::suited(plan.geometry(), plan.output());
        plan.winograd = Winograd { turned, ..Winograd::default() };
    };
    for g in [
        square(7, 1, 16, 32, &[5, 6], 3, 1, 1, 1),
        square(3, 2, 32, 64, &[12, 11], 5, 2, 1, 1),
        // Vectors that are not whole.
        square(3, 1, 20, 50, &[7, 6], 5, 0, 1, 1),
        square(2, 2, 6, 70, &[9, 7], 3, 1, 1, 1),
        square(2, 2, 16, 32, &[6, 7], 3, 1, 1, 1),
        // An image of several groups of tiles.
        square(1, 1, 16, 16, &[54, 53], 3, 0, 1, 1),
        // Many sums, few tiles.
        square(2, 1, 101, 98, &[5, 7], 3, 1, 1, 1),
    ] {
        check_everywhere(&g, turn);
    }
    // Many sums, many tiles: beside another way.
    let g = square(3, 1, 101, 93, &[30, 31], 3, 1, 1, 1);
    let mut plan = Convolution::new(&g).expect("a valid geometry");
    turn(&mut plan);
    let (x, dy) = (noise::<f32>(plan.bottom_len(), 1), noise::<f32>(plan.top_len(), 4));
    let [mut dw, mut want] = [(); 2].map(|()| vec![0.25; plan.weights_len()]);
    plan.backward_weights(&x, &dy, &mut dw);
    plan.winograd = Winograd::default();
    plan.backward_weights(&x, &dy, &mut want);
    assert_near(&dw, &want, 3 * 30 * 31, "many sums");
    let chosen = |g: Geometry| Convolution::new(&g).expect("a valid geometry").winograd.turned.is_some();
    assert!(chosen(square(100, 1, 32, 32, &[16, 16], 5, 2, 1, 1)));
    assert!(!chosen(square(1, 1, 512, 512, &[7, 7], 3, 1, 1, 1)));
}

#[test]
fn small_images_turned_into_blocks_agree_with_the_definition() {
    for g in [
        square(35, 1, 16, 32, &[5, 6], 3, 1, 1, 1),
        square(9, 1, 32, 32, &[12, 11], 5, 2, 1, 1),
        square(33, 1, 32, 64, &[6, 7], 4, 0, 1, 1),
        square(9, 1, 32, 96, &[13, 11], 2, 1, 1, 1),
    ] {
        let tiles = Tiles::suited(&g, &g.output().expect("a valid geometry")).expect("a kernel of 2 to 5");
        check_everywhere(&g, |plan| {
            plan.winograd = Winograd { small: [Some(tiles), Some(tiles.turned())], ..Winograd::default() };
            let kernels = simd::kernels::<f32>(plan.isa);
            assert!(plan.small(kernels, 0).is_some() && plan.small(kernels, 1).is_some());
        });
    }
    let chosen = |g: Geometry| {
        Convolution::on(Isa::detect(), &g).expect("a valid geometry").winograd.small.map(|s| s.is_some())
    };
    assert_eq!(chosen(square(100, 1, 32, 32, &[16, 16], 5, 2, 1, 1)), [true; 2]);
    assert_eq!(chosen(square(100, 2, 32, 32, &[16, 16], 5, 2, 1, 1)), [false; 2]);
}
