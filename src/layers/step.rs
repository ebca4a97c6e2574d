//! What layers do in place behind another, said so that the layer before can do it along.

use super::normalization::Channels;

/// What a layer does to each element of the blob it runs in place on: all that another layer must know to do it along
/// in its own pass over memory ([`Layer::absorbs`](super::Layer::absorbs)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// y = (x − m/f) / √(v/f + eps) for each channel, or with mean and variance 0 where f is 0: `BatchNorm` with the
    /// statistics that training has gathered. Its parameters are m, v and f.
    Normalise {
        /// Where the channels lie.
        channels: Channels,
        /// What is added to the variance.
        eps: f64,
    },
    /// y = s·x + b for each channel. Its parameters are s and, with `bias`, b.
    Scale {
        /// Where the channels lie.
        channels: Channels,
        /// Whether there is a b.
        bias: bool,
    },
    /// y = x + z, where z is another blob of the same shape, a bottom that the leader gets behind its own: an `Eltwise`
    /// sum of two. It does not run in place; what it gives is the leader's top then, and nobody else reads x.
    Add,
    /// y = x for x > 0, else `slope`·x, with a slope of 0 or more. It has no parameters.
    Relu {
        /// Factor on what is not positive.
        slope: f64,
    },
}

/// The end of a chain that most leaders can do along: a `Scale`, a `ReLU`, or one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tail {
    /// The factor's number among the parameters of the call, and the bias's.
    pub scale: Option<(usize, Option<usize>)>,
    /// Slope of the ReLU; 1, which changes nothing, where there is none.
    pub slope: f64,
}

impl Tail {
    /// How many steps of a chain are such an end, for a leader with its own channels (`None`: it takes no `Scale`).
    pub fn length(chain: &[Step], channels: Option<Channels>) -> usize {
        let scale = match chain.first() {
            Some(Step::Scale { channels: theirs, .. }) if channels == Some(*theirs) => 1,
            _ => 0,
        };
        scale + usize::from(matches!(chain.get(scale), Some(Step::Relu { .. })))
    }

    /// The end of which [`Tail::length`] took the length, behind a leader with so many parameters of its own.
    pub fn new(steps: &[Step], own: usize) -> Tail {
        let mut tail = Tail { scale: None, slope: 1.0 };
        for step in steps {
            match *step {
                Step::Scale { bias, .. } => tail.scale = Some((own, bias.then_some(own + 1))),
                Step::Relu { slope } => tail.slope = slope,
                Step::Normalise { .. } | Step::Add => {}
            }
        }
        tail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_scale_of_the_same_channels_and_a_relu() {
        let channels = Channels { outer: 2, dim: 3, inner: 4 };
        let (scale, relu) = (Step::Scale { channels, bias: true }, Step::Relu { slope: 0.5 });
        for (chain, mine, length) in [
            (&[][..], Some(channels), 0),
            (&[scale, relu, relu], Some(channels), 2),
            (&[relu, scale], Some(channels), 1),
            (&[scale, scale], Some(channels), 1),
            (&[scale, relu], None, 0),
            (&[scale], Some(Channels { outer: 1, ..channels }), 0),
        ] {
            assert_eq!(Tail::length(chain, mine), length, "{chain:?}");
        }
        assert_eq!(Tail::new(&[scale, relu], 3), Tail { scale: Some((3, Some(4))), slope: 0.5 });
        assert_eq!(Tail::new(&[], 3), Tail { scale: None, slope: 1.0 });
    }
}
