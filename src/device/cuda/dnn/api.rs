//! What Cortado calls of cuDNN, by the signatures of its header: they are the same from 8.9 to 9.x, but for what a status means.
//!
//! cudarc's bindings are of one version each, and to take a status that their version does not know for a Rust enumeration would be undefined; so
//! these are our own, with plain integers.

use crate::error::{Error, Kind, Result};
use libloading::Library;
use std::ffi::{CStr, c_char, c_int, c_void};

pub type Status = c_int;
pub type Handle = *mut c_void;
pub type Descriptor = *mut c_void;
pub type Data = *mut c_void;

pub const SUCCESS: Status = 0;
/// `cudnnDataType_t`.
pub const FLOAT: c_int = 0;
pub const DOUBLE: c_int = 1;
/// `CUDNN_TENSOR_NCHW`: the channels before the axes, all dense.
pub const DENSE: c_int = 0;
/// `CUDNN_CROSS_CORRELATION`: the kernel is not turned round, as in Caffe.
pub const CROSS_CORRELATION: c_int = 1;
pub const DETERMINISTIC: c_int = 1;
/// `cudnnMathType_t`: the library's own choice, which is TF32 where a GPU has it; and plain multiply-adds.
pub const DEFAULT_MATH: c_int = 0;
pub const FMA_MATH: c_int = 3;

/// `cudnnConvolution…AlgoPerf_t`: what the library thinks of an algorithm.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Performance {
    pub algorithm: c_int,
    pub status: Status,
    pub time: f32,
    pub memory: usize,
    pub determinism: c_int,
    pub math: c_int,
    reserved: [c_int; 3],
}

type Make = unsafe extern "C" fn(*mut Descriptor) -> Status;
type End = unsafe extern "C" fn(Descriptor) -> Status;
type Find = unsafe extern "C" fn(
    Handle,
    Descriptor,
    Descriptor,
    Descriptor,
    Descriptor,
    c_int,
    *mut c_int,
    *mut Performance,
) -> Status;
type Size =
    unsafe extern "C" fn(Handle, Descriptor, Descriptor, Descriptor, Descriptor, c_int, *mut usize) -> Status;
type Run = unsafe extern "C" fn(
    Handle,
    *const c_void,
    Descriptor,
    Data,
    Descriptor,
    Data,
    Descriptor,
    c_int,
    Data,
    usize,
    *const c_void,
    Descriptor,
    Data,
) -> Status;
type Bias =
    unsafe extern "C" fn(Handle, *const c_void, Descriptor, Data, *const c_void, Descriptor, Data) -> Status;

/// How descriptors of a kind are made and ended.
#[derive(Clone, Copy)]
pub struct Life {
    pub make: Make,
    pub end: End,
}

/// The functions of one direction of a convolution. Each takes two operands, the convolution and the result: bottom, filters, top; filters, top,
/// bottom; or bottom, top, filters.
pub struct Way {
    /// Algorithms, the one that should be the fastest first.
    pub find: Find,
    /// The workspace that an algorithm needs.
    pub size: Size,
    pub run: Run,
}

/// The functions.
pub struct Api {
    pub version: unsafe extern "C" fn() -> usize,
    pub text: unsafe extern "C" fn(Status) -> *const c_char,
    pub open: unsafe extern "C" fn(*mut Handle) -> Status,
    pub close: unsafe extern "C" fn(Handle) -> Status,
    pub set_stream: unsafe extern "C" fn(Handle, *mut c_void) -> Status,
    pub tensor: Life,
    pub filter: Life,
    pub convolution: Life,
    pub set_tensor: unsafe extern "C" fn(Descriptor, c_int, c_int, *const c_int, *const c_int) -> Status,
    pub set_filter: unsafe extern "C" fn(Descriptor, c_int, c_int, c_int, *const c_int) -> Status,
    pub set_convolution: unsafe extern "C" fn(
        Descriptor,
        c_int,
        *const c_int,
        *const c_int,
        *const c_int,
        c_int,
        c_int,
    ) -> Status,
    pub set_groups: unsafe extern "C" fn(Descriptor, c_int) -> Status,
    pub set_math: unsafe extern "C" fn(Descriptor, c_int) -> Status,
    /// Forward, gradient of the bottom, gradient of the filters.
    pub ways: [Way; 3],
    pub bias: Bias,
}

impl Api {
    /// Looks the functions up; an error names one that is not there.
    pub fn new(library: &Library) -> Result<Api> {
        let life = |make, end| Ok::<_, Error>(Life { make: get(library, make)?, end: get(library, end)? });
        let way = |find, size, run| {
            Ok::<_, Error>(Way {
                find: get(library, find)?,
                size: get(library, size)?,
                run: get(library, run)?,
            })
        };
        Ok(Api {
            version: get(library, "cudnnGetVersion")?,
            text: get(library, "cudnnGetErrorString")?,
            open: get(library, "cudnnCreate")?,
            close: get(library, "cudnnDestroy")?,
            set_stream: get(library, "cudnnSetStream")?,
            tensor: life("cudnnCreateTensorDescriptor", "cudnnDestroyTensorDescriptor")?,
            filter: life("cudnnCreateFilterDescriptor", "cudnnDestroyFilterDescriptor")?,
            convolution: life("cudnnCreateConvolutionDescriptor", "cudnnDestroyConvolutionDescriptor")?,
            set_tensor: get(library, "cudnnSetTensorNdDescriptor")?,
            set_filter: get(library, "cudnnSetFilterNdDescriptor")?,
            set_convolution: get(library, "cudnnSetConvolutionNdDescriptor")?,
            set_groups: get(library, "cudnnSetConvolutionGroupCount")?,
            set_math: get(library, "cudnnSetConvolutionMathType")?,
            ways: [
                way(
                    "cudnnGetConvolutionForwardAlgorithm_v7",
                    "cudnnGetConvolutionForwardWorkspaceSize",
                    "cudnnConvolutionForward",
                )?,
                way(
                    "cudnnGetConvolutionBackwardDataAlgorithm_v7",
                    "cudnnGetConvolutionBackwardDataWorkspaceSize",
                    "cudnnConvolutionBackwardData",
                )?,
                way(
                    "cudnnGetConvolutionBackwardFilterAlgorithm_v7",
                    "cudnnGetConvolutionBackwardFilterWorkspaceSize",
                    "cudnnConvolutionBackwardFilter",
                )?,
            ],
            bias: get(library, "cudnnConvolutionBackwardBias")?,
        })
    }

    /// An error that says what cuDNN answered. `doing` completes "cuDNN cannot ...".
    pub fn check(&self, doing: &str, status: Status) -> Result<()> {
        if status == SUCCESS {
            return Ok(());
        }
        // SAFETY: it gives a constant text, or nothing.
        let text = unsafe { (self.text)(status) };
        let text = if text.is_null() {
            format!("status {status}")
        } else {
            // SAFETY: the text ends with a zero.
            unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
        };
        Err(Error::new(Kind::Device, format!("cuDNN cannot {doing}: {text}")))
    }
}

/// Whether a status says that the library has nothing for such a convolution: `CUDNN_STATUS_NOT_SUPPORTED` of version 8, and of 9 with its
/// kinds.
pub fn not_supported(status: Status) -> bool {
    status == 9 || (3000..4000).contains(&status)
}

fn get<F: Copy>(library: &Library, name: &str) -> Result<F> {
    // SAFETY: each name is looked up for the field that has its signature in NVIDIA's header; the library is never unloaded.
    unsafe { library.get::<F>(name.as_bytes()) }.map(|function| *function).map_err(|_| {
        Error::new(Kind::Device, "the cuDNN that was found is none").found(format!("it has no {name}"))
    })
}
