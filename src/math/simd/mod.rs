//! Instruction sets: which one this processor has, and code compiled for each.
//!
//! The crate is built for the oldest processor of its architecture. What must be fast is compiled several times
//! and chosen at run time. Element-wise loops are, through [`vectorised`], what the compiler makes of them. A [`Kernel`] is
//! written once on the vectors of [`lanes::Lanes`], and [`Kernels`] run it; tiles, of which each instruction set has those that fill its
//! registers, stand in tables there, built in the file of each set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_f32;
#[cfg(target_arch = "x86_64")]
mod avx2_f64;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_f32;
#[cfg(target_arch = "x86_64")]
mod avx512_f64;
mod blocked;
mod depthwise;
mod kernels;
mod lanes;
mod largest;
mod lines;
mod moves;
mod narrow;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_f32;
#[cfg(target_arch = "aarch64")]
mod neon_f64;
mod outer;
mod outer_pixels;
mod patch;
mod pixels;
mod plain;
mod rows;
mod shifted;
mod strip;
mod sums;
mod taps;
mod winograd;

pub(crate) use blocked::Blocked;
pub(crate) use depthwise::{PixelDots, PixelLine, Series};
pub use kernels::{Kernel, Kernels};
pub(crate) use kernels::{Next, Tile};
#[cfg(test)]
pub(crate) use largest::NOBODY;
pub(crate) use largest::{Largest, LargestBack};
pub(crate) use lines::{Blend, Dots, Lines};
pub(crate) use moves::{Copy, Fold, Run, Turn};
pub(crate) use narrow::Narrow;
pub(crate) use outer::{GatherFilters, Outer};
pub(crate) use outer_pixels::OuterPixels;
pub(crate) use patch::Patch;
pub(crate) use pixels::{Corner, GatherPixels, SpreadPixels};
pub(crate) use rows::{ROWS, Rows};
pub(crate) use shifted::Shifted;
pub(crate) use strip::{Soon, Strip};
pub(crate) use sums::Sums;
pub(crate) use taps::{TAPS, Taps};
pub(crate) use winograd::{Gather, POINTS, Place, SIDE, Spread};

use super::Real;

/// An instruction set with kernels of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// 64-bit ARM.
    Neon,
    /// What the compiler makes of plain code.
    Plain,
}

impl Isa {
    /// All of them, the fastest first.
    pub const ALL: [Isa; 4] = [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Plain];

    /// The fastest one of this processor.
    pub fn detect() -> Isa {
        Isa::ALL.into_iter().find(|isa| isa.is_available()).unwrap_or(Isa::Plain)
    }

    /// Whether this processor has it. Costs a load: the standard library remembers what it found.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && Isa::Avx2.is_available()
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => true,
            Isa::Plain => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// Runs `f` compiled for this instruction set; see [`vectorised`].
    #[inline]
    pub fn run<R>(self, f: impl FnOnce() -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        if self.is_available() {
            match self {
                // SAFETY: the processor has the features.
                Isa::Avx512 => return unsafe { avx512::run(f) },
                // SAFETY: the processor has the features.
                Isa::Avx2 => return unsafe { avx2::run(f) },
                _ => {}
            }
        }
        f()
    }
}

/// Runs `f` compiled for the best instruction set of this processor, so that its loops use wide vectors.
///
/// Only what is inlined into `f` is compiled so: the loop must stand in the closure itself or in functions
/// marked `#[inline(always)]`. A call costs a few nanoseconds; put a whole chunk of work into it.
#[inline]
pub fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    Isa::detect().run(f)
}

/// The kernels for `isa`, or the plain ones where this processor does not have it.
pub(crate) fn kernels<T: Real>(isa: Isa) -> &'static Kernels<T> {
    T::kernels(if isa.is_available() { isa } else { Isa::Plain })
}

/// The kernels of `f32`. The caller has checked that the processor has `isa`.
pub(crate) fn kernels_f32(isa: Isa) -> &'static Kernels<f32> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => &avx512::Table::<f32>::KERNELS,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => &avx2::Table::<f32>::KERNELS,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => &neon::Table::<f32>::KERNELS,
        _ => &plain::Table::<f32>::KERNELS,
    }
}

/// The kernels of `f64`. The caller has checked that the processor has `isa`.
pub(crate) fn kernels_f64(isa: Isa) -> &'static Kernels<f64> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => &avx512::Table::<f64>::KERNELS,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => &avx2::Table::<f64>::KERNELS,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => &neon::Table::<f64>::KERNELS,
        _ => &plain::Table::<f64>::KERNELS,
    }
}

/// Runs a kernel of `f32` compiled for `isa`.
///
/// # Safety
/// The processor has `isa`; what the kernel asks for.
#[inline]
pub(crate) unsafe fn run_f32<K: Kernel<f32>>(isa: Isa, kernel: K) -> K::Output {
    // SAFETY: promised by the caller.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::run(
                #[inline(always)]
                || kernel.run::<avx512::Avx512>(),
            ),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::run(
                #[inline(always)]
                || kernel.run::<avx2::Avx2>(),
            ),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => kernel.run::<neon::Neon>(),
            _ => kernel.run::<plain::Plain>(),
        }
    }
}

/// The same for `f64`.
///
/// # Safety
/// As [`run_f32`].
#[inline]
pub(crate) unsafe fn run_f64<K: Kernel<f64>>(isa: Isa, kernel: K) -> K::Output {
    // SAFETY: promised by the caller.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::run(
                #[inline(always)]
                || kernel.run::<avx512::Avx512>(),
            ),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::run(
                #[inline(always)]
                || kernel.run::<avx2::Avx2>(),
            ),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => kernel.run::<neon::Neon>(),
            _ => kernel.run::<plain::Plain>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closures_give_the_same_on_every_instruction_set() {
        let x: Vec<f32> = (0..100).map(|i| i as f32).collect();
        for isa in Isa::ALL {
            let y: Vec<f32> = isa.run(
                #[inline(always)]
                || x.iter().map(|x| x * 2.0 + 1.0).collect(),
            );
            assert!(y.iter().enumerate().all(|(i, &y)| y == 2.0 * i as f32 + 1.0));
        }
        assert!(Isa::detect().is_available());
        assert!(Isa::Plain.is_available());
    }
}
