//! `cortado device_query`: what GPUs there are, in Caffe's words.

use super::Matches;
use super::log::{From, Log};
use crate::device;
use crate::error::{Error, Result};
use std::process::ExitCode;

pub(super) fn run(matches: &Matches) -> Result<ExitCode> {
    let log = Log::new();
    let asked = matches.text("gpu")?.unwrap_or("all");
    let ordinals: Vec<usize> = match asked {
        "all" => (0..device::count()?).collect(),
        _ => matches.ordinals()?,
    };
    log.info(From::Caffe, &format!("Querying GPUs {asked}"));
    for ordinal in &ordinals {
        for (name, value) in device::query(*ordinal)?.lines {
            log.info(From::Common, &format!("{:<31}{value}", format!("{name}:")));
        }
    }
    if !ordinals.is_empty() {
        for (name, version) in
            [("cuBLASLt:", device::cublaslt_version()), ("cuDNN:", device::cudnn_version())]
        {
            log.info(From::Common, &format!("{name:<31}{}", version.unwrap_or_else(|e| missing(&e))));
        }
    }
    if ordinals.is_empty() {
        log.info(From::Common, "The driver finds no GPU.");
    }
    Ok(ExitCode::SUCCESS)
}

/// Why there is no such library, and what was looked for.
fn missing(error: &Error) -> String {
    let expected = error.expectation().map(|what| format!(" (expected {what})"));
    format!("{}{}", error.message(), expected.unwrap_or_default())
}
