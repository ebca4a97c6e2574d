//! A convolution of given sizes: its descriptors, the algorithms that will do, and the one of each direction.

use super::api::{self, Descriptor, Life, Performance, Status};
use super::{Cudnn, Dnn, Gpu};
use crate::blob::Element;
use crate::device::cuda::factor::Factor;
use crate::device::{Precision, View};
use crate::error::{Error, Kind, Result};
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::ptr::null_mut;

/// The sizes of a convolution, with an extent for each axis behind the channels.
#[derive(Clone, Copy, Debug)]
pub struct ConvolutionSizes<'a> {
    /// Images.
    pub batch: usize,
    /// Groups that do not see each other's channels.
    pub groups: usize,
    /// Channels of the bottom.
    pub channels: usize,
    /// Channels of the top.
    pub outputs: usize,
    /// Of the bottom.
    pub input: &'a [usize],
    /// Of the kernel.
    pub kernel: &'a [usize],
    /// From one window to the next.
    pub stride: &'a [usize],
    /// On both sides.
    pub pad: &'a [usize],
    /// From one tap to the next.
    pub dilation: &'a [usize],
    /// Of the top.
    pub output: &'a [usize],
}

/// What is computed of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The top of bottom and filters.
    Forward,
    /// The gradient of the bottom of filters and the top's gradient.
    Data,
    /// The gradient of the filters of bottom and the top's gradient.
    Filters,
}

/// A convolution of given sizes on a device, by cuDNN.
///
/// An algorithm is chosen for each direction when it is first asked for, outside of a capture, among those that fit into the workspace, give the same
/// bits each time and compute in the precision that is wanted: by [`Cudnn::Search`] the one that is the fastest in a few runs, by
/// [`Cudnn::Forecast`] the first in the order of cuDNN's own expectations, which depends on the sizes, the device and the library alone.
pub struct Convolution<T> {
    pub(super) gpu: Gpu,
    /// Numbers, products and sizes in words.
    pub(super) what: String,
    bottom: Operand,
    filters: Operand,
    top: Operand,
    bias: Operand,
    convolution: Owned,
    /// Nothing where there is none.
    chosen: [Option<Option<Algorithm>>; 3],
    kind: PhantomData<T>,
}

/// An algorithm of a direction by its number, and the bytes of its workspace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Algorithm {
    pub number: c_int,
    pub bytes: usize,
}

/// A descriptor, and how many values it describes.
pub(super) struct Operand {
    descriptor: Owned,
    pub len: usize,
}

struct Owned {
    at: Descriptor,
    life: Life,
}

// SAFETY: descriptors are memory of the host, which nobody else has.
unsafe impl Send for Owned {}
// SAFETY: they are written when they are made and only read from then on.
unsafe impl Sync for Owned {}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: it was made once, and nobody else ends it.
        let _ = unsafe { (self.life.end)(self.at) };
    }
}

/// Most algorithms that are looked at.
const ALGORITHMS: usize = 16;

impl Gpu {
    /// Describes a convolution to cuDNN. Errors: there is no cuDNN; it has no such convolution.
    pub fn convolution<T: Element>(&self, sizes: &ConvolutionSizes<'_>) -> Result<Convolution<T>> {
        let dnn = self.dnn()?;
        let axes = sizes.input.len();
        if axes == 0 || axes > 3 {
            return Err(unsupported("convolutions over one to three axes").found(format!("{axes} axes")));
        }
        // A single axis is the width of images of height 1.
        let spatial = |from: &[usize], one: usize| -> Result<Vec<c_int>> {
            let one = (axes == 1).then_some(one);
            one.iter().chain(from).map(|&n| int(n)).collect()
        };
        let dims = |first: [usize; 2], from: &[usize]| -> Result<Vec<c_int>> {
            let mut dims = first.into_iter().map(int).collect::<Result<Vec<c_int>>>()?;
            dims.extend(spatial(from, 1)?);
            Ok(dims)
        };
        let data = if size_of::<T>() == 4 { api::FLOAT } else { api::DOUBLE };
        let bottom = dims([sizes.batch, sizes.channels], sizes.input)?;
        let top = dims([sizes.batch, sizes.outputs], sizes.output)?;
        let filters = dims([sizes.outputs, sizes.channels / sizes.groups.max(1)], sizes.kernel)?;
        let bias = dims([1, sizes.outputs], &vec![1; axes])?;
        Ok(Convolution {
            gpu: self.clone(),
            what: format!("{} with {} products, {sizes:?}", T::NAME, self.precision().name()),
            bottom: dnn.tensor(data, &bottom)?,
            filters: dnn.filters(data, &filters)?,
            top: dnn.tensor(data, &top)?,
            bias: dnn.tensor(data, &bias)?,
            convolution: {
                let [pad, stride, dilation] =
                    [spatial(sizes.pad, 0)?, spatial(sizes.stride, 1)?, spatial(sizes.dilation, 1)?];
                dnn.convolution(data, [&pad, &stride, &dilation], int(sizes.groups)?, self.math())?
            },
            chosen: [None; 3],
            kind: PhantomData,
        })
    }

    /// How numbers of 32 bits are multiplied: in full, or rounded to TF32 for who asks for it.
    fn math(&self) -> c_int {
        if self.precision() == Precision::Tf32 { api::DEFAULT_MATH } else { api::FMA_MATH }
    }
}

impl Dnn {
    fn make(&self, life: Life) -> Result<Owned> {
        let mut at = null_mut();
        // SAFETY: writes one pointer.
        self.api.check("describe a convolution", unsafe { (life.make)(&mut at) })?;
        Ok(Owned { at, life })
    }

    fn described(&self, status: Status) -> Result<()> {
        self.api.check("describe such a convolution", status)
    }

    /// Dense, in the order of its dimensions.
    fn tensor(&self, data: c_int, dims: &[c_int]) -> Result<Operand> {
        let (descriptor, mut strides) = (self.make(self.api.tensor)?, vec![1; dims.len()]);
        let len = dense(dims, &mut strides)?;
        let count = dims.len() as c_int;
        // SAFETY: both lists have so many numbers, and are read before the call returns.
        self.described(unsafe {
            (self.api.set_tensor)(descriptor.at, data, count, dims.as_ptr(), strides.as_ptr())
        })?;
        Ok(Operand { descriptor, len })
    }

    fn filters(&self, data: c_int, dims: &[c_int]) -> Result<Operand> {
        let descriptor = self.make(self.api.filter)?;
        let len = dense(dims, &mut vec![1; dims.len()])?;
        let count = dims.len() as c_int;
        // SAFETY: as above.
        self.described(unsafe {
            (self.api.set_filter)(descriptor.at, data, api::DENSE, count, dims.as_ptr())
        })?;
        Ok(Operand { descriptor, len })
    }

    /// Pad, stride and dilation; products and sums are of the type of the data.
    fn convolution(
        &self,
        data: c_int,
        [pad, stride, dilation]: [&[c_int]; 3],
        groups: c_int,
        math: c_int,
    ) -> Result<Owned> {
        let descriptor = self.make(self.api.convolution)?;
        let (at, count) = (descriptor.at, pad.len() as c_int);
        // SAFETY: the three lists have so many numbers, and are read before the call returns.
        unsafe {
            let [pad, stride, dilation] = [pad.as_ptr(), stride.as_ptr(), dilation.as_ptr()];
            let mode = api::CROSS_CORRELATION;
            self.described((self.api.set_convolution)(at, count, pad, stride, dilation, mode, data))?;
            self.described((self.api.set_groups)(at, groups))?;
            self.described((self.api.set_math)(at, math))?;
        }
        Ok(descriptor)
    }
}

impl<T: Element> Convolution<T> {
    /// Two operands and the result.
    pub(super) fn operands(&self, direction: Direction) -> [&Operand; 3] {
        match direction {
            Direction::Forward => [&self.bottom, &self.filters, &self.top],
            Direction::Data => [&self.filters, &self.top, &self.bottom],
            Direction::Filters => [&self.bottom, &self.top, &self.filters],
        }
    }

    /// The algorithms that will do, in the order of cuDNN's expectations.
    fn algorithms(&self, dnn: &Dnn, direction: Direction) -> Result<Vec<Algorithm>> {
        let limit = self.gpu.workspace_limit();
        let [a, b, c] = self.operands(direction).map(|o| o.descriptor.at);
        let (way, conv) = (&dnn.api.ways[direction as usize], self.convolution.at);
        let (mut found, mut count) = ([Performance::default(); ALGORITHMS], 0);
        self.gpu.enter()?;
        // SAFETY: the descriptors live; it writes at most so many entries.
        let status = unsafe {
            (way.find)(dnn.handle, a, b, conv, c, ALGORITHMS as c_int, &mut count, found.as_mut_ptr())
        };
        let count = if api::not_supported(status) { 0 } else { count };
        if count > 0 || !api::not_supported(status) {
            dnn.api.check("say how it would convolve", status)?;
        }
        let count = usize::try_from(count).unwrap_or(0).min(ALGORITHMS);
        let mut algorithms: Vec<Algorithm> = Vec::with_capacity(count);
        for entry in &found[..count] {
            // The library also looks at other precisions than the one that it was told.
            let right = entry.status == api::SUCCESS
                && entry.determinism == api::DETERMINISTIC
                && [api::DEFAULT_MATH, api::FMA_MATH].contains(&entry.math);
            let mut bytes = 0;
            // SAFETY: the descriptors live; it writes one number. What the entry says may be of another precision: this is what counts.
            let sized = unsafe { (way.size)(dnn.handle, a, b, conv, c, entry.algorithm, &mut bytes) };
            let known = algorithms.iter().any(|known| known.number == entry.algorithm);
            if right && sized == api::SUCCESS && bytes <= limit && !known {
                algorithms.push(Algorithm { number: entry.algorithm, bytes });
            }
        }
        Ok(algorithms)
    }

    /// The algorithm of a direction, chosen at the first call. Nothing where cuDNN has none that will do.
    fn algorithm(
        &mut self,
        direction: Direction,
        operands: [View<T>; 2],
        result: View<T>,
    ) -> Result<Option<Algorithm>> {
        if let Some(chosen) = self.chosen[direction as usize] {
            return Ok(chosen);
        }
        self.gpu.not_in_capture("choose how to convolve")?;
        let dnn = self.gpu.dnn()?;
        let algorithms = self.algorithms(dnn, direction)?;
        let chosen = match self.gpu.cudnn_use() {
            Cudnn::Search if algorithms.len() > 1 => {
                self.fastest(dnn, direction, &algorithms, operands, result)?
            }
            _ => algorithms.first().copied(),
        };
        self.chosen[direction as usize] = Some(chosen);
        Ok(chosen)
    }

    /// Computes a direction of two operands, in the order in which [`Direction`] names them. The gradient of the filters is added to what is there,
    /// the others are written. Whether it was done: it is
    /// not where cuDNN has no algorithm that will do and fits into the workspace.
    pub fn run(&mut self, direction: Direction, operands: [View<T>; 2], result: View<T>) -> Result<bool> {
        let [a, b] = operands;
        for (operand, view) in self.operands(direction).iter().zip([a, b, result]) {
            fits(operand, view)?;
        }
        let Some(algorithm) = self.algorithm(direction, operands, result)? else { return Ok(false) };
        let (workspace, dnn) = (self.gpu.workspace(algorithm.bytes)?, self.gpu.dnn()?);
        let status = self.ask(dnn, direction, algorithm, workspace, operands, result)?;
        dnn.api.check("convolve", status)?;
        Ok(true)
    }

    /// Asks the device for it by an algorithm, in a workspace that is large enough. What the library said to that.
    pub(super) fn ask(
        &self,
        dnn: &Dnn,
        direction: Direction,
        algorithm: Algorithm,
        workspace: View<u8>,
        [a, b]: [View<T>; 2],
        result: View<T>,
    ) -> Result<Status> {
        let [da, db, dc] = self.operands(direction).map(|o| o.descriptor.at);
        let (way, one) = (&dnn.api.ways[direction as usize], Factor::new::<T>(1.0));
        let kept = Factor::new::<T>(if direction == Direction::Filters { 1.0 } else { 0.0 });
        self.gpu.enter()?;
        // SAFETY: the views are as long as the descriptors say, which `run` has compared, the workspace as the algorithm asked for; both factors are
        // read before the call returns.
        Ok(unsafe {
            (way.run)(
                dnn.handle,
                one.at(),
                da,
                data(a),
                db,
                data(b),
                self.convolution.at,
                algorithm.number,
                workspace.at as *mut c_void,
                algorithm.bytes,
                kept.at(),
                dc,
                data(result),
            )
        })
    }

    /// Adds the top's gradient, summed over images and windows, to that of the bias.
    pub fn add_bias_gradient(&self, dy: View<T>, db: View<T>) -> Result<()> {
        fits(&self.top, dy)?;
        fits(&self.bias, db)?;
        let (dnn, one) = (self.gpu.dnn()?, Factor::new::<T>(1.0));
        let (top, bias) = (self.top.descriptor.at, self.bias.descriptor.at);
        self.gpu.enter()?;
        // SAFETY: as above.
        let status = unsafe { (dnn.api.bias)(dnn.handle, one.at(), top, data(dy), one.at(), bias, data(db)) };
        dnn.api.check("sum up the gradient of a bias", status)
    }
}

fn data<T>(view: View<T>) -> *mut c_void {
    view.at as *mut c_void
}

fn unsupported(expected: &str) -> Error {
    Error::new(Kind::Unsupported, "cuDNN has no such convolution").expected(expected.to_string())
}

fn int(n: usize) -> Result<c_int> {
    c_int::try_from(n).map_err(|_| unsupported("extents below 2^31").found(n))
}

/// The strides of dense values, and how many they are.
fn dense(dims: &[c_int], strides: &mut [c_int]) -> Result<usize> {
    let mut len = 1usize;
    for (dim, stride) in dims.iter().zip(strides).rev() {
        *stride = int(len)?;
        len = len.saturating_mul(usize::try_from(*dim).unwrap_or(0));
    }
    Ok(len)
}

fn fits<T>(operand: &Operand, view: View<T>) -> Result<()> {
    if view.len >= operand.len {
        return Ok(());
    }
    Err(Error::new(Kind::Device, "a convolution of more values than there are")
        .expected(operand.len)
        .found(view.len))
}
