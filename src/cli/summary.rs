//! `cortado summary`: a net as a table.

use super::{Matches, say};
use crate::blob::Weights;
use crate::error::Result;
use crate::net::Keep;
use crate::proto::caffe::Phase;
use crate::tools::summary::summary;
use std::process::ExitCode;

pub(super) fn run(matches: &Matches) -> Result<ExitCode> {
    let file = matches.net("NET", matches.phase(Phase::Train)?)?;
    let mut weights = Weights::new();
    let net = file.build_keeping::<f32>(1, &mut weights, &Keep::Outputs)?;
    say(&summary(&net, &weights).lines().join("\n"));
    Ok(ExitCode::SUCCESS)
}
