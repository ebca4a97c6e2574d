//! `cortado time`: Caffe's report of the time of each layer, on standard error, and medians as JSON.

use super::log::{From, Log};
use super::{Matches, number::general, say};
use crate::blob::Weights;
use crate::error::{Error, Kind, Result};
use crate::proto::caffe::Phase;
use crate::tools::{open, time as tool};
use std::process::ExitCode;

pub(super) fn run(matches: &Matches) -> Result<ExitCode> {
    let pool = matches.pool()?;
    let threads = pool.threads();
    pool.install(|| {
        let log = Log::new();
        let info = |text: &str| log.info(From::Caffe, text);
        let iterations: usize = matches.number("iterations", 50)?;
        if iterations == 0 {
            return Err(
                Error::new(Kind::Usage, "no iterations to measure").expected("--iterations 1 or more")
            );
        }
        let file = matches.net("model", matches.phase(Phase::Train)?)?;
        let mut weights = Weights::new();
        let mut net = file.build::<f32>(1, &mut weights)?;
        open::load_weight_files(&net, &mut weights, &matches.paths("weights"))?;
        tool::prepare(&mut net, &mut weights);
        info(&format!("Use CPU, {threads} thread{}.", if threads == 1 { "" } else { "s" }));
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
        info(&format!("Total Time: {} ms.", general(timing.total_ms)));
        info("*** Benchmark ends ***");
        if matches.is_set("json") {
            let layer = |l: &tool::LayerTime| {
                serde_json::json!({
                    "name": l.name, "type": l.kind, "forward_ms": l.forward_ms, "backward_ms": l.backward_ms,
                    "fused_into": l.leader,
                })
            };
            let json = serde_json::json!({
                "forward_ms": timing.forward_ms,
                "backward_ms": timing.backward_ms,
                "forward_backward_ms": timing.forward_backward_ms,
                "iterations": timing.iterations,
                "threads": threads,
                "layers": timing.layers.iter().map(layer).collect::<Vec<_>>(),
            });
            say(&json.to_string());
        }
        Ok(ExitCode::SUCCESS)
    })
}
