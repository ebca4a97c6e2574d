//! Puts a `Split` layer behind every blob that has several readers.

use crate::error::{Error, Kind, Result};
use crate::proto::caffe::LayerParameter;
use std::collections::HashMap;

/// A top: (layer, number of the top).
type Top = (usize, usize);

/// Inserts the splits, with Caffe's names. A loss weight on a blob that is also read counts as one reader.
///
/// Errors: a bottom that no earlier layer makes (with the nearest name, or the later layer that makes it), and a
/// blob that one layer overwrites in place while another reads it.
pub fn insert_splits(layers: Vec<(LayerParameter, usize)>) -> Result<Vec<(LayerParameter, usize)>> {
    let readers = readers(&layers)?;
    let mut count: HashMap<Top, usize> = HashMap::new();
    for top in readers.iter().flatten() {
        *count.entry(*top).or_default() += 1;
    }
    let mut weight: HashMap<Top, f32> = HashMap::new();
    for (i, (layer, _)) in layers.iter().enumerate() {
        for (j, &w) in layer.loss_weight.iter().take(layer.top.len()).enumerate() {
            if w != 0.0 && count.contains_key(&(i, j)) {
                weight.insert((i, j), w);
                *count.entry((i, j)).or_default() += 1;
            }
        }
    }
    let mut next: HashMap<Top, usize> = HashMap::new();
    let mut out = Vec::with_capacity(layers.len());
    let names: Vec<String> = layers.iter().map(|(l, _)| l.name().to_string()).collect();
    for (i, (mut layer, nth)) in layers.into_iter().enumerate() {
        for (b, top) in readers[i].iter().enumerate() {
            if count[top] > 1 {
                let blob = layer.bottom[b].clone();
                if layer.top.get(b) == Some(&blob) {
                    let other = readers
                        .iter()
                        .enumerate()
                        .find(|(k, r)| *k != i && r.contains(top))
                        .map_or("the loss", |(k, _)| names[k].as_str());
                    return Err(Error::new(
                        Kind::Net,
                        format!("\"{blob}\" is overwritten in place, but \"{other}\" reads it too"),
                    )
                    .suggest(format!("give the top of \"{}\" a name of its own", layer.name()))
                    .in_field(&format!("top[{b}]"))
                    .in_nth_layer(layer.name(), nth));
                }
                let k = next.entry(*top).or_default();
                layer.bottom[b] = format!("{}_{k}", split_name(&names[top.0], &blob, top.1));
                *k += 1;
            }
        }
        let mut splits = Vec::new();
        for (j, blob) in layer.top.iter().enumerate() {
            let Some(&n) = count.get(&(i, j)).filter(|&&n| n > 1) else { continue };
            let name = split_name(layer.name(), blob, j);
            let mut split = LayerParameter {
                r#type: Some("Split".into()),
                bottom: vec![blob.clone()],
                top: (0..n).map(|k| format!("{name}_{k}")).collect(),
                name: Some(name),
                phase: layer.phase,
                ..Default::default()
            };
            if let Some(&w) = weight.get(&(i, j)) {
                // The loss takes the first of the split's tops.
                split.loss_weight = std::iter::once(w).chain(std::iter::repeat_n(0.0, n - 1)).collect();
                next.insert((i, j), 1);
            }
            splits.push((split, j));
        }
        for &(_, j) in splits.iter().filter(|(s, _)| !s.loss_weight.is_empty()) {
            layer.loss_weight[j] = 0.0;
        }
        out.push((layer, nth));
        out.extend(splits.into_iter().map(|(split, _)| (split, 0)));
    }
    Ok(out)
}

/// For each layer and bottom, the top it reads: the last one of that name made before.
fn readers(layers: &[(LayerParameter, usize)]) -> Result<Vec<Vec<Top>>> {
    let mut made: HashMap<&str, Top> = HashMap::new();
    let mut readers = Vec::with_capacity(layers.len());
    for (i, (layer, nth)) in layers.iter().enumerate() {
        let mut tops = Vec::with_capacity(layer.bottom.len());
        for (b, blob) in layer.bottom.iter().enumerate() {
            match made.get(blob.as_str()) {
                Some(&top) => tops.push(top),
                None => {
                    return Err(unknown_bottom(layers, i, blob, made.keys().copied())
                        .in_field(&format!("bottom[{b}]"))
                        .in_nth_layer(layer.name(), *nth));
                }
            }
        }
        readers.push(tops);
        for (j, blob) in layer.top.iter().enumerate() {
            made.insert(blob, (i, j));
        }
    }
    Ok(readers)
}

fn unknown_bottom<'a>(
    layers: &[(LayerParameter, usize)],
    reader: usize,
    blob: &str,
    made: impl Iterator<Item = &'a str>,
) -> Error {
    let error = Error::new(Kind::Net, format!("unknown bottom blob \"{blob}\""))
        .expected("a top of an earlier layer");
    match layers[reader..].iter().find(|(l, _)| l.top.iter().any(|t| t == blob)) {
        Some((later, _)) if later.name() == layers[reader].0.name() => {
            error.found("a top of this layer itself: a cycle")
        }
        Some((later, _)) => {
            let makes = format!("a top of the later layer \"{}\"", later.name());
            let error = error.found(makes);
            if reaches(layers, reader, later.bottom.iter().map(String::as_str).collect()) {
                error.suggest("the two layers wait for each other: a net may have no cycles")
            } else {
                error.suggest("layers run in the order of the file: move that layer up")
            }
        }
        None => error.suggest_nearest(blob, made),
    }
}

/// Whether the blobs are computed, directly or not, from what `layer` makes.
fn reaches<'a>(layers: &'a [(LayerParameter, usize)], layer: usize, mut blobs: Vec<&'a str>) -> bool {
    let mut seen: Vec<&str> = Vec::new();
    while let Some(blob) = blobs.pop() {
        if layers[layer].0.top.iter().any(|t| t == blob) {
            return true;
        }
        if !seen.contains(&blob) {
            seen.push(blob);
            for (l, _) in layers.iter().filter(|(l, _)| l.top.iter().any(|t| t == blob)) {
                blobs.extend(l.bottom.iter().map(String::as_str));
            }
        }
    }
    false
}

/// Caffe's name of the split behind a blob.
fn split_name(layer: &str, blob: &str, top: usize) -> String {
    format!("{blob}_{layer}_{top}_split")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, bottom: &[&str], top: &[&str]) -> (LayerParameter, usize) {
        let all = |names: &[&str]| names.iter().map(|s| s.to_string()).collect();
        let (bottom, top) = (all(bottom), all(top));
        (LayerParameter { name: Some(name.into()), bottom, top, ..Default::default() }, 0)
    }

    #[test]
    fn two_readers_get_a_split_with_caffes_names() {
        let net = vec![
            layer("data", &[], &["x"]),
            layer("relu", &["x"], &["x"]),
            layer("a", &["x"], &["a"]),
            layer("b", &["x"], &["b"]),
        ];
        let out = insert_splits(net).unwrap();
        let names: Vec<&str> = out.iter().map(|(l, _)| l.name()).collect();
        assert_eq!(names, ["data", "relu", "x_relu_0_split", "a", "b"]);
        assert_eq!(out[2].0.top, ["x_relu_0_split_0", "x_relu_0_split_1"]);
        assert_eq!((&out[3].0.bottom[0], &out[4].0.bottom[0]), (&out[2].0.top[0], &out[2].0.top[1]));
    }

    #[test]
    fn a_loss_that_is_read_again_keeps_its_weight() {
        let mut loss = layer("loss", &["x"], &["l"]);
        loss.0.loss_weight = vec![0.5];
        let out = insert_splits(vec![layer("data", &[], &["x"]), loss, layer("a", &["l"], &["a"])]).unwrap();
        assert_eq!(out[1].0.loss_weight, [0.0]);
        assert_eq!(out[2].0.loss_weight, [0.5, 0.0]);
        assert_eq!(out[3].0.bottom, ["l_loss_0_split_1"]);
    }

    #[test]
    fn wrong_bottoms_are_explained() {
        let say = |net| insert_splits(net).unwrap_err().to_string();
        let typo = say(vec![layer("data", &[], &["conv1"]), layer("a", &["conv2"], &["a"])]);
        assert!(typo.contains("unknown bottom blob \"conv2\"") && typo.contains("conv1"), "{typo}");
        let cycle = say(vec![layer("a", &["b"], &["a"]), layer("b", &["a"], &["b"])]);
        assert!(cycle.contains("cycle"), "{cycle}");
        let order = say(vec![layer("a", &["b"], &["a"]), layer("b", &[], &["b"])]);
        assert!(order.contains("move that layer up"), "{order}");
        let both = say(vec![
            layer("data", &[], &["x"]),
            layer("norm", &["x"], &["y"]),
            layer("relu", &["x"], &["x"]),
        ]);
        assert!(both.contains("\"norm\" reads it too"), "{both}");
    }
}
