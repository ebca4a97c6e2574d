//! Batch normalisation.

#[path = "batch_norm_cuda.rs"]
pub(crate) mod cuda;

use super::channels::{Channels, Sources, Sums};
use super::keep;
use super::line::{Line, Lines};
use crate::blob::{Buffer, Element, Shape};
use crate::device::{Context, Memory};
use crate::error::{Error, Kind, Result};
use crate::layers::{
    Backward, DeviceCode, Forward, InBlocks, Layer, Params, Reads, Setup, Sharing, Step, Tail,
};
use crate::math::Real;
use crate::proto::caffe::{LayerParameter, Phase};

/// y = (x − μ) / √(σ² + eps), with mean μ and variance σ² of each channel.
///
/// ```prototxt
/// layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" batch_norm_param { eps: 1e-5 } }
/// ```
///
/// Shapes: N×C×…, or one axis that is one channel; the top has the bottom's. μ and σ² are the batch's own, or, with
/// `use_global_stats` (the default in testing), what training has gathered. May run in place; a `Scale` behind it
/// learns factor and bias. A `Scale` and a `ReLU` in place on its top are done in its own pass.
///
/// Parameters, which the layer keeps itself (`lr_mult` 0): m (C), v (C) and f (1). Each training pass multiplies all three
/// by `moving_average_fraction` and adds μ, n/(n−1)·σ² (n values in a channel) and 1; the gathered mean and
/// variance are m/f and v/f, or 0 where f is 0.
///
/// Source: Caffe's BatchNorm; Ioffe and Szegedy, "Batch normalization", ICML 2015.
pub struct BatchNorm<T> {
    global: bool,
    /// Share of the old statistics that stays.
    keep: f64,
    eps: f64,
    in_place: bool,
    shape: Channels,
    mean: Vec<f64>,
    /// 1/√(σ² + eps).
    inverse: Vec<f64>,
    sums: Sums,
    /// The bottom, where the layer overwrites it and backward reads it.
    saved: Buffer<T>,
    /// Mean, inverse deviation and the saved bottom on a device.
    device: [Option<Memory<T>>; 3],
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let p = param.batch_norm_param.unwrap_or_default();
    let (eps, keep) = (p.eps().as_f64(), p.moving_average_fraction().as_f64());
    if eps.is_nan() || eps < 0.0 {
        return Err(Error::new(Kind::Value, "eps keeps a division from failing")
            .expected("0 or more")
            .found(eps)
            .in_field("batch_norm_param.eps"));
    }
    Ok(Box::new(BatchNorm {
        global: p.use_global_stats.unwrap_or(param.phase() == Phase::Test),
        keep,
        eps,
        in_place: false,
        shape: Channels::default(),
        mean: Vec::new(),
        inverse: Vec::new(),
        sums: Sums::default(),
        saved: Buffer::default(),
        device: [None, None, None],
    }))
}

/// Mean and variance of n values from the sums of their differences from one of them, and of the squares.
fn moments(origin: f64, [sum, squares]: [f64; 2], n: f64) -> (f64, f64) {
    let shift = sum / n;
    let variance = squares / n - shift * shift;
    // A NaN stays one.
    (origin + shift, if variance < 0.0 { 0.0 } else { variance })
}

/// Parameters of the layer itself.
const OWN: usize = 3;

impl<T> BatchNorm<T> {
    /// Values in a channel.
    fn count(&self) -> f64 {
        (self.shape.outer * self.shape.inner) as f64
    }
}

impl<T: Real> BatchNorm<T> {
    /// Mean and deviation as training has gathered them.
    fn gathered(&mut self, params: &Params<T>) {
        let factor = params.data(2).first().map_or(0.0, |f| f.as_f64());
        let factor = if factor == 0.0 { 0.0 } else { 1.0 / factor };
        let statistics = params.data(0).iter().zip(params.data(1));
        for ((mean, inverse), (m, v)) in self.mean.iter_mut().zip(&mut self.inverse).zip(statistics) {
            *mean = m.as_f64() * factor;
            *inverse = 1.0 / (v.as_f64() * factor + self.eps).sqrt();
        }
    }

    /// Normalises with the statistics of this batch, which join the gathered ones.
    fn of_batch(&mut self, sources: Sources<T>, y: &mut [T], tail: Tail, params: &mut Params<T>) {
        // Sums of differences from one value of the channel: nothing cancels where the mean is far from zero.
        let (all, lanes) = (sources.from.unwrap_or(y), sources.lanes);
        let blocks = all.chunks(self.shape.inner * lanes).flat_map(|block| &block[..lanes]);
        self.mean.iter_mut().zip(blocks).for_each(|(origin, x)| *origin = x.as_f64());
        let (n, eps, origins) = (self.count(), self.eps, &self.mean);
        let lines = Lines::of_tail(tail, params);
        self.shape.sum_then_map(
            sources,
            y,
            &mut self.sums,
            (
                |c| ([], [origins[c]]),
                #[inline(always)]
                |(_, [origin]), x: T, _| {
                    let d = x.as_f64() - origin;
                    [d, d * d]
                },
            ),
            (
                |c, sums| {
                    let (mean, variance) = moments(origins[c], sums, n);
                    (lines.line(c, mean, 1.0 / (variance + eps).sqrt()).numbers(), [])
                },
                #[inline(always)]
                |(line, _), x, _| Line::of(line).top(x),
            ),
        );
        let unbiased = if n > 1.0 { n / (n - 1.0) } else { 1.0 };
        let join = |old: &mut T, new: f64| *old = T::from_f64(new + self.keep * old.as_f64());
        params.data_mut(2).iter_mut().for_each(|f| join(f, 1.0));
        for (c, &sums) in self.sums.channels.iter().enumerate() {
            let (mean, variance) = moments(self.mean[c], sums, n);
            self.mean[c] = mean;
            self.inverse[c] = 1.0 / (variance + eps).sqrt();
            join(&mut params.data_mut(0)[c], mean);
            join(&mut params.data_mut(1)[c], unbiased * variance);
        }
    }
}

impl<T: Real> Layer<T> for BatchNorm<T> {
    fn sharing(&self) -> Sharing {
        Sharing::InPlace
    }

    fn reads(&self) -> Reads {
        if self.global || self.in_place { Reads::NOTHING } else { Reads::BOTTOM }
    }

    fn step(&self) -> Option<Step> {
        self.global.then_some(Step::Normalise { channels: self.shape, eps: self.eps })
    }

    fn absorbs(&self, chain: &[Step], need_backward: bool) -> usize {
        // With gathered statistics it does not read its bottom by itself, and another layer may have overwritten it.
        let reads_more = need_backward && self.global && !self.in_place;
        if reads_more { 0 } else { Tail::length(chain, Some(self.shape)) }
    }

    fn blocks(&self) -> InBlocks {
        InBlocks::Alike(vec![self.shape; 2])
    }

    fn reshape(&mut self, bottom: &[&Shape], setup: &mut Setup<T>) -> Result<Vec<Shape>> {
        let x = bottom[0];
        self.shape = match x[..] {
            [] => return Err(Error::new(Kind::Shape, "a single number has no statistics").found(x)),
            [n] => Channels { outer: 1, dim: 1, inner: n },
            [n, c, ..] => Channels { outer: n, dim: c, inner: x.count_from(2) },
        };
        let dim = self.shape.dim;
        setup.statistic(&[dim])?;
        setup.statistic(&[dim])?;
        setup.statistic(&[1])?;
        self.in_place = setup.in_place;
        self.mean.resize(dim, 0.0);
        self.inverse.resize(dim, 0.0);
        self.sums.resize(self.shape);
        Ok(vec![x.clone()])
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        if io.top.shape(0).count() == 0 {
            return Ok(());
        }
        let mut saved = std::mem::take(&mut self.saved);
        let keeps = self.in_place && io.need_backward && !(self.global && io.tail.is_empty());
        if keeps {
            keep(io.top.buffer(0), &mut saved);
        }
        let x = match (self.in_place, keeps) {
            (false, _) => Some(io.bottom.get(0)),
            (true, true) => Some(saved.host()),
            (true, false) => None,
        };
        let (y, tail) = (io.top.get(0), Tail::new(io.tail, OWN));
        let sources = Sources { lanes: io.layouts.top.lanes::<T>(), from: x, other: None };
        if self.global {
            self.gathered(&io.params);
            let (mean, inverse, lines) = (&self.mean, &self.inverse, Lines::of_tail(tail, &io.params));
            self.shape.map(
                sources,
                y,
                |c| (lines.line(c, mean[c], inverse[c]).numbers(), []),
                #[inline(always)]
                |(line, _), x, _| Line::of(line).top(x),
            );
        } else {
            self.of_batch(sources, y, tail, &mut io.params);
        }
        self.saved = saved;
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if !io.propagate[0] {
            return Ok(());
        }
        let dx = io.bottom_diff.get(0);
        if dx.is_empty() {
            return Ok(());
        }
        let dy = if io.top_diff.in_place(0) { None } else { Some(io.top_diff.get(0)) };
        let (mean, inverse, n) = (&self.mean, &self.inverse, self.count());
        let sources = Sources { lanes: io.layouts.top.lanes::<T>(), from: dy, other: None };
        if self.global && io.tail.is_empty() {
            self.shape.map(
                sources,
                dx,
                |c| ([T::from_f64(inverse[c])], []),
                #[inline(always)]
                |([inverse], _), dy, _| dy * inverse,
            );
            return Ok(());
        }
        let (tail, global) = (Tail::new(io.tail, OWN), self.global);
        let lines = Lines::of_tail(tail, &io.params);
        let x = if self.in_place { self.saved.host() } else { io.bottom.get(0) };
        // g is the gradient of the normalised values times the factor s. With t = (x − μ)/√(σ² + eps):
        // dx = (g − mean(g) − t·mean(g·t))·s / √(σ² + eps); gathered statistics do not move with x.
        self.shape.sum_then_map(
            Sources { other: Some(x), ..sources },
            dx,
            &mut self.sums,
            (
                |c| (lines.line(c, mean[c], inverse[c]).numbers(), [mean[c]]),
                #[inline(always)]
                |(line, [mean]), dy, x: T| {
                    let g = Line::of(line).before(dy, x).as_f64();
                    [g, g * (x.as_f64() - mean)]
                },
            ),
            (
                |c, [sum, product]: [f64; 2]| {
                    let Line { mean, factor, bias, slope } = lines.line(c, mean[c], inverse[c]);
                    let moves = if global { 0.0 } else { 1.0 / n };
                    let by = T::from_f64(product * moves * inverse[c] * inverse[c]);
                    ([mean, factor, bias, slope, by, T::from_f64(sum * moves)], [])
                },
                #[inline(always)]
                |([mean, factor, bias, slope, by, mean_g], _), dy, x| {
                    let line = Line { mean, factor, bias, slope };
                    (line.before(dy, x) - mean_g - (x - mean) * by) * factor
                },
            ),
        );
        let Some((factor, bias)) = tail.scale else { return Ok(()) };
        let sums = &self.sums.channels;
        if let Some(bias) = bias.filter(|&b| io.params.learned(b)) {
            let db = io.params.diff_mut(bias).iter_mut().zip(sums);
            db.for_each(|(db, [sum, _])| *db += T::from_f64(*sum));
        }
        if io.params.learned(factor) {
            let ds = io.params.diff_mut(factor).iter_mut().zip(sums.iter().zip(inverse));
            ds.for_each(|(ds, ([_, product], inverse))| *ds += T::from_f64(product * inverse));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, assert_close, refusal};

    const X: [f64; 8] = [1.0, 3.0, 10.0, 10.0, 5.0, 7.0, 30.0, 30.0];

    fn training(param: &str, top: &str) -> String {
        format!("state {{ phase: TRAIN }} {}", layer(param, top))
    }

    fn layer(param: &str, top: &str) -> String {
        format!(
            "layer {{ name: 'b' type: 'BatchNorm' bottom: 'x' top: '{top}' batch_norm_param {{ {param} }} }}"
        )
    }

    #[test]
    fn normalises_the_batch_and_gathers_statistics() {
        for top in ["y", "x"] {
            let text = training("eps: 0 moving_average_fraction: 0.5", top);
            let mut b = Bench::<f64>::new(&text, &[("x", &[2, 2, 2], &X)]).unwrap();
            b.set_param("b", 0, &[2.0, 4.0]);
            b.set_param("b", 1, &[6.0, 8.0]);
            b.set_param("b", 2, &[2.0]);
            b.forward();
            let (s, t) = (1.0 / 5f64.sqrt(), 1.0);
            assert_close(&b.get(top), &[-3.0 * s, -s, -t, -t, s, 3.0 * s, t, t], 1e-12);
            assert_close(&b.param("b", 0).0, &[5.0, 22.0], 1e-12);
            assert_close(&b.param("b", 1).0, &[3.0 + 20.0 / 3.0, 4.0 + 400.0 / 3.0], 1e-12);
            assert_close(&b.param("b", 2).0, &[2.0], 1e-12);
            b.backward(&[(top, &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 8.0, 0.0])]);
            // First channel: dy = (1, 0, 0, 0), t = (−3, −1, 1, 3)/√5, mean(dy·t) = −3/(4√5).
            let first = |t: f64, dy: f64| (dy - 0.25 + t * 3.0 / 20.0) * s;
            let second = |t: f64, dy: f64| (dy - 2.0 - t * 2.0) / 10.0;
            let expected = [
                [first(-3.0, 1.0), first(-1.0, 0.0), second(-1.0, 0.0), second(-1.0, 0.0)],
                [first(1.0, 0.0), first(3.0, 0.0), second(1.0, 8.0), second(1.0, 0.0)],
            ];
            assert_close(&b.grad("x"), &expected.concat(), 1e-12);
        }
    }

    #[test]
    fn uses_the_gathered_statistics_in_testing() {
        for (state, param) in [("state { phase: TEST }", ""), ("", "use_global_stats: true")] {
            for top in ["y", "x"] {
                let text = format!("{state} {}", layer(&format!("eps: 0 {param}"), top));
                let mut b = Bench::<f64>::new(&text, &[("x", &[2, 2, 2], &X)]).unwrap();
                b.set_param("b", 0, &[2.0, 40.0]);
                b.set_param("b", 1, &[8.0, 50.0]);
                b.set_param("b", 2, &[2.0]);
                b.forward();
                assert_close(&b.get(top), &[0.0, 1.0, -2.0, -2.0, 2.0, 3.0, 2.0, 2.0], 1e-12);
                assert_eq!(b.param("b", 2).0, [2.0]);
                b.backward(&[(top, &[10.0; 8])]);
                assert_close(&b.grad("x"), &[5.0, 5.0, 2.0, 2.0, 5.0, 5.0, 2.0, 2.0], 1e-12);
            }
        }
    }

    #[test]
    fn one_axis_is_one_channel() {
        let mut b = Bench::<f64>::new(&training("eps: 0", "y"), &[("x", &[2], &[1.0, 5.0])]).unwrap();
        b.forward();
        assert_close(&b.get("y"), &[-1.0, 1.0], 1e-12);
        assert_close(&b.param("b", 0).0, &[3.0], 1e-12);
    }

    #[test]
    fn a_mean_far_from_zero_costs_no_digits() {
        let x: Vec<f64> = (0..64).map(|i| 1e8 + f64::from(i % 2)).collect();
        let mut b = Bench::<f64>::new(&training("eps: 0", "y"), &[("x", &[64, 1], &x)]).unwrap();
        b.forward();
        assert_close(&b.get("y")[..2], &[-1.0, 1.0], 1e-12);
    }

    #[test]
    fn statistics_are_not_learned() {
        let x: (&str, &[usize], &[f64]) = ("x", &[2], &[0.0; 2]);
        let e = refusal(&layer("", "y").replace("batch_norm", "param { lr_mult: 1 } batch_norm"), &[x]);
        assert_eq!(e.field(), Some("param[0]"), "{e}");
        let e = refusal(&layer("eps: -1", "y"), &[x]);
        assert_eq!(e.field(), Some("batch_norm_param.eps"), "{e}");
    }
}
