//! How long the layers of a net take.

use super::gradcheck::{fill_inputs, fill_zeros};
use super::gradient_checker::{Draw, GradientChecker};
use crate::blob::Weights;
use crate::device::{Event, Gpu};
use crate::error::Result;
use crate::math::{Real, awake};
use crate::net::{Iterations, Net, Node};
use std::time::Instant;

/// Times of a layer in milliseconds.
#[derive(Clone, Debug)]
pub struct LayerTime {
    /// Name.
    pub name: String,
    /// Type.
    pub kind: String,
    /// Mean of a forward pass.
    pub forward_ms: f64,
    /// Mean of a backward pass; 0 where the net needs none.
    pub backward_ms: f64,
    /// Floating-point operations of a forward pass, as [`Node::flops`] counts them; 0 where they are not what its time goes into.
    pub flops_forward: u64,
    /// The same of a backward pass.
    pub flops_backward: u64,
    /// The layer that does its work along and has its time ([`crate::net::Node::leader`]).
    pub leader: Option<String>,
}

/// Times of a net in milliseconds.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Iterations measured.
    pub iterations: usize,
    /// Median of the forward passes.
    pub forward_ms: f64,
    /// Median of the backward passes.
    pub backward_ms: f64,
    /// Median of forward and backward together.
    pub forward_backward_ms: f64,
    /// Median of the forward passes of all layers but those without bottoms, which make or read data.
    pub forward_without_data_ms: f64,
    /// The same of forward and backward together.
    pub forward_backward_without_data_ms: f64,
    /// Mean of the forward passes.
    pub mean_forward_ms: f64,
    /// Mean of the backward passes.
    pub mean_backward_ms: f64,
    /// Time of all iterations.
    pub total_ms: f64,
    /// On a device: median of forward and backward together, or of forward if that is all, repeated as one graph; nothing where the net does
    /// not allow it.
    pub graph_ms: Option<f64>,
    /// The layers, in the order in which they run forward.
    pub layers: Vec<LayerTime>,
}

/// Makes a net fit to be timed, as [`super::gradcheck::check_net`] does: `Input` blobs and parameters without values get
/// random ones, labels valid ones. Zeros everywhere would be no fair picture: a processor may be faster or, with
/// denormals, much slower on them.
pub fn prepare<T: Real>(net: &mut Net<T>, weights: &mut Weights<T>) {
    let checker = GradientChecker::default();
    for (nth, p) in weights.iter_mut().enumerate() {
        fill_zeros(p, &checker.stream(Draw::Values, &p.layer, nth));
    }
    fill_inputs(net, &checker);
}

/// Most passes before the first that is measured, and the seconds after which no further one begins.
const WARM_UP: (usize, f64) = (3, 0.5);

/// Runs a net forward, and backward unless it was built for forward passes alone, so many times (at least once) and
/// measures every layer, on a device by events; up to three iterations before that are not counted. Run it inside
/// [`crate::device::Pool::install`]. `each` is told the time of every iteration in milliseconds.
///
/// Source: Caffe's `caffe time`.
pub fn time<T: Real>(
    net: &mut Net<T>,
    weights: &mut Weights<T>,
    iterations: usize,
    each: &mut (dyn FnMut(usize, f64) + Send),
) -> Result<Timing> {
    match net.device() {
        Some(_) => measure(net, weights, iterations, each),
        None => awake(|| measure(net, weights, iterations, each)),
    }
}

fn measure<T: Real>(
    net: &mut Net<T>,
    weights: &mut Weights<T>,
    iterations: usize,
    each: &mut (dyn FnMut(usize, f64) + Send),
) -> Result<Timing> {
    let (iterations, layers) = (iterations.max(1), net.nodes().len());
    let backward_too = !net.forward_only();
    let begin = Instant::now();
    for pass in 0..WARM_UP.0 {
        if pass > 0 && begin.elapsed().as_secs_f64() > WARM_UP.1 {
            break; // all memory is touched
        }
        net.forward(weights)?;
        if backward_too {
            net.backward(weights)?;
        }
    }
    let is_data: Vec<bool> = net.nodes().iter().map(|node| node.bottom.is_empty()).collect();
    let (mut layer_forward, mut layer_backward) = (vec![0.0; layers], vec![0.0; layers]);
    let (mut forward, mut backward, mut both) = (Vec::new(), Vec::new(), Vec::new());
    let (mut forward_apart, mut both_apart) = (Vec::new(), Vec::new());
    let mut clock = Clock::new(net.device(), 2 * layers + 1)?;
    let begin = Instant::now();
    for iteration in 0..iterations {
        weights.clear_diffs()?;
        net.begin_pass()?;
        let last = if backward_too { 2 * layers } else { layers };
        awake(|| -> Result<()> {
            clock.mark(0)?;
            for i in 0..layers {
                net.forward_layer(i, weights)?;
                clock.mark(1 + i)?;
            }
            for i in (0..layers).rev().filter(|_| backward_too) {
                net.backward_layer(i, weights)?;
                clock.mark(2 * layers - i)?;
            }
            Ok(())
        })?;
        clock.wait(last)?;
        let mut data = 0.0;
        for (i, sum) in layer_forward.iter_mut().enumerate() {
            let ms = clock.between(i, 1 + i)?;
            *sum += ms;
            data += if is_data[i] { ms } else { 0.0 };
        }
        for (i, sum) in layer_backward.iter_mut().enumerate().filter(|_| backward_too) {
            *sum += clock.between(2 * layers - i - 1, 2 * layers - i)?;
        }
        let [a, b, c] = [clock.between(0, layers)?, clock.between(layers, last)?, clock.between(0, last)?];
        forward.push(a);
        backward.push(b);
        both.push(c);
        forward_apart.push(a - data);
        both_apart.push(c - data);
        each(iteration, c);
    }
    let total_ms = begin.elapsed().as_secs_f64() * 1e3;
    let graph_ms = replayed(net, weights, iterations, &mut clock)?;
    let count = iterations as f64;
    let layer = |(i, node): (usize, &Node<T>)| {
        let [flops_forward, flops_backward] = node.flops();
        LayerTime {
            name: node.name.clone(),
            kind: node.param.r#type().to_string(),
            forward_ms: layer_forward[i] / count,
            backward_ms: if node.need_backward { layer_backward[i] / count } else { 0.0 },
            flops_forward,
            flops_backward: if backward_too { flops_backward } else { 0 },
            leader: node.leader.and_then(|l| net.nodes().get(l)).map(|l| l.name.clone()),
        }
    };
    Ok(Timing {
        iterations,
        mean_forward_ms: forward.iter().sum::<f64>() / count,
        mean_backward_ms: backward.iter().sum::<f64>() / count,
        forward_ms: median(forward),
        backward_ms: median(backward),
        forward_backward_ms: median(both),
        forward_without_data_ms: median(forward_apart),
        forward_backward_without_data_ms: median(both_apart),
        total_ms,
        graph_ms,
        layers: net.nodes().iter().enumerate().map(layer).collect(),
    })
}

/// Median time of forward and backward together as a graph repeats them, or of what the net does of that; nothing where that is not done.
fn replayed<T: Real>(
    net: &mut Net<T>,
    weights: &mut Weights<T>,
    iterations: usize,
    clock: &mut Clock,
) -> Result<Option<f64>> {
    let mut times = Vec::with_capacity(iterations);
    for i in 0..iterations + GRAPH_WARM_UP {
        if net.device().is_none() || (i >= GRAPH_WARM_UP && net.iterations() != Iterations::Replayed) {
            return Ok(None);
        }
        clock.mark(0)?;
        match net.forward_only() {
            true => net.forward(weights)?,
            false => net.iterate(weights, &mut |_: &mut Weights<T>| Ok(()))?,
        };
        clock.mark(1)?;
        clock.wait(1)?;
        if i >= GRAPH_WARM_UP {
            times.push(clock.between(0, 1)?);
        }
    }
    Ok(Some(median(times)))
}

/// Iterations before one is a graph's, and it has been launched once.
const GRAPH_WARM_UP: usize = 4;

/// Tells when parts of a pass are done: on the host by its clock, on a device by events among its work, so that nobody waits in between.
enum Clock {
    Host(Vec<Instant>),
    Device(Vec<Event>),
}

impl Clock {
    fn new(device: Option<&Gpu>, marks: usize) -> Result<Clock> {
        Ok(match device {
            None => Clock::Host(vec![Instant::now(); marks]),
            Some(gpu) => Clock::Device((0..marks).map(|_| Event::new(gpu)).collect::<Result<_>>()?),
        })
    }

    fn mark(&mut self, i: usize) -> Result<()> {
        match self {
            Clock::Host(marks) => marks[i] = Instant::now(),
            Clock::Device(events) => events[i].record()?,
        }
        Ok(())
    }

    /// Waits for a mark and all before it.
    fn wait(&self, i: usize) -> Result<()> {
        match self {
            Clock::Host(_) => Ok(()),
            Clock::Device(events) => events[i].wait(),
        }
    }

    /// Milliseconds between two marks that have been waited for.
    fn between(&self, from: usize, to: usize) -> Result<f64> {
        match self {
            Clock::Host(marks) => Ok((marks[to] - marks[from]).as_secs_f64() * 1e3),
            Clock::Device(_) if from == to => Ok(0.0),
            Clock::Device(events) => events[to].since(&events[from]),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![]), 0.0);
    }
}
