//! Kernels of depthwise convolutions: lines shifted against each other, and lines laid out anew.

use super::kernels::Kernels;
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

impl<T: Real> Kernels<T> {
    /// Adds up shifted lines.
    pub(crate) fn blend(&self, blend: &Blend<T>, out: &mut [T]) {
        let reach = blend.offsets.iter().max().map_or(0, |most| most + out.len());
        assert!(reach <= blend.x.len() && blend.weights.len() >= blend.offsets.len());
        // SAFETY: the line above checked every access; a table is only handed out where the processor has its features.
        unsafe { (self.blend)(blend, out) }
    }

    /// Multiplies a line with shifted ones.
    pub(crate) fn dots(&self, dots: &Dots<T>, sums: &mut [T]) {
        let reach = dots.offsets.iter().max().map_or(0, |most| most + dots.a.len());
        assert!(reach <= dots.x.len() && sums.len() >= dots.offsets.len() * self.lanes);
        // SAFETY: the line above checked every access; a table is only handed out where the processor has its features.
        unsafe { (self.dots)(dots, sums) }
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
        unsafe { (self.lines)(lines, to) }
    }
}

/// Body of the blending kernels.
///
/// # Safety
/// As [`Kernels::blend`], with checked bounds, and only inside a function compiled for the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn blend_taps<T: Real, S: Lanes<T>>(blend: &Blend<T>, out: &mut [T]) {
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

/// Body of the multiplying kernels.
///
/// # Safety
/// As [`Kernels::dots`], with checked bounds, and only inside a function compiled for the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn dot_taps<T: Real, S: Lanes<T>>(dots: &Dots<T>, sums: &mut [T]) {
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

/// `N` taps from the `first` on; returns `N`.
///
/// # Safety
/// As [`dot_taps`].
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

/// Body of the kernels that lay out lines.
///
/// # Safety
/// As [`Kernels::lines`], with checked bounds, and only inside a function compiled for the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn lay_lines<T: Real, S: Lanes<T>>(lines: &Lines<T>, to: &mut [T]) {
    for x in (0..lines.width).step_by(S::COUNT) {
        let n = (lines.width - x).min(S::COUNT);
        // Which lanes are numbers of the line; the others are zeros.
        let mut mask = 0u32;
        for lane in 0..n {
            mask |= u32::from((lines.before..lines.before + lines.len).contains(&(x + lane))) << lane;
        }
        let mut from = lines.from.as_ptr().wrapping_add(x).wrapping_sub(lines.before);
        let mut to = to.as_mut_ptr().wrapping_add(x);
        let whole = mask.count_ones() as usize == S::COUNT;
        for _ in 0..lines.count {
            // SAFETY: promised by the caller; lanes that are not in the mask are not touched.
            unsafe {
                let mut v = if whole { S::load(from) } else { S::load_masked(from, mask) };
                if let Some([scale, bias, floor]) = lines.end {
                    v = S::max(S::splat(floor), S::mul_add(S::splat(scale), v, S::splat(bias)));
                }
                if n == S::COUNT { S::store(to, v) } else { S::store_first(to, v, n) }
            }
            from = from.wrapping_add(lines.from_step);
            to = to.wrapping_add(lines.to_step);
        }
    }
}
