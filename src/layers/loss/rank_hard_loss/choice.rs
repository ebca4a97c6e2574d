//! Which negatives of an anchor count.

use crate::error::{Error, Kind, Result};
use crate::math::{Real, Stream};
use crate::proto::caffe::RankParameter;
use std::cmp::Ordering;

/// The fields of the message, checked.
pub(super) struct Rules<T> {
    pub neg_num: usize,
    pub pair_size: usize,
    /// How many are drawn of the hard ones, and of those left.
    pub hard: usize,
    pub random: usize,
    pub ratios: f32,
    pub margin: T,
}

/// An anchor and its negatives.
pub(super) struct Anchor<T> {
    /// Candidates; after the choice, those chosen, by row.
    pub candidates: Vec<Candidate<T>>,
    /// Hinge terms above 0, and rows of another label.
    pub active: usize,
    pub negatives: usize,
}

/// A row that may be chosen, and the word it drew.
#[derive(Clone, Copy)]
pub(super) struct Candidate<T> {
    pub row: usize,
    pub distance: T,
    pub draw: u32,
}

impl<T> Anchor<T> {
    /// Without candidates.
    pub fn new() -> Anchor<T> {
        Anchor { candidates: Vec::new(), active: 0, negatives: 0 }
    }
}

impl<T: Real> Rules<T> {
    /// Checks the fields.
    pub fn new(param: &RankParameter) -> Result<Rules<T>> {
        let wrong = |field: &str, message: &str| {
            Error::new(Kind::Value, message).in_field(&format!("rank_param.{field}"))
        };
        if param.neg_num() == 0 {
            return Err(wrong("neg_num", "without negatives there is no loss")
                .expected("1 or more")
                .found(0));
        }
        if param.pair_size() < 2 {
            return Err(wrong("pair_size", "an anchor and its positive make a group of two at least")
                .expected("2 or more")
                .found(param.pair_size()));
        }
        if param.hard_ratio.is_none() && param.rand_ratio.is_none() {
            return Err(wrong("hard_ratio", "neither hard_ratio nor rand_ratio is given")
                .expected("two shares of the chosen negatives, 1 together")
                .suggest("hard_ratio: 0.5 rand_ratio: 0.5"));
        }
        for (field, ratio) in [("hard_ratio", param.hard_ratio()), ("rand_ratio", param.rand_ratio())] {
            if !(0.0..=1.0).contains(&ratio) {
                return Err(wrong(field, "a share lies between 0 and 1").expected("0 to 1").found(ratio));
            }
        }
        if !param.margin().is_finite() {
            return Err(wrong("margin", "the margin must be finite").found(param.margin()));
        }
        // In float, as the original has it: 10 · 0.7 is 7 there, and below it in double.
        let share = |ratio: f32| ((param.neg_num() as f32 * ratio) as usize).min(param.neg_num() as usize);
        Ok(Rules {
            neg_num: param.neg_num() as usize,
            pair_size: param.pair_size() as usize,
            hard: share(param.hard_ratio()),
            random: share(param.rand_ratio()),
            ratios: param.hard_ratio() + param.rand_ratio(),
            margin: T::from_f64(param.margin().into()),
        })
    }

    /// Finds the candidates of anchor `i` among rows with these distances from it and from its positive, and chooses.
    pub fn choose(
        &self,
        i: usize,
        labels: &[T],
        [from_i, from_p]: [&[T]; 2],
        stream: &Stream,
        to: &mut Anchor<T>,
    ) {
        let reach = from_i[i + 1] + self.margin;
        (to.active, to.negatives) = (0, 0);
        to.candidates.clear();
        let others = labels.iter().zip(from_i).zip(from_p).enumerate();
        for (row, ((_, &distance), &from_p)) in others.filter(|(_, ((label, _), _))| **label != labels[i]) {
            to.negatives += 1;
            to.active += usize::from(reach - from_p > T::zero());
            if reach - distance > T::zero() {
                to.active += 1;
                to.candidates.push(Candidate { row, distance, draw: 0 });
            }
        }
        let all = &mut to.candidates;
        if all.len() <= self.neg_num {
            return;
        }
        all.select_nth_unstable_by(self.neg_num, |a, b| {
            let nearer = a.distance.partial_cmp(&b.distance).unwrap_or(Ordering::Equal); // all are finite
            nearer.then(a.row.cmp(&b.row))
        });
        let word = |row: usize| 2 * (i * labels.len() + row) as u64;
        draw(&mut all[..self.neg_num], self.hard, |row| stream.word(word(row)));
        let left = &mut all[self.hard..];
        let random = self.random.min(left.len());
        draw(left, random, |row| stream.word(word(row) + 1));
        all.truncate(self.hard + random);
        // The sum must not depend on how the selection above moves its elements.
        all.sort_unstable_by_key(|c| c.row);
    }
}

/// Moves `count` candidates, drawn by the smallest words, to the front.
fn draw<T>(candidates: &mut [Candidate<T>], count: usize, word: impl Fn(usize) -> u32) {
    if count == 0 || count == candidates.len() {
        return;
    }
    candidates.iter_mut().for_each(|c| c.draw = word(c.row));
    candidates.select_nth_unstable_by_key(count, |c| (c.draw, c.row));
}
