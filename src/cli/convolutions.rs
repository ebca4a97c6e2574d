//! What the log says of convolutions on a GPU.

use crate::math::Real;
use crate::net::Net;
use crate::proto::caffe::convolution_parameter::Engine;
use crate::tools::memory::megabytes;

/// What computes the convolutions of a net on a GPU. Nothing to say where there are none, or they all ask for `engine: CAFFE`.
pub(super) fn how<T: Real>(net: &Net<T>) -> Option<String> {
    let gpu = net.device()?;
    let engine = |param: &crate::proto::caffe::LayerParameter| {
        param.convolution_param.as_ref().map_or(Engine::Default, |p| p.engine())
    };
    let mut convolutions = net.nodes().iter().filter(|n| n.param.r#type() == "Convolution");
    convolutions.find(|n| engine(&n.param) != Engine::Caffe)?;
    Some(match gpu.cudnn() {
        Ok(version) => {
            let (room, how) = (megabytes(gpu.workspace_limit()), gpu.cudnn_use().name());
            format!("Convolutions: cuDNN {version} ({how}), in a workspace of at most {room}.")
        }
        Err(e) => format!("Convolutions: products of matrices by cuBLAS, since {}.", e.message()),
    })
}
