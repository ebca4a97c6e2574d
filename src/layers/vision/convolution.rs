//! Convolution over any number of spatial axes.

#[path = "convolution_cuda.rs"]
pub(crate) mod cuda;

use super::windows::Windows;
use crate::blob::{Shape, Stamp};
use crate::device::Context;
use crate::error::{Error, Kind, Result};
use crate::layers::normalization::Channels;
use crate::layers::{Backward, DeviceCode, Forward, InBlocks, Layer, Params, Reads, Setup, Step};
use crate::math::{self, Ending, Geometry, Layouts, Real, scratch, vector};
use crate::proto::caffe::{ConvolutionParameter, LayerParameter};
use std::ops::RangeInclusive;

/// Each top channel is the sum over windows of the bottom's channels times a filter, plus a bias.
///
/// ```prototxt
/// layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
///   convolution_param { num_output: 96 kernel_size: 11 stride: 4 weight_filler { type: "xavier" } } }
/// ```
///
/// Shapes: the axes before `axis` (1) are a batch; `axis` has the channels C, the axes behind it are spatial. The top
/// has `num_output` channels O and along each spatial axis (size + 2·pad − dilation·(kernel − 1) − 1) / stride + 1.
/// Parameters: filters O × C/group × kernel, and the bias O unless `bias_term: false`. Several bottoms of one shape
/// give as many tops with the same filters. Not in place. On a GPU `engine: CAFFE` keeps cuDNN away, and `engine: CUDNN` is an error where there is
/// none; on a CPU `engine` changes nothing, nor does `force_nd_im2col` anywhere.
///
/// Errors: a window field given twice or the wrong number of times, channels that `group` does not divide, a kernel
/// larger than the padded image.
///
/// Source: Caffe's Convolution; LeCun and others, "Gradient-based learning applied to document recognition", 1998.
///
/// A net that runs forward alone does a `BatchNorm`, `Scale` and `ReLU` in place behind it along, in the pass that makes
/// the top, and an `Eltwise` sum of the top and another blob before that `ReLU`. In training it does a `ReLU` alone along, forward.
pub struct Convolution<T> {
    param: ConvolutionParameter,
    engine: Option<math::Convolution>,
    /// Factor and addend of each channel, where the layers behind are done along.
    factors: Vec<T>,
    addends: Vec<T>,
    /// Filters in the order in which the forward pass reads them, where that makes it faster, and what they were made of.
    prepared: Option<Prepared<T>>,
    device: cuda::OnDevice<T>,
}

/// Filters in order.
struct Prepared<T> {
    /// What they were made of, and for which layouts.
    made_of: (Stamp, Layouts),
    filters: Vec<T>,
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let param = param.convolution_param.clone().unwrap_or_default();
    check(&param)?;
    Ok(Box::new(Convolution {
        param,
        engine: None,
        factors: Vec::new(),
        addends: Vec::new(),
        prepared: None,
        device: cuda::OnDevice::default(),
    }))
}

/// What no shape can repair.
fn check(param: &ConvolutionParameter) -> Result<()> {
    let at = |field: &str, message: &str| {
        Error::new(Kind::Value, message).in_field(&format!("convolution_param.{field}"))
    };
    let (outputs, group) = (param.num_output(), param.group());
    if outputs == 0 {
        return Err(at("num_output", "a convolution needs outputs").expected("1 or more").found(outputs));
    }
    if group == 0 {
        return Err(at("group", "a convolution needs groups").expected("1 or more").found(group));
    }
    if outputs % group != 0 {
        return Err(at("num_output", "the groups do not divide the outputs")
            .expected(format!("a multiple of group, {group}"))
            .found(outputs));
    }
    Ok(())
}

impl<T: Real> Convolution<T> {
    fn engine(&self) -> Result<&math::Convolution> {
        self.engine.as_ref().ok_or_else(|| Error::new(Kind::Net, "the layer has no shape yet"))
    }

    /// Puts the filters in order if they have changed since the last time. A net that learns them does not: they change
    /// in each iteration.
    fn prepare(&mut self, params: &Params<T>, layouts: Layouts, need_backward: bool) -> Result<()> {
        let len = if need_backward { 0 } else { self.engine()?.prepared_len::<T>(layouts) };
        if len == 0 {
            self.prepared = None;
            return Ok(());
        }
        let made_of = (params.get(0).data.stamp(), layouts);
        if self.prepared.as_ref().is_some_and(|p| p.made_of == made_of && p.filters.len() == len) {
            return Ok(());
        }
        let mut filters = self.prepared.take().map(|p| p.filters).unwrap_or_default();
        filters.resize(len, T::zero());
        self.engine()?.prepare(params.data(0), layouts, &mut filters);
        self.prepared = Some(Prepared { made_of, filters });
        Ok(())
    }

    /// Settles factor and addend of each channel: those of the bias and all steps behind it, one after the other.
    fn settle_lines(&mut self, params: &Params<T>, tail: &[Step]) {
        let outputs = self.param.num_output() as usize;
        self.factors.resize(outputs, T::one());
        self.addends.resize(outputs, T::zero());
        for (c, (factor, addend)) in self.factors.iter_mut().zip(&mut self.addends).enumerate() {
            let value = |param: usize, c: usize| params.data(param)[c].as_f64();
            let own = self.param.bias_term();
            let (mut scale, mut shift) = (1.0, if own { value(1, c) } else { 0.0 });
            let mut next = 1 + usize::from(own);
            for step in tail {
                match *step {
                    Step::Normalise { eps, .. } => {
                        let by = value(next + 2, 0);
                        let by = if by == 0.0 { 0.0 } else { 1.0 / by };
                        let inverse = 1.0 / (value(next + 1, c) * by + eps).sqrt();
                        (scale, shift) = (scale * inverse, (shift - value(next, c) * by) * inverse);
                        next += 3;
                    }
                    Step::Scale { bias, .. } => {
                        let by = value(next, c);
                        let bias_here = if bias { value(next + 1, c) } else { 0.0 };
                        (scale, shift) = (scale * by, shift * by + bias_here);
                        next += 1 + usize::from(bias);
                    }
                    Step::Add | Step::Relu { .. } => {}
                }
            }
            (*factor, *addend) = (T::from_f64(scale), T::from_f64(shift));
        }
    }
}

impl<T: Real> Layer<T> for Convolution<T> {
    fn bottoms(&self) -> RangeInclusive<usize> {
        1..=usize::MAX
    }

    fn tops(&self) -> RangeInclusive<usize> {
        1..=usize::MAX
    }

    fn reads(&self) -> Reads {
        Reads::BOTTOM
    }

    fn reshape(&mut self, bottom: &[&Shape], setup: &mut Setup<T>) -> Result<Vec<Shape>> {
        let x = bottom[0];
        if let Some(i) = bottom.iter().position(|b| *b != x) {
            return Err(Error::new(
                Kind::Shape,
                "all bottoms share the filters, so they must have one shape",
            )
            .expected(format!("bottom {i} as bottom 0: {x}"))
            .found(bottom[i]));
        }
        let axis = x.axis(self.param.axis()).map_err(|e| e.in_field("convolution_param.axis"))?;
        let (channels, group) = (x[axis], self.param.group() as usize);
        let outputs = self.param.num_output() as usize;
        if channels == 0 || channels % group != 0 {
            return Err(Error::new(Kind::Shape, "the groups do not divide the channels of the bottom")
                .expected(format!("a multiple of {group} channels"))
                .found(channels)
                .in_field("convolution_param.group"));
        }
        let spatial = x.len() - axis - 1;
        let w = Windows::new(&self.param, spatial)?;
        let mut filters = vec![outputs, channels / group];
        filters.extend(&w.kernel);
        setup.param(&filters, self.param.weight_filler.as_ref())?;
        if self.param.bias_term() {
            setup.param(&[outputs], self.param.bias_filler.as_ref())?;
        }
        // Without spatial axes every image is one pixel.
        let some = |values: Vec<usize>, none: usize| if spatial == 0 { vec![none] } else { values };
        let engine = math::Convolution::new(&Geometry {
            batch: x.count_to(axis),
            groups: group,
            channels,
            num_output: outputs,
            input: some(x[axis + 1..].to_vec(), 1),
            kernel: some(w.kernel, 1),
            pad: some(w.pad, 0),
            stride: some(w.stride, 1),
            dilation: some(w.dilation, 1),
        })
        .map_err(|e| e.under("convolution_param"))?;
        let mut top = x[..axis].to_vec();
        top.push(outputs);
        top.extend(&engine.output()[..spatial]);
        if self.engine.as_ref().is_none_or(|old| old.geometry() != engine.geometry()) {
            self.device = cuda::OnDevice::default();
        }
        self.engine = Some(engine);
        Ok(vec![Shape::new(top)?; bottom.len()])
    }

    fn multiply_adds(&self) -> u64 {
        self.engine.as_ref().map_or(0, |engine| engine.multiply_adds() as u64)
    }

    fn absorbs(&self, chain: &[Step], need_backward: bool) -> usize {
        let Some(engine) = self.engine.as_ref().filter(|_| !need_backward) else { return 0 };
        let mine = Channels {
            outer: engine.geometry().batch,
            dim: engine.geometry().num_output,
            inner: engine.output().iter().product(),
        };
        let lines = chain.iter().take_while(|step| match step {
            Step::Normalise { channels, .. } | Step::Scale { channels, .. } => *channels == mine,
            Step::Add | Step::Relu { .. } => false,
        });
        let lines = lines.count();
        let sum = lines + usize::from(chain.get(lines) == Some(&Step::Add));
        sum + usize::from(chain.get(sum) == Some(&Step::Relu { slope: 0.0 }))
    }

    fn ends_in_relu(&self) -> bool {
        true
    }

    fn blocks(&self) -> InBlocks {
        let Some(engine) = self.engine.as_ref().filter(|engine| engine.takes_blocks::<T>()) else {
            return InBlocks::Never;
        };
        let (g, inner) = (engine.geometry(), |sizes: &[usize]| sizes.iter().product());
        InBlocks::Apart([
            Channels { outer: g.batch, dim: g.channels, inner: inner(&g.input) },
            Channels { outer: g.batch, dim: g.num_output, inner: inner(engine.output()) },
        ])
    }

    fn forward(&mut self, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        if !io.tail.is_empty() {
            self.settle_lines(&io.params, io.tail);
        }
        self.prepare(&io.params, io.layouts, io.need_backward)?;
        let relu = matches!(io.tail.last(), Some(Step::Relu { .. }));
        let other = io.tail.contains(&Step::Add).then(|| io.bottom.get(io.bottom.len() - 1));
        for i in 0..io.top.len() {
            let end = match io.tail {
                [] => Ending::bias(if self.param.bias_term() { Some(io.params.data(1)) } else { None }),
                _ => Ending {
                    scale: Some(&self.factors),
                    bias: Some(&self.addends),
                    other,
                    floor: if relu { T::zero() } else { T::neg_infinity() },
                },
            };
            let (engine, x, y) = (self.engine()?, io.bottom.get(i), io.top.get(i));
            match &self.prepared {
                Some(p) => engine.forward_prepared(x, &p.filters, io.layouts, &end, y),
                None => engine.forward_laid(x, io.params.data(0), io.layouts, &end, y),
            }
        }
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let engine = self.engine()?;
        for i in 0..io.bottom.len() {
            let dy = io.top_diff.get(i);
            let weights = io.live[i] && io.params.learned(0);
            let bias = io.live[i] && self.param.bias_term() && io.params.learned(1);
            match [weights, bias] {
                [true, true] => scratch(engine.geometry().num_output, |db: &mut [T]| {
                    db.fill(T::zero());
                    let x = io.bottom.get(i);
                    engine.backward_params_laid(x, dy, io.layouts, io.params.diff_mut(0), db);
                    vector::axpy(T::one(), db, io.params.diff_mut(1));
                }),
                [true, false] => {
                    engine.backward_weights_laid(io.bottom.get(i), dy, io.layouts, io.params.diff_mut(0));
                }
                [false, true] => engine.backward_bias_laid(dy, io.layouts.top, io.params.diff_mut(1)),
                [false, false] => {}
            }
            if io.propagate[i] {
                engine.backward_data_laid(io.params.data(0), dy, io.layouts, io.bottom_diff.get(i));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Bench, assert_close, refusal};

    fn layer(param: &str) -> String {
        format!(
            "layer {{ name: 'c' type: 'Convolution' bottom: 'x' top: 'y' convolution_param {{ {param} }} }}"
        )
    }

    #[test]
    fn known_values() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        let mut b =
            Bench::<f64>::new(&layer("num_output: 1 kernel_size: 2"), &[("x", &[1, 1, 3, 3], &x)]).unwrap();
        b.set_param("c", 0, &[1.0, 0.0, 0.0, -1.0]);
        b.set_param("c", 1, &[0.5]);
        b.forward();
        assert_eq!(b.shape("y")[..], [1, 1, 2, 2]);
        assert_close(&b.get("y"), &[-3.5; 4], 1e-12);
        b.backward(&[("y", &[1.0, 2.0, 3.0, 4.0])]);
        assert_close(&b.grad("x"), &[1.0, 2.0, 0.0, 3.0, 3.0, -2.0, 0.0, -3.0, -4.0], 1e-12);
        assert_close(&b.param("c", 0).1, &[37.0, 47.0, 67.0, 77.0], 1e-12);
        assert_close(&b.param("c", 1).1, &[10.0], 1e-12);
    }

    #[test]
    fn weights_and_bias_learn_together_or_alone() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        let (dw, db) = ([37.0, 47.0, 67.0, 77.0], [10.0]);
        for learned in [[1, 1], [1, 0], [0, 1], [0, 0]] {
            let rates = learned.map(|rate| format!("param {{ lr_mult: {rate} }}")).join(" ");
            let text = layer("num_output: 1 kernel_size: 2")
                .replace("convolution_param", &format!("{rates} convolution_param"));
            let mut b = Bench::<f64>::new(&text, &[("x", &[1, 1, 3, 3], &x)]).unwrap();
            b.forward();
            // Gradients are added to those of the pass before.
            for pass in [1.0, 2.0] {
                b.backward(&[("y", &[1.0, 2.0, 3.0, 4.0])]);
                // There is no gradient of what does not learn.
                let want = |gradient: &[f64], learned: i32| match learned {
                    0 => Vec::new(),
                    _ => gradient.iter().map(|g| g * pass).collect(),
                };
                assert_close(&b.param("c", 0).1, &want(&dw, learned[0]), 1e-12);
                assert_close(&b.param("c", 1).1, &want(&db, learned[1]), 1e-12);
            }
        }
    }

    #[test]
    fn shapes_follow_the_windows() {
        let zeros = [0.0; 480];
        let shape = |param: &str, x: &[usize]| {
            let n = x.iter().product();
            let b = Bench::<f32>::new(&layer(param), &[("x", x, &zeros[..n])]).unwrap();
            (b.shape("y").to_vec(), b.weights.get(b.weights.find("c", 0).unwrap()).shape.to_vec())
        };
        let param =
            "num_output: 4 group: 2 kernel_size: 3 kernel_size: 1 stride: 2 stride: 1 pad_h: 1 pad_w: 2";
        assert_eq!(shape(param, &[2, 4, 7, 5]), (vec![2, 4, 4, 9], vec![4, 2, 3, 1]));
        let param = "num_output: 2 kernel_size: 2 dilation: 2";
        assert_eq!(shape(param, &[1, 3, 4, 4, 5]), (vec![1, 2, 2, 2, 3], vec![2, 3, 2, 2, 2]));
        assert_eq!(shape("num_output: 2 kernel_size: 1 axis: -1", &[3, 4]), (vec![3, 2], vec![2, 4]));
    }

    #[test]
    fn bad_parameters_are_refused() {
        let x: (&str, &[usize], &[f64]) = ("x", &[1, 3, 4, 4], &[0.0; 48]);
        for (param, field, words) in [
            ("kernel_size: 3", "num_output", "needs outputs"),
            ("num_output: 2 kernel_size: 1 group: 0", "group", "needs groups"),
            ("num_output: 3 kernel_size: 1 group: 2", "num_output", "do not divide the outputs"),
            ("num_output: 2 kernel_size: 1 group: 2", "group", "do not divide the channels"),
            ("num_output: 2 kernel_size: 1 axis: 4", "axis", "axis 4"),
            ("num_output: 2", "kernel_size", "missing"),
        ] {
            let e = refusal(&layer(param), &[x]);
            assert_eq!(e.field(), Some(format!("convolution_param.{field}").as_str()), "{e}");
            assert!(e.message().contains(words), "{e}");
        }
        let e = refusal(&layer("num_output: 2 kernel_size: 5"), &[x]);
        assert_eq!(e.field(), Some("convolution_param.kernel_size"));
        assert!(e.message().contains("larger than the padded input"), "{e}");
        let two =
            layer("num_output: 2 kernel_size: 1").replace("bottom: 'x'", "bottom: 'x' bottom: 'z' top: 'v'");
        let e = refusal(&two, &[x, ("z", &[1, 3, 4, 5], &[0.0; 60])]);
        assert!(e.message().contains("one shape"), "{e}");
    }
}
