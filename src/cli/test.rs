//! `cortado test`: the outputs of a net with given weights, batch by batch and on the average.

use super::log::{From, Log};
use super::train::where_it_runs;
use super::{Matches, number::general};
use crate::blob::Weights;
use crate::error::{Error, Kind, Result};
use crate::net::Keep;
use crate::proto::caffe::Phase;
use crate::solver::evaluate::read_outputs;
use crate::tools::open;
use std::process::ExitCode;

pub(super) fn run(matches: &Matches) -> Result<ExitCode> {
    matches.pool()?.install(|| {
        let mut log = Log::new();
        let gpu = matches.gpu()?;
        matches.precise(gpu.as_ref())?;
        let iterations: usize = matches.number("iterations", 50)?;
        if iterations == 0 {
            return Err(Error::new(Kind::Usage, "no iterations to run").expected("--iterations 1 or more"));
        }
        let file = matches.net("model", Phase::Test)?;
        file.upgrades.iter().for_each(|note| log.info(From::Caffe, note));
        let mut weights = Weights::new();
        let mut net = file.build_keeping::<f32>(1, &mut weights, &Keep::Outputs)?;
        net.set_device(gpu, &mut weights)?;
        net.set_graphs(matches.choice("graphs", &[("auto", true), ("off", false)], true)?);
        net.warnings().iter().for_each(|w| log.warn(From::Caffe, w));
        open::load_weight_files(&net, &mut weights, &matches.paths("weights"))?;
        log.info(From::Caffe, &net.device().map_or("Use CPU.".into(), |gpu| where_it_runs(Some(gpu), 0)));
        log.info(From::Caffe, &format!("Running for {iterations} iterations."));
        log.start_bar(iterations, 0);
        let (mut loss, mut sums) = (0.0, Vec::new());
        for batch in 0..iterations {
            loss += net.forward(&mut weights).map_err(|e| file.locate(e))?;
            net.fetch_outputs()?;
            let outputs = read_outputs(&net);
            sums.resize(outputs.len(), 0.0);
            for (output, sum) in outputs.iter().zip(&mut sums) {
                *sum += output.value;
                log.info(From::Caffe, &format!("Batch {batch}, {} = {}", output.name, general(output.value)));
            }
            log.advance(batch + 1, String::new);
        }
        log.end_bar();
        let count = iterations as f64;
        log.info(From::Caffe, &format!("Loss: {}", general(loss / count)));
        for (output, sum) in read_outputs(&net).iter().zip(sums) {
            let mean = sum / count;
            log.info(From::Caffe, &with_loss(&output.name, mean, output.loss_weight));
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// `accuracy = 0.98`, or `loss = 0.3 (* 1 = 0.3 loss)` where the blob takes part in the loss.
pub(super) fn with_loss(name: &str, value: f64, weight: f32) -> String {
    let text = format!("{name} = {}", general(value));
    if weight == 0.0 {
        return text;
    }
    let weight = f64::from(weight);
    format!("{text} (* {} = {} loss)", general(weight), general(weight * value))
}
