//! Kernels of depthwise convolutions: lines shifted against each other, and lines laid out anew.

use super::kernels::{Kernel, Kernels};
use super::lanes::Lanes;
use crate::math::Real;

/// `out[q] = Σ weights[t] · x[offsets[t] + q]` over all taps t.
pub(crate) struct Blend<'a, T> {
    pub x: &'a [T],
    pub offsets: &'a [usize],
    pub weights: &'a [T],
}

/// `sums[t·COUNT + q % COUNT] += a[q] · x[offsets[t] + q]` over all q, COUNT being the numbers in a vector.
pub(crate) struct Dots<'a, T> {
    pub a: &'a [T],
    pub x: &'a [T],
    pub offsets: &'a [usize],
}

/// Lays out lines of `len` numbers anew: `before` zeros, the numbers, and zeros up to `width`; each of them times `scale`
/// plus `bias`, but at least `floor`, where an `end` is given.
#[derive(Clone, Copy)]
pub(crate) struct Lines<'a, T> {
    pub from: &'a [T],
    /// Distance of lines there.
    pub from_step: usize,
    pub len: usize,
    pub before: usize,
    pub width: usize,
    /// Distance of lines in the result.
    pub to_step: usize,
    pub count: usize,
    /// Scale, bias and floor.
    pub end: Option<[T; 3]>,
}

/// Deals the numbers of one line in turn to two others.
struct Deal<'a, T> {
    from: &'a [T],
    even: &'a mut [T],
    odd: &'a mut [T],
}

/// The way back.
struct Join<'a, T> {
    even: &'a [T],
    odd: &'a [T],
    to: &'a mut [T],
}

impl<T: Real> Kernels<T> {
    /// Adds up shifted lines.
    pub(crate) fn blend(&self, blend: &Blend<T>, out: &mut [T]) {
        let reach = blend.offsets.iter().max().map_or(0, |most| most + out.len());
        assert!(reach <= blend.x.len() && blend.weights.len() >= blend.offsets.len());
        // SAFETY: the line above checked every access; a table is only handed out where the processor has its features.
        unsafe { self.run((blend, out)) }
    }

    /// Multiplies a line with shifted ones.
    pub(crate) fn dots(&self, dots: &Dots<T>, sums: &mut [T]) {
        let reach = dots.offsets.iter().max().map_or(0, |most| most + dots.a.len());
        assert!(reach <= dots.x.len() && sums.len() >= dots.offsets.len() * self.lanes);
        // SAFETY: the line above checked every access; a table is only handed out where the processor has its features.
        unsafe { self.run((dots, sums)) }
    }

    /// Deals the first, third, ... number of `from` to `even`, the second, fourth, ... to `odd`, as far as there is room.
    pub(crate) fn deal(&self, from: &[T], even: &mut [T], odd: &mut [T]) {
        // SAFETY: the kernel stays inside of the slices; a table is only handed out where the processor has its features.
        unsafe { self.run(Deal { from, even, odd }) }
    }

    /// The way back: `to` takes a number of `even` and one of `odd` in turn.
    pub(crate) fn join(&self, even: &[T], odd: &[T], to: &mut [T]) {
        assert!(even.len() >= to.len().div_ceil(2) && odd.len() >= to.len() / 2);
        // SAFETY: the line above checked every access; a table is only handed out where the processor has its features.
        unsafe { self.run(Join { even, odd, to }) }
    }

    /// Lays out lines.
    pub(crate) fn lines(&self, lines: &Lines<T>, to: &mut [T]) {
        if lines.count == 0 {
            return;
        }
        let last = lines.count - 1;
        assert!(last * lines.from_step + lines.len <= lines.from.len());
        assert!(last * lines.to_step + lines.width <= to.len());
        // SAFETY: the lines above checked every access; a table is only handed out where the processor has its features.
        unsafe { self.run((lines, to)) }
    }
}

/// Numbers ahead of those that are dealt that are brought near: about a thousand cycles of memory.
const AHEAD: usize = 2048;

impl<T: Real> Kernel<T> for Deal<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) {
        let Deal { from, even, odd } = self;
        let evens = from.len().div_ceil(2).min(even.len());
        let odds = (from.len() / 2).min(odd.len());
        let mut at = 0;
        while at < evens.max(odds) {
            let (n, left) = (S::COUNT, from.len() - 2 * at);
            let (here, there) = (left.min(n), left.saturating_sub(n).min(n));
            // SAFETY: `here` and `there` numbers are in `from`, those written in `even` and `odd`.
            unsafe {
                let p = from.as_ptr().add(2 * at);
                // Lines of a plane follow one another, and between them there is much to compute.
                S::prefetch_far(p.wrapping_add(AHEAD));
                S::prefetch_far(p.wrapping_add(AHEAD + n));
                let a = if here == n { S::load(p) } else { S::load_first(p, here) };
                let b = if there == n { S::load(p.add(n)) } else { S::load_first(p.add(here), there) };
                let (a, b) = S::deal(a, b);
                for (line, len, v) in [(&mut *even, evens, a), (&mut *odd, odds, b)] {
                    match len.saturating_sub(at) {
                        0 => {}
                        len if len >= n => S::store(line.as_mut_ptr().add(at), v),
                        len => S::store_first(line.as_mut_ptr().add(at), v, len),
                    }
                }
            }
            at += n;
        }
    }
}

impl<T: Real> Kernel<T> for Join<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) {
        let Join { even, odd, to } = self;
        let mut at = 0;
        while 2 * at < to.len() {
            let (n, left) = (S::COUNT, to.len() - 2 * at);
            let (here, there) = (left.min(n), left.saturating_sub(n).min(n));
            let (evens, odds) = (left.div_ceil(2).min(n), (left / 2).min(n));
            // SAFETY: these many numbers are in the slices.
            unsafe {
                let (a, b) = (even.as_ptr().add(at), odd.as_ptr().wrapping_add(at));
                let a = if evens == n { S::load(a) } else { S::load_first(a, evens) };
                let b = if odds == n { S::load(b) } else { S::load_first(b, odds) };
                let (a, b) = S::join(a, b);
                let p = to.as_mut_ptr().add(2 * at);
                if here == n {
                    S::store(p, a)
                } else {
                    S::store_first(p, a, here)
                }
                if there == n { S::store(p.add(n), b) } else { S::store_first(p.add(here), b, there) }
            }
            at += n;
        }
    }
}

impl<T: Real> Kernel<T> for (&Blend<'_, T>, &mut [T]) {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) {
        let (blend, out) = self;
        let mut at = 0;
        // SAFETY: promised by the caller.
        unsafe {
            while at + 4 * S::COUNT <= out.len() {
                let mut sums = [S::splat(T::zero()); 4];
                for (&offset, &weight) in blend.offsets.iter().zip(blend.weights) {
                    let (x, weight) = (blend.x.as_ptr().add(offset + at), S::splat(weight));
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = S::mul_add(weight, S::load(x.add(i * S::COUNT)), *sum);
                    }
                }
                for (i, &sum) in sums.iter().enumerate() {
                    S::store(out.as_mut_ptr().add(at + i * S::COUNT), sum);
                }
                at += 4 * S::COUNT;
            }
            while at < out.len() {
                let n = (out.len() - at).min(S::COUNT);
                let mut sum = S::splat(T::zero());
                for (&offset, &weight) in blend.offsets.iter().zip(blend.weights) {
                    let x = S::load_first(blend.x.as_ptr().add(offset + at), n);
                    sum = S::mul_add(S::splat(weight), x, sum);
                }
                S::store_first(out.as_mut_ptr().add(at), sum, n);
                at += n;
            }
        }
    }
}

impl<T: Real> Kernel<T> for (&Dots<'_, T>, &mut [T]) {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) {
        let (dots, sums) = self;
        let mut first = 0;
        while first < dots.offsets.len() {
            // SAFETY: promised by the caller.
            first += unsafe {
                match dots.offsets.len() - first {
                    9.. => dot_some::<T, S, 9>(dots, first, sums),
                    5..9 => dot_some::<T, S, 5>(dots, first, sums),
                    3..5 => dot_some::<T, S, 3>(dots, first, sums),
                    2 => dot_some::<T, S, 2>(dots, first, sums),
                    _ => dot_some::<T, S, 1>(dots, first, sums),
                }
            };
        }
    }
}

/// `N` taps from the `first` on; returns `N`.
///
/// # Safety
/// As its [`run`](Kernel::run).
#[inline(always)]
unsafe fn dot_some<T: Real, S: Lanes<T>, const N: usize>(
    dots: &Dots<T>,
    first: usize,
    out: &mut [T],
) -> usize {
    // SAFETY: promised by the caller.
    unsafe {
        let out = out.as_mut_ptr().add(first * S::COUNT);
        let mut sums = [S::splat(T::zero()); N];
        let mut x = [dots.x.as_ptr(); N];
        for i in 0..N {
            sums[i] = S::load(out.add(i * S::COUNT));
            x[i] = x[i].add(dots.offsets[first + i]);
        }
        let whole = dots.a.len() / S::COUNT * S::COUNT;
        let mut at = 0;
        while at < whole {
            let a = S::load(dots.a.as_ptr().add(at));
            for i in 0..N {
                sums[i] = S::mul_add(a, S::load(x[i].add(at)), sums[i]);
            }
            at += S::COUNT;
        }
        let rest = dots.a.len() - whole;
        if rest > 0 {
            let a = S::load_first(dots.a.as_ptr().add(at), rest);
            for i in 0..N {
                sums[i] = S::mul_add(a, S::load_first(x[i].add(at), rest), sums[i]);
            }
        }
        for (i, &sum) in sums.iter().enumerate() {
            S::store(out.add(i * S::COUNT), sum);
        }
    }
    N
}

impl<T: Real> Kernel<T> for (&Lines<'_, T>, &mut [T]) {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) {
        let (lines, to) = self;
        for x in (0..lines.width).step_by(S::COUNT) {
            let n = (lines.width - x).min(S::COUNT);
            // Which lanes are numbers of the line; the others are zeros.
            let below = |end: usize| (1u32 << end.saturating_sub(x).min(n)) - 1;
            let mask = below(lines.before + lines.len) & !below(lines.before);
            let mut from = lines.from.as_ptr().wrapping_add(x).wrapping_sub(lines.before);
            let mut to = to.as_mut_ptr().wrapping_add(x);
            let whole = mask.count_ones() as usize == S::COUNT;
            let step = (lines.from_step, lines.to_step);
            // SAFETY: promised by the caller; lanes that are not in the mask are not touched.
            unsafe {
                let Some(end) = lines.end else {
                    for _ in 0..lines.count {
                        let v = if whole { S::load(from) } else { S::load_masked(from, mask) };
                        if n == S::COUNT {
                            S::store(to, v)
                        } else {
                            S::store_first(to, v, n)
                        }
                        (from, to) = (from.wrapping_add(step.0), to.wrapping_add(step.1));
                    }
                    continue;
                };
                let [scale, bias, floor] = end.map(|x| S::splat(x));
                for _ in 0..lines.count {
                    let v = if whole { S::load(from) } else { S::load_masked(from, mask) };
                    let v = S::max(floor, S::mul_add(scale, v, bias));
                    if n == S::COUNT {
                        S::store(to, v)
                    } else {
                        S::store_first(to, v, n)
                    }
                    (from, to) = (from.wrapping_add(step.0), to.wrapping_add(step.1));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::math::gemm::tests::isas;
    use crate::math::{Real, simd};

    fn check<T: Real>() {
        for kernels in isas().map(simd::kernels::<T>) {
            for n in [0usize, 1, 2, 7, 15, 16, 17, 31, 32, 33, 64, 95, 130] {
                let from: Vec<T> = (0..n).map(|i| T::from_f64(i as f64)).collect();
                let none = T::from_f64(-1.0);
                let (mut even, mut odd) = (vec![none; n.div_ceil(2) + 1], vec![none; n / 2 + 1]);
                kernels.deal(&from, &mut even, &mut odd);
                assert!((0..n).all(|i| [&even, &odd][i % 2][i / 2] == from[i]));
                assert!(even[n.div_ceil(2)] == none && odd[n / 2] == none);
                let mut to = vec![none; n];
                kernels.join(&even, &odd, &mut to);
                assert!(to == from);
                let room = n / 4;
                even.fill(none);
                kernels.deal(&from, &mut even[..room], &mut odd);
                assert!(even[room..].iter().all(|&x| x == none) && (0..room).all(|i| even[i] == from[2 * i]));
            }
        }
    }

    #[test]
    fn dealt_and_joined_lines_are_as_before() {
        check::<f32>();
        check::<f64>();
    }
}
