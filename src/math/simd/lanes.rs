//! What a vector unit must be able to do for the kernels.

use crate::math::Real;

/// Vectors of `T` on one instruction set.
///
/// Every method is `unsafe`: it may only run inside a function compiled for that instruction set, and the
/// pointers must be good for the lanes read or written. No alignment is asked for.
pub(crate) trait Lanes<T: Real> {
    /// A vector register.
    type V: Copy;
    /// Numbers in it.
    const COUNT: usize;

    /// All lanes `x`.
    unsafe fn splat(x: T) -> Self::V;
    /// All lanes from memory.
    unsafe fn load(p: *const T) -> Self::V;
    /// All lanes to memory.
    unsafe fn store(p: *mut T, v: Self::V);
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the instruction set can.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;

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
}
