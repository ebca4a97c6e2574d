//! How fast one core can multiply and add: what the rates of layers are compared with.

use super::simd::{self, Isa, Next, Sums, Tile};
use super::{Real, scratch};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Length of the sums: the panels of both operands lie in the first-level cache.
const DEPTH: usize = 128;
/// Floating-point operations of a try: some milliseconds.
const WORK: f64 = 2e8;
/// For how long it is tried again.
const PATIENCE: Duration = Duration::from_millis(80);

/// Floating-point operations per second of the best of several short tries on the calling thread: the tile kernel that
/// all matrix products rest on, at its full size, with operands that stay in the first-level cache. A multiply-add
/// is two operations.
///
/// It takes a tenth of a second. What other programs leave of the processor changes from moment to moment, so that a
/// long computation may also turn out a little faster than this.
pub fn ceiling<T: Real>() -> f64 {
    let kernels = simd::kernels::<T>(Isa::detect());
    let (rows, columns) = (kernels.rows(), kernels.columns());
    let flops = 2.0 * (rows * columns * DEPTH) as f64;
    let repeats = (WORK / flops).ceil() as usize;
    scratch((rows + columns) * DEPTH + rows * columns, |memory: &mut [T]| {
        memory.fill(T::from_f64(0.5));
        let (operands, c) = memory.split_at_mut((rows + columns) * DEPTH);
        let (b, a) = operands.split_at(columns * DEPTH);
        let tile = Tile {
            k: DEPTH,
            a: a.as_ptr(),
            b: b.as_ptr(),
            b_step: columns,
            next: Next::NONE,
            sums: Sums::plain(c.as_mut_ptr(), columns, columns, T::zero()),
        };
        let (begin, mut best) = (Instant::now(), f64::INFINITY);
        while begin.elapsed() < PATIENCE {
            let start = Instant::now();
            for _ in 0..repeats {
                // SAFETY: the panels hold DEPTH groups of `rows` and of `columns` numbers, C holds rows · columns, and
                // this thread alone has them.
                unsafe { kernels.tile(rows, columns, black_box(&tile)) };
            }
            best = best.min(start.elapsed().as_secs_f64());
        }
        flops * repeats as f64 / best
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_rate_that_a_core_can_have() {
        for rate in [ceiling::<f32>(), ceiling::<f64>()] {
            assert!(rate.is_finite() && rate > 1e6 && rate < 1e13, "{rate}");
        }
    }
}
