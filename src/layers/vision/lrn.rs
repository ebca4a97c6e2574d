//! Local response normalisation.

#[path = "lrn_cuda.rs"]
pub(crate) mod cuda;

use crate::blob::{Element, Shape};
use crate::device::{Context, Memory};
use crate::error::{Error, Kind, Result};
use crate::layers::normalization::Channels;
use crate::layers::{Backward, DeviceCode, Forward, InBlocks, Layer, Reads, Setup};
use crate::math::{Images, Layouts, Real, for_each_piece, parallel, scratch, vectorised};
use crate::proto::caffe::LayerParameter;
use crate::proto::caffe::lrn_parameter::NormRegion;

/// y = x · s^(−β), where s = k + (α/n) · Σ x² over a window around the element.
///
/// ```prototxt
/// layer { name: "norm1" type: "LRN" bottom: "conv1" top: "norm1"
///   lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 } }
/// ```
///
/// Shapes: N×C×H×W; the top has the bottom's. `ACROSS_CHANNELS`: the window is `local_size` channels at the same place,
/// n = local_size. `WITHIN_CHANNEL`: it is a square of `local_size` in the same channel, n = local_size², and `k` is 1
/// whatever the prototxt says, as in Caffe. What the window has outside of the image is zero. Not in place.
///
/// Errors: a bottom without four axes, an even `local_size`.
///
/// Source: Caffe's LRN; Krizhevsky and others, "ImageNet classification with deep convolutional neural networks", 2012.
pub struct Lrn<T> {
    region: NormRegion,
    /// Elements of the window on either side.
    reach: usize,
    /// α/n.
    alpha: T,
    beta: T,
    k: T,
    /// Images, and their channels, height and width.
    batch: usize,
    image: [usize; 3],
    /// The sums s and the ratios dy·y/s on a device.
    device: [Option<Memory<T>>; 2],
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let p = param.lrn_param.unwrap_or_default();
    let (region, size) = (p.norm_region(), p.local_size());
    if size % 2 == 0 {
        return Err(Error::new(Kind::Value, "a window without a middle")
            .expected("an odd local_size")
            .found(size)
            .in_field("lrn_param.local_size"));
    }
    let within = region == NormRegion::WithinChannel;
    let n = if within { f64::from(size) * f64::from(size) } else { f64::from(size) };
    Ok(Box::new(Lrn {
        region,
        reach: size as usize / 2,
        alpha: T::from_f64(p.alpha().as_f64() / n),
        beta: T::from_f64(p.beta().as_f64()),
        k: if within { T::one() } else { T::from_f64(p.k().as_f64()) },
        batch: 0,
        image: [0; 3],
        device: [None, None],
    }))
}

/// Elements that one task takes.
const GRAIN: usize = 8 * 1024;

/// Elements whose powers are held at once.
const TILE: usize = 256;

/// s^(−1) and s^(−β) for each s. The powers that nets use need no logarithm; they are told apart outside of the loops, which
/// would not vectorise else, as are sums that have no fast root.
#[inline(always)]
fn powers<T: Real>(s: &[T], beta: T, inverses: &mut [T], to: &mut [T]) {
    let all = to.iter_mut().zip(inverses).zip(s);
    let (least, most) = (T::min_positive_value(), T::from_f64(1e30));
    // All of them, so that this, too, is done in vectors.
    let are_normal = s.iter().fold(true, |all, &s| all & (s >= least) & (s < most));
    if beta == T::from_f64(0.75) && are_normal {
        all.for_each(|((to, inverse), s)| {
            let root = s.inverse_fourth_root();
            *to = root * root * root;
            *inverse = *to * root;
        });
        return;
    }
    all.for_each(|((to, inverse), s)| (*to, *inverse) = (*s, T::one() / *s));
    if beta == T::from_f64(0.75) {
        to.iter_mut().for_each(|s| {
            let root = s.sqrt();
            *s = T::one() / (root * root.sqrt());
        });
    } else if beta == T::from_f64(0.5) {
        to.iter_mut().for_each(|s| *s = T::one() / s.sqrt());
    } else if beta == T::one() {
        to.iter_mut().for_each(|s| *s = T::one() / *s);
    } else {
        to.iter_mut().for_each(|s| *s = s.powf(-beta));
    }
}

/// to = x·s^(−β).
#[inline(always)]
fn normalise<T: Real>(x: &[T], sums: &[T], beta: T, to: &mut [T]) {
    let (mut inverse, mut power) = ([T::zero(); TILE], [T::zero(); TILE]);
    for (to, (x, sums)) in to.chunks_mut(TILE).zip(x.chunks(TILE).zip(sums.chunks(TILE))) {
        powers(sums, beta, &mut inverse, &mut power);
        to.iter_mut().zip(x.iter().zip(&power)).for_each(|(to, (&x, &power))| *to = x * power);
    }
}

/// ratios = dy·y/s; `sums` becomes the powers s^(−β), which are dearer.
#[inline(always)]
fn ratios_and_powers<T: Real>(x: &[T], dy: &[T], beta: T, sums: &mut [T], ratios: &mut [T]) {
    let (mut inverse, mut power) = ([T::zero(); TILE], [T::zero(); TILE]);
    let tiles = x.chunks(TILE).zip(dy.chunks(TILE));
    for ((ratios, sums), (x, dy)) in ratios.chunks_mut(TILE).zip(sums.chunks_mut(TILE)).zip(tiles) {
        powers(sums, beta, &mut inverse, &mut power);
        let inputs = x.iter().zip(dy).zip(power.iter().zip(&inverse));
        for ((ratio, sum), ((&x, &dy), (&power, &inverse))) in ratios.iter_mut().zip(sums).zip(inputs) {
            *ratio = dy * x * power * inverse;
            *sum = power;
        }
    }
}

/// dx = dy·s^(−β) + x·dx; 0 where x is not positive, if that is `gated`.
#[inline(always)]
fn combine<T: Real>(x: &[T], dy: &[T], powers: &[T], gated: bool, dx: &mut [T]) {
    let inputs = x.iter().zip(dy).zip(powers);
    dx.iter_mut().zip(inputs).for_each(|(dx, ((&x, &dy), &power))| {
        let sum = dy * power + x * *dx;
        *dx = if !gated | (x > T::zero()) { sum } else { T::zero() };
    });
}

/// What a window reaches on both sides of `i`, of so many in all.
fn around(i: usize, reach: usize, all: usize) -> std::ops::Range<usize> {
    i.saturating_sub(reach)..(i + reach + 1).min(all)
}

/// `to` = start + alpha · Σ `map(values)` over the windows of each channel, in planes of `size`.
#[inline(always)]
fn across<T: Real>(
    size: usize,
    reach: usize,
    values: &[T],
    (start, alpha): (T, T),
    map: impl Fn(T) -> T,
    to: &mut [T],
) {
    let channels = values.len() / size;
    for (channel, to) in to.chunks_exact_mut(size).enumerate() {
        to.fill(start);
        for c in around(channel, reach, channels) {
            let from = &values[c * size..][..size];
            to.iter_mut().zip(from).for_each(|(to, &from)| *to += alpha * map(from));
        }
    }
}

impl<T: Real> Lrn<T> {
    /// `to` = start + alpha · Σ `map(values)` over the window of each element of some planes.
    #[inline(always)]
    fn within(&self, values: &[T], (start, alpha): (T, T), map: impl Fn(T) -> T, to: &mut [T]) {
        let [_, height, width] = self.image;
        let size = height * width;
        let add = |from: &[T], to: &mut [T]| {
            to.iter_mut().zip(from).for_each(|(to, &from)| *to += alpha * map(from));
        };
        to.fill(start);
        for (values, to) in values.chunks_exact(size).zip(to.chunks_exact_mut(size)) {
            for (i, to) in to.chunks_exact_mut(width).enumerate() {
                for row in around(i, self.reach, height) {
                    let row = &values[row * width..][..width];
                    add(row, to);
                    for shift in 1..=self.reach.min(width - 1) {
                        add(&row[shift..], to);
                        add(row, &mut to[shift..]);
                    }
                }
            }
        }
    }

    /// −2·(α/n)·β.
    fn slope(&self) -> T {
        T::from_f64(-2.0) * self.alpha * self.beta
    }

    fn is_across(&self) -> bool {
        self.region == NormRegion::AcrossChannels
    }

    /// Elements of the planes that one task takes.
    fn grain(&self) -> usize {
        let size = self.image[1] * self.image[2];
        size * (GRAIN / size.max(1)).max(1)
    }
}

impl<T: Real> Layer<T> for Lrn<T> {
    fn blocks(&self) -> InBlocks {
        let [dim, height, width] = self.image;
        let channels = Channels { outer: self.batch, dim, inner: height * width };
        if self.is_across() { InBlocks::Apart([channels; 2]) } else { InBlocks::Never }
    }

    fn reads(&self) -> Reads {
        Reads::BOTTOM
    }

    fn gates(&self, _: Layouts) -> bool {
        true
    }

    fn reshape(&mut self, bottom: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        let &[batch, channels, height, width] = &bottom[0][..] else {
            return Err(Error::new(Kind::Shape, "local normalisation is over images")
                .expected("4 axes: N C H W")
                .found(bottom[0]));
        };
        (self.batch, self.image) = (batch, [channels, height, width]);
        Ok(vec![bottom[0].clone()])
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (x, layouts, this) = (io.bottom.get(0), io.layouts, &*self);
        let (numbers, beta) = ((this.k, this.alpha), this.beta);
        let [channels, height, width] = this.image;
        if this.is_across() {
            let from = [Images { data: x, layout: layouts.bottom }];
            let to = (io.top.get(0), layouts.top);
            for_each_piece(
                [channels, height * width],
                from,
                to,
                #[inline(always)]
                |[x], [y, sums], size| {
                    across(size, this.reach, x, numbers, |x| x * x, sums);
                    normalise(x, sums, beta, y);
                },
            );
            return Ok(());
        }
        parallel::for_each_chunk(
            io.top.get(0),
            this.grain(),
            #[inline(always)]
            |at, y| {
                let x = &x[at..][..y.len()];
                scratch(y.len(), |sums: &mut [T]| {
                    vectorised(
                        #[inline(always)]
                        || {
                            this.within(x, numbers, |x| x * x, sums);
                            normalise(x, sums, beta, y);
                        },
                    );
                });
            },
        );
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if !io.propagate[0] {
            return Ok(());
        }
        let (x, dy, layouts, this) = (io.bottom.get(0), io.top_diff.get(0), io.layouts, &*self);
        let (numbers, beta, slope) = ((this.k, this.alpha), this.beta, (T::zero(), this.slope()));
        let ([channels, height, width], gated) = (this.image, io.gated.contains(&true));
        // To sum up again costs less than to keep the sums of forward.
        if this.is_across() {
            let from = [Images { data: x, layout: layouts.bottom }, Images { data: dy, layout: layouts.top }];
            for_each_piece(
                [channels, height * width],
                from,
                (io.bottom_diff.get(0), layouts.bottom),
                #[inline(always)]
                |[x, dy], [dx, sums, ratios], size| {
                    across(size, this.reach, x, numbers, |x| x * x, sums);
                    ratios_and_powers(x, dy, beta, sums, ratios);
                    across(size, this.reach, ratios, slope, |ratio| ratio, dx);
                    combine(x, dy, sums, gated, dx);
                },
            );
            return Ok(());
        }
        parallel::for_each_chunk(
            io.bottom_diff.get(0),
            this.grain(),
            #[inline(always)]
            |at, dx| {
                let (x, dy) = (&x[at..][..dx.len()], &dy[at..][..dx.len()]);
                scratch(2 * dx.len(), |both: &mut [T]| {
                    let (sums, ratios) = both.split_at_mut(dx.len());
                    vectorised(
                        #[inline(always)]
                        || {
                            this.within(x, numbers, |x| x * x, sums);
                            ratios_and_powers(x, dy, beta, sums, ratios);
                            this.within(ratios, slope, |ratio| ratio, dx);
                            combine(x, dy, sums, gated, dx);
                        },
                    );
                });
            },
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::math::Real;
    use crate::testing::{Bench, assert_close, refusal};

    fn layer(param: &str) -> String {
        format!("layer {{ name: 'n' type: 'LRN' bottom: 'x' top: 'y' lrn_param {{ {param} }} }}")
    }

    #[test]
    fn known_values_across_channels() {
        let x = [1.0, 2.0, 3.0];
        let param = "local_size: 3 alpha: 3 beta: 0.5 k: 2";
        let mut b = Bench::<f64>::new(&layer(param), &[("x", &[1, 3, 1, 1], &x)]).unwrap();
        b.forward();
        let s = [7f64, 16.0, 15.0];
        assert_close(&b.get("y"), &[1.0 / s[0].sqrt(), 0.5, 3.0 / s[2].sqrt()], 1e-12);
        b.backward(&[("y", &[1.0, 0.0, 0.0])]);
        // d(x₀·s₀^−½) = s₀^−½·dx₀ − x₀·s₀^−1½·(x₀·dx₀ + x₁·dx₁)
        let t = s[0].powf(-1.5);
        assert_close(&b.grad("x"), &[s[0].powf(-0.5) - t, -2.0 * t, 0.0], 1e-12);
    }

    #[test]
    fn known_values_within_a_channel() {
        // The window reaches past the image on all sides, and k counts as 1.
        let param = "local_size: 5 alpha: 25 beta: 1 k: 9 norm_region: WITHIN_CHANNEL";
        let mut b = Bench::<f64>::new(&layer(param), &[("x", &[1, 1, 1, 4], &[1.0, 2.0, 3.0, 4.0])]).unwrap();
        b.forward();
        assert_close(&b.get("y"), &[1.0 / 15.0, 2.0 / 31.0, 3.0 / 31.0, 4.0 / 30.0], 1e-12);
    }

    #[test]
    fn all_ways_to_the_power_agree() {
        fn check<T: Real>(values: &[f64], error: f64) {
            for beta in [0.75, 0.5, 1.0, 0.6] {
                let beta = T::from_f64(beta);
                let s: Vec<T> = values.iter().map(|&s| T::from_f64(s)).collect();
                let [mut inverses, mut powers] = [(); 2].map(|()| vec![T::zero(); s.len()]);
                super::powers(&s, beta, &mut inverses, &mut powers);
                for ((s, inverse), power) in s.iter().zip(inverses).zip(powers) {
                    let want = [s.as_f64().recip(), s.as_f64().powf(-beta.as_f64())];
                    let found = [inverse, power].map(|x| x.as_f64());
                    let near = |(x, want): (f64, f64)| x == want || (x / want - 1.0).abs() < error;
                    assert!(found.into_iter().zip(want).all(near), "{s}, {beta}: {found:?}, not {want:?}");
                }
            }
        }
        check::<f64>(&[0.3, 1.0, 7.5], 1e-14);
        check::<f32>(&[0.3, 1.0, 7.5, 1e-20, 1e20], 1e-6);
        // A window of nothing, and one of too much.
        check::<f32>(&[0.0, 1.0, 1e35], 1e-6);
    }

    #[test]
    fn bad_parameters_are_refused() {
        let e = refusal(&layer("local_size: 4"), &[("x", &[1, 1, 1, 1], &[0.0])]);
        assert_eq!(e.field(), Some("lrn_param.local_size"), "{e}");
        assert_eq!(e.expectation(), Some("an odd local_size"));
        let e = refusal(&layer(""), &[("x", &[1, 1], &[0.0])]);
        assert!(e.message().contains("images"), "{e}");
    }
}
