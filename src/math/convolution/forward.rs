//! The forward pass as a product of the weights and the windows.

use super::Convolution;
use super::windows::Columns;
use crate::math::Real;
use crate::math::gemm::Ending;
use crate::math::gemm::pack::Matrix;
use crate::math::gemm::product::{Output, Product};
use crate::math::gemm::{Side, Strips};
use crate::math::simd;

/// Most windows for which the weights are read in place: packing them would cost too much of the time that so few
/// products take.
const FEW: usize = 256;
/// Least bytes of weights for which that matters.
const LARGE_BYTES: usize = 128 << 10;

/// `y = end(w * x)` for slices of the right lengths.
pub(super) fn forward<T: Real>(plan: &Convolution, x: &[T], w: &[T], end: &Ending<T>, y: &mut [T]) {
    let (g, depth, pixels) = (&plan.geometry, plan.depth(), plan.windows.pixels);
    let outputs = g.num_output / g.groups;
    let is_few = is_few::<T>(plan);
    for group in 0..g.groups {
        let from = group * outputs;
        let w = &w[from * depth..][..outputs * depth];
        let end = end.part(from..from + outputs, from * pixels);
        if let (Some(direct), false) = (&plan.direct.forward, is_few) {
            let (kernels, x) = (simd::kernels(plan.isa), plan.batch(x, group));
            let a = Matrix { data: w, lane_step: depth, k_step: 1, scale: T::one() };
            let y = &mut y[from * pixels..];
            direct.convolve(kernels, &plan.windows, &a, outputs, &x, &end, y, g.num_output * pixels);
            continue;
        }
        let columns = Columns { windows: &plan.windows, x: plan.group_of(x, group) };
        let y = y.get_mut(from * pixels..).unwrap_or_default();
        if is_few {
            few(plan, w, columns, &end, &mut y[..outputs * pixels]);
        } else {
            many(plan, w, &columns, &end, y);
        }
    }
}

/// Whether one image has so few windows that packing the weights would take long.
pub(super) fn is_few<T: Real>(plan: &Convolution) -> bool {
    let outputs = plan.geometry.num_output / plan.geometry.groups;
    let bytes = outputs * plan.depth() * size_of::<T>();
    plan.geometry.batch == 1 && plan.windows.pixels <= FEW && bytes >= LARGE_BYTES
}

/// Both sides packed.
fn many<T: Real>(plan: &Convolution, w: &[T], columns: &Columns<T>, end: &Ending<T>, y: &mut [T]) {
    let (g, depth, pixels) = (&plan.geometry, plan.depth(), plan.windows.pixels);
    let outputs = g.num_output / g.groups;
    let a = Matrix { data: w, lane_step: depth, k_step: 1, scale: T::one() };
    let product = Product {
        kernels: simd::kernels(plan.isa),
        m: outputs,
        n: g.batch * pixels,
        k: depth,
        k_unit: plan.windows.taps.len(),
        k_image: depth,
        a: &a,
        b: columns,
        beta: T::zero(),
        end: *end,
    };
    product.run(&Output::images(y, outputs, g.batch * pixels, pixels, pixels, g.num_output * pixels));
}

/// One image: the windows are packed, each weight is read once where it lies.
fn few<T: Real>(plan: &Convolution, w: &[T], columns: Columns<T>, end: &Ending<T>, y: &mut [T]) {
    let (depth, pixels) = (plan.depth(), plan.windows.pixels);
    let strips = Strips {
        kernels: simd::kernels(plan.isa),
        k: depth,
        s: Side { data: w, len: w.len() / depth, step: depth, k_step: 1 },
        v: columns,
        lanes: pixels,
        alpha: T::one(),
        beta: T::zero(),
        turned: false,
        c_step: pixels,
        end: *end,
    };
    strips.keep_vectors(y);
}
