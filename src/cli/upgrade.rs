//! `cortado upgrade`: nets and solvers of older formats, text or binary.

use super::{Matches, say};
use crate::error::{Error, Result};
use crate::proto::caffe::SolverParameter;
use crate::proto::net::{is_binary, upgrade_net_bytes};
use crate::proto::{self, file};
use std::path::Path;
use std::process::ExitCode;

pub(super) fn run(matches: &Matches) -> Result<ExitCode> {
    let (from, to) = (matches.path("IN")?, matches.path("OUT")?);
    let bytes = file::read_bytes(&from)?;
    let in_file = |e: Error| e.in_file(from.display().to_string());
    let (out, notes) = if is_binary(&bytes) {
        upgrade_net_bytes(&bytes).map_err(in_file)?
    } else {
        let (text, notes) = upgraded_text(&from)?;
        (text.into_bytes(), notes)
    };
    proto::write_atomic(&to, &out)?;
    for note in &notes {
        say(note);
    }
    let (from, to) = (from.display(), to.display());
    say(&match notes.len() {
        0 => format!("{from} needed no upgrade; {to} is the same in today's format"),
        n => format!("{n} upgrade{}: {from} became {to}", if n == 1 { "" } else { "s" }),
    });
    Ok(ExitCode::SUCCESS)
}

/// A net or, if it is none, a solver.
fn upgraded_text(path: &Path) -> Result<(String, Vec<String>)> {
    let not_a_net = match proto::read_net(path) {
        Ok(parsed) => return Ok((proto::print(&parsed.message)?, parsed.upgrades)),
        Err(error) => error,
    };
    // Fields that every solver has one of, and no net.
    let text = String::from_utf8_lossy(&file::read_bytes(path)?).into_owned();
    let marks =
        ["base_lr", "lr_policy", "max_iter", "solver_type", "snapshot_prefix", "train_net", "test_iter"];
    if !marks.iter().any(|mark| text.contains(mark)) {
        return Err(not_a_net);
    }
    let parsed = proto::text::read::<SolverParameter>(path)?;
    let mut solver = parsed.message;
    let notes = proto::upgrade_solver(&mut solver).map_err(|e| parsed.source.locate(e))?;
    Ok((proto::print(&solver)?, notes))
}
