//! In which precision layers multiply matrices: operands rounded for the tensor cores, sums always in single precision.

use super::{Gpu, Grid, Memory, Source, View};
use crate::blob::Element;
use crate::error::{Error, Kind, Result};
use std::sync::atomic::Ordering::Relaxed;

/// The kernel that rounds.
pub(super) static KERNELS: Source = Source { name: "precision.cu", parts: &[include_str!("precision.cu")] };

/// In which precision convolutions and inner products multiply, in a net of single precision. Sums, results and weights have single
/// precision always, and so has everything that other layers compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Precision {
    /// As the numbers are.
    #[default]
    Full,
    /// cuBLAS rounds operands to TF32: the range of single precision, 10 bits behind the point. Double precision stays as it is.
    Tf32,
    /// Operands are rounded to bfloat16, the nearest, ties to even: the range of single precision, 7 bits behind the point.
    Bf16,
}

impl Precision {
    /// As one writes it.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Full => "full precision",
            Precision::Tf32 => "TF32",
            Precision::Bf16 => "bf16",
        }
    }
}

/// A number of 16 bits: the upper half of an `f32`. Only the device computes with it.
#[derive(Clone, Copy, Debug)]
pub struct Bf16(#[allow(dead_code)] u16);

/// A matrix that [`Gpu::product`] reads.
#[derive(Clone, Copy, Debug)]
pub enum Operand<T> {
    /// As the layer has it.
    Given(View<T>),
    /// Rounded.
    Rounded(View<Bf16>),
}

impl<T> Operand<T> {
    /// The values from number `first` on.
    pub fn from(self, first: usize) -> Operand<T> {
        match self {
            Operand::Given(view) => Operand::Given(view.from(first)),
            Operand::Rounded(view) => Operand::Rounded(view.from(first)),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Operand::Given(view) => view.len,
            Operand::Rounded(view) => view.len,
        }
    }

    pub(super) fn at(&self) -> u64 {
        match self {
            Operand::Given(view) => view.at,
            Operand::Rounded(view) => view.at,
        }
    }
}

impl Gpu {
    /// Sets the precision of products for all nets that run on this opening of the device.
    ///
    /// Errors: a device older than compute capability 8.0, which has no tensor cores for it.
    pub fn set_precision(&self, precision: Precision) -> Result<()> {
        let capability = self.0.capability;
        if precision != Precision::Full && capability < 80 {
            return Err(Error::new(
                Kind::Device,
                format!("GPU {} multiplies in full precision only", self.ordinal()),
            )
            .expected("compute capability 8.0 or later for TF32 and bf16")
            .found(format!("{}.{}", capability / 10, capability % 10))
            .suggest("leave --tf32 and --amp out"));
        }
        self.0.precision.store(precision as u8, Relaxed);
        Ok(())
    }

    /// The precision of products.
    pub fn precision(&self) -> Precision {
        match self.0.precision.load(Relaxed) {
            p if p == Precision::Tf32 as u8 => Precision::Tf32,
            p if p == Precision::Bf16 as u8 => Precision::Bf16,
            _ => Precision::Full,
        }
    }

    /// An error where the precision of products is not one for a net of these numbers.
    pub fn suits<T: Element>(&self) -> Result<()> {
        if self.precision() != Precision::Bf16 || size_of::<T>() == 4 {
            return Ok(());
        }
        Err(Error::new(Kind::Unsupported, "a net of double precision cannot multiply in bf16")
            .suggest("use single precision, or leave --amp out"))
    }

    /// Values as an operand of products in the device's precision, rounded into `room` where that is one of 16 bits. They stay there until
    /// the next call: [`Gpu::operand_again`].
    pub fn operand<T: Element>(
        &self,
        room: &mut Option<Memory<Bf16>>,
        values: View<T>,
    ) -> Result<Operand<T>> {
        if self.precision() != Precision::Bf16 {
            *room = None;
            return Ok(Operand::Given(values));
        }
        self.suits::<T>()?;
        let rounded = Memory::ready(room, self, values.len)?.view().to(values.len);
        let args = [values.len.into(), values.into(), rounded.into()];
        self.launch::<T>(&KERNELS, "round_to_bf16", Grid::Elements(values.len.div_ceil(2)), &args)?;
        Ok(Operand::Rounded(rounded))
    }

    /// The same values once more, which have not changed since [`Gpu::operand`].
    pub fn operand_again<T: Element>(
        &self,
        room: &mut Option<Memory<Bf16>>,
        values: View<T>,
    ) -> Result<Operand<T>> {
        match room {
            Some(rounded) if self.precision() == Precision::Bf16 && rounded.view().len >= values.len => {
                Ok(Operand::Rounded(rounded.view().to(values.len)))
            }
            _ => self.operand(room, values),
        }
    }
}
