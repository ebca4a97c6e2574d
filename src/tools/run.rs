//! Runs a net once on arrays.

use super::npz::Arrays;
use super::open::NetFile;
use crate::blob::{ParamId, Shape, Weights};
use crate::error::{Error, Kind, Result, nearest};
use crate::math::Real;
use crate::net::{Keep, Net};
use ndarray::{ArrayD, IxDyn};

/// Whether [`run`] reads an array of this name: `in/BLOB`, `param/LAYER/I`, `topdiff/BLOB`.
pub fn reads(key: &str) -> bool {
    ["in/", "param/", "topdiff/"].iter().any(|kind| key.starts_with(kind))
}

/// Builds a net and its weights, with `force_backward` where backward is to be run. [`run`] gives the blobs that `keep`
/// names; it fills those of [`fed`], which must be among them.
pub fn build(file: &NetFile, backward: bool, seed: u64, keep: &Keep) -> Result<(Net<f32>, Weights<f32>)> {
    let mut param = file.param.clone();
    if backward {
        param.force_backward = Some(true);
    }
    let mut weights = Weights::new();
    let net = Net::keeping(&param, seed, &mut weights, keep).map_err(|e| file.locate(e))?;
    Ok((net, weights))
}

/// The blobs of a net that an input fills, without names that the net does not have.
pub fn fed(file: &NetFile, input: &Arrays) -> Vec<String> {
    let made = |name: &&str| file.param.layer.iter().any(|l| l.top.iter().any(|t| t == name));
    input.keys().filter_map(|key| key.strip_prefix("in/")).filter(made).map(String::from).collect()
}

/// Runs a net forward, and backward if asked for, on arrays by name:
///
/// | in the input | |
/// |---|---|
/// | `in/BLOB` | fills a blob of a layer without bottoms; another batch size gives an `Input` another shape |
/// | `param/LAYER/I` | a parameter |
/// | `topdiff/BLOB` | the gradient of an output, for backward |
///
/// | in the output | |
/// |---|---|
/// | `out/BLOB` | every blob that the net keeps |
/// | `param_after/LAYER/I` | every parameter, after forward (statistics change) |
/// | `grad/BLOB` | with backward: the gradients of the inputs; zeros where there is none |
/// | `pgrad/LAYER/I` | with backward: the gradients of the parameters |
///
/// Losses run backward with their weights. Other keys are ignored. An array has the shape of its blob, extents of 1 aside.
///
/// Errors: a key that names what the net does not have or does not keep; an array of another shape.
pub fn run(net: &mut Net<f32>, weights: &mut Weights<f32>, input: &Arrays, backward: bool) -> Result<Arrays> {
    pass(net, weights, input, backward)?;
    collect(net, weights, backward)
}

/// [`run`] without its output: the results are in the net and the weights.
pub fn pass(net: &mut Net<f32>, weights: &mut Weights<f32>, input: &Arrays, backward: bool) -> Result<()> {
    let feeds = feeds(net, input)?;
    for (key, array) in input {
        if let Some(path) = key.strip_prefix("param/") {
            let id = param(net, path).map_err(|e| about(e, key))?;
            let param = weights.get_mut(id);
            fits(&param.shape, array).map_err(|e| about(e, key))?;
            copy(array, param.data.host_mut());
        }
    }
    net.begin_pass()?;
    for i in 0..net.nodes().len() {
        net.forward_layer(i, weights)?;
        for t in net.nodes()[i].top.clone() {
            if let Some((_, array)) = feeds.iter().find(|(b, _)| *b == t && net.nodes()[i].bottom.is_empty())
            {
                copy(array, net.data_mut(t));
            }
        }
    }
    net.fetch(weights)?;
    if backward {
        for (key, array) in input {
            if let Some(name) = key.strip_prefix("topdiff/") {
                let blob = net.blob(name).map_err(|e| about(e, key))?;
                if !net.outputs().contains(&blob) {
                    let message = format!("\"{name}\" is no output: a later layer reads it");
                    let error = Error::new(Kind::Value, message).expected(output_names(net));
                    return Err(about(error, key));
                }
                fits(&net.blobs()[blob].shape, array).map_err(|e| about(e, key))?;
                copy(array, net.diff_mut(blob));
            }
        }
        weights.clear_diffs()?;
        net.backward(weights)?;
        net.fetch(weights)?;
    }
    Ok(())
}

/// The blobs that the input fills, shaped for it.
fn feeds<'a>(net: &mut Net<f32>, input: &'a Arrays) -> Result<Vec<(usize, &'a ArrayD<f32>)>> {
    let (mut feeds, mut reshaped) = (Vec::new(), false);
    for (key, array) in input {
        let Some(name) = key.strip_prefix("in/") else { continue };
        let blob = net.blob(name).map_err(|e| about(e, key))?;
        let maker = net.nodes().iter().find(|n| n.top.contains(&blob) && n.bottom.is_empty());
        let Some(maker) = maker else {
            let error = Error::new(Kind::Value, format!("\"{name}\" is computed by the net"));
            return Err(about(error.expected("a blob of a layer without bottoms"), key));
        };
        if !net.keeps(blob) {
            net.view(name).map_err(|e| about(e, key))?; // which says why not
        }
        let is_input = maker.param.r#type() == "Input";
        let (mine, theirs) = (&net.blobs()[blob].shape, array.shape());
        let batch = mine.len() == theirs.len() && !mine.is_empty() && mine[1..] == theirs[1..];
        if is_input && batch && mine[0] != theirs[0] {
            net.set_input_shape(blob, Shape::new(theirs)?)?;
            reshaped = true;
        } else {
            fits(mine, array).map_err(|e| about(e, key))?;
        }
        feeds.push((blob, array));
    }
    if reshaped {
        net.reshape()?;
    }
    Ok(feeds)
}

fn collect(net: &Net<f32>, weights: &Weights<f32>, backward: bool) -> Result<Arrays> {
    let mut output = Arrays::new();
    for (b, blob) in net.blobs().iter().enumerate().filter(|(b, _)| net.keeps(*b)) {
        output.insert(format!("out/{}", blob.name), array(&blob.shape, net.data(b))?);
    }
    for node in net.nodes() {
        for (i, &p) in node.params.iter().enumerate() {
            let param = weights.get(p);
            let name = format!("{}/{i}", node.name);
            if backward {
                output.insert(format!("pgrad/{name}"), array(&param.shape, param.diff.host())?);
            }
            output.insert(format!("param_after/{name}"), array(&param.shape, param.data.host())?);
        }
        if backward && node.bottom.is_empty() {
            for &t in &node.top {
                let blob = &net.blobs()[t];
                output.insert(format!("grad/{}", blob.name), array(&blob.shape, net.diff(t))?);
            }
        }
    }
    Ok(output)
}

/// Values as an array; zeros where there are none.
fn array(shape: &Shape, values: &[f32]) -> Result<ArrayD<f32>> {
    let values = if values.is_empty() { vec![0.0; shape.count()] } else { values.to_vec() };
    ArrayD::from_shape_vec(IxDyn(shape), values).map_err(|e| Error::new(Kind::Shape, e.to_string()))
}

fn param<T: Real>(net: &Net<T>, path: &str) -> Result<ParamId> {
    let form = || {
        Error::new(Kind::Value, "the name of a parameter is wrong")
            .expected("param/LAYER/I, as param/conv1/0")
    };
    let (layer, index) = path.rsplit_once('/').ok_or_else(form)?;
    let index: usize = index.parse().map_err(|_| form())?;
    let Some(node) = net.nodes().iter().find(|n| n.name == layer) else {
        let names = net.nodes().iter().map(|n| n.name.as_str());
        return Err(Error::new(Kind::UnknownName, format!("the net has no layer \"{layer}\""))
            .suggest_nearest(layer, names));
    };
    node.params.get(index).copied().ok_or_else(|| {
        Error::new(Kind::Value, format!("layer \"{layer}\" has no parameter {index}"))
            .found(format!("{} parameters", node.params.len()))
    })
}

/// Whether an array has a shape, extents of 1 aside.
fn fits(shape: &Shape, array: &ArrayD<f32>) -> Result<()> {
    let essence = |dims: &[usize]| dims.iter().copied().filter(|&d| d != 1).collect::<Vec<_>>();
    if essence(shape) == essence(array.shape()) {
        return Ok(());
    }
    Err(Error::new(Kind::Shape, "the array has another shape")
        .expected(format!("{:?}", &shape[..]))
        .found(format!("{:?}", array.shape())))
}

fn copy(array: &ArrayD<f32>, target: &mut [f32]) {
    // In the order of the indices, however the file has them.
    target.iter_mut().zip(array.iter()).for_each(|(t, &v)| *t = v);
}

fn about(error: Error, key: &str) -> Error {
    error.in_field(key)
}

fn output_names<T: Real>(net: &Net<T>) -> String {
    let names = net.outputs().into_iter().map(|b| format!("\"{}\"", net.blobs()[b].name));
    format!("one of {}", names.collect::<Vec<_>>().join(", "))
}

/// The keys of the input that [`run`] ignores although they look like one of its own.
pub fn misspelt(keys: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
    let kinds = ["in", "param", "topdiff", "out", "param_after", "grad", "pgrad"];
    let note = |key: &str| {
        let kind = key.split('/').next().unwrap_or_default();
        let near = nearest(kind, kinds).filter(|near| *near != kind)?;
        Some(format!("the array \"{key}\" is ignored: did you mean \"{near}/...\"?"))
    };
    keys.into_iter().filter_map(|key| note(key.as_ref())).collect()
}
