//! `cortado gradcheck`: backward against central differences, a line for each check.

use super::{Matches, say};
use crate::error::Result;
use crate::proto::caffe::Phase;
use crate::tools::{Check, GradientChecker, gradcheck as tool};
use std::process::ExitCode;

pub(super) fn run(matches: &Matches) -> Result<ExitCode> {
    let pool = matches.pool()?;
    let device = matches.gpu()?;
    let file = matches.net("NET", matches.phase(Phase::Train)?)?;
    let default = GradientChecker::default();
    let checker = GradientChecker {
        step: matches.positive("step", default.step)?,
        threshold: matches.positive("threshold", default.threshold)?,
        seed: matches.number("seed", default.seed)?,
        device,
        ..default
    };
    let layer = matches.text("layer")?;
    let width = |least: usize, texts: &mut dyn Iterator<Item = usize>| texts.fold(least, usize::max);
    let layers = width(5, &mut file.param.layer.iter().map(|l| l.name().chars().count()));
    let blobs = file.param.layer.iter().flat_map(|l| &l.bottom).map(|b| b.chars().count() + 22);
    let what = width(24, &mut blobs.map(|w| w.min(40)));
    let mut heads = Some(["layer", "checked", "elements", "kinks", "largest error", "", "where"]);
    let mut each = |check: &Check| {
        if let Some(heads) = heads.take() {
            say(&row(layers, what, heads));
        }
        say(&line(layers, what, check));
    };
    let report = pool.install(|| tool::check_net::<f64>(&file.param, layer, &checker, &mut each));
    let report = report.map_err(|e| file.locate(e))?;
    if report.checks.is_empty() {
        say("nothing to check: no layer here has a gradient");
    }
    let failures = report.failures().count();
    if failures > 0 {
        say(&format!(
            "{failures} of {} checks FAILED (threshold {:e})",
            report.checks.len(),
            checker.threshold
        ));
        return Ok(ExitCode::FAILURE);
    }
    say(&format!("all {} checks passed (threshold {:e})", report.checks.len(), checker.threshold));
    Ok(ExitCode::SUCCESS)
}

fn line(layers: usize, what: usize, check: &Check) -> String {
    let elements = if check.elements == check.total {
        check.total.to_string()
    } else {
        format!("{} of {}", check.elements, check.total)
    };
    let verdict = match (check.passed(), check.too_many_kinks()) {
        (true, _) => "pass",
        (false, true) if check.failed == 0 => "FAIL: too many kinks",
        _ => "FAIL",
    };
    let place =
        format!("[{}] backward {:.6e}, difference {:.6e}", check.index, check.analytic, check.numeric);
    let kinks = if check.kinks > 0 { check.kinks.to_string() } else { String::new() };
    let error = format!("{:.2e}", check.error);
    row(layers, what, [&check.layer, &check.what, &elements, &kinks, &error, verdict, &place])
}

fn row(layers: usize, what: usize, cells: [&str; 7]) -> String {
    let [layer, checked, elements, kinks, error, verdict, place] = cells;
    format!("{layer:layers$}  {checked:what$}  {elements:>16}  {kinks:>5}  {error:>13}  {verdict:4}  {place}")
        .trim_end()
        .to_string()
}
