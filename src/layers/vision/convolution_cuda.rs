//! Convolution on a GPU.

use super::Convolution;
use crate::device::{Arg, Batch, Context, Gpu, Grid, Memory, Operand, Source, View};
use crate::error::Result;
use crate::layers::{Backward, Channels, DeviceCode, Forward, Step, ending};
use crate::math;
use crate::math::Real;

pub(crate) static KERNELS: Source =
    Source { name: "convolution.cu", parts: &[include_str!("convolution.cu")] };

/// Values that the columns of one part of the batch may take: 64 MB of single precision.
const ROOM: usize = 1 << 24;

/// The sizes of a convolution over one or two axes.
struct Sizes {
    batch: usize,
    groups: usize,
    channels: usize,
    outputs: usize,
    /// Height and width of input, kernel, stride, pad, dilation and output.
    windows: [[usize; 2]; 6],
    /// Values of an image of the bottom, and of the top.
    bottom: usize,
    top: usize,
    /// Windows of an image.
    places: usize,
}

impl Sizes {
    fn new(engine: &math::Convolution) -> Sizes {
        let g = engine.geometry();
        // A single axis is the width of images of height 1.
        let two = |v: &[usize], one: usize| match *v {
            [h, w] => [h, w],
            [w] => [one, w],
            _ => [one, one],
        };
        let output = two(engine.output(), 1);
        let (input, places) = (two(&g.input, 1), output[0] * output[1]);
        Sizes {
            batch: g.batch,
            groups: g.groups,
            channels: g.channels,
            outputs: g.num_output,
            windows: [
                input,
                two(&g.kernel, 1),
                two(&g.stride, 1),
                two(&g.pad, 0),
                two(&g.dilation, 1),
                output,
            ],
            bottom: g.channels * input[0] * input[1],
            top: g.num_output * places,
            places,
        }
    }

    /// Extents of each group's product: outputs × places × windows.
    fn product(&self) -> [usize; 3] {
        let [h, w] = self.windows[1];
        [self.outputs / self.groups, self.places, self.channels / self.groups * h * w]
    }

    /// Values of the columns of an image.
    fn column(&self) -> usize {
        let [_, n, k] = self.product();
        self.groups * n * k
    }

    /// Whether the bottom itself is its columns.
    fn direct(&self) -> bool {
        let [_, kernel, stride, pad, ..] = self.windows;
        kernel == [1; 2] && stride == [1; 2] && pad == [0; 2]
    }

    /// The batch in parts, by first image and number of images, whose columns take little room.
    fn parts(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (batch, step) = (self.batch, (ROOM / self.column().max(1)).max(1));
        (0..batch).step_by(step).map(move |first| (first, step.min(batch - first)))
    }

    /// Where the channels of a top lie.
    fn tops(&self) -> Channels {
        Channels { outer: self.batch, dim: self.outputs, inner: self.places }
    }

    fn args(&self, n: usize) -> [Arg; 14] {
        let [i, k, s, p, d, o] = self.windows.map(|v| v.map(Arg::from));
        let c = self.channels.into();
        [n.into(), c, i[0], i[1], k[0], k[1], s[0], s[1], p[0], p[1], d[0], d[1], o[0], o[1]]
    }

    /// The columns of a part of the batch.
    fn columns<T: Real>(
        &self,
        gpu: &Gpu,
        room: &mut Option<Memory<T>>,
        x: View<T>,
        first: usize,
        images: usize,
    ) -> Result<View<T>> {
        let x = x.from(first * self.bottom);
        if self.direct() {
            return Ok(x);
        }
        let n = images * self.column();
        let columns = Memory::ready(room, gpu, n)?.view();
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, o] = self.args(n);
        let args = [a, b, c, d, e, f, g, h, i, j, k, l, m, o, x.into(), columns.into()];
        gpu.launch::<T>(&KERNELS, "im2col", Grid::Elements(n), &args)?;
        Ok(columns)
    }

    /// dw += dy · columnsᵀ, image by image.
    fn weights<T: Real>(
        &self,
        gpu: &Gpu,
        columns: Operand<T>,
        dy: Operand<T>,
        images: usize,
        dw: View<T>,
    ) -> Result<()> {
        let ([m, n, k], one) = (self.product(), T::one());
        let batch = Batch { count: 1, strides: [0; 3] };
        for image in 0..images {
            for g in 0..self.groups {
                let dy = dy.from(image * self.top + g * m * n);
                let columns = columns.from(image * self.column() + g * k * n);
                gpu.product([false, true], [m, k, n], one, dy, columns, one, dw.from(g * m * k), batch)?;
            }
        }
        Ok(())
    }

    /// dx = columns of wᵀ · dy, added up where windows meet.
    fn data<T: Real>(
        &self,
        gpu: &Gpu,
        room: &mut Option<Memory<T>>,
        w: Operand<T>,
        dy: Operand<T>,
        (dx, first, images): (View<T>, usize, usize),
    ) -> Result<()> {
        let ([m, n, k], dx) = (self.product(), dx.from(first * self.bottom));
        let columns =
            if self.direct() { dx } else { Memory::ready(room, gpu, images * self.column())?.view() };
        let batch = Batch { count: images, strides: [0, self.top, self.column()] };
        for g in 0..self.groups {
            let (w, dy, to) = (w.from(g * m * k), dy.from(g * m * n), columns.from(g * k * n));
            gpu.product([true, false], [k, n, m], T::one(), w, dy, T::zero(), to, batch)?;
        }
        if self.direct() {
            return Ok(());
        }
        let n = images * self.bottom;
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, o] = self.args(n);
        let args = [a, b, c, d, e, f, g, h, i, j, k, l, m, o, columns.into(), dx.into()];
        gpu.launch::<T>(&KERNELS, "col2im", Grid::Elements(n), &args)
    }
}

impl<T: Real> DeviceCode<T> for Convolution<T> {
    fn leads(&self, tail: &[Step]) -> bool {
        self.engine().is_ok_and(|engine| ending::takes(tail, Sizes::new(engine).tops()))
    }

    fn forward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Forward<T>) -> Result<()> {
        let sizes = Sizes::new(self.engine()?);
        let [rw, rc, _] = &mut self.rounded;
        let w = gpu.operand(rw, io.params.device(0)?)?;
        let (bias, own) = (self.param.bias_term().then_some(1), 1 + usize::from(self.param.bias_term()));
        let channels = sizes.tops();
        let other = match io.tail.contains(&Step::Add) {
            true => io.bottom.device(io.bottom.len() - 1)?,
            false => View::NONE,
        };
        for i in 0..io.top.len() {
            let (x, y) = (io.bottom.device(i)?, io.top.device(i)?);
            for (first, images) in sizes.parts() {
                let columns = sizes.columns(gpu, &mut self.device, x, first, images)?;
                let columns = gpu.operand(rc, columns.to(images * sizes.column()))?;
                for g in 0..sizes.groups {
                    let [m, n, k] = sizes.product();
                    let (w, y) = (w.from(g * m * k), y.from(first * sizes.top + g * m * n));
                    let batch = Batch { count: images, strides: [0, sizes.column(), sizes.top] };
                    let columns = columns.from(g * k * n);
                    gpu.product([false; 2], [m, n, k], T::one(), w, columns, T::zero(), y, batch)?;
                }
            }
            ending::launch(gpu, channels, (&io.params, own, bias), io.tail, other, y)?;
        }
        Ok(())
    }

    fn backward(&mut self, gpu: &Gpu, _: &Context<T>, mut io: Backward<T>) -> Result<()> {
        let sizes = Sizes::new(self.engine()?);
        let [rw, rc, rdy] = &mut self.rounded;
        for i in (0..io.bottom.len()).filter(|&i| io.live[i]) {
            let dy = io.top_diff.device(i)?;
            if self.param.bias_term() && io.params.learned(1) {
                let db = io.params.device_diff(1)?;
                let args =
                    [sizes.batch.into(), sizes.outputs.into(), sizes.places.into(), dy.into(), db.into()];
                gpu.launch::<T>(&KERNELS, "bias_gradient", Grid::Rows(sizes.outputs), &args)?;
            }
            for (first, images) in sizes.parts() {
                let dy = dy.from(first * sizes.top).to(images * sizes.top);
                let dy = gpu.operand(rdy, dy)?;
                if io.params.learned(0) {
                    let columns =
                        sizes.columns(gpu, &mut self.device, io.bottom.device(i)?, first, images)?;
                    let columns = gpu.operand(rc, columns.to(images * sizes.column()))?;
                    sizes.weights(gpu, columns, dy, images, io.params.device_diff(0)?)?;
                }
                if io.propagate[i] {
                    let (w, dx) = (gpu.operand_again(rw, io.params.device(0)?)?, io.bottom_diff.device(i)?);
                    sizes.data(gpu, &mut self.device, w, dy, (dx, first, images))?;
                }
            }
        }
        Ok(())
    }
}
