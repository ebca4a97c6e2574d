//! The kernels of all layers, for tests that compile every one of them.

use super::*;
use crate::device::Source;

/// The sources of all layers that have code for a GPU.
pub fn kernels() -> Vec<&'static Source> {
    vec![
        &activation::power::KERNELS,
        &activation::relu::KERNELS,
        &activation::sigmoid::KERNELS,
        &activation::tanh::KERNELS,
        &common::dropout::cuda::KERNELS,
        &common::eltwise::cuda::KERNELS,
        &common::inner_product::cuda::KERNELS,
        &common::softmax::cuda::KERNELS,
        &ending::KERNELS,
        &loss::contrastive_loss::cuda::KERNELS,
        &loss::euclidean_loss::cuda::KERNELS,
        &loss::rank_hard_loss::cuda::KERNELS,
        &loss::softmax_with_loss::cuda::KERNELS,
        &metric::accuracy::cuda::KERNELS,
        &normalization::batch_norm::cuda::KERNELS,
        &normalization::norm::cuda::KERNELS,
        &normalization::scale::cuda::KERNELS,
        &utility::concat::cuda::KERNELS,
        &utility::split::cuda::KERNELS,
        &vision::convolution::cuda::KERNELS,
        &vision::convolution::cuda::PRODUCTS,
        &vision::lrn::cuda::KERNELS,
        &vision::pooling::cuda::KERNELS,
    ]
}
