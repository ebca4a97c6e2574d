//! A blob as outer × channels × inner: sums over each channel, and maps with constants of its own for each.

use crate::math::{Real, parallel};

/// Extents before, at and behind the channels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Channels {
    pub outer: usize,
    pub dim: usize,
    pub inner: usize,
}

/// Elements that one task takes.
const GRAIN: usize = 16 * 1024;
/// Sums kept apart, so that they stay in vector registers.
const LANES: usize = 16;

/// Two sums for each channel.
#[derive(Default)]
pub(crate) struct Sums {
    /// Of each row of `inner` elements.
    rows: Vec<[f64; 2]>,
    /// Of each channel.
    pub channels: Vec<[f64; 2]>,
}

impl Sums {
    /// Takes room for a shape.
    pub fn resize(&mut self, shape: Channels) {
        self.rows.resize(if shape.inner == 1 { 0 } else { shape.outer * shape.dim }, [0.0; 2]);
        self.channels.resize(shape.dim, [0.0; 2]);
    }

    /// Sums f(channel)(a, b) over the elements a and b of two blobs, in an order that the shape alone fixes.
    pub fn compute<T: Real, F: Fn(T, T) -> [f64; 2]>(
        &mut self,
        shape: Channels,
        a: &[T],
        b: &[T],
        f: impl Fn(usize) -> F + Sync,
    ) {
        let Channels { dim, inner, .. } = shape;
        if inner == 1 {
            return self.columns(dim, a, b, f);
        }
        parallel::for_each_chunk(
            &mut self.rows,
            (GRAIN / inner.max(1)).max(1),
            #[inline(always)]
            |first, rows| {
                for (row, sums) in (first..).zip(rows) {
                    let at = row * inner..(row + 1) * inner;
                    *sums = row_sums(&a[at.clone()], &b[at], f(row % dim));
                }
            },
        );
        self.channels.fill([0.0; 2]);
        for rows in self.rows.chunks_exact(dim) {
            for (total, row) in self.channels.iter_mut().zip(rows) {
                *total = [total[0] + row[0], total[1] + row[1]];
            }
        }
    }

    /// For channels that are the last axis.
    fn columns<T: Real, F: Fn(T, T) -> [f64; 2]>(
        &mut self,
        dim: usize,
        a: &[T],
        b: &[T],
        f: impl Fn(usize) -> F + Sync,
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
                        let terms = f(c)(a, b);
                        *total = [total[0] + terms[0], total[1] + terms[1]];
                    }
                }
            },
        );
    }
}

#[inline(always)]
fn row_sums<T: Real>(a: &[T], b: &[T], f: impl Fn(T, T) -> [f64; 2]) -> [f64; 2] {
    let mut sums = [[0.0; LANES]; 2];
    let (many_a, many_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = many_a.remainder().iter().zip(many_b.remainder());
    let rest = rest.fold([0.0; 2], |[s, t], (&a, &b)| {
        let [u, v] = f(a, b);
        [s + u, t + v]
    });
    for (a, b) in many_a.zip(many_b) {
        for i in 0..LANES {
            let [u, v] = f(a[i], b[i]);
            sums[0][i] += u;
            sums[1][i] += v;
        }
    }
    [sums[0].iter().sum::<f64>() + rest[0], sums[1].iter().sum::<f64>() + rest[1]]
}

impl Channels {
    /// `to` = f(channel)(from), where no `from` means what `to` holds.
    pub fn map<T: Real, F: Fn(T) -> T>(
        &self,
        from: Option<&[T]>,
        to: &mut [T],
        f: impl Fn(usize) -> F + Sync,
    ) {
        self.each(
            to,
            #[inline(always)]
            |at, c, to| {
                let f = f(c);
                match from {
                    None => to.iter_mut().for_each(|to| *to = f(*to)),
                    Some(from) => to.iter_mut().zip(&from[at..]).for_each(|(to, &from)| *to = f(from)),
                }
            },
            #[inline(always)]
            |at, to| match from {
                None => to.iter_mut().enumerate().for_each(|(c, to)| *to = f(c)(*to)),
                Some(from) => {
                    for ((c, to), &from) in to.iter_mut().enumerate().zip(&from[at..]) {
                        *to = f(c)(from);
                    }
                }
            },
        );
    }

    /// `to` = f(channel)(from, other), where no `from` means what `to` holds.
    pub fn map2<T: Real, F: Fn(T, T) -> T>(
        &self,
        from: Option<&[T]>,
        other: &[T],
        to: &mut [T],
        f: impl Fn(usize) -> F + Sync,
    ) {
        self.each(
            to,
            #[inline(always)]
            |at, c, to| {
                let (f, other) = (f(c), &other[at..]);
                match from {
                    None => to.iter_mut().zip(other).for_each(|(to, &x)| *to = f(*to, x)),
                    Some(from) => {
                        let inputs = from[at..].iter().zip(other);
                        to.iter_mut().zip(inputs).for_each(|(to, (&from, &x))| *to = f(from, x));
                    }
                }
            },
            #[inline(always)]
            |at, to| {
                for (c, (to, &x)) in to.iter_mut().zip(&other[at..]).enumerate() {
                    *to = f(c)(from.map_or(*to, |from| from[at + c]), x);
                }
            },
        );
    }

    /// Calls `row(offset, channel, elements)` for each row of `inner` elements; where that is 1,
    /// `columns(offset, elements)` for each row of channels.
    #[inline(always)]
    fn each<T: Real>(
        &self,
        to: &mut [T],
        row: impl Fn(usize, usize, &mut [T]) + Sync,
        columns: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let size = if self.inner == 1 { self.dim } else { self.inner };
        parallel::for_each_chunk(
            to,
            size * (GRAIN / size.max(1)).max(1),
            #[inline(always)]
            |begin, to| {
                for (i, to) in to.chunks_exact_mut(size).enumerate() {
                    let at = begin + i * size;
                    if self.inner == 1 { columns(at, to) } else { row(at, at / size % self.dim, to) }
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_maps_over_rows_and_columns() {
        for (outer, dim, inner) in [(3, 4, 5), (3, 4, 1), (2, 3, 40), (5, 700, 1)] {
            let shape = Channels { outer, dim, inner };
            let n = outer * dim * inner;
            let a: Vec<f64> = (0..n).map(|i| (i % 13) as f64).collect();
            let b: Vec<f64> = (0..n).map(|i| (i % 7) as f64).collect();
            let channel = |i: usize| i / inner % dim;
            let mut sums = Sums::default();
            sums.resize(shape);
            sums.compute(shape, &a, &b, |c| move |a, b| [a * b, c as f64 * a]);
            for c in 0..dim {
                let mine = || (0..n).filter(|&i| channel(i) == c);
                let expected: [f64; 2] =
                    [mine().map(|i| a[i] * b[i]).sum(), mine().map(|i| c as f64 * a[i]).sum()];
                assert_eq!(sums.channels[c], expected);
            }
            let expected: Vec<f64> = (0..n).map(|i| a[i] * channel(i) as f64).collect();
            let (mut apart, mut in_place) = (vec![0.0; n], a.clone());
            shape.map(Some(&a), &mut apart, |c| move |x| x * c as f64);
            shape.map(None, &mut in_place, |c| move |x| x * c as f64);
            assert!(apart == expected && in_place == expected);
            let expected: Vec<f64> = (0..n).map(|i| a[i] - b[i] * channel(i) as f64).collect();
            let (mut apart, mut in_place) = (vec![0.0; n], a.clone());
            shape.map2(Some(&a), &b, &mut apart, |c| move |x, y| x - y * c as f64);
            shape.map2(None, &b, &mut in_place, |c| move |x, y| x - y * c as f64);
            assert!(apart == expected && in_place == expected);
        }
    }
}
