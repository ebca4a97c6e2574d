//! A product and what stands behind it, in one kernel.

use super::plan::{Data, Plan};
use super::{Gpu, Lt, failed};
use crate::blob::Element;
use crate::device::cuda::blas::fits;
use crate::device::cuda::driver_error;
use crate::device::{Operand, Precision, View};
use crate::error::{Error, Kind, Result};
use cudarc::driver::result::memcpy_dtoh_async;

/// What a plan is made for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub gpu: Gpu,
    pub precision: Precision,
    pub double: bool,
    pub transpose: [bool; 2],
    pub sizes: [usize; 3],
    pub bias: bool,
    pub relu: bool,
    /// On so many bytes all operands lie, at most 256.
    pub alignment: u32,
    /// Bytes that it may work in.
    pub room: u64,
}

/// c = relu(op(a) · op(b) + bias) for matrices by rows, by cuBLASLt: a product as [`Gpu::product`] has them, and a bias for each column of c.
///
/// How it is done is chosen when it is first asked for, outside of a capture, and again when it is asked for another thing: the first algorithm in the
/// order of the library's own expectations that fits into the workspace and gives the same bits each time. It is tried out, and nothing is
/// measured, so that the choice, and with it the last bits, depend on sizes, device and library alone.
///
/// Two choices are kept, with a ReLU and without: iterations that describe themselves run without.
#[derive(Default)]
pub struct FusedProduct([Choice; 2]);

#[derive(Default)]
struct Choice {
    asked: Option<Asked>,
    /// Nothing where the library has none that will do.
    plan: Option<Plan>,
}

impl FusedProduct {
    /// Asks the device for it, of operands as [`Gpu::operand`] has them. `bias` may be [`View::NONE`].
    ///
    /// Nothing where it was not done: there is no cuBLASLt, it is not wanted, or has nothing for such a product. Else whether the ReLU was done, which
    /// is left where `relu` does not ask for it, and where the library's makes a zero of what is not a number; the bias was.
    ///
    /// Errors: operands that are too short; what the library says.
    #[allow(clippy::too_many_arguments)]
    pub fn run<T: Element>(
        &mut self,
        gpu: &Gpu,
        transpose: [bool; 2],
        sizes: [usize; 3],
        [a, b]: [Operand<T>; 2],
        c: View<T>,
        bias: View<T>,
        relu: bool,
    ) -> Result<Option<bool>> {
        let [m, n, k] = sizes;
        let Some(Ok(lt)) = gpu.lt()? else { return Ok(None) };
        if m == 0 || n == 0 || k == 0 {
            return Ok(None);
        }
        fits([a.len(), b.len(), c.len], [m * k, k * n, m * n])?;
        let with_bias = bias.len > 0;
        if with_bias && bias.len < n {
            return Err(Error::new(Kind::Device, "a bias of fewer values than a product has columns")
                .expected(n)
                .found(bias.len));
        }
        let (precision, double) = (gpu.precision(), size_of::<T>() == 8);
        let rounded = [&a, &b].map(|operand| matches!(operand, Operand::Rounded(_)));
        if rounded != [precision == Precision::Bf16 && !double; 2] {
            return Err(Error::new(Kind::Device, "a product of operands of another precision"));
        }
        let data = Data { a: a.at(), b: b.at(), c: c.at, bias: bias.at };
        let asked = Asked {
            gpu: gpu.clone(),
            precision,
            double,
            transpose,
            sizes,
            bias: with_bias,
            relu,
            alignment: data.alignment(),
            room: gpu.workspace_limit() as u64,
        };
        let choice = &mut self.0[usize::from(relu)];
        if choice.asked.as_ref() != Some(&asked) {
            gpu.not_in_capture("choose how to multiply")?;
            *choice = Choice::default();
            choice.plan = choose::<T>(lt, &asked, &data)?;
            choice.asked = Some(asked);
        }
        let Some(plan) = &choice.plan else { return Ok(None) };
        plan.run::<T>(gpu, lt, &data, 1.0)?.map_err(|e| failed("multiply matrices", e))?;
        Ok(Some(plan.relu))
    }
}

/// The first plan that works. With a ReLU it must keep what is not a number: else a net that has gone wrong would look well.
fn choose<T: Element>(lt: &Lt, asked: &Asked, data: &Data) -> Result<Option<Plan>> {
    let Some(plan) = tried::<T>(lt, asked, data)? else { return Ok(None) };
    if !plan.relu || first_is_nan::<T>(&asked.gpu, data)? {
        return Ok(Some(plan));
    }
    tried::<T>(lt, &Asked { relu: false, ..asked.clone() }, data)
}

/// The first plan that the library runs: with a factor that is no number, so that c is then full of that.
fn tried<T: Element>(lt: &Lt, asked: &Asked, data: &Data) -> Result<Option<Plan>> {
    let mut plan = Plan::new(asked)?;
    for algorithm in plan.algorithms(lt, asked)? {
        plan.take(algorithm);
        if plan.run::<T>(&asked.gpu, lt, data, f64::NAN)?.is_ok() {
            return Ok(Some(plan));
        }
    }
    Ok(None)
}

/// Whether the first value of c is not a number.
fn first_is_nan<T: Element>(gpu: &Gpu, data: &Data) -> Result<bool> {
    let mut value = [T::default()];
    gpu.enter()?;
    // SAFETY: c has at least one value, and the copy is waited for.
    unsafe { memcpy_dtoh_async(&mut value, data.c, gpu.0.stream) }
        .map_err(|e| driver_error("give values to the host", e))?;
    gpu.synchronize()?;
    Ok(value[0].as_f64().is_nan())
}
