//! Which layers a net has in a given state: Caffe's include and exclude rules.

use crate::error::{Error, Kind, Result};
use crate::proto::caffe::{LayerParameter, NetState, NetStateRule};

/// The layers whose rules admit `state` (phase, level, stages), each with its place among the layers of the same
/// name in the unfiltered net, so that an error can point at its line.
pub fn filter(layers: &[LayerParameter], state: &NetState) -> Result<Vec<(LayerParameter, usize)>> {
    let mut kept = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        let nth = layers[..i].iter().filter(|l| l.name() == layer.name()).count();
        if !layer.include.is_empty() && !layer.exclude.is_empty() {
            return Err(Error::new(Kind::Value, "the layer has both include and exclude rules")
                .expected("one kind of rule")
                .in_field("exclude")
                .in_nth_layer(layer.name(), nth));
        }
        let meets = |rules: &[NetStateRule]| rules.iter().any(|r| meets(state, r));
        let included = if layer.include.is_empty() { !meets(&layer.exclude) } else { meets(&layer.include) };
        if included {
            kept.push((layer.clone(), nth));
        }
    }
    Ok(kept)
}

/// Whether a state meets every condition of a rule.
fn meets(state: &NetState, rule: &NetStateRule) -> bool {
    rule.phase.is_none_or(|phase| phase == state.phase() as i32)
        && rule.min_level.is_none_or(|level| state.level() >= level)
        && rule.max_level.is_none_or(|level| state.level() <= level)
        && rule.stage.iter().all(|s| state.stage.contains(s))
        && !rule.not_stage.iter().any(|s| state.stage.contains(s))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::caffe::Phase;

    fn layer(name: &str, include: &[NetStateRule], exclude: &[NetStateRule]) -> LayerParameter {
        let (include, exclude) = (include.to_vec(), exclude.to_vec());
        LayerParameter { name: Some(name.into()), include, exclude, ..Default::default() }
    }

    #[test]
    fn phases_levels_and_stages() {
        let train = NetStateRule { phase: Some(Phase::Train as i32), ..Default::default() };
        let deep = NetStateRule { min_level: Some(2), max_level: Some(3), ..Default::default() };
        let lmdb = NetStateRule { stage: vec!["lmdb".into()], ..Default::default() };
        let no_lmdb = NetStateRule { not_stage: vec!["lmdb".into()], ..Default::default() };
        let layers = [
            layer("always", &[], &[]),
            layer("data", std::slice::from_ref(&train), &[]),
            layer("data", &[no_lmdb], &[]),
            layer("deep", &[deep], &[]),
            layer("lmdb", &[lmdb], &[]),
            layer("not_train", &[], &[train]),
        ];
        let names = |phase: Phase, level: i32, stage: &[&str]| -> Vec<String> {
            let stage = stage.iter().map(|s| s.to_string()).collect();
            let state = NetState { phase: Some(phase as i32), level: Some(level), stage };
            let kept = filter(&layers, &state).unwrap();
            kept.iter().map(|(l, nth)| format!("{}{nth}", l.name())).collect()
        };
        assert_eq!(names(Phase::Train, 0, &["lmdb"]), ["always0", "data0", "lmdb0"]);
        assert_eq!(names(Phase::Test, 3, &[]), ["always0", "data1", "deep0", "not_train0"]);
    }

    #[test]
    fn both_kinds_of_rules_are_refused() {
        let rule = NetStateRule::default();
        let layers = [layer("x", std::slice::from_ref(&rule), std::slice::from_ref(&rule))];
        assert!(filter(&layers, &NetState::default()).is_err());
    }
}
