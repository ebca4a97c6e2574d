//! Chains of layers on one blob that become one pass over memory, led by the layer that makes the blob.
//!
//! A `BatchNorm`, `Scale` and `ReLU` in a row read and write the same blob three times. Nobody can see the values
//! between, so the first may do all three at once. In a net for forward passes alone a sum of the blob and an older one
//! may be part of the chain, if nobody else reads the blob. What the chain does is settled here from what the layers say
//! ([`Layer::step`](crate::layers::Layer::step), [`Layer::absorbs`](crate::layers::Layer::absorbs)); nodes,
//! parameters and gradients stay as they are.
//!
//! In training a convolution does a `ReLU` along forward alone ([`Layer::ends_in_relu`](crate::layers::Layer::ends_in_relu)): backward
//! the `ReLU` reads nothing but the blob, which is the same.

use super::{Keep, Net, Node};
use crate::blob::ParamId;
use crate::layers::Step;
use crate::math::{Layouts, Real};

/// What a layer does in a fused net: its own work and that of the layers it leads.
#[derive(Default)]
pub(super) struct Along {
    /// What the others do.
    pub tail: Vec<Step>,
    /// Its bottoms, and what the others add.
    pub bottom: Vec<usize>,
    /// Its tops, or that of the last one.
    pub top: Vec<usize>,
    /// All parameters.
    pub params: Vec<ParamId>,
    /// Which of those want a gradient.
    pub learned: Vec<bool>,
    /// Whether the others go backward by themselves.
    pub forward_alone: bool,
    /// The bottoms that a `ReLU` made whose way back it goes along ([`gate`](super::gate)).
    pub gated: Vec<bool>,
    /// How what it reads and writes lies, on the host.
    pub layouts: Layouts,
}

/// Settles for every node who does its work, `leader`, and what it does, `along`.
pub(super) fn settle<T: Real>(net: &mut Net<T>) {
    for node in &mut net.nodes {
        node.leader = None;
        node.along.tail.clear();
        node.along.forward_alone = false;
        node.along.bottom.clone_from(&node.bottom);
        node.along.top.clone_from(&node.top);
        node.along.params.clone_from(&node.params);
        node.along.learned.clone_from(&node.learned);
    }
    for leader in 0..net.nodes.len() {
        if net.nodes[leader].leader.is_some() {
            continue;
        }
        let chain = chain(net, leader);
        let node = &net.nodes[leader];
        let steps: Vec<Step> = chain.iter().map(|(_, step)| *step).collect();
        let taken = node.layer.absorbs(&steps, node.need_backward).min(chain.len());
        for &(follower, step) in &chain[..taken] {
            let node = &mut net.nodes[follower];
            node.leader = Some(leader);
            let (params, learned) = (node.params.clone(), node.learned.clone());
            let (bottom, top) = (node.bottom.clone(), node.top.clone());
            let along = &mut net.nodes[leader].along;
            if step == Step::Add {
                along.bottom.extend(bottom.iter().filter(|b| !along.top.contains(b)));
            }
            along.top = top;
            along.tail.push(step);
            along.params.extend(params);
            along.learned.extend(learned);
        }
    }
    for leader in 0..net.nodes.len() {
        let node = &net.nodes[leader];
        if node.need_backward
            && node.layer.ends_in_relu()
            && let Some((follower, step)) = relu_behind(net, leader)
            && step == (Step::Relu { slope: 0.0 })
        {
            net.nodes[follower].leader = Some(leader);
            let along = &mut net.nodes[leader].along;
            along.tail.push(step);
            along.forward_alone = true;
        }
    }
}

/// The `ReLU` that is the next layer to touch the only top of a node, in place.
pub(super) fn relu_behind<T: Real>(net: &Net<T>, leader: usize) -> Option<(usize, Step)> {
    let first = &net.nodes[leader];
    let &[top] = first.top.as_slice() else { return None };
    if first.leader.is_some() || !first.along.tail.is_empty() || first.loss_weight != [0.0] {
        return None;
    }
    let data = net.blobs[top].data;
    let touches = |i: &usize| {
        let node = &net.nodes[*i];
        node.bottom.iter().chain(&node.top).any(|&b| net.blobs[b].data == data)
    };
    let next = (leader + 1..net.nodes.len()).find(touches)?;
    let node = &net.nodes[next];
    let step = node.layer.step().filter(|step| matches!(step, Step::Relu { .. }))?;
    (node.bottom == [top] && node.top == [top]).then_some((next, step))
}

/// The layers that follow on the only top of a node, as far as nobody looks between: no other layer, and no loss; and
/// backward runs all of them or none.
fn chain<T: Real>(net: &Net<T>, leader: usize) -> Vec<(usize, Step)> {
    let first = &net.nodes[leader];
    let mut chain = Vec::new();
    let &[mut top] = first.top.as_slice() else { return chain };
    if first.need_backward && !first.propagate.contains(&true) {
        return chain; // there is no diff to work in
    }
    let mut before = leader;
    while let Some(i) = next(net, before, top) {
        let node = &net.nodes[i];
        let Some(step) = node.layer.step().filter(|_| net.nodes[before].loss_weight == [0.0]) else { break };
        let alike = node.need_backward == first.need_backward
            && (!node.need_backward || node.propagate == [true])
            && node.live == first.live;
        let fits = match step {
            Step::Add => joins(net, leader, i, top),
            _ => node.bottom == [top] && node.top == [top] && alike,
        };
        if !fits {
            break;
        }
        chain.push((i, step));
        (before, top) = (i, node.top[0]);
    }
    chain
}

/// The next layer that touches a blob's values or gradient.
pub(super) fn next<T: Real>(net: &Net<T>, before: usize, blob: usize) -> Option<usize> {
    let (data, diff) = (net.blobs[blob].data, net.blobs[blob].diff);
    let touches = |node: &Node<T>| {
        node.bottom.iter().chain(&node.top).any(|&b| net.blobs[b].data == data || net.blobs[b].diff == diff)
    };
    (before + 1..net.nodes.len()).find(|&i| touches(&net.nodes[i]))
}

/// Whether layer `i`, a sum of `top` and another blob, may be the work of the leader that makes `top`: the other blob has
/// its values by then, and nobody reads `top` but the sum.
fn joins<T: Real>(net: &Net<T>, leader: usize, i: usize, top: usize) -> bool {
    let node = &net.nodes[i];
    let others: Vec<usize> = node.bottom.iter().copied().filter(|&b| b != top).collect();
    let (&[other], &[sum]) = (others.as_slice(), node.top.as_slice()) else { return false };
    let [before, added, after] = [top, other, sum].map(|b| net.blobs[b].data);
    let writes = |node: &Node<T>| node.top.iter().any(|&t| net.blobs[t].data == added);
    let reads = |node: &Node<T>| node.bottom.iter().any(|&b| net.blobs[b].data == before);
    let kept = matches!(&net.keep, Keep::Blobs(names) if names.contains(&net.blobs[top].name));
    net.forward_only
        && !kept
        && before != added
        && before != after
        && added != after
        && !net.nodes[i + 1..].iter().any(reads)
        && net.nodes[..leader].iter().any(writes)
        && !net.nodes[leader..i].iter().any(writes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, assert_close};

    fn layer(kind: &str, name: &str, bottom: &str, top: &str, more: &str) -> String {
        let bottoms: String = bottom.split(' ').map(|b| format!("bottom: '{b}' ")).collect();
        format!("layer {{ name: '{name}' type: '{kind}' {bottoms} top: '{top}' {more} }}\n")
    }

    const SCALE: &str = "scale_param { bias_term: true filler { type: 'gaussian' mean: 1 std: 0.5 }
        bias_filler { type: 'gaussian' std: 0.3 } }";
    const SLOPE: &str = "relu_param { negative_slope: 0.1 }";

    /// A net with every kind of chain, few and many channels, in place and not.
    fn net(phase: &str) -> String {
        let [eltwise, coeff] = ["", "eltwise_param { coeff: 0.5 coeff: 2 }"];
        format!("state {{ phase: {phase} }}\n")
            + &layer("Power", "p", "x", "a", "power_param { scale: 1.5 shift: 0.2 }")
            + &layer("BatchNorm", "bn1", "a", "a", "")
            + &layer("Scale", "s1", "a", "a", SCALE)
            + &layer("ReLU", "r1", "a", "a", "")
            + &layer("BatchNorm", "bn2", "a", "b", "")
            + &layer("Scale", "s2", "b", "b", SCALE)
            + &layer("Scale", "s3", "a", "c", "scale_param { filler { type: 'gaussian' mean: 2 } }")
            + &layer("ReLU", "r3", "c", "c", SLOPE)
            + &layer("Eltwise", "e1", "b c", "d", eltwise)
            + &layer("ReLU", "r4", "d", "d", "")
            + &layer("BatchNorm", "bn3", "d", "f", "")
            + &layer("ReLU", "r5", "f", "f", SLOPE)
            + &layer("Eltwise", "e2", "f d", "g", coeff)
            + &layer("ReLU", "r6", "g", "g", "")
            + &layer("Scale", "s4", "g", "k", SCALE)
            + &layer("ReLU", "r7", "k", "k", "")
            + &layer("Eltwise", "e3", "k d a", "h", "")
            + &layer("ReLU", "r8", "h", "h", "")
    }

    fn bench<T: Real>(text: &str, dims: &[usize], fusion: bool) -> Bench<T> {
        let count = dims.iter().product::<usize>();
        let x: Vec<f64> = (0..count).map(|i| ((i * 7919 % 1013) as f64 / 400.0 - 1.1).powi(3)).collect();
        let mut b = Bench::<T>::new(text, &[("x", dims, &x)]).unwrap();
        b.net.set_fusion(fusion);
        for name in ["bn1", "bn2", "bn3"] {
            b.set_param(name, 0, &(0..dims[1]).map(|c| 0.1 * c as f64).collect::<Vec<_>>());
            b.set_param(name, 1, &(0..dims[1]).map(|c| 1.0 + 0.2 * c as f64).collect::<Vec<_>>());
            b.set_param(name, 2, &[1.5]);
        }
        // Twice: what is kept from one pass to the next must not show.
        for i in 0..2 {
            b.set("x", &x.iter().map(|x| x * f64::from(i)).collect::<Vec<_>>());
            b.forward();
            let dy: Vec<f64> = (0..count).map(|i| (i * 31 % 17) as f64 / 8.0 - 1.0).collect();
            b.weights.clear_diffs().unwrap();
            b.backward(&[("h", &dy)]);
        }
        b
    }

    fn compare<T: Real>(text: &str, dims: &[usize], tolerance: f64) {
        let (one, two) = (bench::<T>(text, dims, true), bench::<T>(text, dims, false));
        for blob in ["a", "b", "c", "d", "f", "g", "k", "h"] {
            assert_close(&one.get(blob), &two.get(blob), tolerance);
        }
        assert_close(&one.grad("x"), &two.grad("x"), tolerance);
        for (p, q) in one.weights.iter().zip(two.weights.iter()) {
            let values = |v: &[T]| v.iter().map(|v| v.as_f64()).collect::<Vec<_>>();
            assert_close(&values(p.data.host()), &values(q.data.host()), tolerance);
            assert_close(&values(p.diff.host()), &values(q.diff.host()), 10.0 * tolerance);
        }
    }

    #[test]
    fn a_fused_net_gives_the_same_values_and_gradients() {
        for phase in ["TRAIN", "TEST"] {
            for dims in [&[4usize, 3, 5, 7][..], &[3, 40, 6, 3], &[16, 5], &[2, 35, 1, 9]] {
                compare::<f64>(&net(phase), dims, 1e-11);
                compare::<f32>(&net(phase), dims, 2e-3);
            }
        }
    }

    /// Which layer does the work of which.
    fn leaders(text: &str) -> Vec<(String, String)> {
        let b = Bench::<f32>::new(text, &[("x", &[2, 3, 2, 2], &[0.5; 24])]).unwrap();
        led(&b)
    }

    fn led(b: &Bench<f32>) -> Vec<(String, String)> {
        let nodes = b.net.nodes();
        let led = nodes.iter().filter_map(|n| Some((n.name.clone(), nodes[n.leader?].name.clone())));
        led.collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
    }

    #[test]
    fn the_first_of_a_chain_leads_it() {
        let all = [("s1", "bn1"), ("r1", "bn1"), ("s2", "bn2"), ("r3", "s3"), ("r4", "e1"), ("r5", "bn3")];
        let more = [("r6", "e2"), ("r7", "s4"), ("r8", "e3")];
        assert_eq!(leaders(&net("TRAIN")), pairs(&[&all[..], &more].concat()));
        // With gathered statistics and a bottom that is not overwritten, backward would read what it does not by itself.
        let without: Vec<_> = all.iter().filter(|p| !["bn2", "bn3"].contains(&p.1)).copied().collect();
        assert_eq!(leaders(&net("TEST")), pairs(&[&without[..], &more].concat()));
    }

    #[test]
    fn where_somebody_looks_between_nothing_is_fused() {
        let bn = layer("BatchNorm", "b", "x", "y", "");
        let relu = layer("ReLU", "r", "y", "y", "");
        let train = "state { phase: TRAIN }\n";
        assert_eq!(leaders(&format!("{train}{bn}{relu}")), pairs(&[("r", "b")]));
        for (text, what) in [
            (format!("{bn}{}", relu.replace("top: 'y'", "top: 'z'")), "not in place"),
            (format!("{bn}{}{relu}", layer("TanH", "t", "y", "y", "")), "another layer"),
            (format!("{bn}{}", layer("ReLU", "r", "y", "y", "relu_param { negative_slope: -1 }")), "slope"),
            (format!("{bn}{}", layer("Scale", "s", "y", "y", "scale_param { axis: 2 }")), "other channels"),
            (format!("{bn}{}", layer("ReLU", "r", "y", "y", "propagate_down: false")), "no gradient"),
        ] {
            match Bench::<f32>::new(&format!("{train}{text}"), &[("x", &[2, 3, 2, 2], &[0.5; 24])]) {
                Ok(b) => assert!(b.net.nodes().iter().all(|n| n.leader.is_none()), "{what}"),
                Err(e) => assert!(what == "slope" || what == "another layer", "{what}: {e}"),
            }
        }
    }

    #[test]
    fn debug_info_shows_the_values_between() {
        let text = format!("state {{ phase: TRAIN }}\n{}", layer("BatchNorm", "b", "x", "y", ""))
            + &layer("Scale", "s", "y", "y", "scale_param { filler { value: 3 } }");
        let x: Vec<f64> = (0..24).map(f64::from).collect();
        let mut b = Bench::<f64>::new(&text, &[("x", &[2, 3, 2, 2], &x)]).unwrap();
        b.net.set_debug_info(true);
        b.forward();
        let lines = b.net.take_debug();
        let mean = |layer: &str| {
            let line = lines.iter().find(|l| l.contains(&format!("Layer {layer}, top"))).unwrap();
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
        };
        assert!((mean("s") / mean("b") - 3.0).abs() < 1e-9, "{lines:?}");
        b.net.set_debug_info(false);
        let separate = b.get("y");
        b.forward();
        assert_close(&b.get("y"), &separate, 1e-12);
    }

    #[test]
    fn a_convolution_leads_where_only_forward_runs() {
        use crate::blob::Weights;
        use crate::net::{Keep, Net};
        let convolution = |name: &str, kernel: usize, bias: bool| {
            let param = format!(
                "convolution_param {{ num_output: 6 kernel_size: {kernel} bias_term: {bias}
                   weight_filler {{ type: 'gaussian' std: 0.3 }} bias_filler {{ type: 'gaussian' }} }}"
            );
            layer("Convolution", name, "x", name, &param)
        };
        let text = "state { phase: TEST }
            layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 2 dim: 6 dim: 9 dim: 8 } } }\n"
            .to_string()
            + &convolution("a", 3, true)
            + &layer("BatchNorm", "bn", "a", "a", "")
            + &layer("Scale", "s", "a", "a", SCALE)
            + &layer("ReLU", "r", "a", "a", "")
            + &convolution("b", 1, false)
            + &layer("Scale", "t", "b", "b", SCALE)
            + &convolution("c", 5, true)
            + &layer("ReLU", "u", "c", "c", SLOPE)
            + &convolution("d", 3, false)
            + &layer("ReLU", "v", "d", "d", "");
        let run = |fusion: bool| {
            let mut weights = Weights::<f64>::new();
            let param = crate::proto::parse_net(&text, "test").unwrap().message;
            let mut net = Net::keeping(&param, 3, &mut weights, &Keep::Outputs).unwrap();
            for (index, value) in [0.2, 1.7, 1.5].into_iter().enumerate() {
                let id = weights.find("bn", index).unwrap();
                weights.get_mut(id).data.host_mut().fill(value);
            }
            net.set_fusion(fusion);
            let x = net.blob("x").unwrap();
            net.data_mut(x).iter_mut().enumerate().for_each(|(i, x)| *x = (i * 31 % 17) as f64 / 8.0 - 1.0);
            net.forward(&mut weights).unwrap();
            let led: Vec<bool> = net.nodes().iter().map(|n| n.leader.is_some()).collect();
            let values = ["a", "b", "c", "d"].map(|name| net.data(net.blob(name).unwrap()).to_vec());
            (led, values)
        };
        let ((led, fused), (_, apart)) = (run(true), run(false));
        // A slope other than 0 is not the convolution's to do.
        let count = led.iter().filter(|led| **led).count();
        assert_eq!(count, 5, "bn, s, r; t; v");
        for (fused, apart) in fused.iter().zip(&apart) {
            assert!(!apart.is_empty());
            assert_close(fused, apart, 1e-12);
        }
    }

    /// A residual net whose sum comes last: `x` to `skip` and to the convolution `c`, then whatever `between` has.
    fn residual(convolution: &str, between: &str, sum: &str) -> String {
        let param = format!(
            "convolution_param {{ num_output: 8 {convolution}
               weight_filler {{ type: 'gaussian' std: 0.3 }} bias_filler {{ type: 'gaussian' }} }}"
        );
        "state { phase: TEST }
            layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 3 dim: 8 dim: 9 dim: 7 } } }\n"
            .to_string()
            + &layer("TanH", "skip", "x", "skip", "")
            + &layer("Convolution", "c", "x", "c", &param)
            + &layer("Scale", "s", "c", "c", SCALE)
            + between
            + sum
            + &layer("ReLU", "r", "y", "y", "")
            + &layer("Power", "p", "y", "z", "power_param { shift: 1 }")
    }

    /// The names of the layers that are led, and the values of the output.
    fn run_residual(text: &str, keep: &crate::net::Keep, fusion: bool) -> (Vec<String>, Vec<f64>) {
        let mut weights = crate::blob::Weights::<f64>::new();
        let param = crate::proto::parse_net(text, "test").unwrap().message;
        let mut net = Net::keeping(&param, 3, &mut weights, keep).unwrap();
        net.set_fusion(fusion);
        let x = net.blob("x").unwrap();
        let value = |i: usize| (i * 31 % 17) as f64 / 8.0 - 1.0;
        for _ in 0..2 {
            net.data_mut(x).iter_mut().enumerate().for_each(|(i, x)| *x = value(i));
            net.forward(&mut weights).unwrap();
        }
        let led = net.nodes().iter().filter(|n| n.leader.is_some()).map(|n| n.name.clone()).collect();
        (led, net.data(net.blob("z").unwrap()).to_vec())
    }

    #[test]
    fn a_convolution_adds_a_residual() {
        let sums = [("skip c", ""), ("c skip", ""), ("c skip", "eltwise_param { coeff: 1 coeff: 1 }")];
        for (convolution, (bottoms, param)) in [
            "kernel_size: 1",
            "kernel_size: 3 pad: 1",
            "kernel_size: 3 pad: 1 group: 2",
            "kernel_size: 3 pad: 1 group: 8",
            "kernel_size: 5 pad: 2 bias_term: false",
            "kernel_size: 7 pad: 3",
        ]
        .iter()
        .flat_map(|c| sums.map(|sum| (c, sum)))
        {
            let text = residual(convolution, "", &layer("Eltwise", "e", bottoms, "y", param));
            let (led, fused) = run_residual(&text, &Keep::Outputs, true);
            assert_eq!(led, ["s", "e", "r"], "{text}");
            assert_close(&fused, &run_residual(&text, &Keep::Outputs, false).1, 1e-12);
            assert_close(&fused, &run_residual(&text, &Keep::All, true).1, 1e-12);
        }
    }

    #[test]
    fn a_sum_stays_apart_where_its_other_blob_or_its_own_bottom_is_needed() {
        let sum = layer("Eltwise", "e", "skip c", "y", "");
        let names = Keep::Blobs(vec!["c".into()]);
        for (between, sum, keep, what) in [
            (String::new(), sum.clone(), &names, "c is kept"),
            (layer("Power", "q", "c", "w", ""), sum.clone(), &Keep::Outputs, "another layer reads c"),
            (layer("ReLU", "q", "skip", "skip", ""), sum.clone(), &Keep::Outputs, "skip changes later"),
            (layer("Power", "q", "x", "late", ""), sum.replace("skip", "late"), &Keep::Outputs, "made later"),
            (String::new(), sum.replace("skip", "c"), &Keep::Outputs, "twice the same"),
            (
                String::new(),
                sum.replace("top: 'y'", "top: 'y' eltwise_param { coeff: 1 coeff: 2 }"),
                &Keep::Outputs,
                "coefficients",
            ),
            (
                String::new(),
                sum.replace("top: 'y'", "top: 'y' eltwise_param { operation: MAX }"),
                &Keep::Outputs,
                "no sum",
            ),
        ] {
            let text = residual("kernel_size: 3 pad: 1", &between, &sum);
            let (led, fused) = run_residual(&text, keep, true);
            assert!(!led.contains(&"e".to_string()), "{what}: {led:?}");
            assert_close(&fused, &run_residual(&text, keep, false).1, 1e-12);
        }
    }

    #[test]
    fn in_training_a_convolution_does_a_relu_along_forward() {
        let conv = |name: &str, bottom: &str| {
            let param =
                "convolution_param { num_output: 3 kernel_size: 3 weight_filler { type: 'gaussian' std: 0.4 }
                bias_filler { type: 'gaussian' } }";
            layer("Convolution", name, bottom, name, param)
        };
        let text = "state { phase: TRAIN }\n".to_string()
            + &conv("a", "x")
            + &layer("ReLU", "ra", "a", "a", "")
            + &conv("b", "a")
            + &layer("ReLU", "rb", "b", "b", SLOPE)
            + &conv("c", "b")
            + &layer("ReLU", "rc", "c", "d", "");
        let b = Bench::<f32>::new(&text, &[("x", &[2, 2, 9, 9], &[0.5; 324])]).unwrap();
        assert_eq!(led(&b), pairs(&[("ra", "a")]));
        let run = |fusion: bool| {
            let x: Vec<f64> =
                (0..2 * 2 * 81).map(|i| ((i * 7919 % 1013) as f64 / 400.0 - 1.1).powi(3)).collect();
            let mut b = Bench::<f64>::new(&text, &[("x", &[2, 2, 9, 9], &x)]).unwrap();
            b.net.set_fusion(fusion);
            b.forward();
            let dy: Vec<f64> = (0..2 * 3 * 9).map(|i| (i * 31 % 17) as f64 / 8.0 - 1.0).collect();
            b.backward(&[("d", &dy)]);
            let params = ["a", "b", "c"].map(|n| [b.param(n, 0).1, b.param(n, 1).1].concat()).concat();
            [b.get("a"), b.get("d"), b.grad("x"), params]
        };
        let (fused, apart) = (run(true), run(false));
        assert!(fused[0].contains(&0.0));
        fused.iter().zip(&apart).for_each(|(fused, apart)| assert_close(fused, apart, 1e-12));
    }
}
