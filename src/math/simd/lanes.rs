//! What a vector unit must be able to do for the kernels.

use crate::math::Real;
use std::hint::select_unpredictable;

/// Vectors of `T` on one instruction set.
///
/// Every method is `unsafe`: it may only run inside a function compiled for that instruction set, and the
/// pointers must be good for the lanes read or written. No alignment is asked for.
pub trait Lanes<T: Real> {
    /// A vector register.
    type V: Copy;
    /// Numbers in it.
    const COUNT: usize;

    /// All lanes `x`.
    unsafe fn splat(x: T) -> Self::V;
    /// Number `i` of the `n` numbers at `p`, in all lanes.
    #[inline(always)]
    unsafe fn splat_of(p: *const T, i: usize, _n: usize) -> Self::V {
        // SAFETY: promised by the caller.
        unsafe { Self::splat(*p.add(i)) }
    }
    /// All lanes from memory.
    unsafe fn load(p: *const T) -> Self::V;
    /// All lanes to memory.
    unsafe fn store(p: *mut T, v: Self::V);
    /// All lanes to memory at an address that whole vectors divide, past the caches where the processor can.
    #[inline(always)]
    unsafe fn stream(p: *mut T, v: Self::V) {
        // SAFETY: promised by the caller.
        unsafe { Self::store(p, v) }
    }
    /// Puts streamed numbers in order before what is written next.
    #[inline(always)]
    unsafe fn fence() {}
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the instruction set can.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The greater of each pair; `b` where either is not a number.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;

    /// `x` and `at` in the lanes where `x` is larger than `best` or not a number, `best` and `place` in the others.
    #[inline(always)]
    unsafe fn larger(x: Self::V, at: Self::V, best: Self::V, place: Self::V) -> (Self::V, Self::V) {
        let mut lanes = [[T::zero(); 16]; 4];
        // SAFETY: each buffer holds COUNT <= 16 numbers.
        unsafe {
            for (lanes, v) in lanes.iter_mut().zip([x, at, best, place]) {
                Self::store(lanes.as_mut_ptr(), v);
            }
            let [x, at, mut best, mut place] = lanes;
            for i in 0..Self::COUNT {
                let wins = (x[i] > best[i]) | x[i].is_nan();
                best[i] = select_unpredictable(wins, x[i], best[i]);
                place[i] = select_unpredictable(wins, at[i], place[i]);
            }
            (Self::load(best.as_ptr()), Self::load(place.as_ptr()))
        }
    }

    /// All lanes, whole numbers from 0 to 255, to memory as a byte each.
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, v: Self::V) {
        let mut lanes = [T::zero(); 16];
        // SAFETY: the buffer holds COUNT <= 16 numbers; as many bytes are good at `p`.
        unsafe {
            Self::store(lanes.as_mut_ptr(), v);
            for (i, lane) in lanes.iter().enumerate().take(Self::COUNT) {
                *p.add(i) = lane.as_f64() as u8;
            }
        }
    }

    /// `sum + x` in the lanes whose byte at `p` is `byte`, `sum` in the others, where −0 may become 0.
    #[inline(always)]
    unsafe fn add_where(sum: Self::V, x: Self::V, p: *const u8, byte: u8) -> Self::V {
        let mut lanes = [T::zero(); 16];
        // SAFETY: the buffer holds COUNT <= 16 numbers; as many bytes are good at `p`.
        unsafe {
            Self::store(lanes.as_mut_ptr(), x);
            for (i, lane) in lanes.iter_mut().enumerate().take(Self::COUNT) {
                *lane = select_unpredictable(*p.add(i) == byte, *lane, T::zero());
            }
            Self::add(sum, Self::load(lanes.as_ptr()))
        }
    }

    /// Brings the line at `p` near. Any address will do.
    #[inline(always)]
    unsafe fn prefetch(_: *const T) {}

    /// Brings the line at `p` into the second-level cache. Any address will do.
    #[inline(always)]
    unsafe fn prefetch_far(_: *const T) {}

    /// The first `n <= COUNT` lanes from memory, the others zero.
    #[inline(always)]
    unsafe fn load_first(p: *const T, n: usize) -> Self::V {
        let mut lanes = [T::zero(); 16];
        // SAFETY: `n <= COUNT <= 16` numbers are good at `p`; the buffer holds COUNT.
        unsafe {
            for (i, lane) in lanes.iter_mut().enumerate().take(n) {
                *lane = *p.add(i);
            }
            Self::load(lanes.as_ptr())
        }
    }

    /// The first `n <= COUNT` lanes to memory.
    #[inline(always)]
    unsafe fn store_first(p: *mut T, v: Self::V, n: usize) {
        let mut lanes = [T::zero(); 16];
        // SAFETY: the buffer holds COUNT <= 16 numbers; `n <= COUNT` are good at `p`.
        unsafe {
            Self::store(lanes.as_mut_ptr(), v);
            for (i, &lane) in lanes.iter().enumerate().take(n) {
                *p.add(i) = lane;
            }
        }
    }

    /// The lanes whose bits are set from memory, the others zero and not touched.
    #[inline(always)]
    unsafe fn load_masked(p: *const T, bits: u32) -> Self::V {
        let mut lanes = [T::zero(); 16];
        // SAFETY: the numbers of the set bits are good at `p`; the buffer holds COUNT <= 16.
        unsafe {
            for (i, lane) in lanes.iter_mut().enumerate().take(Self::COUNT) {
                if bits >> i & 1 == 1 {
                    *lane = *p.wrapping_add(i);
                }
            }
            Self::load(lanes.as_ptr())
        }
    }

    /// The first half of the lanes from `p`, the other one from `q`.
    #[inline(always)]
    unsafe fn load_halves(p: *const T, q: *const T) -> Self::V {
        let mut lanes = [T::zero(); 16];
        // SAFETY: half of the lanes are good at `p` and at `q`; the buffer holds COUNT <= 16.
        unsafe {
            let half = Self::COUNT / 2;
            std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), half);
            std::ptr::copy_nonoverlapping(q, lanes.as_mut_ptr().add(half), half);
            Self::load(lanes.as_ptr())
        }
    }

    /// The first half of the lanes to `p`, the other one to `q`.
    #[inline(always)]
    unsafe fn store_halves(p: *mut T, q: *mut T, v: Self::V) {
        let mut lanes = [T::zero(); 16];
        // SAFETY: half of the lanes are good at `p` and at `q`; the buffer holds COUNT <= 16.
        unsafe {
            let half = Self::COUNT / 2;
            Self::store(lanes.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, half);
            std::ptr::copy_nonoverlapping(lanes.as_ptr().add(half), q, half);
        }
    }

    /// Columns that [`Lanes::turn`] transposes.
    const TURN: usize = 1;

    /// The first TURN numbers of COUNT rows, transposed: vector i holds number i of each row. Gives them to `out`.
    #[inline(always)]
    unsafe fn turn(rows: &[*const T; 16], at: usize, mut out: impl FnMut(usize, Self::V)) {
        let mut lanes = [T::zero(); 16];
        // SAFETY: number `at` is good in each of the COUNT <= 16 rows.
        unsafe {
            for (lane, row) in lanes.iter_mut().zip(rows).take(Self::COUNT) {
                *lane = *row.add(at);
            }
            out(0, Self::load(lanes.as_ptr()));
        }
    }

    /// Rows and columns of a square that [`Lanes::turn_square`] transposes; 0 where it does not.
    const SQUARE: usize = 0;

    /// As [`Lanes::turn`] for SQUARE numbers of each row, read as whole vectors: rows a page apart share few places of the
    /// first-level cache, which loses what is read of them bit by bit.
    #[inline(always)]
    unsafe fn turn_square(_: &[*const T; 16], _: usize, _: impl FnMut(usize, Self::V)) {}

    /// The even lanes of `a` and `b`, and the odd ones.
    #[inline(always)]
    unsafe fn deal(a: Self::V, b: Self::V) -> (Self::V, Self::V) {
        let (mut from, mut to) = ([T::zero(); 32], [T::zero(); 32]);
        // SAFETY: each buffer holds 2·COUNT <= 32 numbers.
        unsafe {
            Self::store(from.as_mut_ptr(), a);
            Self::store(from.as_mut_ptr().add(Self::COUNT), b);
            for i in 0..Self::COUNT {
                (to[i], to[Self::COUNT + i]) = (from[2 * i], from[2 * i + 1]);
            }
            (Self::load(to.as_ptr()), Self::load(to.as_ptr().add(Self::COUNT)))
        }
    }

    /// The way back: a lane of `even` and one of `odd` in turn.
    #[inline(always)]
    unsafe fn join(even: Self::V, odd: Self::V) -> (Self::V, Self::V) {
        let (mut from, mut to) = ([T::zero(); 32], [T::zero(); 32]);
        // SAFETY: each buffer holds 2·COUNT <= 32 numbers.
        unsafe {
            Self::store(from.as_mut_ptr(), even);
            Self::store(from.as_mut_ptr().add(Self::COUNT), odd);
            for i in 0..Self::COUNT {
                (to[2 * i], to[2 * i + 1]) = (from[i], from[Self::COUNT + i]);
            }
            (Self::load(to.as_ptr()), Self::load(to.as_ptr().add(Self::COUNT)))
        }
    }

    /// Four vectors transposed: the numbers of lane i go to the four from `to[i] + offset` on.
    #[inline(always)]
    unsafe fn unturn(v: &[Self::V; 4], to: &[*mut T; 16], offset: usize) {
        let mut lanes = [T::zero(); 16];
        for (j, &v) in v.iter().enumerate() {
            // SAFETY: the buffer holds COUNT <= 16 numbers; four are good for each lane, as the caller promises.
            unsafe {
                Self::store(lanes.as_mut_ptr(), v);
                for (&to, &lane) in to.iter().zip(&lanes).take(Self::COUNT) {
                    *to.add(offset + j) = lane;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "aarch64")]
    use crate::math::simd::neon::Neon;
    use crate::math::simd::{Isa, plain::Plain};
    #[cfg(target_arch = "x86_64")]
    use crate::math::simd::{avx2::Avx2, avx512::Avx512};

    /// Numbers from `first` on.
    fn numbers<T: Real>(first: usize, n: usize) -> Vec<T> {
        (first..first + n).map(|i| T::from_f64(i as f64)).collect()
    }

    /// Every method against what its comment says. What must not be written holds −1.
    #[inline(always)]
    unsafe fn check<T: Real, S: Lanes<T>>() {
        let count = S::COUNT;
        let (zero, none) = (T::zero(), T::from_f64(-1.0));
        let x: Vec<T> = numbers(1, 40);
        let y: Vec<T> = numbers(100, 40);
        let list = |v: S::V| {
            let mut all = vec![none; count];
            // SAFETY: `all` has COUNT numbers.
            unsafe { S::store(all.as_mut_ptr(), v) };
            all
        };
        let written = |store: &dyn Fn(*mut T)| {
            let mut room = vec![none; 40];
            store(room.as_mut_ptr());
            room
        };
        // SAFETY: `x`, `y` and `room` hold more than two vectors, and 16 rows of 20 numbers where there are rows.
        unsafe {
            let (a, b) = (S::load(x.as_ptr()), S::load(y.as_ptr()));
            assert_eq!(list(a), x[..count]);
            let sums: Vec<T> = (0..count).map(|i| x[i] + y[i]).collect();
            assert_eq!(list(S::add(a, b)), sums);
            let products: Vec<T> = (0..count).map(|i| x[i] * y[i] + y[i + 20]).collect();
            assert_eq!(list(S::mul_add(a, b, S::load(y[20..].as_ptr()))), products);
            assert_eq!(list(S::max(b, a)), y[..count]);
            assert_eq!(list(S::max(a, b)), y[..count]);
            assert_eq!(list(S::max(S::splat(T::nan()), b)), y[..count]);
            assert!(list(S::max(b, S::splat(T::nan()))).iter().all(|x| x.is_nan()));
            // Larger, equal, smaller, not a number on either side.
            let nan = T::nan();
            let pairs = [
                (a, b),
                (a, a),
                (b, a),
                (S::splat(nan), b),
                (a, S::splat(nan)),
                (S::splat(nan), S::splat(nan)),
            ];
            for ((x, best), wins) in pairs.into_iter().zip([false, false, true, true, false, true]) {
                let (value, place) = S::larger(x, S::splat(zero), best, S::splat(none));
                let same = |(x, y): (&T, &T)| x == y || x.is_nan() && y.is_nan();
                assert!(list(value).iter().zip(&list(if wins { x } else { best })).all(same));
                assert_eq!(list(place), vec![if wins { zero } else { none }; count]);
            }
            let mixed: Vec<T> = (0..40).map(|i| if i % 3 == 0 { y[i] } else { zero }).collect();
            let (value, place) = S::larger(S::load(mixed.as_ptr()), b, a, S::splat(none));
            for i in 0..count {
                let wins = i % 3 == 0;
                assert_eq!(list(value)[i], if wins { y[i] } else { x[i] });
                assert_eq!(list(place)[i], if wins { y[i] } else { none });
            }
            let mut bytes = [7u8; 20];
            let whole: Vec<T> = (0..40).map(|i| T::from_f64([0.0, 255.0, 63.0, 128.0, 1.0][i % 5])).collect();
            S::store_bytes(bytes[1..].as_mut_ptr(), S::load(whole.as_ptr()));
            assert!((0..20).all(|i| {
                let written = (1..=count).contains(&i);
                bytes[i] == if written { whole[i - 1].as_f64() as u8 } else { 7 }
            }));
            for byte in [0, 255, 63, 128, 1, 2] {
                let here = |i: usize| bytes[i + 1] == byte;
                let sums: Vec<T> = (0..count).map(|i| if here(i) { x[i] + y[i] } else { x[i] }).collect();
                assert_eq!(list(S::add_where(a, b, bytes[1..].as_ptr(), byte)), sums);
            }
            for n in 1..=14 {
                for i in 0..n {
                    assert_eq!(list(S::splat_of(x.as_ptr(), i, n)), vec![x[i]; count]);
                }
            }
            for n in 0..=count {
                let first: Vec<T> = (0..count).map(|i| if i < n { x[i] } else { zero }).collect();
                assert_eq!(list(S::load_first(x.as_ptr(), n)), first);
                let room = written(&|p| S::store_first(p, b, n));
                assert!((0..40).all(|i| room[i] == if i < n { y[i] } else { none }));
            }
            for bits in (0..1u32 << count).step_by(if count > 8 { 97 } else { 1 }).chain([(1 << count) - 1]) {
                let set = |i: usize| i < count && bits >> i & 1 == 1;
                let chosen: Vec<T> = (0..count).map(|i| if set(i) { x[i] } else { zero }).collect();
                assert_eq!(list(S::load_masked(x.as_ptr(), bits)), chosen);
            }
            let half = count / 2;
            assert_eq!(list(S::load_halves(x.as_ptr(), y.as_ptr())), [&x[..half], &y[..half]].concat());
            let room = written(&|p| S::store_halves(p.add(20), p, a));
            assert_eq!([&room[20..20 + half], &room[..half]].concat(), x[..count]);
            assert_eq!(room.iter().filter(|&&x| x == none).count(), 40 - count);
            let (even, odd) = S::deal(a, S::load(x[count..].as_ptr()));
            assert!((0..count).all(|i| list(even)[i] == x[2 * i] && list(odd)[i] == x[2 * i + 1]));
            let (low, high) = S::join(even, odd);
            assert_eq!([list(low), list(high)].concat(), x[..2 * count]);
            let data: Vec<Vec<T>> = (0..16).map(|row| numbers(100 * row, 20)).collect();
            let rows: [*const T; 16] = std::array::from_fn(|i| data[i].as_ptr());
            let column = |i: usize| data[..count].iter().map(|row| row[i]).collect::<Vec<T>>();
            let mut seen = Vec::new();
            S::turn(&rows, 3, |i, v| seen.push((i, list(v))));
            S::turn_square(&rows, 3, |i, v| seen.push((i, list(v))));
            assert_eq!(seen.len(), S::TURN + S::SQUARE);
            assert!(seen.iter().all(|(i, v)| *v == column(3 + i)));
            let mut to = vec![none; 16 * 9 + 2];
            let places = std::array::from_fn(|i| to.as_mut_ptr().add(9 * i));
            S::unturn(&std::array::from_fn(|j| S::load(data[j].as_ptr())), &places, 2);
            to.drain(..2);
            assert!((0..16 * 9).all(|p| {
                let (i, j) = (p / 9, p % 9);
                to[p] == if i < count && j < 4 { data[j][i] } else { none }
            }));
        }
    }

    #[test]
    fn every_method_does_what_its_comment_says() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            isa.run(
                #[inline(always)]
                // SAFETY: the closure is compiled for an instruction set that this processor has.
                || unsafe {
                    match isa {
                        #[cfg(target_arch = "x86_64")]
                        Isa::Avx512 => (check::<f32, Avx512>(), check::<f64, Avx512>()),
                        #[cfg(target_arch = "x86_64")]
                        Isa::Avx2 => (check::<f32, Avx2>(), check::<f64, Avx2>()),
                        #[cfg(target_arch = "aarch64")]
                        Isa::Neon => (check::<f32, Neon>(), check::<f64, Neon>()),
                        _ => (check::<f32, Plain>(), check::<f64, Plain>()),
                    };
                },
            );
        }
    }
}
