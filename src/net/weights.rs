//! Weights into a net and out of it, by layer name.

use super::Net;
use crate::blob::{Param, Shape, Weights};
use crate::error::{Error, Kind, Result};
use crate::math::Real;
use crate::proto::caffe::{BlobProto, BlobShape, LayerParameter, NetParameter};
use crate::proto::{StoredBlob, StoredWeights};
use std::collections::HashMap;
use std::fmt;

/// What [`load_weights`] did with each layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Layers of the net that took their parameters from the file.
    pub loaded: Vec<String>,
    /// Layers of the file, with blobs, that the net does not have.
    pub skipped: Vec<String>,
    /// Layers of the net, with parameters, that the file does not have.
    pub missing: Vec<String>,
    /// Layers that both have, but with other parameters. They keep the values they had.
    pub misfits: Vec<Misfit>,
}

/// A layer whose parameters in the file are not those of the net.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Name of the layer.
    pub layer: String,
    /// The parameter of another shape; none where their number differs.
    pub param: Option<usize>,
    /// What the net has: a shape, or a number of parameters.
    pub net: String,
    /// What the file has.
    pub file: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Misfit { layer, param, net, file } = self;
        match param {
            Some(i) => {
                write!(f, "layer \"{layer}\": the shape of parameter {i} is {net} here, {file} in the file")
            }
            None => write!(f, "layer \"{layer}\" has {net} parameters here, {file} in the file"),
        }
    }
}

impl LoadReport {
    /// An error where a layer has other parameters than the file, as in Caffe, which stops there.
    pub fn ensure_fits(&self) -> Result<()> {
        let Some(first) = self.misfits.first() else { return Ok(()) };
        let message = match first.param {
            Some(i) => format!("parameter {i} has another shape in the weight file"),
            None => "the weight file has another number of parameters".to_string(),
        };
        let error = Error::new(Kind::Shape, message).expected(&first.net).found(&first.file);
        let others: Vec<&str> = self.misfits[1..].iter().map(|m| m.layer.as_str()).collect();
        let hint = "rename the layer to train it from the start instead";
        let error = if others.is_empty() {
            error.suggest(hint)
        } else {
            error.suggest(format!("{hint}; the same holds for {}", others.join(", ")))
        };
        Err(error.in_layer(&first.layer))
    }
}

/// Copies the parameters of a weight file into those of `net`, layer by layer of equal name. Of several layers of one
/// name, each takes those of its counterpart in the order of the file.
///
/// A shape of the old kind (num, channels, height, width) fits one of fewer axes that ends alike, as in Caffe. Layers
/// of other shapes are left alone and reported. Values go from the file straight to their place. Errors: a blob whose number of values
/// is not what its shape says; a file that can be read no more.
///
/// Source: Caffe's `Net::CopyTrainedLayersFrom` and `Blob::ShapeEquals`.
pub fn load_weights<T: Real>(
    net: &Net<T>,
    weights: &mut Weights<T>,
    file: &mut StoredWeights,
) -> Result<LoadReport> {
    let mut sources: HashMap<String, Vec<usize>> = HashMap::new();
    for (i, layer) in file.layers.iter().enumerate() {
        sources.entry(layer.name.clone()).or_default().push(i);
    }
    let mut report = LoadReport::default();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for node in &net.nodes {
        let nth = seen.entry(&node.name).or_default();
        let source = sources.get(&node.name).and_then(|s| s.get(*nth)).copied();
        *nth += 1;
        let Some((source, blobs)) = source.and_then(|i| Some((i, &file.layers.get(i)?.blobs))) else {
            if !node.params.is_empty() {
                report.missing.push(node.name.clone());
            }
            continue;
        };
        let misfit = |param, net: String, file: String| Misfit { layer: node.name.clone(), param, net, file };
        if blobs.len() != node.params.len() {
            let (net, file) = (node.params.len().to_string(), blobs.len().to_string());
            report.misfits.push(misfit(None, net, file));
            continue;
        }
        let other = |(_, (blob, shape)): &(usize, (&StoredBlob, &Shape))| !fits(&blob.shape, shape);
        let mut pairs = blobs.iter().zip(&node.param_shapes).enumerate();
        if let Some((i, (blob, shape))) = pairs.find(other) {
            report.misfits.push(misfit(Some(i), shape.to_string(), describe(&blob.shape)));
            continue;
        }
        for (i, &id) in node.params.iter().enumerate() {
            let at = |e: Error| e.in_field(&format!("blobs[{i}]")).in_layer(&node.name);
            file.read(source, i, weights.get_mut(id).data.host_mut()).map_err(at)?;
        }
        if !node.params.is_empty() {
            report.loaded.push(node.name.clone());
        }
    }
    let left = file.layers.iter().filter(|l| !l.blobs.is_empty() && !seen.contains_key(l.name.as_str()));
    report.skipped = left.map(|l| l.name.clone()).collect();
    Ok(report)
}

impl<T: Real> Net<T> {
    /// The net as a message with its parameters, as a `.caffemodel` holds it: all layers that it runs, the inserted
    /// splits too; with the gradients of the parameters if `write_diff` says so.
    pub fn to_proto(&self, weights: &Weights<T>, write_diff: bool) -> NetParameter {
        let layer = self.nodes.iter().map(|node| {
            let mut layer = node.param.clone();
            let params = node.params.iter().map(|&id| weights.get(id));
            layer.blobs = params
                .zip(&node.param_shapes)
                .map(|(p, shape)| {
                    let diff = if write_diff { Some(p.diff.host()) } else { None };
                    to_blob(shape, p.data.host(), diff)
                })
                .collect();
            layer
        });
        NetParameter { name: Some(self.name.clone()), layer: layer.collect(), ..Default::default() }
    }
}

/// A blob as a message: f32 as `data`, f64 as `double_data`. Empty `values` or `diff` stand for zeros.
pub fn to_blob<T: Real>(shape: &Shape, values: &[T], diff: Option<&[T]>) -> BlobProto {
    let dim = shape.iter().map(|&d| d as i64).collect();
    let mut blob = BlobProto { shape: Some(BlobShape { dim }), ..Default::default() };
    let all = |v: &[T]| -> Vec<f64> {
        if v.is_empty() { vec![0.0; shape.count()] } else { v.iter().map(|v| v.as_f64()).collect() }
    };
    let all_f32 = |v: &[T]| -> Vec<f32> {
        if v.is_empty() { vec![0.0; shape.count()] } else { v.iter().map(|v| v.as_f64() as f32).collect() }
    };
    if size_of::<T>() == size_of::<f64>() {
        blob.double_data = all(values);
        blob.double_diff = diff.map(all).unwrap_or_default();
    } else {
        blob.data = all_f32(values);
        blob.diff = diff.map(all_f32).unwrap_or_default();
    }
    blob
}

/// Whether a blob of a file has this shape. One with the old fields fits a shape that ends alike: 1×1×500×800 is
/// 500×800.
pub fn fits(blob: &BlobProto, shape: &Shape) -> bool {
    let old = [blob.num, blob.channels, blob.height, blob.width];
    let dims: Vec<i64> = if old.iter().all(Option::is_none) {
        blob.shape.as_ref().map(|s| s.dim.clone()).unwrap_or_default()
    } else if shape.len() <= 4 {
        let leading = old.iter().take(4 - shape.len());
        if leading.into_iter().any(|d| d.unwrap_or(0) != 1) {
            return false;
        }
        old.iter().skip(4 - shape.len()).map(|d| d.unwrap_or(0).into()).collect()
    } else {
        return false;
    };
    dims.len() == shape.len() && dims.iter().zip(shape.iter()).all(|(&a, &b)| usize::try_from(a) == Ok(b))
}

/// Copies the values of a blob. Error: another number of them than `target` has.
pub fn copy<T: Real>(blob: &BlobProto, target: &mut [T]) -> Result<()> {
    let (single, double) = (&blob.data, &blob.double_data);
    let found = if double.is_empty() { single.len() } else { double.len() };
    if found != target.len() {
        return Err(Error::new(Kind::Shape, "a blob with another number of values than its shape says")
            .expected(target.len())
            .found(found));
    }
    if double.is_empty() {
        target.iter_mut().zip(single).for_each(|(t, &v)| *t = T::from_f64(v.into()));
    } else {
        target.iter_mut().zip(double).for_each(|(t, &v)| *t = T::from_f64(v));
    }
    Ok(())
}

/// The shape of a blob of a file, for a message.
pub fn describe(blob: &BlobProto) -> String {
    blob.dims().and_then(Shape::new).map_or_else(|_| "impossible".to_string(), |s| s.to_string())
}

/// Puts the values that a net's own prototxt or caffemodel gives a layer (`layer.blobs`) in place of the fillers'.
pub(super) fn take_own<T: Real>(layer: &LayerParameter, params: &mut [Param<T>]) -> Result<()> {
    if layer.blobs.is_empty() {
        return Ok(());
    }
    if layer.blobs.len() != params.len() {
        return Err(Error::new(Kind::Value, "another number of blobs than the layer has parameters")
            .expected(params.len())
            .found(layer.blobs.len())
            .in_field("blobs"));
    }
    for (i, (blob, param)) in layer.blobs.iter().zip(params).enumerate() {
        let field = format!("blobs[{i}]");
        if !fits(blob, &param.shape) {
            return Err(Error::new(Kind::Shape, "the layer has this parameter in another shape")
                .expected(&param.shape)
                .found(describe(blob))
                .in_field(&field));
        }
        copy(blob, param.data.host_mut()).map_err(|e| e.in_field(&field))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::encode_net;
    use crate::testing::{Bench, Feed, refusal};

    const X: Feed = ("x", &[1, 3], &[1.0, 2.0, 3.0]);

    fn ip(name: &str, outputs: usize, more: &str) -> String {
        format!(
            "layer {{ name: '{name}' type: 'InnerProduct' bottom: 'x' top: '{name}' {more}
               inner_product_param {{ num_output: {outputs} weight_filler {{ type: 'gaussian' }} }} }}\n"
        )
    }

    fn file<T: Real>(bench: &Bench<T>) -> Vec<u8> {
        encode_net(&bench.net.to_proto(&bench.weights, false))
    }

    fn load<T: Real>(bench: &mut Bench<T>, file: &[u8]) -> LoadReport {
        load_weights(&bench.net, &mut bench.weights, &mut StoredWeights::of(file).unwrap()).unwrap()
    }

    #[test]
    fn each_layer_is_loaded_skipped_missing_or_misfit() {
        let mut from =
            Bench::<f64>::new(&(ip("a", 2, "") + &ip("b", 2, "") + &ip("c", 4, "")), &[X]).unwrap();
        from.set_param("a", 1, &[0.1, -7.5]);
        let file = file(&from);
        let layers = ip("a", 2, "")
            + &ip("c", 5, "")
            + &ip("d", 1, "")
            + &ip("b", 2, "").replace("num_output", "bias_term: false num_output");
        let mut to = Bench::<f32>::new(&layers, &[X]).unwrap();
        let before = to.param("c", 0);
        let report = load(&mut to, &file);
        assert_eq!(
            (report.loaded.as_slice(), report.missing.as_slice()),
            (&["a".into()][..], &["d".into()][..])
        );
        assert!(report.skipped.is_empty());
        let said: Vec<String> = report.misfits.iter().map(Misfit::to_string).collect();
        assert_eq!(
            said,
            [
                "layer \"c\": the shape of parameter 0 is 5 3 (15) here, 4 3 (12) in the file",
                "layer \"b\" has 1 parameters here, 2 in the file"
            ]
        );
        assert_eq!(to.param("c", 0), before);
        assert_eq!(to.param("a", 1).0, [0.1f32.into(), -7.5]);
        let error = report.ensure_fits().unwrap_err();
        assert_eq!((error.kind(), error.layer()), (Kind::Shape, Some("c")));

        let mut only = Bench::<f32>::new(&ip("a", 2, ""), &[X]).unwrap();
        let report = load(&mut only, &file);
        assert_eq!(report.skipped, ["b", "c"]);
        assert!(report.ensure_fits().is_ok());
    }

    #[test]
    fn both_precisions_come_back_exactly() {
        let layers = ip("a", 2, "");
        let one = Bench::<f64>::new(&layers, &[X]).unwrap();
        let mut two = Bench::<f64>::new(&layers, &[X]).unwrap();
        two.set_param("a", 0, &[0.0; 6]);
        load(&mut two, &file(&one));
        assert_eq!(two.param("a", 0).0, one.param("a", 0).0);
        let proto = one.net.to_proto(&one.weights, true);
        let blobs = &proto.layer.last().unwrap().blobs;
        assert_eq!((blobs[0].double_data.len(), blobs[0].data.len(), blobs[0].double_diff.len()), (6, 0, 6));
    }

    #[test]
    fn old_shapes_fit_as_in_caffe() {
        let old = |dims: [i32; 4]| {
            let [num, channels, height, width] = dims.map(Some);
            BlobProto { num, channels, height, width, ..Default::default() }
        };
        let shape = |dims: &[usize]| Shape::new(dims).unwrap();
        assert!(fits(&old([1, 1, 500, 800]), &shape(&[500, 800])));
        assert!(fits(&old([1, 1, 1, 1]), &shape(&[])));
        assert!(fits(&old([2, 3, 4, 5]), &shape(&[2, 3, 4, 5])));
        assert!(!fits(&old([2, 1, 500, 800]), &shape(&[500, 800])));
        assert!(!fits(&old([500, 800, 1, 1]), &shape(&[500, 800])));
        assert!(!fits(&old([1, 2, 3, 4]), &shape(&[1, 1, 2, 3, 4])));
        let new = to_blob::<f32>(&shape(&[1, 1, 2]), &[1.0, 2.0], None);
        assert!(fits(&new, &shape(&[1, 1, 2])) && !fits(&new, &shape(&[1, 2])) && !fits(&new, &shape(&[2])));
    }

    #[test]
    fn a_nets_own_blobs_are_taken() {
        let own = "blobs { shape { dim: 2 dim: 3 } data: [1, 2, 3, 4, 5, 6] } blobs { shape { dim: 2 } data: [7, 8] }";
        let mut bench = Bench::<f32>::new(&ip("a", 2, own), &[X]).unwrap();
        bench.forward();
        assert_eq!(bench.get("a"), [21.0, 40.0]);
        let error = refusal(&ip("a", 3, own), &[X]);
        assert_eq!((error.kind(), error.field()), (Kind::Shape, Some("blobs[0]")));
        let error = refusal(&ip("a", 2, "blobs { shape { dim: 2 dim: 3 } data: [1, 2, 3, 4, 5, 6] }"), &[X]);
        assert_eq!((error.kind(), error.field()), (Kind::Value, Some("blobs")));
        let error = refusal(&ip("a", 2, &own.replace("7, 8", "7")), &[X]);
        assert_eq!(error.field(), Some("blobs[1]"));
    }

    #[test]
    fn layers_of_one_name_are_loaded_in_their_order() {
        let layers = ip("a", 2, "") + &ip("a", 2, "").replace("top: 'a'", "top: 'b'");
        let one = Bench::<f32>::new(&layers, &[X]).unwrap();
        let mut two = Bench::<f32>::new(&layers, &[X]).unwrap();
        two.weights.iter_mut().for_each(|p| p.data.host_mut().fill(0.0));
        assert_eq!(load(&mut two, &file(&one)).loaded, ["a", "a"]);
        for (p, q) in one.weights.iter().zip(two.weights.iter()) {
            assert_eq!(p.data.host(), q.data.host());
        }
    }
}
