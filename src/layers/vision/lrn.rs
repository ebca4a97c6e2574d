//! Local response normalisation.

#[path = "lrn_cuda.rs"]
pub(crate) mod cuda;

use crate::blob::{Element, Shape};
use crate::device::{Context, Memory};
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, DeviceCode, Forward, Layer, Reads, Setup};
use crate::math::{Real, parallel, scratch, vectorised};
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
    /// Channels, height and width.
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
        image: [0; 3],
        device: [None, None],
    }))
}

/// Elements that one task takes.
const GRAIN: usize = 8 * 1024;

/// Elements whose powers are held at once.
const TILE: usize = 256;

/// s^(−β) for each s. The powers that nets use need no logarithm; they are told apart outside of the loops, which
/// would not vectorise else.
#[inline(always)]
fn powers<T: Real>(s: &[T], beta: T, to: &mut [T]) {
    let pairs = to.iter_mut().zip(s);
    if beta == T::from_f64(0.75) {
        pairs.for_each(|(to, s)| {
            let root = s.sqrt();
            *to = T::one() / (root * root.sqrt());
        });
    } else if beta == T::from_f64(0.5) {
        pairs.for_each(|(to, s)| *to = T::one() / s.sqrt());
    } else if beta == T::one() {
        pairs.for_each(|(to, s)| *to = T::one() / *s);
    } else {
        pairs.for_each(|(to, s)| *to = s.powf(-beta));
    }
}

impl<T: Real> Lrn<T> {
    /// Adds `alpha` · Σ `map(values)` over the window of each element of a plane to `sum`. `plane` counts over batch
    /// and channels.
    #[inline(always)]
    fn add_windows(&self, plane: usize, values: &[T], alpha: T, map: impl Fn(T) -> T, sum: &mut [T]) {
        let [channels, height, width] = self.image;
        let add = |from: &[T], to: &mut [T]| {
            to.iter_mut().zip(from).for_each(|(to, &from)| *to += alpha * map(from));
        };
        let around = |i: usize, end: usize| i.saturating_sub(self.reach)..(i + self.reach + 1).min(end);
        if self.region == NormRegion::AcrossChannels {
            let (size, channel) = (height * width, plane % channels);
            for c in around(channel, channels) {
                add(&values[(plane - channel + c) * size..][..size], sum);
            }
            return;
        }
        let values = &values[plane * height * width..][..height * width];
        for (i, sum) in sum.chunks_exact_mut(width).enumerate() {
            for row in around(i, height) {
                let row = &values[row * width..][..width];
                add(row, sum);
                for shift in 1..=self.reach.min(width - 1) {
                    add(&row[shift..], sum);
                    add(row, &mut sum[shift..]);
                }
            }
        }
    }

    /// Writes the sums s to `sums`, for whole planes from number `plane` of `x` on.
    #[inline(always)]
    fn sum_squares(&self, plane: usize, x: &[T], sums: &mut [T]) {
        let (size, _) = self.grain();
        sums.fill(self.k);
        for (plane, sums) in (plane..).zip(sums.chunks_exact_mut(size)) {
            self.add_windows(plane, x, self.alpha, |x| x * x, sums);
        }
    }

    /// dx = dy·s^(−β) − 2·(α/n)·β·x·Σ dy·y/s, over the windows that hold x; `ratios` takes dy·y/s, `sums` the
    /// sums and then their powers.
    fn backward_image(&self, x: &[T], dy: &[T], sums: &mut [T], ratios: &mut [T], dx: &mut [T]) {
        let (size, grain) = self.grain();
        parallel::for_each_chunk2(
            sums,
            ratios,
            grain,
            #[inline(always)]
            |at, sums, ratios| {
                self.sum_squares(at / size, x, sums);
                // The dearer power is kept in place of its sum.
                let mut power = [T::zero(); TILE];
                let tiles = x[at..].chunks(TILE).zip(dy[at..].chunks(TILE));
                let targets = ratios.chunks_mut(TILE).zip(sums.chunks_mut(TILE));
                for ((ratios, sums), (x, dy)) in targets.zip(tiles) {
                    powers(sums, self.beta, &mut power);
                    let inputs = x.iter().zip(dy).zip(&power);
                    for ((ratio, sum), ((&x, &dy), &power)) in ratios.iter_mut().zip(sums).zip(inputs) {
                        *ratio = dy * x * power / *sum;
                        *sum = power;
                    }
                }
            },
        );
        let scale = T::from_f64(-2.0) * self.alpha * self.beta;
        parallel::for_each_chunk(
            dx,
            grain,
            #[inline(always)]
            |at, dx| {
                dx.fill(T::zero());
                for (plane, dx) in (at / size..).zip(dx.chunks_exact_mut(size)) {
                    self.add_windows(plane, ratios, scale, |ratio| ratio, dx);
                }
                let inputs = x[at..].iter().zip(&dy[at..]).zip(&sums[at..]);
                dx.iter_mut().zip(inputs).for_each(|(dx, ((&x, &dy), &power))| *dx = dy * power + x * *dx);
            },
        );
    }

    /// Elements of an image.
    fn image(&self) -> usize {
        self.image.iter().product()
    }

    /// Elements of a plane, and of the planes that one task takes.
    fn grain(&self) -> (usize, usize) {
        let size = self.image[1] * self.image[2];
        (size, size * (GRAIN / size.max(1)).max(1))
    }
}

impl<T: Real> Layer<T> for Lrn<T> {
    fn reads(&self) -> Reads {
        Reads::BOTTOM
    }

    fn reshape(&mut self, bottom: &[&Shape], _: &mut Setup<T>) -> Result<Vec<Shape>> {
        let &[_, channels, height, width] = &bottom[0][..] else {
            return Err(Error::new(Kind::Shape, "local normalisation is over images")
                .expected("4 axes: N C H W")
                .found(bottom[0]));
        };
        self.image = [channels, height, width];
        Ok(vec![bottom[0].clone()])
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let (x, this) = (io.bottom.get(0), &*self);
        let (size, grain) = this.grain();
        parallel::for_each_chunk(
            io.top.get(0),
            grain,
            #[inline(always)]
            |begin, y| {
                scratch(y.len(), |sums: &mut [T]| {
                    vectorised(
                        #[inline(always)]
                        || {
                            this.sum_squares(begin / size, x, sums);
                            let mut power = [T::zero(); TILE];
                            let tiles = x[begin..].chunks(TILE).zip(sums.chunks(TILE));
                            for (y, (x, sums)) in y.chunks_mut(TILE).zip(tiles) {
                                powers(sums, this.beta, &mut power);
                                let pairs = x.iter().zip(&power);
                                y.iter_mut().zip(pairs).for_each(|(y, (&x, &power))| *y = x * power);
                            }
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
        let (x, dy, this) = (io.bottom.get(0), io.top_diff.get(0), &*self);
        // Image by image: to sum up again costs less than to keep the sums of forward.
        let image = this.image();
        parallel::for_each_chunk(io.bottom_diff.get(0), image, |begin, dx| {
            let (x, dy) = (&x[begin..][..image], &dy[begin..][..image]);
            scratch(2 * image, |both: &mut [T]| {
                let (sums, ratios) = both.split_at_mut(image);
                this.backward_image(x, dy, sums, ratios, dx);
            });
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
        let power = |s: f64, beta| {
            let mut to = [0.0];
            super::powers(&[s], beta, &mut to);
            to[0]
        };
        for beta in [0.75, 0.5, 1.0] {
            for s in [0.3f64, 1.0, 7.5] {
                assert_close(&[power(s, beta)], &[s.powf(-beta)], 1e-14);
            }
        }
        assert_close(&[power(2.0, 0.6)], &[2f64.powf(-0.6)], 1e-14);
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
