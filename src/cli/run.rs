//! `cortado run`: a net once, on arrays.

use super::log::{From, Log};
use super::{Matches, number::general, say};
use crate::error::{Error, Result};
use crate::net::Keep;
use crate::proto::caffe::Phase;
use crate::tools::{npz, open, run as tool};
use std::process::ExitCode;

pub(super) fn run(matches: &Matches) -> Result<ExitCode> {
    let pool = matches.pool()?;
    pool.install(|| {
        let log = Log::new();
        let gpu = matches.gpu()?;
        matches.precise(gpu.as_ref())?;
        let backward = matches.is_set("backward");
        let file = matches.net("NET", matches.phase(Phase::Test)?)?;
        let input = matches.optional_path("input");
        let arrays = match &input {
            Some(path) => npz::read(path, |_| true)?,
            None => npz::Arrays::new(),
        };
        tool::misspelt(arrays.keys()).iter().for_each(|note| log.warn(From::Caffe, note));
        let target = matches.optional_path("output");
        // A file gets every blob; without one only outputs are shown.
        let keep = if target.is_some() { Keep::All } else { Keep::Blobs(tool::fed(&file, &arrays)) };
        let (mut net, mut weights) = tool::build(&file, backward, matches.number("seed", 1)?, &keep)?;
        net.warnings().iter().for_each(|w| log.warn(From::Caffe, w));
        open::load_weight_files(&net, &mut weights, &matches.paths("weights"))?;
        net.set_device(gpu, &mut weights)?;
        let at = |e: Error| match &input {
            // An error about an array is one of the input file, not of the net's.
            Some(path) if e.layer().is_none() => e.in_file(path.display().to_string()),
            _ => file.locate(e),
        };
        if let Some(path) = target {
            let output = tool::run(&mut net, &mut weights, &arrays, backward).map_err(at)?;
            npz::write(&path, &output)?;
            return Ok(ExitCode::SUCCESS);
        }
        // Without a file to write, the outputs themselves.
        tool::pass(&mut net, &mut weights, &arrays, backward).map_err(at)?;
        for b in net.outputs() {
            let values: Vec<String> = net.data(b).iter().take(10).map(|v| general(f64::from(*v))).collect();
            let more = if net.data(b).len() > 10 { " ..." } else { "" };
            let blob = &net.blobs()[b];
            say(&format!("{} {:?}: {}{more}", blob.name, &blob.shape[..], values.join(" ")));
        }
        Ok(ExitCode::SUCCESS)
    })
}
