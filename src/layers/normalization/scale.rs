//! Factor and bias for each channel, or another blob as factor.

#[path = "scale_cuda.rs"]
pub(crate) mod cuda;

use super::channels::{Channels, Sources, Sums};
use super::keep;
use super::line::{Line, Lines};
use crate::blob::{Buffer, Shape};
use crate::device::{Context, Memory};
use crate::error::{Error, Kind, Result};
use crate::layers::{
    Backward, DeviceCode, Forward, InBlocks, Layer, Params, Reads, Setup, Sharing, Step, Tail,
};
use crate::math::{Real, vector};
use crate::proto::caffe::{FillerParameter, LayerParameter, ScaleParameter};
use std::ops::RangeInclusive;

/// y = s · x + b, where s and b span some of the axes of x and are the same along the others.
///
/// ```prototxt
/// layer { name: "scale1" type: "Scale" bottom: "bn1" top: "bn1" scale_param { bias_term: true } }
/// ```
///
/// Shapes: the top has that of bottom 0. One bottom: s is a parameter with the `num_axes` axes of the bottom from `axis`
/// on (1 and 1: the channels; `num_axes` −1: all behind `axis`; 0: one number), filled with 1 unless `filler` says else.
/// Two bottoms: s is the second, whose axes must be those of the first from `axis` on. With `bias_term` b is the last
/// parameter, of the shape of s. May run in place. A `ReLU` in place on its top is done in its own pass.
///
/// Errors: more axes than the bottom has, a second bottom whose extents do not fit.
///
/// Source: Caffe's Scale.
pub struct Scale<T> {
    param: ScaleParameter,
    /// Whether s is the second bottom.
    two: bool,
    in_place: bool,
    shape: Channels,
    sums: Sums,
    /// The bottoms, where the layer overwrites the first and backward follows.
    saved: Buffer<T>,
    saved_factor: Vec<T>,
    /// The same on a device.
    device: [Option<Memory<T>>; 2],
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let two = param.bottom.len() > 1;
    let param = param.scale_param.clone().unwrap_or_default();
    if param.num_axes() < -1 {
        return Err(Error::new(Kind::Value, "a number of axes")
            .expected("-1 (all) or more")
            .found(param.num_axes())
            .in_field("scale_param.num_axes"));
    }
    Ok(Box::new(Scale {
        param,
        two,
        in_place: false,
        shape: Channels::default(),
        sums: Sums::default(),
        saved: Buffer::default(),
        saved_factor: Vec::new(),
        device: [None, None],
    }))
}

/// Extents of the factor, and where in `x` they lie; `second` is the shape of a factor that is a bottom.
fn place(param: &ScaleParameter, x: &Shape, second: Option<&Shape>) -> Result<(Vec<usize>, Channels)> {
    let scalar = second.map_or(param.num_axes() == 0, |s| s.is_empty());
    let axis = if scalar { 0 } else { x.axis(param.axis()).map_err(|e| e.in_field("scale_param.axis"))? };
    let given = usize::try_from(param.num_axes()).unwrap_or(x.len() - axis);
    let axes = second.map_or(given, |s| s.len());
    let too_many = |field| {
        Error::new(Kind::Shape, "the factor has more axes than the bottom from axis on")
            .expected(format!("at most {}", x.len() - axis))
            .found(axes)
            .in_field(field)
    };
    if axes > x.len() - axis {
        return Err(too_many(if second.is_some() { "bottom[1]" } else { "scale_param.num_axes" }));
    }
    let dims = x[axis..axis + axes].to_vec();
    if let Some(second) = second.filter(|s| s[..] != dims) {
        return Err(Error::new(Kind::Shape, "the factor does not fit the bottom")
            .expected(format!("{} from axis {axis} of {x}", Shape::new(dims)?))
            .found(second)
            .in_field("bottom[1]"));
    }
    let shape =
        Channels { outer: x.count_to(axis), dim: dims.iter().product(), inner: x.count_from(axis + axes) };
    Ok((dims, shape))
}

impl<T: Real> Scale<T> {
    /// How many parameters it has.
    fn own(&self) -> usize {
        usize::from(!self.two) + usize::from(self.param.bias_term())
    }

    /// The number of the bias among them.
    fn bias(&self) -> Option<usize> {
        self.param.bias_term().then_some(usize::from(!self.two))
    }

    fn lines<'a>(&self, s: &'a [T], params: &'a Params<T>, tail: Tail) -> Lines<'a, T> {
        let biases = self.bias().map(|b| params.data(b));
        Lines { factors: Some(s), biases, slope: T::from_f64(tail.slope) }
    }
}

impl<T: Real> Layer<T> for Scale<T> {
    fn bottoms(&self) -> RangeInclusive<usize> {
        1..=2
    }

    fn sharing(&self) -> Sharing {
        Sharing::InPlace
    }

    fn reads(&self) -> Reads {
        if self.in_place { Reads::NOTHING } else { Reads::BOTTOM }
    }

    fn reshape(&mut self, bottom: &[&Shape], setup: &mut Setup<T>) -> Result<Vec<Shape>> {
        let (dims, shape) = place(&self.param, bottom[0], bottom.get(1).copied())?;
        if !self.two {
            let one = FillerParameter { value: Some(1.0), ..Default::default() };
            setup.param(&dims, Some(self.param.filler.as_ref().unwrap_or(&one)))?;
        }
        if self.param.bias_term() {
            setup.param(&dims, self.param.bias_filler.as_ref())?;
        }
        self.shape = shape;
        self.sums.resize(shape);
        self.in_place = setup.in_place;
        Ok(vec![bottom[0].clone()])
    }

    fn step(&self) -> Option<Step> {
        let step = Step::Scale { channels: self.shape, bias: self.param.bias_term() };
        if self.two { None } else { Some(step) }
    }

    fn absorbs(&self, chain: &[Step], _: bool) -> usize {
        if self.two { 0 } else { Tail::length(chain, None) }
    }

    fn blocks(&self) -> InBlocks {
        if self.two { InBlocks::Never } else { InBlocks::Alike(vec![self.shape; 2]) }
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let tail = Tail::new(io.tail, self.own());
        let s = if self.two { io.bottom.get(1) } else { io.params.data(0) };
        let mut saved = std::mem::take(&mut self.saved);
        let mut keeps = false;
        if self.in_place && io.need_backward {
            if self.two {
                self.saved_factor.resize(s.len(), T::zero());
                vector::copy(s, &mut self.saved_factor);
            }
            keeps = self.two || io.params.learned(0) || !io.tail.is_empty();
        }
        if keeps {
            keep(io.top.buffer(0), &mut saved);
        }
        let x = match (self.in_place, keeps) {
            (false, _) => Some(io.bottom.get(0)),
            (true, true) => Some(saved.host()),
            (true, false) => None,
        };
        let lines = self.lines(s, &io.params, tail);
        self.shape.map(
            Sources { lanes: io.layouts.top.lanes::<T>(), from: x, other: None },
            io.top.get(0),
            |c| (lines.line(c, 0.0, 1.0).numbers(), []),
            #[inline(always)]
            |(line, _), x, _| Line::of(line).top(x),
        );
        self.saved = saved;
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let in_place = io.top_diff.in_place(0);
        let bias = self.bias().filter(|&b| io.params.learned(b));
        let factor = if self.two { io.propagate[1] } else { io.params.learned(0) };
        let wants_sums = factor || bias.is_some();
        let s = match (self.two, self.in_place) {
            (false, _) => io.params.data(0),
            (true, false) => io.bottom.get(1),
            (true, true) => &self.saved_factor,
        };
        let lines = self.lines(s, &io.params, Tail::new(io.tail, self.own()));
        // The factor's sums and a ReLU read x: without them it was not kept.
        let x = match (factor || !io.tail.is_empty(), self.in_place) {
            (false, _) => None,
            (true, true) => Some(self.saved.host()),
            (true, false) => Some(io.bottom.get(0)),
        };
        let numbers = |c| (lines.line(c, 0.0, 1.0).numbers(), []);
        let terms = |(line, _): ([T; 4], [f64; 0]), dy, x: T| {
            let g = Line::of(line).before(dy, x).as_f64();
            [g, g * x.as_f64()]
        };
        let slope =
            |(line, _): ([T; 4], [f64; 0]), dy, x| Line::of(line).before(dy, x) * Line::of(line).factor;
        let dy = if in_place { None } else { Some(io.top_diff.get(0)) };
        let sources = Sources { lanes: io.layouts.top.lanes::<T>(), from: dy, other: x };
        match (wants_sums, io.propagate[0]) {
            (true, true) => {
                let dx = io.bottom_diff.get(0);
                self.shape.sum_then_map(
                    sources,
                    dx,
                    &mut self.sums,
                    (numbers, terms),
                    (|c, _| numbers(c), slope),
                );
            }
            (false, true) => self.shape.map(sources, io.bottom_diff.get(0), numbers, slope),
            (true, false) => {
                let sources = Sources { from: Some(io.top_diff.get(0)), ..sources };
                self.sums.compute(self.shape, sources, &[], (numbers, terms));
            }
            (false, false) => {}
        }
        let sums = &self.sums.channels;
        if let Some(b) = bias {
            let db = io.params.diff_mut(b).iter_mut().zip(sums);
            db.for_each(|(db, s)| *db += T::from_f64(s[0]));
        }
        if factor && self.two {
            let ds = io.bottom_diff.get(1).iter_mut().zip(sums);
            ds.for_each(|(ds, s)| *ds = T::from_f64(s[1]));
        } else if factor {
            let ds = io.params.diff_mut(0).iter_mut().zip(sums);
            ds.for_each(|(ds, s)| *ds += T::from_f64(s[1]));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, assert_close, refusal};

    const X: [f64; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    const DY: [f64; 6] = [1.0, 0.0, 2.0, 0.0, 1.0, 1.0];

    fn layer(param: &str, bottoms: &str, top: &str) -> String {
        format!("layer {{ name: 's' type: 'Scale' {bottoms} top: '{top}' scale_param {{ {param} }} }}")
    }

    #[test]
    fn factor_and_bias_apart_and_in_place() {
        for top in ["y", "x"] {
            let text = layer("bias_term: true", "bottom: 'x'", top);
            let mut b = Bench::<f64>::new(&text, &[("x", &[1, 3, 2], &X)]).unwrap();
            assert_eq!((b.param("s", 0).0, b.param("s", 1).0), (vec![1.0; 3], vec![0.0; 3]));
            b.set_param("s", 0, &[2.0, 3.0, 4.0]);
            b.set_param("s", 1, &[10.0, 20.0, 30.0]);
            b.forward();
            assert_close(&b.get(top), &[12.0, 14.0, 29.0, 32.0, 50.0, 54.0], 1e-12);
            b.backward(&[(top, &DY)]);
            assert_close(&b.grad("x"), &[2.0, 0.0, 6.0, 0.0, 4.0, 4.0], 1e-12);
            assert_close(&b.param("s", 0).1, &[1.0, 6.0, 11.0], 1e-12);
            assert_close(&b.param("s", 1).1, &[1.0, 2.0, 2.0], 1e-12);
        }
    }

    #[test]
    fn a_bias_alone_learns_without_the_values() {
        for top in ["y", "x"] {
            let text = layer("bias_term: true", "param { lr_mult: 0 } param { lr_mult: 1 } bottom: 'x'", top);
            let mut b = Bench::<f64>::new(&text, &[("x", &[1, 3, 2], &X)]).unwrap();
            b.set_param("s", 0, &[2.0, 3.0, 4.0]);
            b.forward();
            b.backward(&[(top, &DY)]);
            assert_close(&b.grad("x"), &[2.0, 0.0, 6.0, 0.0, 4.0, 4.0], 1e-12);
            assert_close(&b.param("s", 1).1, &[1.0, 2.0, 2.0], 1e-12);
        }
    }

    #[test]
    fn another_blob_as_factor_apart_and_in_place() {
        for top in ["y", "x"] {
            let text = layer("axis: 0", "bottom: 'x' bottom: 'f'", top);
            let mut b = Bench::<f64>::new(&text, &[("x", &[2, 3], &X), ("f", &[2], &[2.0, -1.0])]).unwrap();
            b.forward();
            assert_close(&b.get(top), &[2.0, 4.0, 6.0, -4.0, -5.0, -6.0], 1e-12);
            b.backward(&[(top, &DY)]);
            assert_close(&b.grad("x"), &[2.0, 0.0, 4.0, 0.0, -1.0, -1.0], 1e-12);
            assert_close(&b.grad("f"), &[7.0, 11.0], 1e-12);
        }
    }

    #[test]
    fn the_factor_spans_the_axes_it_is_given() {
        for (param, dims) in [
            ("", vec![3]),
            ("num_axes: 0", vec![]),
            ("axis: 0 num_axes: -1", vec![2, 3, 1]),
            ("axis: 0 num_axes: 2", vec![2, 3]),
            ("axis: -1", vec![1]),
        ] {
            let text = layer(param, "bottom: 'x'", "y");
            let b = Bench::<f32>::new(&text, &[("x", &[2, 3, 1], &X)]).unwrap();
            assert_eq!(b.weights.get(b.weights.find("s", 0).unwrap()).shape[..], dims, "{param}");
        }
    }

    #[test]
    fn bad_parameters_are_refused() {
        let x: (&str, &[usize], &[f64]) = ("x", &[2, 3], &X);
        for (param, field) in [("num_axes: -2", "num_axes"), ("num_axes: 2", "num_axes"), ("axis: 2", "axis")]
        {
            let e = refusal(&layer(param, "bottom: 'x'", "y"), &[x]);
            assert_eq!(e.field(), Some(format!("scale_param.{field}").as_str()), "{e}");
        }
        for f in [&[2][..], &[3, 2]] {
            let e =
                refusal(&layer("", "bottom: 'x' bottom: 'f'", "y"), &[x, ("f", f, &X[..f.iter().product()])]);
            assert_eq!(e.field(), Some("bottom[1]"), "{e}");
        }
    }
}
