//! A blob as outer × channels × inner: sums over each channel, and maps with constants of its own for each.

mod blocks;

use crate::math::{Far, Real, parallel, vectorised};
use ndarray::{ArrayViewMut3, Axis};
use std::array::from_fn;

/// Extents before, at and behind the channels of a blob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Product of the extents before the channels.
    pub outer: usize,
    /// Channels.
    pub dim: usize,
    /// Product of the extents behind the channels.
    pub inner: usize,
}

/// Elements that one task takes.
const GRAIN: usize = 16 * 1024;
/// Elements that one task takes twice, first for sums and then to map them: they and two more blobs' fit in a core's
/// cache.
const CACHED: usize = 64 * 1024;
/// Most channels in one task.
const GROUP: usize = 8;
/// Fewest channels that are tasks by themselves; fewer might leave threads idle.
const TASKS: usize = 32;
/// Sums kept apart, for the compiler to make vectors of them. (It unrolls loops over 16 before it looks for vectors, and
/// then finds none in half of the cases.)
const LANES: usize = 32;

/// What a term or a map needs to know of a channel.
pub(crate) type Constants<T, const K: usize, const J: usize> = ([T; K], [f64; J]);

/// Two sums for each channel.
#[derive(Default)]
pub(crate) struct Sums {
    /// Of each piece of each row of `inner` elements.
    pieces: Vec<[f64; 2]>,
    /// Of each channel.
    pub channels: Vec<[f64; 2]>,
}

/// What a pass reads of each element: `from`, or what is in the blob it writes; and `other`, or the same again. All lie alike.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a, T> {
    /// Channels side by side: 1 in planes.
    pub lanes: usize,
    pub from: Option<&'a [T]>,
    pub other: Option<&'a [T]>,
}

impl<'a, T: Real> Sources<'a, T> {
    /// The part that belongs to `len` elements from `at` on.
    #[inline(always)]
    fn part(self, at: usize, len: usize) -> Sources<'a, T> {
        let part = |values: Option<&'a [T]>| values.map(|v| &v[at..at + len]);
        Sources { from: part(self.from), other: part(self.other), ..self }
    }

    /// Sums of `f` over the elements, where the blob written holds `to`.
    #[inline(always)]
    fn sums(self, to: &[T], f: impl Fn(T, T) -> [f64; 2]) -> [f64; 2] {
        let a = self.from.unwrap_or(to);
        row_sums(a, self.other.unwrap_or(a), f)
    }

    /// `to` = f(from, other).
    #[inline(always)]
    fn map(self, to: &mut [T], far: &Far<T>, f: impl Fn(T, T) -> T) {
        if self.from.is_none() {
            return self.map_part(to, f);
        }
        far.write(
            to,
            #[inline(always)]
            |at, to| self.part(at, to.len()).map_part(to, &f),
        );
    }

    #[inline(always)]
    fn map_part(self, to: &mut [T], f: impl Fn(T, T) -> T) {
        match (self.from, self.other) {
            (None, None) => to.iter_mut().for_each(|to| *to = f(*to, *to)),
            (None, Some(b)) => to.iter_mut().zip(b).for_each(|(to, &b)| *to = f(*to, b)),
            (Some(a), None) => to.iter_mut().zip(a).for_each(|(to, &a)| *to = f(a, a)),
            (Some(a), Some(b)) => to.iter_mut().zip(a.iter().zip(b)).for_each(|(to, (&a, &b))| *to = f(a, b)),
        }
    }
}

impl Sums {
    /// Takes room for a shape.
    pub fn resize(&mut self, shape: Channels) {
        // Rows of blocks are as many fewer as they are longer.
        let pieces = (shape.inner * LANES).div_ceil(GRAIN).max(1);
        self.pieces.resize(shape.outer * shape.dim * pieces, [0.0; 2]);
        self.channels.resize(shape.dim, [0.0; 2]);
    }

    /// Sums terms(constants(channel), a, b) over the elements a and b of `sources`, where `to` is what has no `from`, in an
    /// order that the shape alone fixes.
    pub fn compute<T: Real, const K: usize, const J: usize>(
        &mut self,
        shape: Channels,
        sources: Sources<T>,
        to: &[T],
        (constants, terms): (
            impl Fn(usize) -> Constants<T, K, J> + Sync,
            impl Fn(Constants<T, K, J>, T, T) -> [f64; 2] + Sync,
        ),
    ) {
        if sources.lanes > 1 {
            return self.of_blocks(shape, sources, to, constants, terms);
        }
        let Channels { dim, inner, .. } = shape;
        let a = sources.from.unwrap_or(to);
        let b = sources.other.unwrap_or(a);
        if inner == 1 {
            return self.columns(dim, a, b, (constants, terms));
        }
        let count = shape.pieces();
        let pieces = &mut self.pieces[..shape.outer * dim * count];
        parallel::for_each_chunk(
            pieces,
            (GRAIN / inner.max(1)).max(1),
            #[inline(always)]
            |first, pieces| {
                for (piece, sums) in (first..).zip(pieces) {
                    let (row, begin) = (piece / count, piece % count * GRAIN);
                    let at = row * inner + begin..row * inner + inner.min(begin + GRAIN);
                    *sums = row_sums(&a[at.clone()], &b[at], with(constants(row % dim), &terms));
                }
            },
        );
        self.channels.fill([0.0; 2]);
        for rows in pieces.chunks_exact(dim * count) {
            for (total, row) in self.channels.iter_mut().zip(rows.chunks_exact(count)) {
                row.iter().for_each(|piece| *total = [total[0] + piece[0], total[1] + piece[1]]);
            }
        }
    }

    /// For channels that are the last axis.
    fn columns<T: Real, const K: usize, const J: usize>(
        &mut self,
        dim: usize,
        a: &[T],
        b: &[T],
        (constants, terms): (
            impl Fn(usize) -> Constants<T, K, J> + Sync,
            impl Fn(Constants<T, K, J>, T, T) -> [f64; 2] + Sync,
        ),
    ) {
        parallel::for_each_chunk(
            &mut self.channels,
            (GRAIN / (a.len() / dim).max(1)).max(LANES),
            #[inline(always)]
            |first, totals| {
                totals.fill([0.0; 2]);
                for (a, b) in a.chunks_exact(dim).zip(b.chunks_exact(dim)) {
                    let elements = a[first..].iter().zip(&b[first..]);
                    for ((c, total), (&a, &b)) in (first..).zip(totals.iter_mut()).zip(elements) {
                        let terms = terms(constants(c), a, b);
                        *total = [total[0] + terms[0], total[1] + terms[1]];
                    }
                }
            },
        );
    }
}

#[inline(always)]
fn row_sums<T: Real>(a: &[T], b: &[T], f: impl Fn(T, T) -> [f64; 2]) -> [f64; 2] {
    let (mut s, mut t) = ([0.0; LANES], [0.0; LANES]);
    let (many_a, many_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = many_a.remainder().iter().zip(many_b.remainder());
    for (a, b) in many_a.zip(many_b) {
        for i in 0..LANES {
            let [u, v] = f(a[i], b[i]);
            s[i] += u;
            t[i] += v;
        }
    }
    for ((s, t), (&a, &b)) in s.iter_mut().zip(&mut t).zip(rest) {
        let [u, v] = f(a, b);
        *s += u;
        *t += v;
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            s[i] += s[i + half];
            t[i] += t[i + half];
        }
        half /= 2;
    }
    [s[0], t[0]]
}

impl Channels {
    /// Pieces into which a row is cut.
    fn pieces(&self) -> usize {
        self.inner.div_ceil(GRAIN).max(1)
    }

    /// Sums terms(constants(channel), a, b) over the elements of `sources`, where `to` is the blob that is written, as
    /// [`Sums::compute`] does; then `to` = map(constants(channel, sums), a, b).
    ///
    /// A task takes the elements of its channels for the map while they are still in the cache from the sums. Few channels
    /// are no tasks by themselves: for those it is one pass after the other.
    pub(crate) fn sum_then_map<T: Real, const K: usize, const J: usize, const L: usize, const M: usize>(
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
        if sources.lanes > 1 {
            return self.sum_then_map_blocks(sources, to, sums, (before, terms), (behind, map));
        }
        let &Channels { outer, dim, inner } = self;
        let view = ArrayViewMut3::from_shape((outer, dim, inner), &mut *to).ok();
        let Some(view) = view.filter(|_| inner > 1 && dim >= TASKS) else {
            sums.compute(*self, sources, to, (before, terms));
            let sums = &sums.channels;
            return self.map(sources, to, |c| behind(c, sums[c]), map);
        };
        for_each_channels(
            view,
            &mut sums.channels,
            [(CACHED / (outer * inner).max(1)).clamp(1, GROUP), 1],
            #[inline(always)]
            |first: usize, mut view: ArrayViewMut3<T>, sums: &mut [[f64; 2]]| {
                let last = first + sums.len().saturating_sub(1);
                let mine: [_; GROUP] = from_fn(|i| with(before(last.min(first + i)), &terms));
                sums.fill([0.0; 2]);
                for (n, mut rows) in view.outer_iter_mut().enumerate() {
                    let rows = rows.as_slice_mut().unwrap_or_default();
                    let sources = sources.part((n * dim + first) * inner, rows.len());
                    for (i, (row, total)) in rows.chunks_exact(inner).zip(sums.iter_mut()).enumerate() {
                        let [s, t] = sources.part(i * inner, inner).sums(row, &mine[i]);
                        *total = [total[0] + s, total[1] + t];
                    }
                }
                let mine: [_; GROUP] = from_fn(|i| {
                    let c = last.min(first + i);
                    with(behind(c, sums[c - first]), &map)
                });
                let far = Far::of(outer * dim * inner);
                for (n, mut rows) in view.outer_iter_mut().enumerate() {
                    let rows = rows.as_slice_mut().unwrap_or_default();
                    let sources = sources.part((n * dim + first) * inner, rows.len());
                    for (i, (row, f)) in rows.chunks_exact_mut(inner).zip(&mine).enumerate() {
                        sources.part(i * inner, inner).map(row, &far, f);
                    }
                }
            },
        );
    }

    /// `to` = f(constants(channel), a, b) for the elements of `sources`.
    pub(crate) fn map<T: Real, const K: usize, const J: usize>(
        &self,
        sources: Sources<T>,
        to: &mut [T],
        constants: impl Fn(usize) -> Constants<T, K, J> + Sync,
        f: impl Fn(Constants<T, K, J>, T, T) -> T + Sync,
    ) {
        if sources.lanes > 1 {
            return self.map_blocks(sources, to, constants, f);
        }
        let &Channels { dim, inner, .. } = self;
        if inner == 1 {
            let columns = dim * (GRAIN / dim.max(1)).max(1);
            return parallel::for_each_chunk(
                to,
                columns,
                #[inline(always)]
                |at, to| {
                    let Sources { from, other, .. } = sources.part(at, to.len());
                    for (i, to) in to.iter_mut().enumerate() {
                        let a = from.map_or(*to, |from| from[i]);
                        *to = f(constants(i % dim), a, other.map_or(a, |other| other[i]));
                    }
                },
            );
        }
        let len = to.len();
        // Whole rows, or pieces of a long one.
        let grain = if inner < GRAIN { inner * (GRAIN / inner.max(1)) } else { GRAIN };
        parallel::for_each_chunk(
            to,
            grain,
            #[inline(always)]
            |begin, to| {
                let (mut at, mut rest) = (begin, to);
                let far = Far::of(len);
                while !rest.is_empty() {
                    let len = (inner - at % inner).min(rest.len());
                    let (row, next) = rest.split_at_mut(len);
                    sources.part(at, len).map(row, &far, with(constants(at / inner % dim), &f));
                    at += len;
                    rest = next;
                }
            },
        );
    }
}

/// What `f` is with these constants.
#[inline(always)]
fn with<T: Real, R, const K: usize, const J: usize>(
    constants: Constants<T, K, J>,
    f: &impl Fn(Constants<T, K, J>, T, T) -> R,
) -> impl Fn(T, T) -> R {
    #[inline(always)]
    move |a, b| f(constants, a, b)
}

/// Calls `f(first, elements, sums)` for groups of so many rows, each of so many channels, with their elements of the blob and their
/// sums.
fn for_each_channels<T: Real>(
    view: ArrayViewMut3<T>,
    sums: &mut [[f64; 2]],
    group: [usize; 2],
    f: impl Fn(usize, ArrayViewMut3<T>, &mut [[f64; 2]]) + Sync,
) {
    fn go<T: Real>(
        first: usize,
        view: ArrayViewMut3<T>,
        sums: &mut [[f64; 2]],
        [group, channels]: [usize; 2],
        f: &(impl Fn(usize, ArrayViewMut3<T>, &mut [[f64; 2]]) + Sync),
    ) {
        let rows = sums.len() / channels;
        if rows <= group {
            return vectorised(
                #[inline(always)]
                || f(first, view, sums),
            );
        }
        let middle = rows / 2;
        let (left, right) = view.split_at(Axis(1), middle);
        let (sums, more) = sums.split_at_mut(middle * channels);
        parallel::join(
            || go(first, left, sums, [group, channels], f),
            || go(first + middle, right, more, [group, channels], f),
        );
    }
    go(0, view, sums, group, &f);
}

#[cfg(test)]
mod tests {
    use super::*;

    type One = Constants<f64, 1, 0>;

    #[test]
    fn blocks_agree_with_planes() {
        for (outer, dim, inner, lanes) in
            [(3, 32, 5, 16), (3, 32, 1, 4), (2, 16, 2100, 16), (2, 128, 37, 8), (2, 32, 9, 2)]
        {
            let shape = Channels { outer, dim, inner };
            let n = outer * dim * inner;
            let planes = |k: usize| (0..n).map(|i| (i * 31 % k) as f64).collect::<Vec<_>>();
            let turn = |x: &[f64], forth: bool| {
                let mut to = vec![0.0; n];
                for i in 0..n {
                    let (image, channel, pixel) = (i / inner / dim, i / inner % dim, i % inner);
                    let at = ((image * dim + channel) / lanes * inner + pixel) * lanes + channel % lanes;
                    let (from, at) = if forth { (i, at) } else { (at, i) };
                    to[at] = x[from];
                }
                to
            };
            let (a, b) = (planes(13), planes(7));
            let (a_laid, b_laid) = (turn(&a, true), turn(&b, true));
            let number = |c: usize| ([c as f64], []);
            let terms = |([c], _): One, a: f64, b: f64| [a * b, c * a];
            let numbers = |c: usize, sums: [f64; 2]| ([sums[0], c as f64], [sums[1]]);
            let map = |([s, c], [t]): Constants<f64, 2, 1>, x: f64, y: f64| x * s - y * t - c;
            for other in [false, true] {
                let (mut sums, mut want) = (Sums::default(), vec![0.0; n]);
                sums.resize(shape);
                let planes = Sources { lanes: 1, from: Some(&a[..]), other: other.then_some(&b[..]) };
                shape.sum_then_map(planes, &mut want, &mut sums, (number, terms), (numbers, map));
                let sums_want = sums.channels.clone();
                for apart in [false, true] {
                    let from = apart.then_some(&a_laid[..]);
                    let laid = Sources { lanes, from, other: other.then_some(&b_laid[..]) };
                    let mut to = a_laid.clone();
                    sums.compute(shape, laid, &to, (number, terms));
                    assert_eq!(sums.channels, sums_want);
                    shape.sum_then_map(laid, &mut to, &mut sums, (number, terms), (numbers, map));
                    assert_eq!(sums.channels, sums_want);
                    assert_eq!(turn(&to, false), want);
                    let mut to = a_laid.clone();
                    shape.map(laid, &mut to, |c| numbers(c, sums_want[c]), map);
                    assert_eq!(turn(&to, false), want);
                }
            }
        }
    }

    #[test]
    fn sums_and_maps_over_rows_and_columns() {
        for (outer, dim, inner) in
            [(3, 4, 5), (3, 4, 1), (2, 3, 40), (5, 700, 1), (3, 70, 21), (2, 40, 20_000), (2, 2, 40_000)]
        {
            let shape = Channels { outer, dim, inner };
            let n = outer * dim * inner;
            let a: Vec<f64> = (0..n).map(|i| (i % 13) as f64).collect();
            let b: Vec<f64> = (0..n).map(|i| (i % 7) as f64).collect();
            let channel = |i: usize| i / inner % dim;
            let mut sums = Sums::default();
            sums.resize(shape);
            let number = |c: usize| ([c as f64], []);
            let both = Sources { lanes: 1, from: Some(&a[..]), other: Some(&b[..]) };
            sums.compute(shape, both, &[], (number, |([c], _): One, a, b| [a * b, c * a]));
            for c in 0..dim {
                let mine = || (0..n).filter(|&i| channel(i) == c);
                let expected: [f64; 2] =
                    [mine().map(|i| a[i] * b[i]).sum(), mine().map(|i| c as f64 * a[i]).sum()];
                assert_eq!(sums.channels[c], expected);
            }
            let expected: Vec<f64> = (0..n).map(|i| a[i] * channel(i) as f64).collect();
            let plain = |from| Sources { lanes: 1, from, other: None };
            let (mut apart, mut in_place) = (vec![0.0; n], a.clone());
            let times = |([c], _): One, x: f64, _| x * c;
            shape.map(plain(Some(&a)), &mut apart, number, times);
            shape.map(plain(None), &mut in_place, number, times);
            assert!(apart == expected && in_place == expected);
            let expected: Vec<f64> = (0..n).map(|i| a[i] - b[i] * channel(i) as f64).collect();
            let (mut apart, mut in_place) = (vec![0.0; n], a.clone());
            let sources = |from| Sources { lanes: 1, from, other: Some(b.as_slice()) };
            shape.map(sources(Some(a.as_slice())), &mut apart, number, |([c], _): One, x, y| x - y * c);
            shape.map(sources(None), &mut in_place, number, |([c], _): One, x, y| x - y * c);
            assert!(apart == expected && in_place == expected);
            // Both at once: what one pass after the other gives.
            let number = |c: usize| ([c as f64], []);
            let terms = |([c], _): One, a: f64, b: f64| [a * b, c * a];
            let numbers = |c: usize, sums: [f64; 2]| ([sums[0], c as f64], [sums[1]]);
            let map = |([s, c], [t]): Constants<f64, 2, 1>, x: f64, y: f64| x * s - y * t - c;
            let expected: Vec<f64> =
                (0..n).map(|i| map(numbers(channel(i), sums.channels[channel(i)]), a[i], b[i])).collect();
            let mut again = Sums::default();
            again.resize(shape);
            let (mut apart, mut in_place) = (vec![0.0; n], a.clone());
            shape.sum_then_map(
                sources(Some(a.as_slice())),
                &mut apart,
                &mut again,
                (number, terms),
                (numbers, map),
            );
            assert!(apart == expected && again.channels == sums.channels);
            shape.sum_then_map(sources(None), &mut in_place, &mut again, (number, terms), (numbers, map));
            assert!(in_place == expected && again.channels == sums.channels);
        }
    }
}
