//! Instruction sets: which one this processor has, and code compiled for each.
//!
//! The crate is built for the oldest processor of its architecture. What must be fast is compiled several times
//! and chosen at run time: the kernels of the matrix product through [`Kernels`], element-wise loops through
//! [`vectorised`].

mod kernels;
mod lanes;
mod moves;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use kernels::Kernels;
pub(crate) use kernels::Tile;
pub(crate) use moves::{Copy, Fold, Run, Turn};

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
                Isa::Avx512 => return unsafe { x86::run_avx512(f) },
                // SAFETY: the processor has the features.
                Isa::Avx2 => return unsafe { x86::run_avx2(f) },
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
        Isa::Avx512 => &x86::Table::<f32>::AVX512,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => &x86::Table::<f32>::AVX2,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => &neon::Table::<f32>::NEON,
        _ => &plain::Table::<f32>::PLAIN,
    }
}

/// The kernels of `f64`. The caller has checked that the processor has `isa`.
pub(crate) fn kernels_f64(isa: Isa) -> &'static Kernels<f64> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => &x86::Table::<f64>::AVX512,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => &x86::Table::<f64>::AVX2,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => &neon::Table::<f64>::NEON,
        _ => &plain::Table::<f64>::PLAIN,
    }
}
