//! Which record comes when: a pure function of the seed and the position in the run, so that a resumed run goes on
//! where it stopped.

use crate::error::{Error, Kind, Result};
use crate::math::{Purpose, Stream};
use std::collections::BTreeMap;

/// The order in which a run visits the records of a source.
pub struct Sampler {
    seed: u64,
    layer: u32,
    order: Order,
    /// The epoch whose order is held.
    epoch: Option<u64>,
    /// Whose records these are, and among how many they are shared out.
    share: [u64; 2],
}

enum Order {
    /// One after the other from `first` on, then from the start again.
    Sequential { first: u64, count: u64 },
    /// Each epoch in a new order: the records of the present one.
    Shuffled(Vec<usize>),
    /// Groups of records that share a label.
    Pairs { size: usize, classes: Vec<Vec<usize>>, members: Vec<usize>, groups: Vec<usize> },
}

/// The pass of the stream that draws the first record; epochs count from 0 and never get there.
const FIRST_RECORD: u64 = u64::MAX;
/// The share of a run that is alone.
const ALL: [u64; 2] = [0, 1];

impl Sampler {
    /// All records in their order, again and again. The first one is drawn from the first `rand_skip` (0 or 1: it is
    /// record 0).
    pub fn sequential(count: usize, rand_skip: u32, seed: u64, layer: u32) -> Sampler {
        let count = (count as u64).max(1);
        let first = Stream::of(Purpose::Order, seed, layer, FIRST_RECORD).below(rand_skip.into()) % count;
        Sampler { seed, layer, order: Order::Sequential { first, count }, epoch: None, share: ALL }
    }

    /// All records, each epoch in an order of its own.
    pub fn shuffled(count: usize, seed: u64, layer: u32) -> Sampler {
        Sampler { seed, layer, order: Order::Shuffled((0..count.max(1)).collect()), epoch: None, share: ALL }
    }

    /// Groups of `size` different records with one label, `labels[i]` being that of record i. In each epoch every
    /// class is shuffled and cut into groups, and the groups of all classes are shuffled; a record is visited once at
    /// most, and which ones are left over in a class changes from epoch to epoch.
    ///
    /// Errors: no class has `size` records.
    pub fn pairs(labels: &[i32], size: usize, seed: u64, layer: u32) -> Result<Sampler> {
        let mut classes: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for (record, &label) in labels.iter().enumerate() {
            classes.entry(label).or_default().push(record);
        }
        let size = size.max(1);
        let largest = classes.values().map(Vec::len).max().unwrap_or(0);
        let classes: Vec<Vec<usize>> =
            classes.into_values().filter(|records| records.len() >= size).collect();
        if classes.is_empty() {
            return Err(Error::new(Kind::Data, "no label has enough records for a group")
                .expected(format!("pair_size = {size} records with one label"))
                .found(format!("{largest} at most")));
        }
        let order = Order::Pairs { size, classes, members: Vec::new(), groups: Vec::new() };
        Ok(Sampler { seed, layer, order, epoch: None, share: ALL })
    }

    /// Shares the records out among `count` runs, of which this one is number `rank`: it gets the records (with `pair_size`, the groups)
    /// rank, rank + count, ... of the order.
    ///
    /// Source: Caffe's `DataLayer::Skip`.
    pub fn set_share(&mut self, rank: u64, count: u64) {
        self.share = [rank, count.max(1)];
    }

    /// The place in the order of a record of this run, which has been handed out so many of its share before.
    pub fn place(&self, handed_out: u64) -> u64 {
        let [rank, count] = self.share;
        let size = match &self.order {
            Order::Pairs { size, .. } => *size as u64,
            _ => 1,
        };
        (handed_out / size * count + rank) * size + handed_out % size
    }

    /// Index of the record at a place in the order, counted from 0. Places in ascending order are fast; another
    /// epoch costs a shuffle.
    pub fn at(&mut self, position: u64) -> usize {
        let epoch = match &self.order {
            Order::Sequential { first, count } => {
                return ((u128::from(position) + u128::from(*first)) % u128::from(*count)) as usize;
            }
            Order::Shuffled(order) => position / order.len() as u64,
            Order::Pairs { size, classes, .. } => {
                position / classes.iter().map(|c| (c.len() / size * size) as u64).sum::<u64>()
            }
        };
        if self.epoch != Some(epoch) {
            self.draw(epoch);
        }
        match &self.order {
            Order::Sequential { .. } => 0,
            Order::Shuffled(order) => order[(position % order.len() as u64) as usize],
            Order::Pairs { size, members, groups, .. } => {
                let size = *size as u64;
                let group = groups[(position / size % groups.len() as u64) as usize];
                members[group + (position % size) as usize]
            }
        }
    }

    /// Draws the order of an epoch, from the records in ascending order, so that it does not depend on the epoch before.
    fn draw(&mut self, epoch: u64) {
        let mut stream = Stream::of(Purpose::Order, self.seed, self.layer, epoch);
        match &mut self.order {
            Order::Sequential { .. } => {}
            Order::Shuffled(order) => {
                order.iter_mut().enumerate().for_each(|(i, record)| *record = i);
                stream.shuffle(order);
            }
            Order::Pairs { size, classes, members, groups } => {
                members.clear();
                groups.clear();
                for class in classes {
                    let start = members.len();
                    members.extend_from_slice(class);
                    stream.shuffle(&mut members[start..]);
                    groups.extend((0..class.len() / *size).map(|group| start + group * *size));
                }
                stream.shuffle(groups);
            }
        }
        self.epoch = Some(epoch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn take(sampler: &mut Sampler, positions: std::ops::Range<u64>) -> Vec<usize> {
        positions.map(|p| sampler.at(p)).collect()
    }

    #[test]
    fn sequential_wraps_and_skips() {
        let mut s = Sampler::sequential(3, 0, 1, 0);
        assert_eq!(take(&mut s, 0..7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(s.at(u64::MAX), (u64::MAX % 3) as usize);
        let firsts: BTreeSet<usize> = (0..50).map(|seed| Sampler::sequential(10, 4, seed, 0).at(0)).collect();
        assert_eq!(firsts, BTreeSet::from([0, 1, 2, 3]));
        let mut s = Sampler::sequential(10, 1000, 3, 0);
        let first = s.at(0);
        assert_eq!(s.at(7), (first + 7) % 10);
    }

    #[test]
    fn each_epoch_is_a_new_permutation() {
        let mut s = Sampler::shuffled(50, 1, 0);
        let epochs: Vec<Vec<usize>> = (0..3).map(|e| take(&mut s, 50 * e..50 * (e + 1))).collect();
        for epoch in &epochs {
            assert_eq!(epoch.iter().copied().collect::<BTreeSet<_>>().len(), 50);
        }
        assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2]);
        assert_ne!(take(&mut Sampler::shuffled(50, 2, 0), 0..50), epochs[0], "another seed");
        assert_ne!(take(&mut Sampler::shuffled(50, 1, 1), 0..50), epochs[0], "another layer");
    }

    #[test]
    fn pairs_share_a_label_and_differ() {
        // Label i % 4 but one record alone with label 9; class 0 has an odd number.
        let labels: Vec<i32> = (0..33).map(|i| if i == 32 { 9 } else { i % 4 }).collect();
        let mut s = Sampler::pairs(&labels, 3, 1, 0).unwrap();
        // Four classes of 8: two groups of 3 each, two records left over.
        let length = 4 * 2 * 3;
        let mut left_over = BTreeSet::new();
        for epoch in 0..4 {
            let records = take(&mut s, length * epoch..length * (epoch + 1));
            let visited: BTreeSet<usize> = records.iter().copied().collect();
            assert_eq!(visited.len(), length as usize, "a record comes once in an epoch");
            assert!(!visited.contains(&32));
            for group in records.chunks(3) {
                assert!(group.iter().all(|&r| labels[r] == labels[group[0]]));
            }
            let classes: Vec<i32> = records.chunks(3).map(|g| labels[g[0]]).collect();
            assert!(!classes.is_sorted(), "the classes are mixed: {classes:?}");
            left_over.extend((0..32).filter(|r| !visited.contains(r)));
        }
        assert!(left_over.len() > 8, "the left over records change");
        let error = Sampler::pairs(&[1, 2, 3, 1], 3, 1, 0).err().unwrap();
        assert!(error.to_string().contains("2 at most"), "{error}");
        assert!(Sampler::pairs(&[], 1, 1, 0).is_err());
    }

    #[test]
    fn shares_are_the_whole_order() {
        let labels: Vec<i32> = (0..40).map(|i| i % 3).collect();
        for (mut sampler, size) in
            [(Sampler::shuffled(50, 1, 0), 1), (Sampler::pairs(&labels, 3, 1, 0).unwrap(), 3)]
        {
            assert_eq!(sampler.place(7), 7);
            let whole = take(&mut sampler, 0..60);
            let mut shares: Vec<Vec<usize>> = vec![];
            for rank in 0..2 {
                sampler.set_share(rank, 2);
                let places: Vec<u64> = (0..30).map(|n| sampler.place(n)).collect();
                shares.push(places.into_iter().map(|p| sampler.at(p)).collect());
            }
            // Record by record, or group by group.
            for (i, record) in whole.iter().enumerate() {
                let group = i / size;
                assert_eq!(
                    *record,
                    shares[group % 2][group / 2 * size + i % size],
                    "record {i}, groups of {size}"
                );
            }
        }
    }

    #[test]
    fn any_position_can_be_asked_first() {
        let labels: Vec<i32> = (0..40).map(|i| i % 3).collect();
        let make = || {
            [
                Sampler::sequential(7, 5, 1, 0),
                Sampler::shuffled(7, 1, 0),
                Sampler::pairs(&labels, 2, 1, 0).unwrap(),
            ]
        };
        for (i, sampler) in make().iter_mut().enumerate() {
            let run = take(sampler, 0..200);
            for start in [199, 38, 77, 6, 7, 100] {
                assert_eq!(make()[i].at(start), run[start as usize]);
            }
        }
    }
}
