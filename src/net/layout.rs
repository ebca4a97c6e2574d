//! Which blobs of a net hold their channels in blocks.
//!
//! Convolutions read and write images faster where the channels of a pixel lie side by side ([`Layout::Blocks`]). A user looks at
//! planes; so only blobs that nobody can look at lie so, if every layer that reads or writes them can
//! ([`Layer::blocks`](crate::layers::Layer::blocks)).

use super::{Keep, Net, keep};
use crate::error::Result;
use crate::layers::{Channels, InBlocks};
use crate::math::{Layout, Layouts, Real};

/// What is known of a buffer.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    /// Nobody who sees channels in it.
    None,
    /// All who use it see these channels and take blocks.
    Blocks(Channels),
    /// Somebody takes planes only.
    Planes,
}

impl Use {
    fn join(&mut self, channels: Channels, lanes: usize) {
        *self = match *self {
            Use::None if channels.dim.is_multiple_of(lanes) => Use::Blocks(channels),
            Use::Blocks(theirs) if theirs == channels => *self,
            _ => Use::Planes,
        }
    }
}

/// Settles for every node of a fused net how what it reads and writes lies.
pub(super) fn settle<T: Real>(net: &mut Net<T>) -> Result<()> {
    net.nodes.iter_mut().for_each(|node| node.along.layouts = Layouts::default());
    if net.keep == Keep::All {
        return Ok(());
    }
    let mut uses = vec![Use::None; net.store.len()];
    let buffer = |blob: usize| net.blobs[blob].data.index();
    let kept = keep::kept(net)?;
    for blob in net.blobs.iter().filter(|b| kept[b.data.index()] || kept[b.diff.index()]) {
        uses[blob.data.index()] = Use::Planes;
    }
    let lanes = Layout::Blocks.lanes::<T>();
    // Blobs that lie alike; a layer that does another's work along reads and writes what that one would.
    let mut alike = Vec::new();
    for node in net.nodes.iter().filter(|node| node.leader.is_none()) {
        let blobs = || node.along.bottom.iter().chain(&node.along.top).map(|&b| buffer(b));
        let own = [&node.bottom, &node.along.top].map(Vec::len);
        match node.layer.blocks() {
            InBlocks::Alike(channels) => {
                blobs().zip(channels).for_each(|(b, channels)| uses[b].join(channels, lanes));
                alike.push(node);
            }
            InBlocks::Apart([bottom, top]) if own == [1, 1] => {
                for (i, b) in blobs().enumerate() {
                    uses[b].join(if i == 0 { bottom } else { top }, lanes);
                }
            }
            _ => blobs().for_each(|b| uses[b] = Use::Planes),
        }
    }
    // One in planes takes those with it that lie as it does, and so on.
    let is_blocks = |uses: &[Use], b: &usize| matches!(uses[buffer(*b)], Use::Blocks(_));
    loop {
        let before = uses.clone();
        for node in &alike {
            let blobs = || node.along.bottom.iter().chain(&node.along.top);
            if !blobs().all(|b| is_blocks(&uses, b)) {
                blobs().for_each(|&b| uses[buffer(b)] = Use::Planes);
            }
        }
        if uses == before {
            break;
        }
    }
    let layout = |blob: Option<&usize>| match blob.filter(|b| is_blocks(&uses, b)) {
        Some(_) => Layout::Blocks,
        None => Layout::Planes,
    };
    let layouts: Vec<Layouts> = net
        .nodes
        .iter()
        .map(|node| {
            let (bottom, top) = (&node.along.bottom, &node.along.top);
            Layouts { bottom: layout(bottom.first()), other: layout(bottom.get(1)), top: layout(top.first()) }
        })
        .collect();
    net.nodes.iter_mut().zip(layouts).for_each(|(node, layouts)| node.along.layouts = layouts);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::blob::{Shape, Weights};
    use crate::math::{Layout, Layouts};
    use crate::net::{Keep, Net};
    use crate::testing::assert_close;

    fn convolution(name: &str, bottom: &str, outputs: usize, kernel: usize, more: &str) -> String {
        format!(
            "layer {{ name: '{name}' type: 'Convolution' bottom: '{bottom}' top: '{name}' convolution_param {{
                num_output: {outputs} kernel_size: {kernel} pad: {} {more} weight_filler {{ type: 'xavier' }}
                bias_filler {{ type: 'gaussian' }} }} }}\n",
            kernel / 2
        )
    }

    fn layer(kind: &str, name: &str, bottoms: &[&str], top: &str) -> String {
        let bottoms: String = bottoms.iter().map(|b| format!("bottom: '{b}' ")).collect();
        format!("layer {{ name: '{name}' type: '{kind}' {bottoms} top: '{top}' }}\n")
    }

    /// Two residual blocks, the second with a stride, as in ResNet.
    fn blocks() -> String {
        let input = "layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 2 dim: 32 dim: 9 dim: 7 } } }\n";
        "state { phase: TEST }\n".to_string()
            + input
            + &convolution("skip", "x", 64, 1, "")
            + &convolution("a", "x", 32, 1, "")
            + &layer("ReLU", "ra", &["a"], "a")
            + &convolution("b", "a", 32, 3, "")
            + &layer("ReLU", "rb", &["b"], "b")
            + &convolution("c", "b", 64, 1, "")
            + &layer("Eltwise", "sum", &["skip", "c"], "sum")
            + &layer("ReLU", "rs", &["sum"], "sum")
            + &convolution("skip2", "sum", 64, 1, "stride: 2")
            + &convolution("a2", "sum", 32, 1, "stride: 2")
            + &convolution("c2", "a2", 64, 1, "")
            + &layer("Eltwise", "sum2", &["c2", "skip2"], "sum2")
            + &layer("Pooling", "p", &["sum2"], "p")
    }

    /// The values of the output, twice, and how the bottom, what is added and the top of each convolution lie.
    fn run(text: &str, keep: &Keep, change: impl Fn(&mut Net<f64>)) -> (Vec<f64>, Vec<(String, String)>) {
        let text = text.replace(
            "'Pooling' bottom: 'sum2'  top: 'p'",
            "'Pooling' bottom: 'sum2' top: 'p' pooling_param { pool: AVE kernel_size: 2 }",
        );
        let mut weights = Weights::<f64>::new();
        let param = crate::proto::parse_net(&text, "test").unwrap().message;
        let mut net = Net::keeping(&param, 3, &mut weights, keep).unwrap();
        change(&mut net);
        let mut values = Vec::new();
        for pass in 0..2 {
            let x = net.blob("x").unwrap();
            let value = |i: usize| ((i * 31 + pass) % 17) as f64 / 8.0 - 1.0;
            net.data_mut(x).iter_mut().enumerate().for_each(|(i, x)| *x = value(i));
            net.forward(&mut weights).unwrap();
            values.extend_from_slice(net.data(net.blob("p").unwrap()));
        }
        let letter = |layout: Layout| if layout == Layout::Blocks { 'b' } else { 'p' };
        let nodes = net.nodes().iter().filter(|n| n.param.r#type() == "Convolution");
        let layouts = nodes.map(|n| {
            let Layouts { bottom, other, top } = n.along.layouts;
            (n.name.clone(), [bottom, other, top].map(letter).iter().collect())
        });
        (values, layouts.collect())
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    #[test]
    fn blobs_between_convolutions_lie_in_blocks() {
        let text = blocks();
        let (planes, all) = run(&text, &Keep::All, |_| ());
        assert!(all.iter().all(|(_, l)| l == "ppp"), "{all:?}");
        let (values, layouts) = run(&text, &Keep::Outputs, |_| ());
        let expected =
            [("skip", "ppb"), ("a", "ppb"), ("b", "bpb"), ("c", "bbb"), ("skip2", "bpb"), ("a2", "bpb")];
        assert_eq!(layouts, pairs(&[&expected[..], &[("c2", "bbp")]].concat()));
        assert_close(&values, &planes, 1e-11);
        // Passes in which each layer works for itself find planes.
        assert_close(&run(&text, &Keep::Outputs, |net| net.set_fusion(false)).0, &planes, 1e-11);
        assert_close(&run(&text, &Keep::Outputs, |net| net.set_debug_info(true)).0, &planes, 1e-11);
        // Other sizes.
        let larger = |net: &mut Net<f64>| {
            let x = net.blob("x").unwrap();
            net.set_input_shape(x, Shape::new(vec![1, 32, 20, 30]).unwrap()).unwrap();
            net.reshape().unwrap();
        };
        let (planes, _) = run(&text, &Keep::All, larger);
        assert_close(&run(&text, &Keep::Outputs, larger).0, &planes, 1e-11);
    }

    #[test]
    fn blobs_that_others_look_at_lie_in_planes() {
        let names = |name: &str| Keep::Blobs(vec![name.into()]);
        let layout = |text: &str, keep: &Keep, name: &str| {
            let (values, layouts) = run(text, keep, |_| ());
            assert_close(&values, &run(text, &Keep::All, |_| ()).0, 1e-11);
            layouts.into_iter().find(|(n, _)| n == name).unwrap().1
        };
        let text = blocks();
        assert_eq!(layout(&text, &names("a"), "a"), "ppp");
        assert_eq!(layout(&text, &names("sum"), "c"), "bbp");
        let read = text.clone() + &layer("TanH", "t", &["a"], "t");
        assert_eq!(layout(&read, &Keep::Outputs, "a"), "ppp");
        // One channel: far from a whole vector on every processor.
        let one = text.replace("num_output: 32 kernel_size: 3", "num_output: 1 kernel_size: 3");
        assert_eq!(layout(&one, &Keep::Outputs, "a"), "ppp");
        let grouped = text.replace("kernel_size: 3", "kernel_size: 3 group: 2");
        assert_eq!(layout(&grouped, &Keep::Outputs, "c"), "pbb");
    }

    /// Inception and residual blocks with all kinds of layers that take blocks, for training.
    fn training() -> String {
        let constant = |name: &str, dims: &str| {
            format!(
                "layer {{ name: '{name}' type: 'DummyData' top: '{name}' dummy_data_param {{ shape {{ {dims} }}
                   data_filler {{ type: 'gaussian' }} }} }}\n"
            )
        };
        let with = |kind: &str, name: &str, bottom: &str, top: &str, more: &str| {
            layer(kind, name, &[bottom], top).replace(" }\n", &format!(" {more} }}\n"))
        };
        let scale = "scale_param { bias_term: true filler { type: 'gaussian' mean: 1 std: 0.2 } }";
        let inner = "inner_product_param { num_output: 3 weight_filler { type: 'xavier' } }";
        "state { phase: TRAIN }\n".to_string()
            + &constant("x", "dim: 3 dim: 32 dim: 13 dim: 11")
            + &constant("t", "dim: 3 dim: 3")
            + &convolution("a", "x", 32, 3, "")
            + &with("BatchNorm", "bn", "a", "a", "")
            + &with("Scale", "s", "a", "a", scale)
            + &layer("ReLU", "ra", &["a"], "a")
            + &convolution("b", "a", 64, 1, "")
            + &with("BatchNorm", "bn2", "b", "b2", "")
            + &layer("ReLU", "rb", &["b2"], "b2")
            + &convolution("c", "a", 64, 3, "")
            + &with("Scale", "s2", "c", "c2", scale)
            + &layer("Eltwise", "sum", &["b2", "c2"], "sum")
            + &layer("ReLU", "rs", &["sum"], "sum")
            + &with("Pooling", "p", "sum", "p", "pooling_param { kernel_size: 3 stride: 2 }")
            + &convolution("d", "p", 32, 5, "")
            + &convolution("e", "p", 64, 1, "")
            + &with("Pooling", "q", "p", "q", "pooling_param { kernel_size: 3 stride: 1 pad: 1 }")
            + &layer("Concat", "dq", &["d", "e", "q"], "dq")
            + &convolution("f", "dq", 64, 1, "stride: 2")
            + &with("LRN", "n", "f", "n", "lrn_param { local_size: 5 alpha: 0.7 beta: 0.75 }")
            + &layer("TanH", "th", &["n"], "th")
            + &convolution("w", "th", 64, 3, "group: 64")
            + &layer("ReLU", "rw", &["w"], "w")
            + &with("Pooling", "m", "w", "m", "pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 }")
            + &with("Dropout", "drop", "m", "m", "")
            + &convolution("v", "m", 32, 3, "")
            + &with("Pooling", "one", "v", "one", "pooling_param { pool: AVE global_pooling: true }")
            + &with("InnerProduct", "z", "one", "z", inner)
            + &convolution("g", "m", 32, 3, "")
            + &layer("Eltwise", "h", &["g", "g"], "h")
            + &with("InnerProduct", "y", "h", "y", inner)
            + &layer("EuclideanLoss", "loss", &["y", "t"], "loss")
            + &layer("EuclideanLoss", "loss2", &["z", "t"], "loss2")
    }

    #[test]
    fn training_in_blocks_gives_the_same_losses_and_gradients() {
        let run = |keep: &Keep, fusion: bool, debug: bool| {
            let mut weights = Weights::<f64>::new();
            let param = crate::proto::parse_net(&training(), "test").unwrap().message;
            let mut net = Net::keeping(&param, 3, &mut weights, keep).unwrap();
            net.set_fusion(fusion);
            net.set_debug_info(debug);
            let mut losses = Vec::new();
            for _ in 0..2 {
                weights.clear_diffs().unwrap();
                losses.push(net.forward(&mut weights).unwrap());
                net.backward(&mut weights).unwrap();
            }
            let gradients: Vec<f64> = weights.iter().flat_map(|p| p.diff.host().to_vec()).collect();
            let in_blocks = net.nodes().iter().filter(|n| n.along.layouts.top == Layout::Blocks);
            (losses, gradients, in_blocks.map(|n| n.name.clone()).collect::<Vec<_>>())
        };
        let (losses, gradients, none) = run(&Keep::All, true, false);
        assert!(none.is_empty() && gradients.iter().any(|g| g.abs() > 1e-3));
        for (fusion, debug) in [(true, false), (false, false), (true, true)] {
            let (these, theirs, in_blocks) = run(&Keep::Outputs, fusion, debug);
            for name in ["a", "b", "c", "sum", "p", "d", "e", "q", "dq", "f", "n", "th", "w", "m", "v"] {
                assert!(in_blocks.iter().any(|n| n == name), "{name} of {in_blocks:?}");
            }
            // The inner product reads planes.
            assert!(!in_blocks.iter().any(|n| n == "h" || n == "g"), "{in_blocks:?}");
            assert_close(&these, &losses, 1e-9);
            assert_close(&theirs, &gradients, 1e-9);
        }
    }
}
