//! Convolution on a GPU.

use super::Convolution;
use crate::device::{
    self, Arg, Batch, Bf16, Context, ConvolutionSizes, Direction, Gpu, Grid, Memory, Precision, Source, View,
};
use crate::error::{Error, Kind, Result};
use crate::layers::{Backward, Channels, DeviceCode, Forward, Step, ending};
use crate::math;
use crate::math::Real;
use crate::proto::caffe::convolution_parameter::Engine;

pub(crate) static KERNELS: Source =
    Source { name: "convolution.cu", parts: &[include_str!("windows.cu"), include_str!("convolution.cu")] };

/// Apart, since they take long to compile and are seldom wanted.
pub(crate) static PRODUCTS: Source = Source {
    name: "convolution_product.cu",
    parts: &[include_str!("windows.cu"), include_str!("convolution_product.cu")],
};

/// What a convolution of these shapes keeps for a device.
pub(super) struct OnDevice<T> {
    sizes: Option<Sizes>,
    /// The device that was asked for cuDNN, in which precision, and what it said.
    asked: Option<(Gpu, Precision)>,
    dnn: Option<device::Convolution<T>>,
    rounded: Rounded,
}

/// Filters, columns and tops as the device multiplies them, where it rounds them.
#[derive(Default)]
struct Rounded {
    filters: Option<Memory<Bf16>>,
    columns: Option<Memory<Bf16>>,
    tops: Option<Memory<Bf16>>,
}

impl<T> Default for OnDevice<T> {
    fn default() -> OnDevice<T> {
        OnDevice { sizes: None, asked: None, dnn: None, rounded: Rounded::default() }
    }
}

/// The sizes of a convolution over any number of axes, as products of matrices have them.
struct Sizes {
    batch: usize,
    groups: usize,
    channels: usize,
    outputs: usize,
    /// Values of an image of the bottom, and of the top.
    bottom: usize,
    top: usize,
    /// Windows of an image.
    places: usize,
    /// Taps of the kernel.
    window: usize,
    /// Extents of each group's product: outputs × places × values of a window.
    product: [usize; 3],
    /// Whether the bottom itself is its columns.
    direct: bool,
    /// The kernels from windows to columns, and back, and the `Windows` that they take.
    gather: [&'static str; 2],
    words: Vec<i32>,
    /// Those that need no columns, one for each direction, and theirs.
    products: [&'static str; 3],
    product_words: Vec<i32>,
}

/// Most axes behind the channels: `MOST` of the kernels.
const MOST: usize = 31;

impl Sizes {
    fn new(engine: &math::Convolution) -> Result<Sizes> {
        let (g, output) = (engine.geometry(), engine.output());
        let places = output.iter().product();
        let window = g.kernel.iter().product();
        let extents = [&g.input[..], &g.kernel, &g.stride, &g.pad, &g.dilation, output];
        let (slots, gather) = match g.input.len() {
            1 => (1, ["im2col1", "col2im1"]),
            2 => (2, ["im2col2", "col2im2"]),
            3 => (3, ["im2col3", "col2im3"]),
            n if n <= MOST => (MOST, ["im2col", "col2im"]),
            n => {
                return Err(Error::new(Kind::Shape, "a convolution over too many axes for a GPU")
                    .expected(format!("at most {MOST} behind the channels"))
                    .found(n));
            }
        };
        let int = |n: usize| {
            i32::try_from(n).map_err(|_| {
                Error::new(Kind::Shape, "a convolution is too large for a GPU")
                    .expected("extents below 2^31")
                    .found(n)
            })
        };
        let (product_slots, products) = match g.input.len() {
            2 => (2, ["tops2", "bottoms2", "filters2"]),
            _ => (MOST, ["tops", "bottoms", "filters"]),
        };
        let words = |slots: usize| {
            let mut words = vec![0; 1 + extents.len() * slots];
            words[0] = int(g.input.len())?;
            for (to, from) in words[1..].chunks_exact_mut(slots).zip(extents) {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = int(*from)?;
                }
            }
            Ok::<_, Error>(words)
        };
        let one = |v: &[usize], value: usize| v.iter().all(|&v| v == value);
        Ok(Sizes {
            batch: g.batch,
            groups: g.groups,
            channels: g.channels,
            outputs: g.num_output,
            bottom: g.channels * g.input.iter().product::<usize>(),
            top: g.num_output * places,
            places,
            window,
            product: [g.num_output / g.groups, places, g.channels / g.groups * window],
            direct: one(&g.kernel, 1) && one(&g.stride, 1) && one(&g.pad, 0),
            gather,
            words: words(slots)?,
            products,
            product_words: words(product_slots)?,
        })
    }

    /// Where the channels of a top lie.
    fn tops(&self) -> Channels {
        Channels { outer: self.batch, dim: self.outputs, inner: self.places }
    }

    /// Values of the columns of an image.
    fn column(&self) -> usize {
        let [_, n, k] = self.product;
        self.groups * n * k
    }

    /// Whether the columns of an image find room in the workspace.
    fn fits<T>(&self, gpu: &Gpu) -> bool {
        self.direct || self.column().saturating_mul(size_of::<T>()) <= gpu.workspace_limit()
    }

    /// The batch in parts, by first image and number of images, whose columns find room.
    fn parts<T>(&self, gpu: &Gpu) -> impl Iterator<Item = (usize, usize)> + use<T> {
        let room = (gpu.workspace_limit() / size_of::<T>()).min(i32::MAX as usize);
        let (batch, step) = (self.batch, (room / self.column().max(1)).max(1));
        let step = if self.direct { batch.max(1) } else { step };
        (0..batch).step_by(step).map(move |first| (first, step.min(batch - first)))
    }

    /// A direction without columns.
    fn product<T: Real>(&self, gpu: &Gpu, way: Direction, [a, b, c]: [View<T>; 3]) -> Result<()> {
        const SQUARE: usize = 64;
        let [outputs, places, line] = self.product;
        let channels = self.channels / self.groups;
        // The kernel counts in integers.
        let most = self.batch * self.top.max(self.bottom);
        if i32::try_from(most).is_err() {
            return Err(Error::new(Kind::Shape, "a convolution is too large for a GPU")
                .expected("fewer than 2^31 elements, or a larger --workspace")
                .found(most));
        }
        let [rows, columns] = match way {
            Direction::Forward => [outputs, self.batch * places],
            Direction::Data => [channels, self.batch * self.bottom / self.channels],
            Direction::Filters => [outputs, line],
        };
        let sizes = [self.batch, self.groups, outputs, channels, self.window, places].map(Arg::from);
        let [batch, groups, outputs, channels, window, places] = sizes;
        let args = [batch, groups, outputs, channels, window, places, a.into(), b.into(), c.into()];
        let grid = Grid::Rows(self.groups * rows.div_ceil(SQUARE) * columns.div_ceil(SQUARE));
        gpu.launch_with::<T>(&PRODUCTS, self.products[way as usize], grid, &self.product_words, &args)
    }

    /// Launches one of `gather` over n elements.
    fn launch<T: Real>(&self, gpu: &Gpu, kernel: usize, n: usize, from: View<T>, to: View<T>) -> Result<()> {
        let args: [Arg; 5] = [n.into(), self.window.into(), self.places.into(), from.into(), to.into()];
        gpu.launch_with::<T>(&KERNELS, self.gather[kernel], Grid::Elements(n), &self.words, &args)
    }

    /// The columns of a part of the batch.
    fn columns<T: Real>(&self, gpu: &Gpu, x: View<T>, first: usize, images: usize) -> Result<View<T>> {
        let x = x.from(first * self.bottom);
        if self.direct {
            return Ok(x);
        }
        let n = images * self.column();
        let columns = gpu.workspace(n)?;
        self.launch(gpu, 0, n, x, columns)?;
        Ok(columns)
    }

    /// y = w · columns.
    fn forward<T: Real>(&self, gpu: &Gpu, rounded: &mut Rounded, [x, w, y]: [View<T>; 3]) -> Result<()> {
        if !self.fits::<T>(gpu) {
            return self.product(gpu, Direction::Forward, [w, x, y]);
        }
        let [m, n, k] = self.product;
        let w = gpu.operand(&mut rounded.filters, w)?;
        for (first, images) in self.parts::<T>(gpu) {
            let columns = self.columns(gpu, x, first, images)?.to(images * self.column());
            let columns = gpu.operand(&mut rounded.columns, columns)?;
            let batch = Batch { count: images, strides: [0, self.column(), self.top] };
            for g in 0..self.groups {
                let (w, y) = (w.from(g * m * k), y.from(first * self.top + g * m * n));
                let columns = columns.from(g * k * n);
                gpu.product([false; 2], [m, n, k], T::one(), w, columns, T::zero(), y, batch)?;
            }
        }
        Ok(())
    }

    /// dw += dy · columnsᵀ, image by image.
    fn filters<T: Real>(&self, gpu: &Gpu, rounded: &mut Rounded, [x, dy, dw]: [View<T>; 3]) -> Result<()> {
        if !self.fits::<T>(gpu) {
            return self.product(gpu, Direction::Filters, [dy, x, dw]);
        }
        let ([m, n, k], one) = (self.product, T::one());
        let dy = gpu.operand(&mut rounded.tops, dy)?;
        let batch = Batch { count: 1, strides: [0; 3] };
        for (first, images) in self.parts::<T>(gpu) {
            let columns = self.columns(gpu, x, first, images)?.to(images * self.column());
            let columns = gpu.operand(&mut rounded.columns, columns)?;
            for image in 0..images {
                for g in 0..self.groups {
                    let dy = dy.from((first + image) * self.top + g * m * n);
                    let columns = columns.from(image * self.column() + g * k * n);
                    let dw = dw.from(g * m * k);
                    gpu.product([false, true], [m, k, n], one, dy, columns, one, dw, batch)?;
                }
            }
        }
        Ok(())
    }

    /// dx = columns of wᵀ · dy, added up where windows meet. `again` says that dy was rounded just before.
    fn data<T: Real>(
        &self,
        gpu: &Gpu,
        rounded: &mut Rounded,
        [w, dy, dx]: [View<T>; 3],
        again: bool,
    ) -> Result<()> {
        if !self.fits::<T>(gpu) {
            return self.product(gpu, Direction::Data, [w, dy, dx]);
        }
        let [m, n, k] = self.product;
        // Filters have not changed since the forward pass.
        let w = gpu.operand_again(&mut rounded.filters, w)?;
        let tops = &mut rounded.tops;
        let dy = if again { gpu.operand_again(tops, dy)? } else { gpu.operand(tops, dy)? };
        for (first, images) in self.parts::<T>(gpu) {
            let dx = dx.from(first * self.bottom);
            let columns = if self.direct { dx } else { gpu.workspace(images * self.column())? };
            let batch = Batch { count: images, strides: [0, self.top, self.column()] };
            for g in 0..self.groups {
                let (w, dy) = (w.from(g * m * k), dy.from(first * self.top + g * m * n));
                let to = columns.from(g * k * n);
                gpu.product([true, false], [k, n, m], T::one(), w, dy, T::zero(), to, batch)?;
            }
            if !self.direct {
                self.launch(gpu, 1, images * self.bottom, columns, dx)?;
            }
        }
        Ok(())
    }
}

impl<T: Real> OnDevice<T> {
    /// One direction, in the order of operands that [`Direction`] names: by cuDNN where it has a way, else as products of matrices. `again`
    /// says that this top's gradient was an operand just before.
    fn run(
        &mut self,
        gpu: &Gpu,
        direction: Direction,
        [a, b]: [View<T>; 2],
        result: View<T>,
        again: bool,
    ) -> Result<()> {
        if let Some(dnn) = &mut self.dnn
            && dnn.run(direction, [a, b], result)?
        {
            return Ok(());
        }
        let (Some(sizes), rounded) = (&self.sizes, &mut self.rounded) else { return Ok(()) };
        match direction {
            Direction::Forward => sizes.forward(gpu, rounded, [a, b, result]),
            Direction::Data => sizes.data(gpu, rounded, [a, b, result], again),
            Direction::Filters => sizes.filters(gpu, rounded, [a, b, result]),
        }
    }

    /// db += dy, summed over images and windows.
    fn bias_gradient(&self, gpu: &Gpu, dy: View<T>, db: View<T>) -> Result<()> {
        if let Some(dnn) = &self.dnn {
            return dnn.add_bias_gradient(dy, db);
        }
        let Some(sizes) = &self.sizes else { return Ok(()) };
        let args = [sizes.batch.into(), sizes.outputs.into(), sizes.places.into(), dy.into(), db.into()];
        gpu.launch::<T>(&KERNELS, "bias_gradient", Grid::Rows(sizes.outputs), &args)
    }
}

impl<T: Real> Convolution<T> {
    /// Settles how these shapes are computed on a device, at their first use there.
    fn settle(&mut self, gpu: &Gpu) -> Result<()> {
        if self.device.sizes.is_none() {
            self.device.sizes = Some(Sizes::new(self.engine()?)?);
        }
        let asked = Some((gpu.clone(), gpu.precision()));
        if self.device.asked != asked {
            self.device.dnn = self.ask(gpu)?;
            self.device.asked = asked;
        }
        Ok(())
    }

    /// cuDNN's way, where `engine` allows it and there is one. Without cuDNN `engine: CUDNN` is an error, as it is in a Caffe without it.
    fn ask(&self, gpu: &Gpu) -> Result<Option<device::Convolution<T>>> {
        let (engine, wanted) = (self.engine()?, self.param.engine());
        let g = engine.geometry();
        // What is rounded to bf16 are columns.
        if wanted == Engine::Caffe || g.batch == 0 || gpu.precision() == Precision::Bf16 {
            return Ok(None);
        }
        let sizes = ConvolutionSizes {
            batch: g.batch,
            groups: g.groups,
            channels: g.channels,
            outputs: g.num_output,
            input: &g.input,
            kernel: &g.kernel,
            stride: &g.stride,
            pad: &g.pad,
            dilation: &g.dilation,
            output: engine.output(),
        };
        match gpu.convolution(&sizes) {
            Err(e) if wanted == Engine::Cudnn => Err(e.in_field("convolution_param.engine")),
            answer => Ok(answer.ok()),
        }
    }
}

impl<T: Real> DeviceCode<T> for Convolution<T> {
    fn leads(&self, tail: &[Step]) -> bool {
        let sizes = |engine| Sizes::new(engine).is_ok_and(|sizes| ending::takes(tail, sizes.tops()));
        self.engine().is_ok_and(sizes)
    }

    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        self.settle(gpu)?;
        let (bias, own) = (self.param.bias_term().then_some(1), 1 + usize::from(self.param.bias_term()));
        let other = match io.tail.contains(&Step::Add) {
            true => io.bottom.device(io.bottom.len() - 1)?,
            false => View::NONE,
        };
        for i in 0..io.top.len() {
            let (x, w, y) = (io.bottom.device(i)?, io.params.device(0)?, io.top.device(i)?);
            self.device.run(gpu, Direction::Forward, [x, w], y, false)?;
            if let Some(sizes) = &self.device.sizes {
                ending::launch(gpu, sizes.tops(), (&io.params, own, bias), io.tail, other, y)?;
            }
        }
        Ok(())
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        self.settle(gpu)?;
        for i in (0..io.bottom.len()).filter(|&i| io.live[i]) {
            let dy = io.top_diff.device(i)?;
            if self.param.bias_term() && io.params.learned(1) {
                self.device.bias_gradient(gpu, dy, io.params.device_diff(1)?)?;
            }
            if io.params.learned(0) {
                let (x, dw) = (io.bottom.device(i)?, io.params.device_diff(0)?);
                self.device.run(gpu, Direction::Filters, [x, dy], dw, false)?;
            }
            if io.propagate[i] {
                let (w, dx) = (io.params.device(0)?, io.bottom_diff.device(i)?);
                self.device.run(gpu, Direction::Data, [w, dy], dx, io.params.learned(0))?;
            }
        }
        Ok(())
    }
}
