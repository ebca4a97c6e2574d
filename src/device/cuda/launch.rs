//! Launches kernels.

use super::{Gpu, Source, View, driver_error};
use crate::blob::Element;
use crate::error::{Error, Kind, Result};
use cudarc::driver::result::launch_kernel;
use std::ffi::c_void;

/// What a kernel is given, made with `into()`. Order and kinds are those of its parameters in the `.cu`.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// `Real`, from an `f64`.
    Real(f64),
    /// `double`, whatever `Real` is.
    Double(f64),
    /// `int`, from a `usize`: a count or an index.
    Count(usize),
    /// `int`, from an `i32` or a `bool`.
    Int(i32),
    /// `unsigned`, from a `u32`.
    Word(u32),
    /// A pointer, from a [`View`].
    At(u64),
}

impl<E> From<View<E>> for Arg {
    fn from(view: View<E>) -> Arg {
        Arg::At(view.at)
    }
}

impl From<f64> for Arg {
    fn from(value: f64) -> Arg {
        Arg::Real(value)
    }
}

impl From<usize> for Arg {
    fn from(count: usize) -> Arg {
        Arg::Count(count)
    }
}

impl From<i32> for Arg {
    fn from(value: i32) -> Arg {
        Arg::Int(value)
    }
}

impl From<bool> for Arg {
    fn from(value: bool) -> Arg {
        Arg::Int(value.into())
    }
}

impl From<u32> for Arg {
    fn from(word: u32) -> Arg {
        Arg::Word(word)
    }
}

/// How many threads run a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Grid {
    /// One thread for each of so many elements, or for several in turn (`FOR_EACH` in the kernel).
    Elements(usize),
    /// One block of 256 threads for each of so many rows.
    Rows(usize),
}

/// Threads of a block.
pub const BLOCK: usize = 256;
/// Most blocks of [`Grid::Elements`]: enough to fill any device.
const BLOCKS: usize = 1 << 14;
/// Most parameters of a kernel.
const PARAMETERS: usize = 24;

impl Gpu {
    /// Launches a kernel of `source`, behind all that was asked of the device before. Nothing happens for a grid of nothing.
    ///
    /// Errors: the source does not compile, a count above 2³¹ − 1, what the driver says.
    pub fn launch<T: Element>(
        &self,
        source: &'static Source,
        kernel: &'static str,
        grid: Grid,
        args: &[Arg],
    ) -> Result<()> {
        self.launch_with::<T>(source, kernel, grid, &[], args)
    }

    /// [`Gpu::launch`] of a kernel whose first parameter is a struct of `int`s, these words; none where there are none.
    pub fn launch_with<T: Element>(
        &self,
        source: &'static Source,
        kernel: &'static str,
        grid: Grid,
        words: &[i32],
        args: &[Arg],
    ) -> Result<()> {
        let blocks = match grid {
            Grid::Elements(n) => n.div_ceil(BLOCK).min(BLOCKS),
            Grid::Rows(n) => n,
        };
        if blocks == 0 {
            return Ok(());
        }
        self.enter()?;
        let function = self.function::<T>(source, kernel)?;
        let at = |what: &str| Error::new(Kind::Device, format!("kernel {kernel} of {}: {what}", source.name));
        let mut values = [0u64; PARAMETERS];
        let mut pointers = [std::ptr::null_mut::<c_void>(); PARAMETERS];
        let first = usize::from(!words.is_empty());
        if first + args.len() > PARAMETERS {
            return Err(at("too many parameters"));
        }
        let int = |n: usize| {
            i32::try_from(n).map_err(|_| {
                at("a blob is too large for a GPU").expected("fewer than 2^31 elements").found(n)
            })
        };
        pointers[0] = words.as_ptr().cast_mut().cast();
        for ((arg, value), pointer) in args.iter().zip(&mut values).zip(&mut pointers[first..]) {
            // Each parameter is read from the first bytes of its word.
            *value = match *arg {
                Arg::Real(v) if size_of::<T>() == 4 => (v as f32).to_bits().into(),
                Arg::Real(v) | Arg::Double(v) => v.to_bits(),
                Arg::Count(n) => int(n)? as u64,
                Arg::Int(v) => u64::from(v as u32),
                Arg::Word(v) => v.into(),
                Arg::At(at) => at,
            };
            *pointer = std::ptr::from_mut(value).cast();
        }
        let (blocks, params) = (int(blocks)? as u32, &mut pointers[..first + args.len()]);
        // SAFETY: the parameters live until the call returns, which has copied them; that they are those of the kernel is what the tests
        // on the emulator hold, which checks every access.
        unsafe { launch_kernel(function, (blocks, 1, 1), (BLOCK as u32, 1, 1), 0, self.0.stream, params) }
            .map_err(|e| driver_error(&format!("launch kernel {kernel} of {}", source.name), e))
    }
}
