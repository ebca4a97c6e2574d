//! Which parameter a layer gets: its own, one it shares by name, or the train net's.

use crate::blob::{Param, ParamId, Shape, Weights};
use crate::error::{Error, Kind, Result};
use crate::math::Real;
use crate::proto::caffe::{LayerParameter, ParamSpec, param_spec::DimCheckMode};
use std::collections::{HashMap, HashSet};

/// A parameter shared by name: who made it, and the multipliers its users gave.
struct Shared {
    id: ParamId,
    owner: String,
    lr_mult: Option<f32>,
    decay_mult: Option<f32>,
}

/// Hands out the parameters of one net.
pub(super) struct Registrar {
    shared: HashMap<String, Shared>,
    claimed: HashSet<ParamId>,
}

impl Registrar {
    pub(super) fn new() -> Registrar {
        Registrar { shared: HashMap::new(), claimed: HashSet::new() }
    }

    /// Ids of the parameters that a layer asked for, with the values that its own `blobs` give. Those which `weights` has already, from another net or under a
    /// shared name, are taken from there; the others are added.
    pub(super) fn claim<T: Real>(
        &mut self,
        layer: &LayerParameter,
        mut asked: Vec<Param<T>>,
        weights: &mut Weights<T>,
    ) -> Result<Vec<ParamId>> {
        if layer.param.len() > asked.len() {
            return Err(Error::new(Kind::Value, "more param fields than the layer has parameters")
                .expected(format!("at most {}", asked.len()))
                .found(layer.param.len())
                .in_field(&format!("param[{}]", asked.len())));
        }
        super::weights::take_own(layer, &mut asked)?;
        let default = ParamSpec::default();
        let mut ids = Vec::with_capacity(asked.len());
        for (i, mut param) in asked.into_iter().enumerate() {
            let spec = layer.param.get(i).unwrap_or(&default);
            let at = |e: Error| e.in_field(&format!("param[{i}]"));
            if param.lr_mult == 0.0 {
                if spec.lr_mult.is_some_and(|m| m != 0.0) {
                    let error =
                        Error::new(Kind::Value, "a statistic that the layer keeps itself is not learned");
                    return Err(at(error.expected("lr_mult: 0").found(spec.lr_mult())));
                }
            } else {
                (param.lr_mult, param.decay_mult) = (spec.lr_mult(), spec.decay_mult());
            }
            param.layer = layer.name().to_string();
            if let Some(shared) = self.shared.get_mut(spec.name()).filter(|_| !spec.name().is_empty()) {
                shared.join(spec, layer.name(), &param.shape, weights).map_err(at)?;
                ids.push(shared.id);
                continue;
            }
            let id = self.own(param, weights).map_err(at)?;
            if !spec.name().is_empty() {
                let (owner, lr_mult, decay_mult) = (layer.name().to_string(), spec.lr_mult, spec.decay_mult);
                self.shared.insert(spec.name().to_string(), Shared { id, owner, lr_mult, decay_mult });
            }
            ids.push(id);
        }
        Ok(ids)
    }

    /// The parameter of this layer name and index: from another net that shares `weights`, else a new one.
    fn own<T: Real>(&mut self, mut param: Param<T>, weights: &mut Weights<T>) -> Result<ParamId> {
        // Several layers of one name in one net own different parameters.
        let name = param.layer.clone();
        for nth in 2.. {
            match weights.find(&param.layer, param.index) {
                Some(id) if self.claimed.contains(&id) => param.layer = format!("{name}#{nth}"),
                Some(id) => {
                    let known = &weights.get(id).shape;
                    if *known != param.shape {
                        return Err(Error::new(
                            Kind::Shape,
                            "the other net has this parameter in another shape",
                        )
                        .expected(known)
                        .found(&param.shape)
                        .suggest("layers of one name share their parameters between nets: rename one"));
                    }
                    self.claimed.insert(id);
                    return Ok(id);
                }
                None => break,
            }
        }
        let id = weights.add(param);
        self.claimed.insert(id);
        Ok(id)
    }
}

impl Shared {
    /// Checks that a layer may join in, and takes over the multipliers it gives.
    fn join<T: Real>(
        &mut self,
        spec: &ParamSpec,
        user: &str,
        shape: &Shape,
        weights: &mut Weights<T>,
    ) -> Result<()> {
        let param = weights.get_mut(self.id);
        let permissive = spec.share_mode() == DimCheckMode::Permissive;
        let fits = if permissive { param.shape.count() == shape.count() } else { param.shape == *shape };
        if !fits {
            let what =
                format!("the parameter \"{}\" of layer \"{}\" has another shape", spec.name(), self.owner);
            let error = Error::new(Kind::Shape, what).expected(&param.shape).found(shape);
            return Err(if permissive || param.shape.count() != shape.count() {
                error
            } else {
                error.suggest("share_mode: PERMISSIVE accepts equal counts")
            });
        }
        for (name, mine, given, target) in [
            ("lr_mult", &mut self.lr_mult, spec.lr_mult, &mut param.lr_mult),
            ("decay_mult", &mut self.decay_mult, spec.decay_mult, &mut param.decay_mult),
        ] {
            match (*mine, given) {
                (Some(a), Some(b)) if a != b => {
                    let what = format!(
                        "layers \"{}\" and \"{user}\" give a shared parameter different {name}",
                        self.owner
                    );
                    return Err(Error::new(Kind::Value, what).expected(a).found(b));
                }
                (None, Some(b)) => {
                    *mine = Some(b);
                    *target = b;
                }
                _ => {}
            }
        }
        Ok(())
    }
}
