use super::*;
use crate::math::parallel;
use Transpose::{No, Yes};

/// Numbers between -1 and 1 that look random.
pub(crate) fn noise<T: Real>(n: usize, seed: u64) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        T::from_f64((state >> 40) as f64 / (1u64 << 23) as f64 - 1.0)
    };
    (0..n).map(|_| next()).collect()
}

/// The definition, in double precision.
#[allow(clippy::too_many_arguments)]
fn reference<T: Real>(
    ta: Transpose,
    tb: Transpose,
    m: usize,
    n: usize,
    k: usize,
    alpha: T,
    a: &[T],
    b: &[T],
    beta: T,
    c: &mut [T],
) {
    for i in 0..m {
        for j in 0..n {
            let sum: f64 = (0..k)
                .map(|l| {
                    let a = if ta == No { a[i * k + l] } else { a[l * m + i] };
                    let b = if tb == No { b[l * n + j] } else { b[j * k + l] };
                    a.as_f64() * b.as_f64()
                })
                .sum();
            let old = if beta.is_zero() { 0.0 } else { beta.as_f64() * c[i * n + j].as_f64() };
            c[i * n + j] = T::from_f64(alpha.as_f64() * sum + old);
        }
    }
}

pub(crate) fn assert_near<T: Real>(got: &[T], want: &[T], terms: usize, what: &str) {
    let tolerance = 4.0 * T::epsilon().as_f64() * (terms as f64).max(4.0);
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let (g, w) = (g.as_f64(), w.as_f64());
        assert!((g - w).abs() <= tolerance, "{what}: element {i} is {g}, not {w}");
    }
}

fn check<T: Real>(isa: Isa, m: usize, n: usize, k: usize) {
    for (ta, tb) in [(No, No), (No, Yes), (Yes, No), (Yes, Yes)] {
        for (alpha, beta) in [(1.0, 0.0), (0.5, 1.0), (-1.0, 0.25)] {
            let (alpha, beta) = (T::from_f64(alpha), T::from_f64(beta));
            let (a, b) = (noise::<T>(m * k, 1), noise::<T>(k * n, 2));
            let mut got = noise::<T>(m * n, 3);
            if beta.is_zero() {
                got.fill(T::nan());
            }
            let mut want = got.clone();
            gemm_on(isa, ta, tb, m, n, k, alpha, &a, &b, beta, &mut got);
            reference(ta, tb, m, n, k, alpha, &a, &b, beta, &mut want);
            assert_near(&got, &want, k, &format!("{isa:?} {m}x{n}x{k} {ta:?} {tb:?} beta {beta}"));
        }
    }
}

/// The instruction sets of this processor, or the one that `CORTADO_TEST_ISA` names: an emulator is slow enough with one.
pub(crate) fn isas() -> impl Iterator<Item = Isa> {
    let only = std::env::var("CORTADO_TEST_ISA").ok();
    let wanted = |isa: &Isa| only.as_deref().is_none_or(|name| name == format!("{isa:?}"));
    let isas: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| isa.is_available()).filter(wanted).collect();
    assert!(!isas.is_empty(), "this processor has nothing of the name {only:?}");
    isas.into_iter()
}

#[test]
fn every_kernel_agrees_with_the_definition() {
    for isa in isas() {
        for (m, n, k) in [
            (1, 1, 1),
            (1, 37, 5),
            (2, 100, 33),
            (37, 1, 40),
            (29, 8, 17),
            (14, 32, 64),
            (15, 33, 65),
            (20, 49, 25),
            (64, 500, 80),
            (3, 5, 1300),
            (131, 67, 530),
            (100, 90, 1),
            (0, 3, 4),
            (3, 4, 0),
        ] {
            check::<f32>(isa, m, n, k);
            check::<f64>(isa, m, n, k);
        }
        for m in 1..=30 {
            check::<f32>(isa, m, 19, 7);
        }
    }
}

#[test]
fn short_sides_are_read_in_place() {
    for isa in isas() {
        // Few rows and blocks of k; lanes of one, two and three vectors; parts of vectors at both ends.
        for (m, n, k) in
            [(64, 150, 200), (2, 300, 70), (20, 16, 129), (300, 40, 20), (33, 47, 100), (90, 300, 300)]
        {
            check::<f32>(isa, m, n, k);
            check::<f64>(isa, m, n, k);
        }
    }
    // More vectors than are packed at once, and a right-hand side too long to be read in place.
    check::<f32>(Isa::detect(), 40, 30, 9000);
    check::<f32>(Isa::detect(), 10, 8200, 300);
}

#[test]
fn long_sides_are_cut_into_blocks() {
    check::<f32>(Isa::detect(), 2100, 40, 30);
    check::<f32>(Isa::detect(), 20, 3000, 30);
    check::<f32>(Isa::detect(), 300, 280, 900);
    check::<f64>(Isa::detect(), 260, 300, 600);
    check::<f64>(Isa::detect(), 2050, 20, 600);
}

/// Runs `f` in pools of 1 to 4 threads and wants the same bits.
pub(crate) fn assert_same_for_any_pool<R: PartialEq + std::fmt::Debug + Send>(f: impl Fn() -> R + Sync) {
    let run =
        |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(&f);
    let first = run(1);
    for threads in 2..=4 {
        assert!(run(threads) == first, "{threads} threads give another result");
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    for (m, n, k) in [(64, 500, 800), (500, 800, 64), (300, 700, 900), (10, 4000, 300)] {
        let (a, b) = (noise::<f32>(m * k, 1), noise::<f32>(k * n, 2));
        assert_same_for_any_pool(|| {
            let mut c = vec![0.0f32; m * n];
            gemm(No, Yes, m, n, k, 1.0, &a, &b, 0.0, &mut c);
            gemm(No, No, m, n, k, 1.0, &a, &b, 1.0, &mut c);
            gemm(Yes, No, m, n, k, 1.0, &a, &b, 1.0, &mut c);
            c
        });
    }
    let x = noise::<f32>(300_001, 5);
    assert_same_for_any_pool(|| vector::sum_squares(&x).to_bits());
    assert_same_for_any_pool(|| {
        parallel::sum(1000, 7, |r| r.map(|i| 1.0 / (i as f64 + 0.1)).sum()).to_bits()
    });
}
