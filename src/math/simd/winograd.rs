//! Kernels of Winograd's convolution: patches to the 36 numbers of a transformed tile, and back.
//!
//! All tiles are 6 × 6, from the points 0, ±5/8, ±3/2 and ∞: a filter of r × r gives (7 − r) × (7 − r) outputs. One
//! transformation serves every r (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015). The
//! points ±1 and ±2 of that paper would need fewer operations, but the error of a 3 × 3 convolution in single precision
//! was twice as large as with these, which is 1.8 times that of the plain sum (root of the mean square, 64 channels).

use super::kernels::{Kernel, Kernels};
use super::lanes::Lanes;
use crate::math::Real;
use std::mem::MaybeUninit;

/// Side of a transformed tile.
pub(crate) const SIDE: usize = 6;
/// Numbers of a transformed tile.
pub(crate) const POINTS: usize = SIDE * SIDE;

/// Transforms patches of `size` × `size` numbers, a lane each: of an image (`size` 6) by Bᵀ·d·B, of anything smaller (a filter, or
/// a tile of the top's gradient) by G·g·Gᵀ.
///
/// Lane i of start s has its patch at `data + lanes[i] + starts[s]`; number p goes to
/// `out + blocks[i / COUNT] + s·width + p·step + i % COUNT`, COUNT being the numbers in a vector.
pub(crate) struct Spread<'a, T> {
    pub data: *const T,
    pub lanes: &'a [usize],
    pub starts: &'a [usize],
    pub size: usize,
    /// Distance of the rows of a patch. A row of fewer than four numbers is read as four, unless rows are dense.
    pub row: usize,
    /// Not 0: lanes are neighbours in memory whatever `lanes` says, whole vectors of them, and the numbers of a patch are
    /// so far apart.
    pub across: usize,
    /// Whether patches, dense ones, are turned by half a turn.
    pub turned: bool,
    pub out: *mut T,
    pub blocks: &'a [usize],
    pub width: usize,
    pub step: usize,
}

/// Where the numbers of a tile go: the first `rows` × `columns` of them, from `at` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub at: usize,
    pub rows: u8,
    pub columns: u8,
}

/// Transforms tiles back, by Aᵀ·m·A, to `size` × `size` numbers at the places of their lanes, rows `row` apart.
///
/// Number p of lane i is at `data + p·step + i`.
pub(crate) struct Gather<'a, T> {
    pub data: *const T,
    pub step: usize,
    pub size: usize,
    pub places: &'a [Place],
    pub out: *mut T,
    pub row: usize,
    /// Factor of each number, then what is added to it.
    pub scale: T,
    pub bias: T,
    /// Numbers to add that lie as those of `out` do, or null.
    pub other: *const T,
    /// What is less becomes this: 0 for a ReLU, else −∞.
    pub floor: T,
    /// Whether the numbers are added to what is there.
    pub add: bool,
}

impl<T: Real> Kernels<T> {
    /// Transforms patches.
    ///
    /// # Safety
    /// Every access that `spread` describes is good, and nobody else uses what it writes.
    pub(crate) unsafe fn spread(&self, spread: &Spread<T>) {
        // SAFETY: promised by the caller; a table is only handed out where the processor has its features.
        unsafe { self.run(spread) }
    }

    /// Transforms tiles back.
    ///
    /// # Safety
    /// As [`Kernels::spread`].
    pub(crate) unsafe fn gather(&self, gather: &Gather<T>) {
        // SAFETY: promised by the caller; a table is only handed out where the processor has its features.
        unsafe { self.run(gather) }
    }
}

/// A number in every lane.
#[inline(always)]
pub(super) unsafe fn all<T: Real, S: Lanes<T>>(x: f64) -> S::V {
    // SAFETY: as the caller.
    unsafe { S::splat(T::from_f64(x)) }
}

/// `a + x·b`.
#[inline(always)]
unsafe fn plus<T: Real, S: Lanes<T>>(a: S::V, x: f64, b: S::V) -> S::V {
    // SAFETY: as the caller.
    unsafe { S::mul_add(all::<T, S>(x), b, a) }
}

/// The points ±P and ±Q.
const P: f64 = 0.625;
const Q: f64 = 1.5;

/// Bᵀ·d: 6 numbers of an image. Row p of Bᵀ has the coefficients of Π(x − q) over the other points q.
#[inline(always)]
pub(super) unsafe fn image<T: Real, S: Lanes<T>>(d: &[S::V; SIDE]) -> [S::V; SIDE] {
    // SAFETY: as the caller.
    unsafe {
        let (even, odd) = (plus::<T, S>(d[4], -Q * Q, d[2]), plus::<T, S>(d[3], -Q * Q, d[1]));
        let (even2, odd2) = (plus::<T, S>(d[4], -P * P, d[2]), plus::<T, S>(d[3], -P * P, d[1]));
        let (sum, product) = (P * P + Q * Q, P * P * Q * Q);
        [
            plus::<T, S>(plus::<T, S>(d[4], -sum, d[2]), product, d[0]),
            plus::<T, S>(even, P, odd),
            plus::<T, S>(even, -P, odd),
            plus::<T, S>(even2, Q, odd2),
            plus::<T, S>(even2, -Q, odd2),
            plus::<T, S>(plus::<T, S>(d[5], -sum, d[3]), product, d[1]),
        ]
    }
}

/// The first `N` numbers of `g` as a polynomial at `x` and at −x, over `by`.
#[inline(always)]
unsafe fn terms<T: Real, S: Lanes<T>, const N: usize>(g: &[S::V; SIDE], x: f64, by: f64) -> (S::V, S::V) {
    // SAFETY: as the caller.
    unsafe {
        let zero = all::<T, S>(0.0);
        // The even and the odd terms; at −x the odd ones change their sign.
        let mut terms = [plus::<T, S>(zero, 1.0 / by, g[0]), plus::<T, S>(zero, x / by, g[1])];
        for i in 2..N {
            terms[i % 2] = plus::<T, S>(terms[i % 2], x.powi(i as i32) / by, g[i]);
        }
        (S::add(terms[0], terms[1]), plus::<T, S>(terms[0], -1.0, terms[1]))
    }
}

/// G·g: the first `N` numbers of `g`, a filter, as a polynomial at the points, over Π(p − q) there.
#[inline(always)]
pub(super) unsafe fn filter<T: Real, S: Lanes<T>, const N: usize>(g: &[S::V; SIDE]) -> [S::V; SIDE] {
    // SAFETY: as the caller.
    unsafe {
        let zero = all::<T, S>(0.0);
        let p = terms::<T, S, N>(g, P, 2.0 * P * P * (P * P - Q * Q));
        let q = terms::<T, S, N>(g, Q, 2.0 * Q * Q * (Q * Q - P * P));
        [plus::<T, S>(zero, 1.0 / (P * P * Q * Q), g[0]), p.0, p.1, q.0, q.1, g[N - 1]]
    }
}

/// Aᵀ·m: `N` numbers of a tile's 6, sums over the points times their powers.
#[inline(always)]
pub(super) unsafe fn back<T: Real, S: Lanes<T>, const N: usize>(m: &[S::V; SIDE]) -> [S::V; SIDE] {
    // SAFETY: as the caller.
    unsafe {
        let (even, odd) = (S::add(m[1], m[2]), plus::<T, S>(m[1], -1.0, m[2]));
        let (even2, odd2) = (S::add(m[3], m[4]), plus::<T, S>(m[3], -1.0, m[4]));
        let mut out = [m[0]; SIDE];
        out[0] = S::add(m[0], S::add(even, even2));
        let zero = all::<T, S>(0.0);
        for (i, out) in out.iter_mut().enumerate().take(N).skip(1) {
            let first = if i == N - 1 { m[5] } else { zero };
            let (a, b) = if i % 2 == 0 { (even, even2) } else { (odd, odd2) };
            *out = plus::<T, S>(plus::<T, S>(first, P.powi(i as i32), a), Q.powi(i as i32), b);
        }
        out
    }
}

impl<T: Real> Kernel<T> for &Spread<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) {
        // SAFETY: promised by the caller.
        unsafe {
            match self.size {
                2 => spread_size::<T, S, 2>(self),
                3 => spread_size::<T, S, 3>(self),
                4 => spread_size::<T, S, 4>(self),
                5 => spread_size::<T, S, 5>(self),
                _ => spread_size::<T, S, 6>(self),
            }
        }
    }
}

/// Body of the spreading kernels for patches of `N` × `N`.
///
/// # Safety
/// As its [`run`](Kernel::run).
#[inline(always)]
unsafe fn spread_size<T: Real, S: Lanes<T>, const N: usize>(s: &Spread<T>) {
    for (i, (lanes, &block)) in s.lanes.chunks(S::COUNT).zip(s.blocks).enumerate() {
        let neighbours = s.data.wrapping_add(i * S::COUNT);
        // Lanes past the last one repeat it; they are not stored.
        let mut first = [s.data.wrapping_add(lanes[lanes.len() - 1]); 16];
        for (row, &lane) in first.iter_mut().zip(lanes) {
            *row = s.data.wrapping_add(lane);
        }
        for (k, &start) in s.starts.iter().enumerate() {
            let mut rows = first;
            for row in &mut rows {
                *row = row.wrapping_add(start);
            }
            // SAFETY: promised by the caller.
            unsafe {
                let zero = all::<T, S>(0.0);
                // Not cleared: every number that is read was written before. Rows of the patch become columns here.
                let mut half = [[MaybeUninit::<S::V>::uninit(); SIDE]; SIDE];
                let dense = s.across == 0 && s.row == N && N < SIDE;
                let patch =
                    if dense { dense_patch::<T, S, N>(&rows) } else { [MaybeUninit::uninit(); SIDE * SIDE] };
                for i in 0..N {
                    let mut row = [zero; SIDE];
                    if dense {
                        for (j, v) in row.iter_mut().enumerate().take(N) {
                            let at = i * N + j;
                            *v = patch[if s.turned { N * N - 1 - at } else { at }].assume_init();
                        }
                    } else if s.across > 0 {
                        let from = neighbours.wrapping_add(start + i * N * s.across);
                        for (j, v) in row.iter_mut().enumerate().take(N) {
                            *v = S::load(from.wrapping_add(j * s.across));
                        }
                    } else {
                        row = line::<T, S, N>(&rows, i * s.row);
                    }
                    let spread = if N == SIDE { image::<T, S>(&row) } else { filter::<T, S, N>(&row) };
                    for (half, &v) in half.iter_mut().zip(&spread) {
                        half[i].write(v);
                    }
                }
                let out = s.out.wrapping_add(block + k * s.width);
                for (j, half) in half.iter().enumerate() {
                    let mut column = [zero; SIDE];
                    for (v, half) in column.iter_mut().zip(half).take(N) {
                        *v = half.assume_init();
                    }
                    let column = if N == SIDE { image::<T, S>(&column) } else { filter::<T, S, N>(&column) };
                    for (i, &v) in column.iter().enumerate() {
                        let to = out.wrapping_add((i * SIDE + j) * s.step);
                        if lanes.len() == S::COUNT {
                            S::store(to, v);
                        } else {
                            S::store_first(to, v, lanes.len());
                        }
                    }
                }
            }
        }
    }
}

/// `N` numbers from `at` of each row on, a lane each; what follows them has no meaning.
#[inline(always)]
unsafe fn line<T: Real, S: Lanes<T>, const N: usize>(rows: &[*const T; 16], at: usize) -> [S::V; SIDE] {
    // SAFETY: as the caller.
    unsafe {
        let mut line = [all::<T, S>(0.0); SIDE];
        // Written out, so that every index is a constant and the numbers stay in registers.
        part::<T, S, N, 0>(rows, at, &mut line);
        part::<T, S, N, 1>(rows, at, &mut line);
        part::<T, S, N, 2>(rows, at, &mut line);
        part::<T, S, N, 3>(rows, at, &mut line);
        part::<T, S, N, 4>(rows, at, &mut line);
        part::<T, S, N, 5>(rows, at, &mut line);
        line
    }
}

/// The numbers of a line that step `STEP` of a transposition gives, if there is one.
#[inline(always)]
unsafe fn part<T: Real, S: Lanes<T>, const N: usize, const STEP: usize>(
    rows: &[*const T; 16],
    at: usize,
    line: &mut [S::V; SIDE],
) {
    if STEP * S::TURN >= N {
        return;
    }
    // The last step overlaps the one before it; a line shorter than a step is read as a whole one.
    let first = if N >= S::TURN { (STEP * S::TURN).min(N - S::TURN) } else { 0 };
    // SAFETY: as the caller.
    unsafe {
        S::turn(
            rows,
            at + first,
            #[inline(always)]
            |i, v| {
                if first + i < N {
                    line[first + i] = v;
                }
            },
        );
    }
}

/// The numbers of a dense patch of `N` × `N`, a lane each.
#[inline(always)]
unsafe fn dense_patch<T: Real, S: Lanes<T>, const N: usize>(
    rows: &[*const T; 16],
) -> [MaybeUninit<S::V>; SIDE * SIDE] {
    let mut patch = [MaybeUninit::<S::V>::uninit(); SIDE * SIDE];
    let mut at = 0;
    while at < N * N {
        // The last step overlaps the one before it.
        let first = if N * N >= S::TURN { at.min(N * N - S::TURN) } else { 0 };
        // SAFETY: as the caller.
        unsafe {
            S::turn(
                rows,
                first,
                #[inline(always)]
                |i, v| {
                    if first + i < N * N {
                        patch[first + i].write(v);
                    }
                },
            );
        }
        at += S::TURN;
    }
    patch
}

impl<T: Real> Kernel<T> for &Gather<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Lanes<T>>(self) {
        // SAFETY: promised by the caller.
        unsafe {
            match self.size {
                2 => gather_size::<T, S, 2>(self),
                3 => gather_size::<T, S, 3>(self),
                4 => gather_size::<T, S, 4>(self),
                _ => gather_size::<T, S, 5>(self),
            }
        }
    }
}

/// Body of the gathering kernels for `N` × `N` numbers.
///
/// # Safety
/// As its [`run`](Kernel::run).
#[inline(always)]
unsafe fn gather_size<T: Real, S: Lanes<T>, const N: usize>(g: &Gather<T>) {
    // Room for the numbers of 16 lanes, those of a lane side by side, in steps of four.
    let mut aside = [T::zero(); 16 * 28];
    let pitch = (N * N).next_multiple_of(4);
    for (block, places) in g.places.chunks(S::COUNT).enumerate() {
        // SAFETY: promised by the caller; the room aside holds COUNT ≤ 16 lanes.
        unsafe {
            let zero = all::<T, S>(0.0);
            let load = |p: usize| {
                let from = g.data.wrapping_add(p * g.step + block * S::COUNT);
                if places.len() == S::COUNT { S::load(from) } else { S::load_first(from, places.len()) }
            };
            let mut half = [[zero; SIDE]; SIDE];
            for j in 0..SIDE {
                let mut column = [zero; SIDE];
                for (i, v) in column.iter_mut().enumerate() {
                    *v = load(i * SIDE + j);
                }
                let column = back::<T, S, N>(&column);
                for (half, &v) in half.iter_mut().zip(&column).take(N) {
                    half[j] = v;
                }
            }
            // What is added comes before the floor, and number by number.
            let floor = if g.other.is_null() { g.floor } else { T::neg_infinity() };
            let (scale, bias, floor) = (S::splat(g.scale), S::splat(g.bias), S::splat(floor));
            let mut all = [zero; 28];
            for (i, half) in half.iter().enumerate().take(N) {
                for (j, &v) in back::<T, S, N>(half).iter().enumerate().take(N) {
                    all[i * N + j] = S::max(floor, S::mul_add(scale, v, bias));
                }
            }
            let mut to = [aside.as_mut_ptr(); 16];
            for (i, to) in to.iter_mut().enumerate() {
                *to = to.wrapping_add(i * pitch);
            }
            let whole = |p: &Place| p.rows as usize == N && p.columns as usize == N;
            let plain = !g.add && g.other.is_null();
            if N == 4 && plain && places.len() == S::COUNT && places.iter().all(whole) {
                // Rows of four numbers go where they belong at once.
                for (to, place) in to.iter_mut().zip(places) {
                    *to = g.out.wrapping_add(place.at);
                }
                for i in 0..N {
                    let at = 4 * i;
                    S::unturn(&[all[at], all[at + 1], all[at + 2], all[at + 3]], &to, i * g.row);
                }
                continue;
            }
            for at in (0..pitch).step_by(4) {
                S::unturn(&[all[at], all[at + 1], all[at + 2], all[at + 3]], &to, at);
            }
            for (place, numbers) in places.iter().zip(aside.chunks_exact(pitch)) {
                let to = g.out.wrapping_add(place.at);
                if plain && whole(place) {
                    for i in 0..N {
                        to.wrapping_add(i * g.row)
                            .cast::<[T; N]>()
                            .write_unaligned(numbers.as_ptr().add(i * N).cast::<[T; N]>().read());
                    }
                    continue;
                }
                for i in 0..place.rows as usize {
                    for j in 0..place.columns as usize {
                        let at = i * g.row + j;
                        let (to, v) = (to.wrapping_add(at), numbers[i * N + j]);
                        *to = match (g.add, g.other.is_null()) {
                            (true, _) => *to + v,
                            (false, true) => v,
                            (false, false) => {
                                let y = v + *g.other.wrapping_add(place.at + at);
                                if y < g.floor { g.floor } else { y }
                            }
                        };
                    }
                }
            }
        }
    }
}
