//! `cortado layers`: the layer types.

use super::{Matches, say};
use crate::error::Result;
use crate::layers::registry;
use crate::tools::summary::table;
use std::process::ExitCode;

pub(super) fn run(_: &Matches) -> Result<ExitCode> {
    let mut rows: Vec<[String; 3]> =
        registry::rows().iter().map(|r| [r.name, r.family, r.about].map(String::from)).collect();
    rows.sort();
    say(&table(&rows, 3).join("\n"));
    Ok(ExitCode::SUCCESS)
}
