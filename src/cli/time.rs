//! `cortado time`: Caffe's report of the time of each layer, on standard error, and medians as JSON.

use super::log::{From, Log};
use super::train::where_it_runs;
use super::{Matches, number::general, say};
use crate::blob::Weights;
use crate::device::Gpu;
use crate::error::{Error, Kind, Result};
use crate::math;
use crate::net::Keep;
use crate::proto::caffe::Phase;
use crate::tools::{memory, open, time as tool};
use serde_json::{Value, json};
use std::process::ExitCode;

pub(super) fn run(matches: &Matches) -> Result<ExitCode> {
    let pool = matches.pool()?;
    let threads = pool.threads();
    pool.install(|| {
        let log = Log::new();
        let gpu = matches.gpu()?;
        matches.precise(gpu.as_ref())?;
        let info = |text: &str| log.info(From::Caffe, text);
        let iterations: usize = matches.number("iterations", 50)?;
        if iterations == 0 {
            return Err(
                Error::new(Kind::Usage, "no iterations to measure").expected("--iterations 1 or more")
            );
        }
        let phase = matches.phase(Phase::Train)?;
        let with_ceiling = matches.choice("ceiling", &[("auto", true), ("off", false)], true)?;
        let mut file = matches.net("model", phase)?;
        if matches.text("batch")?.is_some() {
            file.set_batch(matches.number("batch", 0)?)?;
        }
        let mut weights = Weights::new();
        let mut net = file.build_keeping::<f32>(1, &mut weights, &Keep::Outputs)?;
        open::load_weight_files(&net, &mut weights, &matches.paths("weights"))?;
        tool::prepare(&mut net, &mut weights);
        net.set_device(gpu, &mut weights)?;
        net.set_graphs(matches.choice("graphs", &[("auto", true), ("off", false)], true)?);
        info(&where_it_runs(net.device(), threads));
        // Measured before and after: other programs leave now more and now less of the processor.
        let with_ceiling = with_ceiling && net.device().is_none();
        let ceiling = || with_ceiling.then(|| math::ceiling::<f32>() * threads as f64 / 1e9);
        let before = ceiling();
        info("*** Benchmark begins ***");
        info(&format!("Testing for {iterations} iterations."));
        let mut each = |i: usize, ms: f64| {
            info(&format!("Iteration: {} forward-backward time: {} ms.", i + 1, general(ms)));
        };
        let timing = tool::time(&mut net, &mut weights, iterations, &mut each).map_err(|e| file.locate(e))?;
        info("Average time per layer: ");
        for layer in &timing.layers {
            info(&format!("{:>10}\tforward: {} ms.", layer.name, general(layer.forward_ms)));
            info(&format!("{:>10}\tbackward: {} ms.", layer.name, general(layer.backward_ms)));
        }
        info(&format!("Average Forward pass: {} ms.", general(timing.mean_forward_ms)));
        info(&format!("Average Backward pass: {} ms.", general(timing.mean_backward_ms)));
        let both = timing.mean_forward_ms + timing.mean_backward_ms;
        info(&format!("Average Forward-Backward: {} ms.", general(both)));
        if let Some(ms) = timing.graph_ms {
            let what = if net.forward_only() { "Forward" } else { "Forward-Backward" };
            info(&format!("Median {what} as a CUDA graph: {} ms.", general(ms)));
        }
        info(&format!("Total Time: {} ms.", general(timing.total_ms)));
        if let Some(peak) = memory::peak_resident() {
            info(&format!("Peak memory: {}.", memory::megabytes(peak as usize)));
        }
        if let Some(gpu) = net.device() {
            info(&format!("Memory of the GPU: {}.", memory::megabytes(gpu.bytes())));
        }
        info("*** Benchmark ends ***");
        let ceiling = before.into_iter().chain(ceiling()).reduce(f64::max);
        timing.lines(ceiling).iter().for_each(|line| log.line(line));
        if let Some(ceiling) = ceiling {
            log.line(&format!("ceiling: {ceiling:.1} GFLOP/s, {threads} x the kernel's rate on one core"));
        }
        if matches.is_set("json") {
            let bytes = [net.bytes(), weights.bytes()];
            let mut figures = json(&timing, threads, ceiling, bytes);
            figures["device_bytes"] = json!(net.device().map(Gpu::bytes));
            say(&figures.to_string());
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// The figures as one JSON object; what is no figure is `null`.
fn json(timing: &tool::Timing, threads: usize, ceiling: Option<f64>, bytes: [usize; 2]) -> Value {
    let layer = |l: &tool::LayerTime| {
        let [forward, backward] = l.rates();
        json!({
            "name": l.name,
            "type": l.kind,
            "fused_into": l.leader,
            "forward_ms": l.forward_ms,
            "backward_ms": l.backward_ms,
            "flops_forward": l.flops_forward,
            "flops_backward": l.flops_backward,
            "gflops_forward": forward.gflops(),
            "gflops_backward": backward.gflops(),
            "share_forward": forward.share(ceiling),
            "share_backward": backward.share(ceiling),
        })
    };
    let [forward, backward, both] = timing.rates();
    json!({
        "forward_ms": timing.forward_ms,
        "backward_ms": timing.backward_ms,
        "forward_backward_ms": timing.forward_backward_ms,
        "graph_ms": timing.graph_ms,
        "forward_without_data_ms": timing.forward_without_data_ms,
        "forward_backward_without_data_ms": timing.forward_backward_without_data_ms,
        "flops_forward": forward.flops,
        "flops_backward": backward.flops,
        "gflops_forward": forward.gflops(),
        "gflops_backward": backward.gflops(),
        "gflops_forward_backward": both.gflops(),
        "share_forward": forward.share(ceiling),
        "share_backward": backward.share(ceiling),
        "share_forward_backward": both.share(ceiling),
        "ceiling_gflops": ceiling,
        "iterations": timing.iterations,
        "threads": threads,
        "blob_bytes": bytes[0],
        "param_bytes": bytes[1],
        "peak_bytes": memory::peak_resident(),
        "layers": timing.layers.iter().map(layer).collect::<Vec<_>>(),
    })
}
