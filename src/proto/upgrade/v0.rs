//! V0 to V1: the fields of one message for all layer types go to the messages of their types.

use super::if_set;
use crate::error::{Error, Kind, Result};
use crate::proto::caffe::v1_layer_parameter::LayerType;
use crate::proto::caffe::{
    ConcatParameter, ConvolutionParameter, DataParameter, DropoutParameter, Hdf5DataParameter,
    ImageDataParameter, InfogainLossParameter, InnerProductParameter, LrnParameter, NetParameter,
    PoolingParameter, TransformationParameter, V0LayerParameter, V1LayerParameter, WindowDataParameter,
};
use std::collections::HashMap;

/// Upgrades all layers. As in Caffe, only name, inputs, force_backward and the layers of the net stay.
pub(super) fn upgrade(net: &mut NetParameter, notes: &mut Vec<String>) -> Result<()> {
    let layers = merge_padding(net)?;
    let upgraded: Result<Vec<_>> = layers.into_iter().map(|layer| upgrade_layer(layer, notes)).collect();
    *net = NetParameter {
        name: net.name.take(),
        input: std::mem::take(&mut net.input),
        input_dim: std::mem::take(&mut net.input_dim),
        force_backward: net.force_backward,
        layers: upgraded?,
        ..NetParameter::default()
    };
    notes.push(format!("{} layers became V1 layers from V0", net.layers.len()));
    Ok(())
}

/// Padding was a layer of its own in front of a convolution or pooling; it becomes their `pad`.
fn merge_padding(net: &NetParameter) -> Result<Vec<V1LayerParameter>> {
    // The layer that each blob comes from last; None: an input of the net.
    let mut source: HashMap<&str, Option<&V1LayerParameter>> =
        net.input.iter().map(|name| (name.as_str(), None)).collect();
    let mut merged = Vec::with_capacity(net.layers.len());
    for layer in &net.layers {
        let kind = type_of(layer);
        let fail = |text: String| Err(Error::new(Kind::Net, text).in_layer(name_of(layer)));
        let mut padded = layer.clone();
        for (index, bottom) in layer.bottom.iter().enumerate() {
            let Some(&from) = source.get(bottom.as_str()) else {
                return fail(format!("unknown bottom blob \"{bottom}\""));
            };
            let Some(padding) = from.filter(|l| type_of(l) == "padding") else { continue };
            if !matches!(kind, "conv" | "pool") {
                return fail(format!(
                    "padding in front of a layer of type \"{kind}\": only conv and pool take it"
                ));
            }
            if layer.bottom.len() != 1 {
                return fail("a layer behind padding takes a single bottom".to_string());
            }
            let ([below], [_]) = (padding.bottom.as_slice(), padding.top.as_slice()) else {
                let text = "a padding layer takes a single bottom and makes a single top";
                return Err(Error::new(Kind::Net, text).in_layer(name_of(padding)));
            };
            let pad = padding.layer.as_ref().map(V0LayerParameter::pad);
            if let Some(inner) = &mut padded.layer {
                inner.pad = pad;
            }
            if let Some(slot) = padded.bottom.get_mut(index) {
                slot.clone_from(below);
            }
        }
        if kind != "padding" {
            merged.push(padded);
        }
        source.extend(layer.top.iter().map(|top| (top.as_str(), Some(layer))));
    }
    Ok(merged)
}

fn type_of(layer: &V1LayerParameter) -> &str {
    layer.layer.as_ref().map_or("", |l| l.r#type())
}

fn name_of(layer: &V1LayerParameter) -> &str {
    layer.layer.as_ref().map_or_else(|| layer.name(), |l| l.name())
}

/// Each type takes the fields it knows out of the V0 message; what is left is noted, as Caffe logs it.
fn upgrade_layer(layer: V1LayerParameter, notes: &mut Vec<String>) -> Result<V1LayerParameter> {
    let mut new = V1LayerParameter { bottom: layer.bottom, top: layer.top, ..V1LayerParameter::default() };
    let Some(mut old) = layer.layer else { return Ok(new) };
    let kind = old.r#type().to_string();
    new.name = old.name.take();
    if old.r#type.take().is_some() {
        new.r#type = Some(layer_type(&kind, new.name())?.into());
    }
    new.blobs = std::mem::take(&mut old.blobs);
    new.blobs_lr = std::mem::take(&mut old.blobs_lr);
    new.weight_decay = std::mem::take(&mut old.weight_decay);
    new.transform_param = if_set(TransformationParameter {
        scale: old.scale.take(),
        mean_file: old.meanfile.take(),
        crop_size: old.cropsize.take(),
        mirror: old.mirror.take(),
        ..TransformationParameter::default()
    });
    own_fields(&kind, &mut old, &mut new);
    // These two had no effect in V0 either.
    (old.new_num, old.new_channels) = (None, None);
    for field in leftover(&old) {
        notes
            .push(format!("layer \"{}\": {field} means nothing for type \"{kind}\" and is gone", new.name()));
    }
    Ok(new)
}

fn own_fields(kind: &str, old: &mut V0LayerParameter, new: &mut V1LayerParameter) {
    match kind {
        "conv" => {
            new.convolution_param = if_set(ConvolutionParameter {
                num_output: old.num_output.take(),
                bias_term: old.biasterm.take(),
                weight_filler: old.weight_filler.take(),
                bias_filler: old.bias_filler.take(),
                pad: old.pad.take().into_iter().collect(),
                kernel_size: old.kernelsize.take().into_iter().collect(),
                group: old.group.take(),
                stride: old.stride.take().into_iter().collect(),
                ..ConvolutionParameter::default()
            });
        }
        "innerproduct" => {
            new.inner_product_param = if_set(InnerProductParameter {
                num_output: old.num_output.take(),
                bias_term: old.biasterm.take(),
                weight_filler: old.weight_filler.take(),
                bias_filler: old.bias_filler.take(),
                ..InnerProductParameter::default()
            });
        }
        "pool" => {
            new.pooling_param = if_set(PoolingParameter {
                pad: old.pad.take(),
                kernel_size: old.kernelsize.take(),
                stride: old.stride.take(),
                // The numbers of MAX, AVE and STOCHASTIC are the same in both.
                pool: old.pool.take(),
                ..PoolingParameter::default()
            });
        }
        "dropout" => {
            new.dropout_param = if_set(DropoutParameter { dropout_ratio: old.dropout_ratio.take() });
        }
        "lrn" => {
            new.lrn_param = if_set(LrnParameter {
                local_size: old.local_size.take(),
                alpha: old.alpha.take(),
                beta: old.beta.take(),
                k: old.k.take(),
                ..LrnParameter::default()
            });
        }
        "data" => {
            new.data_param = if_set(DataParameter {
                source: old.source.take(),
                batch_size: old.batchsize.take(),
                rand_skip: old.rand_skip.take(),
                ..DataParameter::default()
            });
        }
        "hdf5_data" => {
            new.hdf5_data_param = if_set(Hdf5DataParameter {
                source: old.source.take(),
                batch_size: old.batchsize.take(),
                ..Hdf5DataParameter::default()
            });
        }
        "images" => {
            new.image_data_param = if_set(ImageDataParameter {
                source: old.source.take(),
                batch_size: old.batchsize.take(),
                rand_skip: old.rand_skip.take(),
                shuffle: old.shuffle_images.take(),
                // Below 0 there is no size; today's type has none either.
                new_height: old.new_height.take().and_then(|n| u32::try_from(n).ok()),
                new_width: old.new_width.take().and_then(|n| u32::try_from(n).ok()),
                ..ImageDataParameter::default()
            });
        }
        "window_data" => {
            new.window_data_param = if_set(WindowDataParameter {
                source: old.source.take(),
                batch_size: old.batchsize.take(),
                fg_threshold: old.det_fg_threshold.take(),
                bg_threshold: old.det_bg_threshold.take(),
                fg_fraction: old.det_fg_fraction.take(),
                context_pad: old.det_context_pad.take(),
                crop_mode: old.det_crop_mode.take(),
                ..WindowDataParameter::default()
            });
        }
        "infogain_loss" => {
            new.infogain_loss_param = if_set(InfogainLossParameter {
                source: old.source.take(),
                ..InfogainLossParameter::default()
            });
        }
        "concat" => {
            new.concat_param =
                if_set(ConcatParameter { concat_dim: old.concat_dim.take(), ..ConcatParameter::default() });
        }
        "hdf5_output" => new.hdf5_output_param = old.hdf5_output_param.take(),
        _ => {}
    }
}

/// Fields that are still set.
fn leftover(old: &V0LayerParameter) -> impl Iterator<Item = &'static str> {
    [
        ("num_output", old.num_output.is_some()),
        ("biasterm", old.biasterm.is_some()),
        ("weight_filler", old.weight_filler.is_some()),
        ("bias_filler", old.bias_filler.is_some()),
        ("pad", old.pad.is_some()),
        ("kernelsize", old.kernelsize.is_some()),
        ("group", old.group.is_some()),
        ("stride", old.stride.is_some()),
        ("pool", old.pool.is_some()),
        ("dropout_ratio", old.dropout_ratio.is_some()),
        ("local_size", old.local_size.is_some()),
        ("alpha", old.alpha.is_some()),
        ("beta", old.beta.is_some()),
        ("k", old.k.is_some()),
        ("source", old.source.is_some()),
        ("batchsize", old.batchsize.is_some()),
        ("rand_skip", old.rand_skip.is_some()),
        ("shuffle_images", old.shuffle_images.is_some()),
        ("new_height", old.new_height.is_some()),
        ("new_width", old.new_width.is_some()),
        ("concat_dim", old.concat_dim.is_some()),
        ("det_fg_threshold", old.det_fg_threshold.is_some()),
        ("det_bg_threshold", old.det_bg_threshold.is_some()),
        ("det_fg_fraction", old.det_fg_fraction.is_some()),
        ("det_context_pad", old.det_context_pad.is_some()),
        ("det_crop_mode", old.det_crop_mode.is_some()),
        ("hdf5_output_param", old.hdf5_output_param.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, set)| set.then_some(name))
}

/// V0's names of the layer types.
const TYPES: [(&str, LayerType); 24] = [
    ("accuracy", LayerType::Accuracy),
    ("bnll", LayerType::Bnll),
    ("concat", LayerType::Concat),
    ("conv", LayerType::Convolution),
    ("data", LayerType::Data),
    ("dropout", LayerType::Dropout),
    ("euclidean_loss", LayerType::EuclideanLoss),
    ("flatten", LayerType::Flatten),
    ("hdf5_data", LayerType::Hdf5Data),
    ("hdf5_output", LayerType::Hdf5Output),
    ("im2col", LayerType::Im2col),
    ("images", LayerType::ImageData),
    ("infogain_loss", LayerType::InfogainLoss),
    ("innerproduct", LayerType::InnerProduct),
    ("lrn", LayerType::Lrn),
    ("multinomial_logistic_loss", LayerType::MultinomialLogisticLoss),
    ("pool", LayerType::Pooling),
    ("relu", LayerType::Relu),
    ("sigmoid", LayerType::Sigmoid),
    ("softmax", LayerType::Softmax),
    ("softmax_loss", LayerType::SoftmaxLoss),
    ("split", LayerType::Split),
    ("tanh", LayerType::Tanh),
    ("window_data", LayerType::WindowData),
];

fn layer_type(name: &str, layer: &str) -> Result<LayerType> {
    TYPES.iter().find(|(old, _)| *old == name).map(|(_, new)| *new).ok_or_else(|| {
        Error::new(Kind::UnknownName, format!("unknown V0 layer type \"{name}\""))
            .suggest_nearest(name, TYPES.iter().map(|(old, _)| *old))
            .in_layer(layer)
            .in_field("type")
    })
}
