//! V1 to today's layers: `layers` becomes `layer`, the enum a name in quotes, parallel lists `param`.

use crate::error::{Error, Kind, Result};
use crate::proto::caffe::v1_layer_parameter::LayerType;
use crate::proto::caffe::{LayerParameter, NetParameter, ParamSpec, V1LayerParameter};

/// Upgrades all `layers`.
pub(super) fn upgrade(net: &mut NetParameter, notes: &mut Vec<String>) -> Result<()> {
    if !net.layer.is_empty() {
        let text = "a net with both \"layer\" and \"layers\": which come first is not clear";
        return Err(Error::new(Kind::Net, text).in_field("layers").expected("\"layer\" throughout"));
    }
    let layers = std::mem::take(&mut net.layers);
    net.layer = layers.into_iter().map(|layer| upgrade_layer(layer, notes)).collect::<Result<_>>()?;
    notes.push(format!("{} layers became \"layer\" from V1's \"layers\"", net.layer.len()));
    Ok(())
}

fn upgrade_layer(old: V1LayerParameter, notes: &mut Vec<String>) -> Result<LayerParameter> {
    if old.layer.is_some() {
        notes.push(format!("layer \"{}\": the V0 layer inside it is gone", old.name()));
    }
    let type_name = match old.r#type {
        Some(number) => Some(type_of(number).map_err(|e| e.in_layer(old.name()).in_field("type"))?),
        None => None,
    };
    Ok(LayerParameter {
        param: params(&old),
        name: old.name,
        r#type: type_name.map(str::to_string),
        bottom: old.bottom,
        top: old.top,
        include: old.include,
        exclude: old.exclude,
        blobs: old.blobs,
        loss_weight: old.loss_weight,
        accuracy_param: old.accuracy_param,
        argmax_param: old.argmax_param,
        concat_param: old.concat_param,
        contrastive_loss_param: old.contrastive_loss_param,
        convolution_param: old.convolution_param,
        data_param: old.data_param,
        dropout_param: old.dropout_param,
        dummy_data_param: old.dummy_data_param,
        eltwise_param: old.eltwise_param,
        exp_param: old.exp_param,
        hdf5_data_param: old.hdf5_data_param,
        hdf5_output_param: old.hdf5_output_param,
        hinge_loss_param: old.hinge_loss_param,
        image_data_param: old.image_data_param,
        infogain_loss_param: old.infogain_loss_param,
        inner_product_param: old.inner_product_param,
        lrn_param: old.lrn_param,
        memory_data_param: old.memory_data_param,
        mvn_param: old.mvn_param,
        pooling_param: old.pooling_param,
        power_param: old.power_param,
        relu_param: old.relu_param,
        sigmoid_param: old.sigmoid_param,
        softmax_param: old.softmax_param,
        slice_param: old.slice_param,
        tanh_param: old.tanh_param,
        threshold_param: old.threshold_param,
        window_data_param: old.window_data_param,
        transform_param: old.transform_param,
        loss_param: old.loss_param,
        ..LayerParameter::default()
    })
}

/// One `param` per blob, from the four lists of V1; it has as many as the longest list.
fn params(old: &V1LayerParameter) -> Vec<ParamSpec> {
    let lists = [old.param.len(), old.blob_share_mode.len(), old.blobs_lr.len(), old.weight_decay.len()];
    let count = lists.into_iter().max().unwrap_or(0);
    let spec = |i: usize| ParamSpec {
        name: old.param.get(i).cloned(),
        // STRICT and PERMISSIVE have the same numbers in both.
        share_mode: old.blob_share_mode.get(i).copied(),
        lr_mult: old.blobs_lr.get(i).copied(),
        decay_mult: old.weight_decay.get(i).copied(),
    };
    (0..count).map(spec).collect()
}

fn type_of(number: i32) -> Result<&'static str> {
    LayerType::try_from(number)
        .map(type_name)
        .map_err(|_| Error::new(Kind::UnknownName, format!("V1 layer type {number} has no name")))
}

/// Today's name of a V1 layer type.
pub(crate) fn type_name(kind: LayerType) -> &'static str {
    match kind {
        LayerType::None => "",
        LayerType::Absval => "AbsVal",
        LayerType::Accuracy => "Accuracy",
        LayerType::Argmax => "ArgMax",
        LayerType::Bnll => "BNLL",
        LayerType::Concat => "Concat",
        LayerType::ContrastiveLoss => "ContrastiveLoss",
        LayerType::Convolution => "Convolution",
        LayerType::Deconvolution => "Deconvolution",
        LayerType::Data => "Data",
        LayerType::Dropout => "Dropout",
        LayerType::DummyData => "DummyData",
        LayerType::EuclideanLoss => "EuclideanLoss",
        LayerType::Eltwise => "Eltwise",
        LayerType::Exp => "Exp",
        LayerType::Flatten => "Flatten",
        LayerType::Hdf5Data => "HDF5Data",
        LayerType::Hdf5Output => "HDF5Output",
        LayerType::HingeLoss => "HingeLoss",
        LayerType::Im2col => "Im2col",
        LayerType::ImageData => "ImageData",
        LayerType::InfogainLoss => "InfogainLoss",
        LayerType::InnerProduct => "InnerProduct",
        LayerType::Lrn => "LRN",
        LayerType::MemoryData => "MemoryData",
        LayerType::MultinomialLogisticLoss => "MultinomialLogisticLoss",
        LayerType::Mvn => "MVN",
        LayerType::Pooling => "Pooling",
        LayerType::Power => "Power",
        LayerType::Relu => "ReLU",
        LayerType::Sigmoid => "Sigmoid",
        LayerType::SigmoidCrossEntropyLoss => "SigmoidCrossEntropyLoss",
        LayerType::Silence => "Silence",
        LayerType::Softmax => "Softmax",
        LayerType::SoftmaxLoss => "SoftmaxWithLoss",
        LayerType::Split => "Split",
        LayerType::Slice => "Slice",
        LayerType::Tanh => "TanH",
        LayerType::WindowData => "WindowData",
        LayerType::Threshold => "Threshold",
    }
}
