//! How a product is done: the library's descriptions of it, and an algorithm.

use super::product::Asked;
use super::{Gpu, Lt, failed};
use crate::device::Precision;
use crate::device::cuda::factor::Factor;
use crate::error::Result;
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys::{
    self, cublasComputeType_t as Compute, cublasLtEpilogue_t as Epilogue,
    cublasLtMatmulDescAttributes_t as Attribute, cublasLtMatmulPreferenceAttributes_t as Preference,
    cudaDataType_t as Type,
};
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::{from_ref, null_mut};

/// Where the operands of a product begin. What is not there is 0.
pub(super) struct Data {
    pub a: u64,
    pub b: u64,
    pub c: u64,
    pub bias: u64,
}

impl Data {
    /// On so many bytes all of them lie, at most 256, which is what the library expects of memory.
    pub fn alignment(&self) -> u32 {
        1 << (self.a | self.b | self.c | self.bias | 256).trailing_zeros()
    }
}

/// Most algorithms that are looked at.
const ALGORITHMS: usize = 8;

/// An algorithm and the bytes of its workspace.
type Algorithm = (sys::cublasLtMatmulAlgo_t, usize);

/// A product as the library sees it, by columns: c' = b' · a', so that what it calls A is b, and the rows of its D are the columns of c, for which the
/// bias is.
pub(super) struct Plan {
    product: sys::cublasLtMatmulDesc_t,
    a: sys::cublasLtMatrixLayout_t,
    b: sys::cublasLtMatrixLayout_t,
    c: sys::cublasLtMatrixLayout_t,
    algorithm: Option<Algorithm>,
    bias: bool,
    /// Whether it ends with the ReLU.
    pub relu: bool,
}

// SAFETY: descriptions are memory of the host, which nobody else has.
unsafe impl Send for Plan {}
// SAFETY: they are written by who runs the product, one at a time as `Gpu` asks for.
unsafe impl Sync for Plan {}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: each was made once, or is null; nobody else ends it.
        unsafe {
            for layout in [self.a, self.b, self.c].into_iter().filter(|l| !l.is_null()) {
                let _ = result::destroy_matrix_layout(layout);
            }
            if !self.product.is_null() {
                let _ = result::destroy_matmul_desc(self.product);
            }
        }
    }
}

fn described(error: CublasError) -> crate::error::Error {
    failed("describe a product", error)
}

impl Plan {
    /// Without an algorithm.
    pub fn new(asked: &Asked) -> Result<Plan> {
        let (operands, results, compute) = match (asked.double, asked.precision) {
            (true, _) => (Type::CUDA_R_64F, Type::CUDA_R_64F, Compute::CUBLAS_COMPUTE_64F),
            (_, Precision::Full) => (Type::CUDA_R_32F, Type::CUDA_R_32F, Compute::CUBLAS_COMPUTE_32F),
            (_, Precision::Tf32) => {
                (Type::CUDA_R_32F, Type::CUDA_R_32F, Compute::CUBLAS_COMPUTE_32F_FAST_TF32)
            }
            (_, Precision::Bf16) => (Type::CUDA_R_16BF, Type::CUDA_R_32F, Compute::CUBLAS_COMPUTE_32F),
        };
        let ([m, n, k], none) = (asked.sizes.map(|size| size as u64), null_mut());
        let mut plan = Plan {
            product: result::create_matmul_desc(compute, results).map_err(described)?,
            a: none,
            b: none,
            c: none,
            algorithm: None,
            bias: asked.bias,
            relu: asked.relu,
        };
        // Rows and columns as they lie.
        let layout = |kind, rows: u64, columns: u64| {
            result::create_matrix_layout(kind, rows, columns, rows as i64).map_err(described)
        };
        let [a, b] = asked.transpose;
        plan.a = if b { layout(operands, k, n)? } else { layout(operands, n, k)? };
        plan.b = if a { layout(operands, m, k)? } else { layout(operands, k, m)? };
        plan.c = layout(results, n, m)?;
        // cublasOperation_t
        plan.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &i32::from(b))?;
        plan.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &i32::from(a))?;
        let epilogue = match (asked.bias, asked.relu) {
            (false, false) => Epilogue::CUBLASLT_EPILOGUE_DEFAULT,
            (false, true) => Epilogue::CUBLASLT_EPILOGUE_RELU,
            (true, false) => Epilogue::CUBLASLT_EPILOGUE_BIAS,
            (true, true) => Epilogue::CUBLASLT_EPILOGUE_RELU_BIAS,
        };
        plan.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &(epilogue as u32))?;
        Ok(plan)
    }

    fn set<V>(&self, attribute: Attribute, value: &V) -> Result<()> {
        // SAFETY: the description lives, and the value, which has the size that the library's header gives, is copied.
        unsafe {
            result::set_matmul_desc_attribute(self.product, attribute, from_ref(value).cast(), size_of::<V>())
        }
        .map_err(described)
    }

    /// What the library offers that will do, the one that should be the fastest first.
    pub fn algorithms(&self, lt: &Lt, asked: &Asked) -> Result<Vec<Algorithm>> {
        // Sums in parts only where a second step adds these up, in single precision: then their order is always the same.
        let schemes = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        let preference = result::create_matmul_pref().map_err(described)?;
        let set = |which, value: *const c_void, bytes| {
            // SAFETY: as in `set`.
            unsafe { result::set_matmul_pref_attribute(preference, which, value, bytes) }
        };
        let said = [
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ]
        .into_iter()
        .map(|which| (which, from_ref(&asked.alignment).cast(), size_of::<u32>()))
        .chain([
            (
                Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                from_ref(&asked.room).cast(),
                size_of::<u64>(),
            ),
            (
                Preference::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                from_ref(&schemes).cast(),
                size_of::<u32>(),
            ),
        ])
        .try_for_each(|(which, value, bytes)| set(which, value, bytes));
        let mut found = [const { MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::uninit() }; ALGORITHMS];
        let mut count = 0;
        // SAFETY: the descriptions live; it writes at most so many entries, and how many.
        let status = said.and_then(|()| unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                lt.handle,
                self.product,
                self.a,
                self.b,
                self.c,
                self.c,
                preference,
                ALGORITHMS as i32,
                found.as_mut_ptr().cast(),
                &mut count,
            )
            .result()
        });
        // SAFETY: it was made above.
        let _ = unsafe { result::destroy_matmul_pref(preference) };
        // A product that the library does not know is none of its.
        let count = status.map_or(0, |()| usize::try_from(count).unwrap_or(0).min(ALGORITHMS));
        // SAFETY: so many entries were written.
        let entries = found[..count].iter().map(|entry| unsafe { entry.assume_init_ref() });
        let right = |entry: &&sys::cublasLtMatmulHeuristicResult_t| {
            entry.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS
                && entry.workspaceSize as u64 <= asked.room
        };
        Ok(entries.filter(right).map(|entry| (entry.algo, entry.workspaceSize)).collect())
    }

    /// Has it done in this way from now on.
    pub fn take(&mut self, algorithm: Algorithm) {
        self.algorithm = Some(algorithm);
    }

    /// Asks the device for it, with a factor on the sums; what the library said to that.
    pub fn run<T>(
        &self,
        gpu: &Gpu,
        lt: &Lt,
        data: &Data,
        factor: f64,
    ) -> Result<std::result::Result<(), CublasError>> {
        let Some((algorithm, bytes)) = &self.algorithm else { return Ok(Ok(())) };
        if self.bias {
            self.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &data.bias)?;
        }
        let workspace = gpu.workspace::<u8>(*bytes)?;
        let (alpha, beta) = (Factor::new::<T>(factor), Factor::new::<T>(0.0));
        let at = |address: u64| address as *mut c_void;
        gpu.enter()?;
        // SAFETY: who asks has compared the lengths of the operands with the descriptions; the workspace is as large as the algorithm wants it, and both
        // factors are read before the call returns.
        Ok(unsafe {
            result::matmul(
                lt.handle,
                self.product,
                alpha.at(),
                beta.at(),
                at(data.b),
                self.a,
                at(data.a),
                self.b,
                at(data.c),
                self.c,
                at(data.c),
                self.c,
                algorithm,
                at(workspace.at),
                *bytes,
                gpu.0.stream.cast(),
            )
        })
    }
}
