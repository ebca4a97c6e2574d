//! Pooling: one value for each window of an image.

mod average;
mod average_blocks;
mod axis;
pub(crate) mod cuda;
mod max;
mod max_blocks;
mod stochastic;
mod strips;

use crate::blob::Shape;
use crate::device::{Context, Memory};
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, Channels, DeviceCode, Forward, InBlocks, Layer, Reads, Setup};
use crate::math::{Far, Isa, Layouts, Real, Stream, parallel};
use crate::proto::caffe::pooling_parameter::{PoolMethod, RoundMode};
use crate::proto::caffe::{LayerParameter, Phase, PoolingParameter};
use axis::Axis;
use std::ops::RangeInclusive;

/// The largest value (`MAX`), the mean (`AVE`) or a drawn value (`STOCHASTIC`) of each window.
///
/// ```prototxt
/// layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
///   pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
/// ```
///
/// Shapes: N×C×H×W to N×C×H'×W', with H' = ⌈(H + 2·pad − kernel) / stride⌉ + 1 (`round_mode: FLOOR` rounds down); with a
/// pad, a last window that would begin behind the padded image is left out. `global_pooling` takes the image as one
/// window. `MAX` may have a second top: the index in its plane of each largest value, as a number, without gradient.
/// Of equal values the first one is the largest; a NaN wins (Caffe drops it). Means count the pad as zeros.
/// `STOCHASTIC` draws with probability x / Σx (x must not be negative) in training and gives Σx² / Σx in testing.
/// Not in place.
///
/// Errors: a bottom without four axes, window fields that contradict each other, a pad that is not smaller than the
/// window, and a last window that is empty (a stride larger than the window; Caffe reads nothing there).
///
/// Source: Caffe's Pooling.
pub struct Pooling {
    method: PoolMethod,
    param: PoolingParameter,
    training: bool,
    axes: Option<[Axis; 2]>,
    /// How largest values are found where channels lie in blocks, if windows are of a kind for that.
    walk: Option<max_blocks::Walk>,
    /// Channels of bottom and top, if it has a single top.
    channels: Option<[Channels; 2]>,
    /// Index in its plane of the value each window took; or the number of its tap, where channels lie in blocks.
    at: Vec<u32>,
    taps: Vec<u8>,
    /// The same on a device.
    device: Option<Memory<u32>>,
}

/// Makes the layer.
pub fn new<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let p = param.pooling_param.unwrap_or_default();
    check(&p)?;
    let training = param.phase() == Phase::Train;
    Ok(Box::new(Pooling {
        method: p.pool(),
        param: p,
        training,
        axes: None,
        walk: None,
        channels: None,
        at: Vec::new(),
        taps: Vec::new(),
        device: None,
    }))
}

/// The fields against each other, as Caffe does.
fn check(p: &PoolingParameter) -> Result<()> {
    let bad = |field: &str, message: &str| {
        Error::new(Kind::Value, message).in_field(&format!("pooling_param.{field}"))
    };
    for (field, one, h, w) in [
        ("kernel_size", p.kernel_size, p.kernel_h, p.kernel_w),
        ("pad", p.pad, p.pad_h, p.pad_w),
        ("stride", p.stride, p.stride_h, p.stride_w),
    ] {
        if one.is_some() && (h.is_some() || w.is_some()) {
            return Err(bad(field, "one value and another for height or width are given")
                .expected(format!("{field}, or one for height and one for width, not both")));
        }
        if h.is_some() != w.is_some() {
            return Err(
                bad(field, "only one of height and width is given").expected(format!("both, or {field}"))
            );
        }
    }
    let given = p.kernel_size.or(p.kernel_h).is_some();
    if p.global_pooling() && given {
        return Err(bad("kernel_size", "global pooling takes the image as its window")
            .expected("no window size with global_pooling: true"));
    }
    if !p.global_pooling() && !given {
        return Err(bad("kernel_size", "the window has no size")
            .expected("kernel_size, kernel_h and kernel_w, or global_pooling: true"));
    }
    let [kernel, stride, pad] = [kernel(p), stride(p), pad(p)];
    if given && kernel.contains(&0) {
        return Err(bad("kernel_size", "a window of no size").expected("1 or more").found(0));
    }
    if stride.contains(&0) {
        return Err(bad("stride", "a stride of 0").expected("1 or more").found(0));
    }
    if p.global_pooling() && (stride != [1; 2] || pad != [0; 2]) {
        let field = if pad != [0; 2] { "pad" } else { "stride" };
        return Err(bad(field, "global pooling has one window").expected("pad 0 and stride 1"));
    }
    if pad != [0; 2] && p.pool() == PoolMethod::Stochastic {
        return Err(bad("pad", "stochastic pooling takes no pad").expected(0).found(pad[0].max(pad[1])));
    }
    if !p.global_pooling() && (pad[0] >= kernel[0] || pad[1] >= kernel[1]) {
        return Err(bad("pad", "a window may lie in the pad alone")
            .expected("a pad smaller than the window")
            .found(format!("pad {} {}, window {} {}", pad[0], pad[1], kernel[0], kernel[1])));
    }
    Ok(())
}

fn kernel(p: &PoolingParameter) -> [usize; 2] {
    [p.kernel_h, p.kernel_w].map(|k| k.or(p.kernel_size).unwrap_or(0) as usize)
}

fn stride(p: &PoolingParameter) -> [usize; 2] {
    [p.stride_h, p.stride_w].map(|s| s.unwrap_or(p.stride()) as usize)
}

fn pad(p: &PoolingParameter) -> [usize; 2] {
    [p.pad_h, p.pad_w].map(|s| s.unwrap_or(p.pad()) as usize)
}

/// Elements that one task takes.
const GRAIN: usize = 16 * 1024;

impl Pooling {
    fn axes(&self) -> Result<[Axis; 2]> {
        self.axes.ok_or_else(shapeless)
    }

    /// Whether backward sends each gradient to the one value that forward took.
    fn takes_one(&self) -> bool {
        self.method == PoolMethod::Max || self.method == PoolMethod::Stochastic && self.training
    }
}

impl<T: Real> Layer<T> for Pooling {
    fn tops(&self) -> RangeInclusive<usize> {
        1..=if self.method == PoolMethod::Max { 2 } else { 1 }
    }

    fn blocks(&self) -> InBlocks {
        let (Some(axes), Some(channels)) = (self.axes, self.channels) else { return InBlocks::Never };
        match self.method {
            PoolMethod::Max if self.walk.is_some() => InBlocks::Alike(channels.to_vec()),
            // A single pixel lies in blocks as it does in planes.
            PoolMethod::Ave if is_global(&axes) => InBlocks::Apart(channels),
            PoolMethod::Ave => InBlocks::Alike(channels.to_vec()),
            _ => InBlocks::Never,
        }
    }

    fn gates(&self, layouts: Layouts) -> bool {
        self.walk.is_some() && layouts.bottom.lanes::<T>() > 1
    }

    fn reads(&self) -> Reads {
        if self.method == PoolMethod::Stochastic && !self.training { Reads::BOTTOM } else { Reads::NOTHING }
    }

    fn reshape(&mut self, bottom: &[&Shape], setup: &mut Setup<T>) -> Result<Vec<Shape>> {
        let &[n, c, height, width] = &bottom[0][..] else {
            return Err(Error::new(Kind::Shape, "pooling is over images")
                .expected("4 axes: N C H W")
                .found(bottom[0]));
        };
        if height.saturating_mul(width) > u32::MAX as usize {
            return Err(Error::new(Kind::Shape, "an image too large").found(bottom[0]));
        }
        let p = &self.param;
        let (pad, stride) = (pad(p), stride(p));
        let kernel = if p.global_pooling() { [height, width] } else { kernel(p) };
        let mode: RoundMode = p.round_mode();
        let axis = |i: usize, size| {
            let field = if p.global_pooling() { "pooling_param" } else { "pooling_param.kernel_size" };
            Axis::new(size, kernel[i], stride[i], pad[i], mode).map_err(|e| e.in_field(field))
        };
        let axes = [axis(0, height)?, axis(1, width)?];
        let top = Shape::new([n, c, axes[0].output, axes[1].output])?;
        let of = |inner| Channels { outer: n, dim: c, inner };
        let inner = [height * width, top.count_from(2)];
        self.channels = (setup.tops == 1).then_some(inner.map(of));
        self.axes = Some(axes);
        self.walk = (self.method == PoolMethod::Max).then(|| max_blocks::Walk::new(&axes)).flatten();
        Ok(vec![top; setup.tops.clamp(1, 2)])
    }

    fn forward(&mut self, cx: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let axes = self.axes()?;
        let x = io.bottom.get(0);
        let (inside, outside) = planes(&axes);
        let plane = |window: usize| &x[window / outside * inside..][..inside];
        let grain = outside * (GRAIN / inside).max(1);
        let global = is_global(&axes);
        // Nobody asks where the largest values were.
        let values_only = !io.need_backward && io.top.len() == 1;
        let lanes = io.layouts.bottom.lanes::<T>();
        let of_blocks = outside * lanes * (GRAIN / (inside * lanes)).max(1);
        let gated = io.gated.contains(&true);
        let y = io.top.get(0);
        let len = y.len();
        if self.takes_one() && lanes == 1 {
            self.at.resize(len, 0);
        }
        match self.method {
            PoolMethod::Max if lanes > 1 => {
                let walk = self.walk.as_ref().ok_or_else(shapeless)?;
                let kernels = T::kernels(Isa::detect());
                self.taps.resize(len, 0);
                parallel::for_each_chunk2(y, &mut self.taps, of_blocks, |begin, y, taps| {
                    let x = &x[begin / outside * inside..];
                    walk.forward(kernels, x, gated, &Far::of(len), y, taps);
                });
            }
            PoolMethod::Max if values_only && max::has_values(&axes) => {
                parallel::for_each_chunk(y, grain, |begin, y| {
                    max::values(&x[begin / outside * inside..], &axes, y);
                });
            }
            PoolMethod::Max => {
                parallel::for_each_chunk2(y, &mut self.at, grain, |begin, y, at| {
                    max::forward(&x[begin / outside * inside..], &axes, y, at);
                });
                if io.top.len() == 2 {
                    for (mask, &at) in io.top.get(1).iter_mut().zip(&self.at) {
                        *mask = T::from_f64(f64::from(at));
                    }
                }
            }
            PoolMethod::Ave if lanes > 1 => parallel::for_each_chunk(y, of_blocks, |begin, y| {
                average_blocks::forward(lanes, &x[begin / outside * inside..], &axes, y);
            }),
            PoolMethod::Ave => parallel::for_each_chunk(
                y,
                grain,
                #[inline(always)]
                |begin, y| {
                    let x = &x[begin / outside * inside..];
                    if !global {
                        return average::forward(x, &axes, y);
                    }
                    for (x, y) in x.chunks_exact(inside).zip(y) {
                        *y = T::from_f64(parallel::sum_of(x, |x| x.as_f64()) / inside as f64);
                    }
                },
            ),
            PoolMethod::Stochastic if self.training => {
                let stream = Stream::new(cx.seed, cx.layer, cx.pass);
                parallel::for_each_chunk2(y, &mut self.at, grain, |begin, y, at| {
                    let planes = y.chunks_exact_mut(outside).zip(at.chunks_exact_mut(outside));
                    for (i, (y, at)) in planes.enumerate() {
                        let first = begin + i * outside;
                        stochastic::draw(plane(first), &axes, &stream, first, y, at);
                    }
                });
            }
            PoolMethod::Stochastic => parallel::for_each_chunk(y, grain, |begin, y| {
                for (i, y) in y.chunks_exact_mut(outside).enumerate() {
                    stochastic::expect(plane(begin + i * outside), &axes, y);
                }
            }),
        }
        Ok(())
    }

    fn device_code(&mut self) -> Option<&mut dyn DeviceCode<T>> {
        Some(self)
    }

    fn backward(&mut self, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        if !io.propagate[0] {
            return Ok(());
        }
        let axes = self.axes()?;
        let (inside, outside) = planes(&axes);
        let (x, dy, at) = (io.bottom.get(0), io.top_diff.get(0), &self.at);
        let lanes = io.layouts.bottom.lanes::<T>();
        let method = self.method;
        if lanes > 1 {
            let grain = inside * lanes * (GRAIN / (inside * lanes)).max(1);
            let dx = io.bottom_diff.get(0);
            let len = dx.len();
            let kernels = T::kernels(Isa::detect());
            parallel::for_each_chunk(dx, grain, |begin, dx| {
                let windows = begin / inside * outside..;
                let far = Far::of(len);
                let dy = &dy[windows.clone()];
                match &self.walk {
                    Some(walk) => walk.backward(kernels, dy, &self.taps[windows], &far, dx),
                    None => average_blocks::backward(lanes, dy, &axes, &far, dx),
                }
            });
            return Ok(());
        }
        let (takes_one, global) = (self.takes_one(), is_global(&axes));
        parallel::for_each_chunk(
            io.bottom_diff.get(0),
            inside * (GRAIN / inside).max(1),
            #[inline(always)]
            |begin, dx| {
                for (i, dx) in dx.chunks_exact_mut(inside).enumerate() {
                    let windows = (begin / inside + i) * outside..(begin / inside + i + 1) * outside;
                    let dy = &dy[windows.clone()];
                    if takes_one {
                        max::backward(dy, &at[windows], dx);
                    } else if method == PoolMethod::Stochastic {
                        stochastic::expect_backward(&x[begin + i * inside..][..inside], dy, &axes, dx);
                    } else if global {
                        dx.fill(dy[0] / T::from_f64(inside as f64));
                    } else {
                        average::backward(dy, &axes, dx);
                    }
                }
            },
        );
        Ok(())
    }
}

fn shapeless() -> Error {
    Error::new(Kind::Net, "the layer has no shape yet")
}

/// Elements of one image plane, and of its plane of windows.
fn planes([h, w]: &[Axis; 2]) -> (usize, usize) {
    (h.input * w.input, h.output * w.output)
}

/// Whether one window is the whole image and nothing else.
fn is_global(axes: &[Axis; 2]) -> bool {
    axes.iter().all(|a| a.output == 1 && a.pad == 0 && a.kernel >= a.input)
}

#[cfg(test)]
mod tests;
