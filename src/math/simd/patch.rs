//! Kernels of convolutions that read windows where they lie, in a padded image: no panel of B is packed.

use super::kernels::Kernels;
use super::lanes::Lanes;
use crate::math::Real;

/// A tile of `y = max(scale·(W·X) + bias, floor)`, with what y held added if that is wanted: some rows, and pixels in four
/// stretches of half a vector, or in two stretches of a vector.
///
/// Row c·offsets.len() + t of X holds, for pixel i of stretch s, `image[starts[s] + c·plane + offsets[t] + i]`.
pub(crate) struct Patch<'a, T> {
    pub rows: usize,
    /// Panel of W: for each row of X, one number per row.
    pub a: *const T,
    pub image: *const T,
    pub channels: usize,
    pub plane: usize,
    pub offsets: &'a [usize],
    pub halves: bool,
    pub starts: [usize; 4],
    /// Where each stretch goes in the first row of y, and how many of its pixels; the others are not written.
    pub places: [usize; 4],
    pub lens: [usize; 4],
    pub y: *mut T,
    /// Distance of rows of y.
    pub y_step: usize,
    /// One factor per row, or null.
    pub scale: *const T,
    /// One number per row to add, or null.
    pub bias: *const T,
    pub floor: T,
    /// Whether what y held is added. It is read for the pixels of a stretch that are not written, too.
    pub add: bool,
}

impl<T: Real> Kernels<T> {
    /// Computes a tile of a convolution.
    ///
    /// # Safety
    /// All of each stretch is good to read for each row of X, the panel holds all rows, what is to be written is good
    /// and nobody else's; `rows` is at most [`Kernels::rows`].
    pub(crate) unsafe fn patch(&self, patch: &Patch<T>) {
        // SAFETY: promised by the caller; a table is only handed out where the processor has its features.
        unsafe { (self.patches)(patch) }
    }
}

/// Body of the kernels for tiles of at most `MOST` rows.
///
/// # Safety
/// As [`Kernels::patch`], and only inside a function compiled for the instruction set of `S`.
#[inline(always)]
pub(super) unsafe fn patch_rows<T: Real, S: Lanes<T>, const MOST: usize>(p: &Patch<T>) {
    // SAFETY: promised by the caller.
    unsafe {
        match p.rows {
            1 => patch_of::<T, S, 1>(p),
            2 => patch_of::<T, S, 2>(p),
            3 => patch_of::<T, S, 3>(p),
            4 => patch_of::<T, S, 4>(p),
            5 if MOST >= 5 => patch_of::<T, S, 5>(p),
            6 if MOST >= 6 => patch_of::<T, S, 6>(p),
            7 if MOST >= 7 => patch_of::<T, S, 7>(p),
            8 if MOST >= 8 => patch_of::<T, S, 8>(p),
            9 if MOST >= 9 => patch_of::<T, S, 9>(p),
            10 if MOST >= 10 => patch_of::<T, S, 10>(p),
            11 if MOST >= 11 => patch_of::<T, S, 11>(p),
            12 if MOST >= 12 => patch_of::<T, S, 12>(p),
            13 if MOST >= 13 => patch_of::<T, S, 13>(p),
            14 if MOST >= 14 => patch_of::<T, S, 14>(p),
            _ => {}
        }
    }
}

/// # Safety
/// As [`patch_rows`].
#[inline(always)]
unsafe fn patch_of<T: Real, S: Lanes<T>, const MR: usize>(p: &Patch<T>) {
    // SAFETY: promised by the caller.
    unsafe {
        match (p.halves, p.add) {
            (false, false) => patch_tile::<T, S, MR, false, false>(p),
            (false, true) => patch_tile::<T, S, MR, false, true>(p),
            (true, false) => patch_tile::<T, S, MR, true, false>(p),
            (true, true) => patch_tile::<T, S, MR, true, true>(p),
        }
    }
}

/// # Safety
/// As [`patch_rows`].
#[inline(always)]
unsafe fn patch_tile<T: Real, S: Lanes<T>, const MR: usize, const HALVES: bool, const ADD: bool>(
    p: &Patch<T>,
) {
    // SAFETY: promised by the caller.
    unsafe {
        if !ADD {
            // Tops lie in many rows, whose lines would come one after another.
            for i in 0..MR {
                for &place in &p.places[..if HALVES { 4 } else { 2 }] {
                    S::prefetch(p.y.wrapping_add(i * p.y_step + place));
                }
            }
        }
        let mut sums = [[S::splat(T::zero()); 2]; MR];
        let mut a = p.a;
        let mut from = p.starts.map(|start| p.image.wrapping_add(start));
        for _ in 0..p.channels {
            for &offset in p.offsets {
                let at = from.map(|from| from.wrapping_add(offset));
                let right = if HALVES {
                    [S::load_halves(at[0], at[1]), S::load_halves(at[2], at[3])]
                } else {
                    [S::load(at[0]), S::load(at[1])]
                };
                for (i, row) in sums.iter_mut().enumerate() {
                    let left = S::splat_of(a, i, MR);
                    for (sum, &v) in row.iter_mut().zip(&right) {
                        *sum = S::mul_add(left, v, *sum);
                    }
                }
                a = a.add(MR);
            }
            from = from.map(|from| from.wrapping_add(p.plane));
        }
        let (floor, half) = (S::splat(p.floor), S::COUNT / 2);
        let (mut scales, mut biases) = ([T::one(); MR], [T::zero(); MR]);
        for (of, line) in [(&mut scales, p.scale), (&mut biases, p.bias)] {
            if !line.is_null() {
                std::ptr::copy_nonoverlapping(line, of.as_mut_ptr(), MR);
            }
        }
        let at = p.places.map(|place| p.y.wrapping_add(place));
        if p.lens == if HALVES { [half; 4] } else { [S::COUNT, S::COUNT, 0, 0] } {
            // Half by half: a longer loop would not be unrolled.
            let (first, second) = sums.split_at(MR / 2);
            write_whole::<T, S, HALVES, ADD>(first, 0, p, &at, &scales, &biases);
            write_whole::<T, S, HALVES, ADD>(second, MR / 2, p, &at, &scales, &biases);
            return;
        }
        // What is long goes through memory once: indices into `sums` must be constants.
        let mut room = std::mem::MaybeUninit::<[T; 512]>::uninit();
        let room = room.as_mut_ptr().cast::<T>();
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                S::store(room.add((i * 2 + j) * S::COUNT), sum);
            }
        }
        for i in 0..MR {
            let (scale, bias, y) = (S::splat(scales[i]), S::splat(biases[i]), p.y.wrapping_add(i * p.y_step));
            for j in 0..2 {
                let sum = S::load(room.add((i * 2 + j) * S::COUNT));
                let mut v = S::max(floor, S::mul_add(scale, sum, bias));
                if ADD {
                    let at = p.places.map(|place| y.wrapping_add(place).cast_const());
                    let old = if HALVES { S::load_halves(at[2 * j], at[2 * j + 1]) } else { S::load(at[j]) };
                    v = S::add(v, old);
                }
                if HALVES {
                    let done = room.add((i * 2 + j) * S::COUNT);
                    S::store(done, v);
                    for stretch in 2 * j..2 * j + 2 {
                        let (from, to) = (done.add(stretch % 2 * half), y.wrapping_add(p.places[stretch]));
                        match p.lens[stretch] {
                            // Of a length that is known here: a move, and no call.
                            n if n == half => std::ptr::copy_nonoverlapping(from, to, half),
                            n => (0..n).for_each(|at| *to.add(at) = *from.add(at)),
                        }
                    }
                } else if p.lens[j] == S::COUNT {
                    S::store(y.wrapping_add(p.places[j]), v);
                } else {
                    S::store_first(y.wrapping_add(p.places[j]), v, p.lens[j]);
                }
            }
        }
    }
}

/// Writes some rows of sums, the `first` of the tile and the next, whose stretches are written whole.
///
/// # Safety
/// As [`patch_rows`].
#[inline(always)]
unsafe fn write_whole<T: Real, S: Lanes<T>, const HALVES: bool, const ADD: bool>(
    sums: &[[S::V; 2]],
    first: usize,
    p: &Patch<T>,
    at: &[*mut T; 4],
    scales: &[T],
    biases: &[T],
) {
    for (i, row) in sums.iter().enumerate() {
        let i = first + i;
        // SAFETY: promised by the caller.
        unsafe {
            let (scale, bias, here) = (S::splat(scales[i]), S::splat(biases[i]), i * p.y_step);
            for (j, &sum) in row.iter().enumerate() {
                let v = S::max(S::splat(p.floor), S::mul_add(scale, sum, bias));
                if HALVES {
                    let (y, z) = (at[2 * j].wrapping_add(here), at[2 * j + 1].wrapping_add(here));
                    S::store_halves(y, z, if ADD { S::add(v, S::load_halves(y, z)) } else { v });
                } else {
                    let y = at[j].wrapping_add(here);
                    S::store(y, if ADD { S::add(v, S::load(y)) } else { v });
                }
            }
        }
    }
}
