//! `cortado device_query`: what GPUs there are, in Caffe's words.

use super::Matches;
use super::log::{From, Log};
use crate::device;
use crate::error::Result;
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
        let dnn = device::cudnn_version().unwrap_or_else(|e| e.message().to_string());
        log.info(From::Common, &format!("{:<31}{dnn}", "cuDNN:"));
    }
    if ordinals.is_empty() {
        log.info(From::Common, "The driver finds no GPU.");
    }
    Ok(ExitCode::SUCCESS)
}
