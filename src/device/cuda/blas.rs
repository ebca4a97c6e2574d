//! Products of matrices by cuBLAS.

use super::{Gpu, Operand, Precision, View};
use crate::blob::Element;
use crate::error::{Error, Kind, Result};
use cudarc::cublas::result::{self, CublasError};
use cudarc::cublas::sys::{self, cublasOperation_t as Op, cudaDataType_t as Type};
use cudarc::driver::result::malloc_sync;
use cudarc::driver::sys::CUstream;
use std::ffi::c_void;

/// Bytes of the workspace on devices of compute capability 9 and later, and on others: what NVIDIA recommends.
const WORKSPACE: [usize; 2] = [32 << 20, 4 << 20];

/// A handle that works on a stream, the workspace it was given and its bytes: 0 where there is too little memory, and it has its own.
pub(super) fn open(stream: CUstream, major: i32) -> Result<(sys::cublasHandle_t, u64, usize)> {
    let handle = result::create_handle().map_err(|e| failed("start", e))?;
    let bytes = WORKSPACE[usize::from(major < 9)];
    // SAFETY: handle and stream were just made. The default mode never uses TF32 for numbers of 32 bits. The workspace, which a new
    // stream takes away, is freed behind the handle.
    let workspace = unsafe {
        result::set_stream(handle, stream.cast()).map_err(|e| failed("use the stream", e))?;
        let mode = sys::cublasMath_t::CUBLAS_DEFAULT_MATH;
        sys::cublasSetMathMode(handle, mode).result().map_err(|e| failed("compute in full precision", e))?;
        let workspace = malloc_sync(bytes).unwrap_or(0);
        if workspace != 0 {
            let given = sys::cublasSetWorkspace_v2(handle, workspace as *mut _, bytes).result();
            given.map_err(|e| failed("take a workspace", e))?;
        }
        workspace
    };
    Ok((handle, workspace, if workspace == 0 { 0 } else { bytes }))
}

fn failed(doing: &str, error: CublasError) -> Error {
    Error::new(Kind::Device, format!("cuBLAS cannot {doing}")).found(format!("{:?}", error.0))
}

/// An error where operands and result have fewer values than a product of them has.
pub(super) fn fits(there: [usize; 3], wanted: [usize; 3]) -> Result<()> {
    if there.iter().zip(&wanted).all(|(there, wanted)| there >= wanted) {
        return Ok(());
    }
    let values = |[a, b, c]: [usize; 3]| format!("{a}, {b} and {c} values");
    Err(Error::new(Kind::Device, "a product of larger matrices than its operands are")
        .expected(values(wanted))
        .found(values(there)))
}

/// Products of so many pairs of matrices, each so many values behind the one before.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// How many.
    pub count: usize,
    /// From one a, b and c to the next.
    pub strides: [usize; 3],
}

/// Alphas and betas of single precision, as cuBLAS reads them.
fn single<T: Element>(value: T) -> f32 {
    value.as_f64() as f32
}

impl Gpu {
    /// c = alpha · op(a) · op(b) + beta · c for matrices by rows, as [`crate::math`]'s `gemm` has them: op(a) is m × k, op(b)
    /// is k × n, and `transpose` says which of the two lie transposed. With beta 0 what c held does not matter. In full precision.
    #[allow(clippy::too_many_arguments)]
    pub fn gemm<T: Element>(
        &self,
        transpose: [bool; 2],
        sizes: [usize; 3],
        alpha: T,
        a: View<T>,
        b: View<T>,
        beta: T,
        c: View<T>,
    ) -> Result<()> {
        let batch = Batch { count: 1, strides: [0; 3] };
        self.multiply(transpose, sizes, alpha, Operand::Given(a), Operand::Given(b), beta, c, batch)
    }

    /// [`Gpu::gemm`] for several products at once, in the precision of the device ([`Gpu::set_precision`]). Both operands are given or
    /// both rounded, as [`Gpu::operand`] has them.
    #[allow(clippy::too_many_arguments)]
    pub fn product<T: Element>(
        &self,
        transpose: [bool; 2],
        sizes: [usize; 3],
        alpha: T,
        a: Operand<T>,
        b: Operand<T>,
        beta: T,
        c: View<T>,
        batch: Batch,
    ) -> Result<()> {
        let tf32 = self.precision() == Precision::Tf32 && size_of::<T>() == 4;
        if tf32 {
            self.math_mode(sys::cublasMath_t::CUBLAS_TF32_TENSOR_OP_MATH)?;
        }
        let done = self.multiply(transpose, sizes, alpha, a, b, beta, c, batch);
        if tf32 {
            self.math_mode(sys::cublasMath_t::CUBLAS_DEFAULT_MATH)?;
        }
        done
    }

    fn math_mode(&self, mode: sys::cublasMath_t) -> Result<()> {
        // SAFETY: the handle lives as long as the device; the mode counts for the calls that follow, not for work that waits.
        unsafe { sys::cublasSetMathMode(self.0.blas, mode) }
            .result()
            .map_err(|e| failed("change its precision", e))
    }

    #[allow(clippy::too_many_arguments)]
    fn multiply<T: Element>(
        &self,
        transpose: [bool; 2],
        [m, n, k]: [usize; 3],
        alpha: T,
        a: Operand<T>,
        b: Operand<T>,
        beta: T,
        c: View<T>,
        batch: Batch,
    ) -> Result<()> {
        if m == 0 || n == 0 || batch.count == 0 {
            return Ok(());
        }
        let last = |i: usize, size: usize| (batch.count - 1) * batch.strides[i] + size;
        fits([a.len(), b.len(), c.len], [last(0, m * k), last(1, k * n), last(2, m * n)])?;
        if k == 0 {
            return if beta == T::default() { self.fill(c, m * n, beta) } else { Ok(()) };
        }
        let int = |v: usize| {
            i32::try_from(v)
                .map_err(|_| Error::new(Kind::Device, "a matrix is too large for cuBLAS").found(v))
        };
        let op = |t: bool| if t { Op::CUBLAS_OP_T } else { Op::CUBLAS_OP_N };
        // cuBLAS has matrices by columns: c' = b' · a'.
        let (lda, ldb) = (int(if transpose[0] { m } else { k })?, int(if transpose[1] { k } else { n })?);
        let (opa, opb, [im, inn, ik]) = (op(transpose[0]), op(transpose[1]), [int(m)?, int(n)?, int(k)?]);
        let (handle, count, [sa, sb, sc]) = (self.0.blas, int(batch.count)?, batch.strides.map(|s| s as i64));
        let rounded = match (&a, &b) {
            (Operand::Given(_), Operand::Given(_)) => false,
            (Operand::Rounded(_), Operand::Rounded(_)) if size_of::<T>() == 4 => true,
            _ => return Err(Error::new(Kind::Device, "a product of operands of two precisions")),
        };
        let (a, b) = (a.at(), b.at());
        self.enter()?;
        // SAFETY: the sizes were checked against the views above; alpha and beta are read before the calls return.
        let done = unsafe {
            if rounded {
                let (alpha, beta) = (single(alpha), single(beta));
                let (alpha, beta) = ((&raw const alpha).cast(), (&raw const beta).cast());
                let (half, full) = (Type::CUDA_R_16BF, Type::CUDA_R_32F);
                let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
                let algorithm = sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT;
                let (a, b, c) = (a as *const c_void, b as *const c_void, c.at as *mut c_void);
                if batch.count == 1 {
                    result::gemm_ex(
                        handle, opb, opa, inn, im, ik, alpha, b, half, ldb, a, half, lda, beta, c, full, inn,
                        compute, algorithm,
                    )
                } else {
                    result::gemm_strided_batched_ex(
                        handle, opb, opa, inn, im, ik, alpha, b, half, ldb, sb, a, half, lda, sa, beta, c,
                        full, inn, sc, count, compute, algorithm,
                    )
                }
            } else if size_of::<T>() == 4 {
                let (alpha, beta) = (single(alpha), single(beta));
                let (a, b, c) = (a as *const f32, b as *const f32, c.at as *mut f32);
                if batch.count == 1 {
                    result::sgemm(handle, opb, opa, inn, im, ik, &alpha, b, ldb, a, lda, &beta, c, inn)
                } else {
                    result::sgemm_strided_batched(
                        handle, opb, opa, inn, im, ik, &alpha, b, ldb, sb, a, lda, sa, &beta, c, inn, sc,
                        count,
                    )
                }
            } else {
                let (alpha, beta) = (alpha.as_f64(), beta.as_f64());
                let (a, b, c) = (a as *const f64, b as *const f64, c.at as *mut f64);
                if batch.count == 1 {
                    result::dgemm(handle, opb, opa, inn, im, ik, &alpha, b, ldb, a, lda, &beta, c, inn)
                } else {
                    result::dgemm_strided_batched(
                        handle, opb, opa, inn, im, ik, &alpha, b, ldb, sb, a, lda, sa, &beta, c, inn, sc,
                        count,
                    )
                }
            }
        };
        done.map_err(|e| failed("multiply matrices", e))
    }
}
