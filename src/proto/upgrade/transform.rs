//! `scale`, `mean_file`, `crop_size` and `mirror` of the data layers' own messages go to `transform_param`.

use crate::proto::caffe::v1_layer_parameter::LayerType;
use crate::proto::caffe::{NetParameter, TransformationParameter, V1LayerParameter};

/// Moves them in all V1 layers if one has any, as Caffe does. (In today's layers Caffe ignores them.)
pub(super) fn upgrade(net: &mut NetParameter, notes: &mut Vec<String>) {
    if !net.layers.iter().any(is_old) {
        return;
    }
    net.layers.iter_mut().for_each(upgrade_layer);
    notes.push("transformation fields of the data layers went to transform_param".to_string());
}

fn is_old(layer: &V1LayerParameter) -> bool {
    let mut copy = V1LayerParameter {
        r#type: layer.r#type,
        data_param: layer.data_param.clone(),
        image_data_param: layer.image_data_param.clone(),
        window_data_param: layer.window_data_param.clone(),
        ..V1LayerParameter::default()
    };
    take(&mut copy).is_some_and(|fields| fields != TransformationParameter::default())
}

fn upgrade_layer(layer: &mut V1LayerParameter) {
    let Some(old) = take(layer) else { return };
    let new = layer.transform_param.get_or_insert_default();
    new.scale = old.scale.or(new.scale);
    new.crop_size = old.crop_size.or(new.crop_size);
    new.mirror = old.mirror.or(new.mirror);
    if old.mean_file.is_some() {
        new.mean_file = old.mean_file;
    }
}

/// Takes the old fields out of a data layer. Its message comes to be if it was missing, as in Caffe.
fn take(layer: &mut V1LayerParameter) -> Option<TransformationParameter> {
    let (scale, mean_file, crop_size, mirror) = match layer.r#type() {
        LayerType::Data => {
            let p = layer.data_param.get_or_insert_default();
            (&mut p.scale, &mut p.mean_file, &mut p.crop_size, &mut p.mirror)
        }
        LayerType::ImageData => {
            let p = layer.image_data_param.get_or_insert_default();
            (&mut p.scale, &mut p.mean_file, &mut p.crop_size, &mut p.mirror)
        }
        LayerType::WindowData => {
            let p = layer.window_data_param.get_or_insert_default();
            (&mut p.scale, &mut p.mean_file, &mut p.crop_size, &mut p.mirror)
        }
        _ => return None,
    };
    Some(TransformationParameter {
        scale: scale.take(),
        mean_file: mean_file.take(),
        crop_size: crop_size.take(),
        mirror: mirror.take(),
        ..TransformationParameter::default()
    })
}
