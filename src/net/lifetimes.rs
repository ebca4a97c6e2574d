//! Buffers that are not needed at the same time take turns in memory.

/// The steps in which a buffer is needed, the first and the last one included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub first: usize,
    pub last: usize,
}

impl Span {
    fn meets(self, other: Span) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Puts buffers, each with its span and size, into groups of which no two are needed at once; the number of the group
/// of each.
///
/// A group takes as much memory as its largest member. So the largest buffers come first, and each goes to the smallest
/// group that is free for its span: no group ever grows.
pub(super) fn take_turns(buffers: &[(Span, usize)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(buffers[i].1), buffers[i].0.first));
    let mut members: Vec<Vec<Span>> = Vec::new();
    let mut group = vec![0; buffers.len()];
    for i in order {
        let span = buffers[i].0;
        // Groups were opened in the order of their sizes: the last one that is free is the smallest.
        let free = members.iter().rposition(|m| m.iter().all(|other| !other.meets(span)));
        group[i] = free.unwrap_or(members.len());
        match members.get_mut(group[i]) {
            Some(members) => members.push(span),
            None => members.push(vec![span]),
        }
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::{Purpose, Stream};

    fn span(first: usize, last: usize) -> Span {
        Span { first, last }
    }

    #[test]
    fn a_chain_needs_two_places() {
        let chain: Vec<(Span, usize)> = (0..9).map(|i| (span(i, i + 1), 100 - i)).collect();
        let groups = take_turns(&chain);
        assert_eq!(groups.iter().max(), Some(&1));
        assert!(groups.windows(2).all(|g| g[0] != g[1]));
    }

    #[test]
    fn members_of_a_group_never_meet_and_memory_is_near_the_least() {
        let mut stream = Stream::of(Purpose::Check, 7, 0, 0);
        let mut below = |n: u64| stream.below(n) as usize;
        for _ in 0..300 {
            let buffers: Vec<(Span, usize)> = (0..below(60))
                .map(|_| {
                    let first = below(50);
                    (span(first, first + below(20)), below(1000))
                })
                .collect();
            let groups = take_turns(&buffers);
            let mut room = vec![0; buffers.len()];
            for (i, &(a, size)) in buffers.iter().enumerate() {
                room[groups[i]] = size.max(room[groups[i]]);
                for (j, &(b, _)) in buffers.iter().enumerate().filter(|(j, _)| *j < i) {
                    assert!(groups[i] != groups[j] || a.last < b.first || b.last < a.first);
                }
            }
            let at = |step| buffers.iter().filter(|(s, _)| s.meets(span(step, step))).map(|b| b.1).sum();
            let least: usize = (0..70).map(at).max().unwrap_or(0);
            let took: usize = room.iter().sum();
            assert!(took >= least && took <= least * 3 / 2 + 1000, "{took} against {least}");
        }
    }
}
