//! The table of all layers. The net, the command line, the docs and the tests read it.

use super::*;
use crate::error::{Error, Kind, Result};
use crate::math::Real;
use crate::proto::caffe::LayerParameter;
use std::any::Any;
use std::sync::RwLock;

/// Makes a layer from its message; an error where a field makes no sense.
pub type New<T> = fn(&LayerParameter) -> Result<Box<dyn Layer<T>>>;

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Row {
    /// Name in the prototxt (`type: "Convolution"`).
    pub name: &'static str,
    /// The room it lies in: `src/layers/<family>`.
    pub family: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    new_f32: New<f32>,
    new_f64: New<f64>,
}

const fn row(
    name: &'static str,
    family: &'static str,
    about: &'static str,
    new_f32: New<f32>,
    new_f64: New<f64>,
) -> Row {
    Row { name, family, about, new_f32, new_f64 }
}

/// The layers of Cortado itself, by name.
pub const LAYERS: &[Row] = &[
    row("Accuracy", "metric", "share of right answers", metric::accuracy::new, metric::accuracy::new),
    row(
        "BatchNorm",
        "normalization",
        "mean 0 and variance 1 over the batch",
        normalization::batch_norm::new,
        normalization::batch_norm::new,
    ),
    row("Concat", "utility", "blobs joined along an axis", utility::concat::new, utility::concat::new),
    row(
        "ContrastiveLoss",
        "loss",
        "distances of similar and dissimilar pairs",
        loss::contrastive_loss::new,
        loss::contrastive_loss::new,
    ),
    row("Convolution", "vision", "filters over windows", vision::convolution::new, vision::convolution::new),
    row("Data", "data", "records of a data base in batches", data::data_layer::new, data::data_layer::new),
    row(
        "Dropout",
        "common",
        "drops elements at random in training",
        common::dropout::new,
        common::dropout::new,
    ),
    row("DummyData", "data", "blobs filled by fillers", data::dummy_data::new, data::dummy_data::new),
    row("Eltwise", "common", "sum, product or maximum of blobs", common::eltwise::new, common::eltwise::new),
    row(
        "EuclideanLoss",
        "loss",
        "sum of squared differences",
        loss::euclidean_loss::new,
        loss::euclidean_loss::new,
    ),
    row("Flatten", "utility", "several axes made one", utility::flatten::new, utility::flatten::new),
    row("InnerProduct", "common", "fully connected", common::inner_product::new, common::inner_product::new),
    row("Input", "data", "blobs that the user fills", data::input::new, data::input::new),
    row("LRN", "vision", "divides by the strength of the neighbourhood", vision::lrn::new, vision::lrn::new),
    row(
        "Norm",
        "normalization",
        "unit length over channels",
        normalization::norm::new,
        normalization::norm::new,
    ),
    row(
        "Pooling",
        "vision",
        "maximum, mean or draw of each window",
        vision::pooling::new,
        vision::pooling::new,
    ),
    row("Power", "activation", "(shift + scale x)^power", activation::power::new, activation::power::new),
    row(
        "RankHardLoss",
        "loss",
        "ranking of pairs against hard negatives",
        loss::rank_hard_loss::new,
        loss::rank_hard_loss::new,
    ),
    row("ReLU", "activation", "max(0, x), or leaky", activation::relu::new, activation::relu::new),
    row(
        "Reshape",
        "utility",
        "the same values in another shape",
        utility::reshape::new,
        utility::reshape::new,
    ),
    row(
        "Scale",
        "normalization",
        "a factor and a bias for each channel",
        normalization::scale::new,
        normalization::scale::new,
    ),
    row("Sigmoid", "activation", "1 / (1 + exp(-x))", activation::sigmoid::new, activation::sigmoid::new),
    row("Silence", "utility", "an end for unwanted blobs", utility::silence::new, utility::silence::new),
    row("Slice", "utility", "a blob cut along an axis", utility::slice::new, utility::slice::new),
    row("Softmax", "common", "probabilities along an axis", common::softmax::new, common::softmax::new),
    row(
        "SoftmaxWithLoss",
        "loss",
        "cross-entropy of a softmax",
        loss::softmax_with_loss::new,
        loss::softmax_with_loss::new,
    ),
    row("Split", "utility", "one blob for several readers", utility::split::new, utility::split::new),
    row("TanH", "activation", "hyperbolic tangent", activation::tanh::new, activation::tanh::new),
];

/// Layers that a library user added.
static ADDED: RwLock<Vec<Row>> = RwLock::new(Vec::new());

/// Adds a layer type of a library user's own; it takes part in everything the built-in ones do. An error where
/// the name is taken.
pub fn register(
    name: &'static str,
    family: &'static str,
    about: &'static str,
    new_f32: New<f32>,
    new_f64: New<f64>,
) -> Result<()> {
    if find(name).is_some() {
        return Err(Error::new(Kind::Value, format!("a layer type \"{name}\" exists already")));
    }
    let mut added = ADDED.write().unwrap_or_else(|e| e.into_inner());
    added.push(row(name, family, about, new_f32, new_f64));
    Ok(())
}

/// All rows: the built-in ones, then the added ones.
pub fn rows() -> Vec<Row> {
    let added = ADDED.read().unwrap_or_else(|e| e.into_inner());
    LAYERS.iter().copied().chain(added.iter().copied()).collect()
}

/// The row of a layer type.
pub fn find(name: &str) -> Option<Row> {
    rows().into_iter().find(|r| r.name == name)
}

/// Makes the layer that a message describes. An unknown type gives an error with the nearest name.
pub fn create<T: Real>(param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
    let kind = param.r#type();
    let Some(row) = find(kind) else {
        let rows = rows();
        let message = if kind.is_empty() {
            "the layer has no type".to_string()
        } else {
            format!("unknown layer type \"{kind}\"")
        };
        let error = Error::new(Kind::UnknownName, message).in_field("type");
        let error = error.expected(format!("one of the {} types that `cortado layers` lists", rows.len()));
        return Err(error.suggest_nearest(kind, rows.iter().map(|r| r.name)));
    };
    row.make::<T>(param)
}

impl Row {
    /// Makes the layer in a number type.
    fn make<T: Real>(&self, param: &LayerParameter) -> Result<Box<dyn Layer<T>>> {
        let constructors: [&dyn Any; 2] = [&self.new_f32, &self.new_f64];
        match constructors.iter().find_map(|c| c.downcast_ref::<New<T>>()) {
            Some(new) => new(param),
            None => Err(Error::new(Kind::Unsupported, format!("nets of {} numbers", T::NAME))),
        }
    }
}
