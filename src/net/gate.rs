//! `ReLU`s whose way back another layer goes along.
//!
//! Backward, a `ReLU` reads the gradient that the layer behind it has just written, and writes it once more. Where that layer is the
//! only one to read the blob, it may write 0 straight away for whatever is not positive ([`Layer::gates`](crate::layers::Layer::gates)).
//! On the host; on a device each layer goes backward by itself.

use super::fuse::next;
use super::{Net, Node};
use crate::layers::Step;
use crate::math::Real;

/// Settles for every node of a fused net whether its way back is done along, and which of its bottoms it gates.
pub(super) fn settle<T: Real>(net: &mut Net<T>) {
    for node in &mut net.nodes {
        node.gated = false;
        node.along.gated.clear();
        node.along.gated.resize(node.bottom.len(), false);
    }
    for relu in 0..net.nodes.len() {
        if let Some((reader, bottom)) = gate(net, relu) {
            net.nodes[relu].gated = true;
            net.nodes[reader].along.gated[bottom] = true;
        }
    }
}

/// The layer that may go back for a `ReLU`, and the bottom that is the `ReLU`'s blob.
fn gate<T: Real>(net: &Net<T>, relu: usize) -> Option<(usize, usize)> {
    let node = &net.nodes[relu];
    let &[blob] = node.bottom.as_slice() else { return None };
    let by_itself = node.leader.is_none_or(|leader| net.nodes[leader].along.forward_alone);
    let is_relu = node.layer.step() == Some(Step::Relu { slope: 0.0 });
    if !is_relu || node.top != [blob] || !backward(node) || !by_itself || node.loss_weight != [0.0] {
        return None;
    }
    let reader = next(net, relu, blob).filter(|&reader| next(net, reader, blob).is_none())?;
    let node = &net.nodes[reader];
    let (data, diff) = (net.blobs[blob].data, net.blobs[blob].diff);
    let is_same = |b: &usize| net.blobs[*b].data == data || net.blobs[*b].diff == diff;
    let bottom = node.bottom.iter().position(|&b| b == blob)?;
    let once = node.bottom.iter().filter(|b| is_same(b)).count() == 1 && !node.top.iter().any(is_same);
    let gates = node.leader.is_none() && node.layer.gates(node.along.layouts);
    (once && gates && backward(node) && node.propagate[bottom]).then_some((reader, bottom))
}

fn backward<T: Real>(node: &Node<T>) -> bool {
    node.need_backward && node.propagate.contains(&true)
}

#[cfg(test)]
mod tests {
    use crate::blob::Weights;
    use crate::net::{Keep, Net};
    use crate::proto::parse_net;
    use crate::testing::{Bench, assert_close};

    fn layer(kind: &str, name: &str, bottom: &str, top: &str, more: &str) -> String {
        let bottoms: String = bottom.split(' ').map(|b| format!("bottom: '{b}' ")).collect();
        format!("layer {{ name: '{name}' type: '{kind}' {bottoms} top: '{top}' {more} }}\n")
    }

    const SCALE: &str = "power_param { scale: -1.5 shift: 0.2 }";

    /// Two branches with a `ReLU` each, `a` and `b`, which `more` joins to `y`.
    fn net(more: &str) -> String {
        "state { phase: TRAIN }\n".to_string()
            + &layer("Power", "pa", "x", "a", SCALE)
            + &layer("ReLU", "ra", "a", "a", "")
            + &layer("Power", "pb", "x", "b", "")
            + &layer("ReLU", "rb", "b", "b", "")
            + more
    }

    fn bench(text: &str, dims: &[usize], fusion: bool) -> Bench<f64> {
        let count = dims.iter().product::<usize>();
        let x: Vec<f64> = (0..count).map(|i| (i * 7919 % 1013) as f64 / 400.0 - 1.1).collect();
        let mut b = Bench::<f64>::new(text, &[("x", dims, &x)]).unwrap();
        b.net.set_fusion(fusion);
        b.forward();
        let dy: Vec<f64> = (0..b.get("y").len()).map(|i| (i * 31 % 17) as f64 / 8.0 - 1.0).collect();
        b.backward(&[("y", &dy)]);
        b
    }

    /// The layers whose way back another one goes, after it was seen to go the same way.
    fn gated(more: &str) -> Vec<String> {
        let text = net(more);
        for dims in [&[2usize, 3, 5, 7][..], &[1, 32, 3, 3], &[3, 64, 20, 20]] {
            let (one, two) = (bench(&text, dims, true), bench(&text, dims, false));
            for blob in ["x", "a", "b"] {
                assert_close(&one.grad(blob), &two.grad(blob), 0.0);
            }
        }
        let nodes = bench(&text, &[2, 3, 5, 7], true).net.nodes;
        nodes.iter().filter(|node| node.gated).map(|node| node.name.clone()).collect()
    }

    #[test]
    fn the_only_reader_goes_back_for_a_relu() {
        for axis in 0..3 {
            let concat = layer("Concat", "c", "a b", "y", &format!("concat_param {{ axis: {axis} }}"));
            assert_eq!(gated(&concat), ["ra", "rb"], "axis {axis}");
        }
        for region in ["ACROSS_CHANNELS", "WITHIN_CHANNEL"] {
            let norm = format!("lrn_param {{ alpha: 2 local_size: 3 norm_region: {region} }}");
            let sum = layer("LRN", "n", "a", "n", &norm) + &layer("Eltwise", "e", "n b", "y", "");
            assert_eq!(gated(&sum), ["ra"], "{region}");
        }
    }

    #[test]
    fn where_somebody_else_looks_it_goes_back_by_itself() {
        let concat = layer("Concat", "c", "a b", "y", "");
        let power = |bottom: &str| layer("Power", "p", bottom, "p", "");
        let sum = layer("Eltwise", "e", "a b", "y", "");
        assert_eq!(gated(&sum), [""; 0]);
        assert_eq!(
            gated(&(layer("Dropout", "d", "a", "a", "dropout_param { dropout_ratio: 0 }") + &concat)),
            ["rb"]
        );
        let two = power("a") + &layer("Concat", "c", "a b p", "y", "");
        assert_eq!(gated(&two), ["rb"]);
        let twice = layer("Concat", "c", "a b b", "y", "");
        assert_eq!(gated(&twice), ["ra"]);
        assert_eq!(gated(&concat.replace("'y'", "'y' propagate_down: false propagate_down: true")), ["rb"]);
    }

    #[test]
    fn only_what_writes_nothing_but_zeros_is_gated() {
        let concat = layer("Concat", "c", "a b", "y", "");
        let net = net(&concat);
        for (text, other) in [
            (
                net.replace(
                    "'ra' type: 'ReLU' bottom: 'a'  top: 'a'",
                    "'ra' type: 'ReLU' bottom: 'a' top: 'a' relu_param { negative_slope: 0.1 }",
                ),
                "a slope",
            ),
            (net.replace("'ra' type: 'ReLU'", "'ra' type: 'Sigmoid'"), "another layer"),
        ] {
            assert_ne!(text, net, "{other}");
            let b = bench(&text, &[2, 3, 5, 7], true);
            assert!(b.net.nodes.iter().all(|node| node.gated == (node.name == "rb")), "{other}");
        }
    }

    /// The gradients of two convolutions with a `ReLU` and a pooling between, which lie in blocks.
    fn learned(fusion: bool) -> Vec<f64> {
        let convolution = |name: &str, bottom: &str| {
            let param = "convolution_param { num_output: 32 kernel_size: 3 pad: 1
                weight_filler { type: 'gaussian' std: 0.1 } }";
            layer("Convolution", name, bottom, name, param)
        };
        let data = "dummy_data_param { shape { dim: 2 dim: 16 dim: 11 dim: 9 } shape { dim: 2 dim: 32 dim: 5 dim: 4 }
            data_filler { type: 'gaussian' } }";
        let text = format!(
            "state {{ phase: TRAIN }} layer {{ name: 'x' type: 'DummyData' top: 'x' top: 't' {data} }}\n"
        ) + &convolution("a", "x")
            + &layer("ReLU", "ra", "a", "a", "")
            + &layer("Pooling", "p", "a", "p", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
            + &convolution("b", "p")
            + &layer("EuclideanLoss", "l", "b t", "l", "");
        let mut weights = Weights::new();
        let param = parse_net(&text, "test").unwrap().message;
        let mut net = Net::<f64>::keeping(&param, 3, &mut weights, &Keep::Outputs).unwrap();
        net.set_fusion(fusion);
        net.forward(&mut weights).unwrap();
        net.backward(&mut weights).unwrap();
        assert!(net.nodes.iter().all(|node| node.gated == (node.name == "ra")));
        weights.iter().flat_map(|p| p.diff.host().to_vec()).collect()
    }

    #[test]
    fn a_pooling_in_blocks_goes_back_for_a_relu() {
        assert_close(&learned(true), &learned(false), 1e-9);
    }
}
