//! The same where so many channels of each pixel lie side by side: a block's channels are worked on together.

use super::{Channels, Constants, GRAIN, LANES, Sources, Sums, for_each_channels};
use crate::math::{Far, Real, parallel};
use ndarray::ArrayViewMut3;
use std::array::from_fn;

/// Fewest blocks that are tasks by themselves.
const TASKS: usize = 8;

/// Constants of [`LANES`] numbers side by side, each constant's for all of them together.
struct Lanes<T, const K: usize, const J: usize> {
    own: [[T; LANES]; K],
    wide: [[f64; LANES]; J],
}

impl<T: Real, const K: usize, const J: usize> Lanes<T, K, J> {
    /// Those of the channels of a block from `first` on, again and again.
    #[inline(always)]
    fn new(first: usize, lanes: usize, constants: impl Fn(usize) -> Constants<T, K, J>) -> Self {
        let mut all = Lanes { own: [[T::zero(); LANES]; K], wide: [[0.0; LANES]; J] };
        for i in 0..LANES {
            let (own, wide) = constants(first + i % lanes);
            all.own.iter_mut().zip(own).for_each(|(all, x)| all[i] = x);
            all.wide.iter_mut().zip(wide).for_each(|(all, x)| all[i] = x);
        }
        all
    }

    /// Those of one number.
    #[inline(always)]
    fn at(&self, i: usize) -> Constants<T, K, J> {
        (from_fn(|k| self.own[k][i]), from_fn(|j| self.wide[j][i]))
    }
}

impl<'a, T: Real> Sources<'a, T> {
    /// Adds f(constants)(a, b) over the elements to the sums of a block's channels, where the blob written holds `to`.
    #[inline(always)]
    fn block_sums<const K: usize, const J: usize>(
        self,
        to: &[T],
        constants: &Lanes<T, K, J>,
        f: impl Fn(Constants<T, K, J>, T, T) -> [f64; 2],
        sums: &mut [[f64; 2]],
    ) {
        let a = self.from.unwrap_or(to);
        let b = self.other.unwrap_or(a);
        let (mut s, mut t) = ([0.0; LANES], [0.0; LANES]);
        let ((many_a, rest_a), (many_b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in many_a.iter().zip(many_b) {
            for i in 0..LANES {
                let [u, v] = f(constants.at(i), a[i], b[i]);
                s[i] += u;
                t[i] += v;
            }
        }
        for (i, (&a, &b)) in rest_a.iter().zip(rest_b).enumerate() {
            let [u, v] = f(constants.at(i), a, b);
            s[i] += u;
            t[i] += v;
        }
        let lanes = sums.len();
        for i in 0..LANES {
            let total = &mut sums[i % lanes];
            *total = [total[0] + s[i], total[1] + t[i]];
        }
    }

    /// `to` = f(constants)(from, other).
    #[inline(always)]
    fn block_map<const K: usize, const J: usize>(
        self,
        to: &mut [T],
        far: &Far<T>,
        constants: &Lanes<T, K, J>,
        f: impl Fn(Constants<T, K, J>, T, T) -> T,
    ) {
        if self.from.is_none() {
            return self.block_map_part(to, constants, f);
        }
        far.write(
            to,
            #[inline(always)]
            |at, to| self.part(at, to.len()).block_map_part(to, constants, &f),
        );
    }

    #[inline(always)]
    fn block_map_part<const K: usize, const J: usize>(
        self,
        to: &mut [T],
        constants: &Lanes<T, K, J>,
        f: impl Fn(Constants<T, K, J>, T, T) -> T,
    ) {
        let at = |i| constants.at(i);
        let len = to.len();
        let (many, rest) = to.as_chunks_mut::<LANES>();
        let split = |x: &'a [T]| x[..len].as_chunks::<LANES>();
        match (self.from, self.other.map(split)) {
            (None, None) => {
                many.iter_mut().for_each(|to| (0..LANES).for_each(|i| to[i] = f(at(i), to[i], to[i])));
                rest.iter_mut().enumerate().for_each(|(i, to)| *to = f(at(i), *to, *to));
            }
            (None, Some((many_b, rest_b))) => {
                for (to, b) in many.iter_mut().zip(many_b) {
                    (0..LANES).for_each(|i| to[i] = f(at(i), to[i], b[i]));
                }
                rest.iter_mut().zip(rest_b).enumerate().for_each(|(i, (to, &b))| *to = f(at(i), *to, b));
            }
            (Some(a), b) => {
                let (many_a, rest_a) = split(a);
                let (many_b, rest_b) = b.unwrap_or((many_a, rest_a));
                for (to, (a, b)) in many.iter_mut().zip(many_a.iter().zip(many_b)) {
                    (0..LANES).for_each(|i| to[i] = f(at(i), a[i], b[i]));
                }
                let pairs = rest_a.iter().zip(rest_b);
                rest.iter_mut().zip(pairs).enumerate().for_each(|(i, (to, (&a, &b)))| *to = f(at(i), a, b));
            }
        }
    }
}

impl Sums {
    /// [`Sums::compute`].
    pub(super) fn of_blocks<T: Real, const K: usize, const J: usize>(
        &mut self,
        shape: Channels,
        sources: Sources<T>,
        to: &[T],
        constants: impl Fn(usize) -> Constants<T, K, J> + Sync,
        f: impl Fn(Constants<T, K, J>, T, T) -> [f64; 2] + Sync,
    ) {
        let (lanes, blocks) = (sources.lanes, shape.dim / sources.lanes);
        let row = shape.inner * lanes;
        let count = row.div_ceil(GRAIN).max(1);
        let pieces = &mut self.pieces[..shape.outer * blocks * count * lanes];
        let all = Sources { from: Some(sources.from.unwrap_or(to)), ..sources };
        parallel::for_each_chunk(
            pieces,
            (GRAIN / row.max(1)).max(1) * lanes,
            #[inline(always)]
            |first, pieces| {
                for (piece, sums) in (first / lanes..).zip(pieces.chunks_exact_mut(lanes)) {
                    let (at, begin) = (piece / count, piece % count * GRAIN);
                    sums.fill([0.0; 2]);
                    let part = all.part(at * row + begin, GRAIN.min(row - begin));
                    part.block_sums(&[], &Lanes::new(at % blocks * lanes, lanes, &constants), &f, sums);
                }
            },
        );
        self.channels.fill([0.0; 2]);
        for (i, piece) in pieces.chunks_exact(lanes).enumerate() {
            let totals = &mut self.channels[i / count % blocks * lanes..][..lanes];
            totals.iter_mut().zip(piece).for_each(|(total, s)| *total = [total[0] + s[0], total[1] + s[1]]);
        }
    }
}

impl Channels {
    /// [`Channels::sum_then_map`].
    pub(super) fn sum_then_map_blocks<
        T: Real,
        const K: usize,
        const J: usize,
        const L: usize,
        const M: usize,
    >(
        &self,
        sources: Sources<T>,
        to: &mut [T],
        sums: &mut Sums,
        (before, terms): (
            impl Fn(usize) -> Constants<T, K, J> + Sync,
            impl Fn(Constants<T, K, J>, T, T) -> [f64; 2] + Sync,
        ),
        (behind, map): (
            impl Fn(usize, [f64; 2]) -> Constants<T, L, M> + Sync,
            impl Fn(Constants<T, L, M>, T, T) -> T + Sync,
        ),
    ) {
        let (lanes, row) = (sources.lanes, self.inner * sources.lanes);
        let blocks = self.dim / lanes;
        let view = ArrayViewMut3::from_shape((self.outer, blocks, row), &mut *to).ok();
        let Some(view) = view.filter(|_| blocks >= TASKS) else {
            sums.of_blocks(*self, sources, to, before, terms);
            let sums = &sums.channels;
            return self.map_blocks(sources, to, |c| behind(c, sums[c]), map);
        };
        for_each_channels(
            view,
            &mut sums.channels,
            [1, lanes],
            #[inline(always)]
            |block: usize, mut view: ArrayViewMut3<T>, sums: &mut [[f64; 2]]| {
                let first = block * lanes;
                let constants = Lanes::new(first, lanes, &before);
                sums.fill([0.0; 2]);
                for (n, mut to) in view.outer_iter_mut().enumerate() {
                    let to = to.as_slice_mut().unwrap_or_default();
                    sources.part((n * blocks + block) * row, row).block_sums(to, &constants, &terms, sums);
                }
                let constants = Lanes::new(first, lanes, |c| behind(c, sums[c - first]));
                let far = Far::of(self.outer * blocks * row);
                for (n, mut to) in view.outer_iter_mut().enumerate() {
                    let to = to.as_slice_mut().unwrap_or_default();
                    sources.part((n * blocks + block) * row, row).block_map(to, &far, &constants, &map);
                }
            },
        );
    }

    /// [`Channels::map2`].
    pub(super) fn map_blocks<T: Real, const K: usize, const J: usize>(
        &self,
        sources: Sources<T>,
        to: &mut [T],
        constants: impl Fn(usize) -> Constants<T, K, J> + Sync,
        f: impl Fn(Constants<T, K, J>, T, T) -> T + Sync,
    ) {
        let (lanes, row, len) = (sources.lanes, self.inner * sources.lanes, to.len());
        // Whole rows, or pieces of a long one.
        let grain = if row < GRAIN { row * (GRAIN / row.max(1)) } else { GRAIN };
        parallel::for_each_chunk(
            to,
            grain,
            #[inline(always)]
            |begin, to| {
                let (mut at, mut rest) = (begin, to);
                let far = Far::of(len);
                while !rest.is_empty() {
                    let len = (row - at % row).min(rest.len());
                    let (part, next) = rest.split_at_mut(len);
                    let first = at / row % (self.dim / lanes) * lanes;
                    let constants = Lanes::new(first, lanes, &constants);
                    sources.part(at, len).block_map(part, &far, &constants, &f);
                    at += len;
                    rest = next;
                }
            },
        );
    }
}
