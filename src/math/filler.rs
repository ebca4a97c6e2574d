//! First values of parameters: all fillers of Caffe.
//!
//! With `count` the number of elements, `num` and `channels` the first two sizes of the shape:
//!
//! | `type` | values |
//! |---|---|
//! | `constant` | `value` |
//! | `uniform` | uniform on [`min`, `max`] |
//! | `gaussian` | normal with `mean` and `std`; with `sparse` = s each is kept with probability s / num, else 0 |
//! | `positive_unitball` | uniform on [0, 1], each of the `num` rows divided by its sum |
//! | `xavier` | uniform on ±√(3 / n) (Glorot and Bengio, 2010) |
//! | `msra` | normal with variance 2 / n (He et al., 2015) |
//! | `bilinear` | kernels that upsample bilinearly, for Deconvolution |
//!
//! where n is, by `variance_norm`, fan_in = count / num, fan_out = count / channels (count if there is one
//! axis only) or their mean.

#[path = "filler_cuda.rs"]
mod cuda;

pub use cuda::{fill_on_device, kernels};

use crate::error::{Error, Kind, Result};
use crate::math::parallel::for_each_chunk;
use crate::math::random::{BLOCKS, side_by_side};
use crate::math::{Real, Stream};
use crate::proto::caffe::FillerParameter;
use crate::proto::caffe::filler_parameter::VarianceNorm;

/// Names of the fillers, as `type` takes them.
pub const FILLERS: [&str; 7] =
    ["constant", "gaussian", "uniform", "positive_unitball", "xavier", "msra", "bilinear"];

/// Fills `out`, the values of a blob of this shape, as the message says. Element i depends on the stream and
/// i alone, so the values are the same with any number of threads.
///
/// Errors: an unknown `type`; a value that makes no sense (the message names the field; the caller adds the
/// path to the filler); a shape the filler cannot fill, or that `out` does not have.
pub fn fill<T: Real>(
    param: &FillerParameter,
    shape: &[usize],
    stream: &mut Stream,
    out: &mut [T],
) -> Result<()> {
    match Recipe::new(param, shape, out.len())? {
        Recipe::Constant(value) => out.fill(T::from_f64(value)),
        Recipe::Uniform { min, max } => uniform_fill(min, max, stream, out),
        Recipe::Gaussian { mean, std, keep } => {
            gaussian_fill(mean, std, stream, out);
            keep.into_iter().for_each(|keep| thin_out(keep, stream, out));
        }
        Recipe::PositiveUnitball { row } => positive_unitball(row, stream, out),
        Recipe::Bilinear { size } => bilinear(size, out),
    }
    Ok(())
}

/// What there is to do, once the message makes sense and suits the shape.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Recipe {
    Constant(f64),
    Uniform {
        min: f64,
        max: f64,
    },
    Gaussian {
        mean: f64,
        std: f64,
        /// With which probability an element is kept, where not all are.
        keep: Option<f64>,
    },
    /// Rows of so many elements.
    PositiveUnitball {
        row: usize,
    },
    /// Kernels of so many rows and columns.
    Bilinear {
        size: usize,
    },
}

impl Recipe {
    /// For a buffer of so many values.
    fn new(param: &FillerParameter, shape: &[usize], len: usize) -> Result<Recipe> {
        if shape.iter().product::<usize>() != len {
            return Err(Error::new(Kind::Shape, "a filler's shape does not fit its buffer")
                .expected(format!("{shape:?}"))
                .found(format!("{len} values")));
        }
        let kind = param.r#type();
        if !FILLERS.contains(&kind) {
            return Err(Error::new(Kind::UnknownName, format!("unknown filler type \"{kind}\""))
                .expected(format!("one of {}", FILLERS.join(", ")))
                .suggest_nearest(kind, FILLERS));
        }
        if kind != "gaussian" && param.sparse() != -1 {
            return Err(value(
                format!("sparse has no meaning for the filler \"{kind}\""),
                "sparse only with gaussian",
            )
            .found(param.sparse()));
        }
        match kind {
            "constant" => Ok(Recipe::Constant(param.value().into())),
            "gaussian" => Recipe::gaussian(param, shape),
            "uniform" => {
                let (min, max) = (param.min(), param.max());
                if !(min <= max && (max - min).is_finite()) {
                    return Err(value("the range from min to max is empty", "finite numbers, min <= max")
                        .found(format!("min: {min}, max: {max}")));
                }
                Ok(Recipe::Uniform { min: min.into(), max: max.into() })
            }
            "positive_unitball" => {
                let row = shape.first().and_then(|&num| len.checked_div(num)).filter(|&row| row > 0);
                let empty = "positive_unitball needs rows with one element at least";
                let row =
                    row.ok_or_else(|| value(empty, "a shape that is not empty").found(format!("{shape:?}")))?;
                Ok(Recipe::PositiveUnitball { row })
            }
            "xavier" => {
                let scale = (3.0 / fan(param, shape, len)?).sqrt();
                Ok(Recipe::Uniform { min: -scale, max: scale })
            }
            "msra" => {
                let std = (2.0 / fan(param, shape, len)?).sqrt();
                Ok(Recipe::Gaussian { mean: 0.0, std, keep: None })
            }
            _ => {
                match *shape {
                    [_, _, height, width] if height == width => Ok(Recipe::Bilinear { size: width }),
                    [_, _, _, _] => Err(value("bilinear fills square kernels only", "height = width")
                        .found(format!("{shape:?}"))),
                    _ => Err(value("bilinear fills kernels only", "four axes").found(format!("{shape:?}"))),
                }
            }
        }
    }

    fn gaussian(param: &FillerParameter, shape: &[usize]) -> Result<Recipe> {
        let (mean, std, sparse) = (param.mean(), param.std(), param.sparse());
        if !(std >= 0.0 && std.is_finite() && mean.is_finite()) {
            return Err(value("mean and std of a gaussian filler make no sense", "finite numbers, std >= 0")
                .found(format!("mean: {mean}, std: {std}")));
        }
        // Caffe: on average `sparse` of the weights of a `num`-output layer are kept for each input.
        let num = shape.first().copied().unwrap_or(1);
        if sparse < -1 || usize::try_from(sparse).is_ok_and(|s| s > num) {
            let range = format!("-1 (dense) or 0 to {num} (the first size of the shape)");
            return Err(value("sparse of a gaussian filler is out of range", &range).found(sparse));
        }
        let keep = (sparse >= 0).then(|| f64::from(sparse) / num.max(1) as f64);
        Ok(Recipe::Gaussian { mean: mean.into(), std: std.into(), keep })
    }
}

fn value(message: impl Into<String>, expected: &str) -> Error {
    Error::new(Kind::Value, message).expected(expected)
}

/// n of the table above: what the variance is divided by.
fn fan(param: &FillerParameter, shape: &[usize], count: usize) -> Result<f64> {
    let number = param.variance_norm.unwrap_or(VarianceNorm::FanIn as i32);
    let norm = VarianceNorm::try_from(number).map_err(|_| {
        Error::new(Kind::Value, "unknown variance_norm")
            .expected("FAN_IN (0), FAN_OUT (1) or AVERAGE (2)")
            .found(number)
    })?;
    if count == 0 || shape.is_empty() {
        return Err(value(
            "xavier and msra need a blob with one axis and one element at least",
            "a shape with fans",
        )
        .found(format!("{shape:?}")));
    }
    let fan_in = (count / shape[0]) as f64;
    let fan_out = (count / shape.get(1).unwrap_or(&1)) as f64;
    Ok(match norm {
        VarianceNorm::FanIn => fan_in,
        VarianceNorm::FanOut => fan_out,
        VarianceNorm::Average => (fan_in + fan_out) / 2.0,
    })
}

/// Makes zeros of elements but where they are kept.
fn thin_out<T: Real>(keep: f64, stream: &mut Stream, out: &mut [T]) {
    let first = stream.reserve(out.len() as u64);
    for (i, x) in out.iter_mut().enumerate() {
        if !stream.bernoulli_at(first + i as u64, keep) {
            *x = T::zero();
        }
    }
}

/// Elements per task: a multiple of the four words of a block.
const CHUNK: usize = 1 << 12;

/// Four values from each block of the stream, blocks shared out over the threads. `four` should be inlined.
fn by_blocks<T: Real>(stream: &mut Stream, out: &mut [T], four: impl Fn(&Stream, u64) -> [f64; 4] + Sync) {
    let first = stream.reserve(out.len() as u64) / 4;
    let stream = &*stream;
    for_each_chunk(
        out,
        CHUNK,
        #[inline(always)]
        |at, chunk| {
            let mut values = [[0.0; BLOCKS]; 4];
            for (batch, chunk) in chunk.chunks_mut(4 * BLOCKS).enumerate() {
                let first = first + (at / 4 + batch * BLOCKS) as u64;
                side_by_side(
                    first,
                    &mut values,
                    #[inline(always)]
                    |block| four(stream, block),
                );
                for (i, chunk) in chunk.chunks_mut(4).enumerate() {
                    chunk.iter_mut().zip(&values).for_each(|(x, lane)| *x = T::from_f64(lane[i]));
                }
            }
        },
    );
}

fn gaussian_fill<T: Real>(mean: f64, std: f64, stream: &mut Stream, out: &mut [T]) {
    by_blocks(
        stream,
        out,
        #[inline(always)]
        |s, block| s.gaussians(block).map(|x| mean + std * x),
    );
}

fn uniform_fill<T: Real>(min: f64, max: f64, stream: &mut Stream, out: &mut [T]) {
    by_blocks(
        stream,
        out,
        #[inline(always)]
        |s, block| s.uniforms(block).map(|x| min + (max - min) * x),
    );
}

fn positive_unitball<T: Real>(row: usize, stream: &mut Stream, out: &mut [T]) {
    uniform_fill(0.0, 1.0, stream, out);
    for row in out.chunks_mut(row) {
        let sum: f64 = row.iter().map(|x| x.as_f64()).sum();
        // All zero has a probability of 2^-32 per element: a row of one element may see it.
        if sum > 0.0 {
            row.iter_mut().for_each(|x| *x = T::from_f64(x.as_f64() / sum));
        } else {
            row.fill(T::from_f64(1.0 / row.len() as f64));
        }
    }
}

fn bilinear<T: Real>(size: usize, out: &mut [T]) {
    let [f, c] = bilinear_factors(size);
    let weight = |i: usize| 1.0 - (i as f64 / f - c).abs();
    for (i, x) in out.iter_mut().enumerate() {
        *x = T::from_f64(weight(i % size) * weight(i / size % size));
    }
}

/// By which the place in a row is divided, and what is taken off then, for the distance from the middle.
fn bilinear_factors(size: usize) -> [f64; 2] {
    let f = size.div_ceil(2) as f64;
    [f, (size as f64 - 1.0) / (2.0 * f)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(kind: &str) -> FillerParameter {
        FillerParameter { r#type: Some(kind.into()), ..Default::default() }
    }

    fn filled(param: &FillerParameter, shape: &[usize]) -> Result<Vec<f32>> {
        let mut out = vec![f32::NAN; shape.iter().product()];
        fill(param, shape, &mut Stream::new(1, 0, 0), &mut out).map(|()| out)
    }

    fn mean_std(x: &[f32]) -> (f64, f64) {
        let n = x.len() as f64;
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        (mean, (x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n).sqrt())
    }

    #[test]
    fn constant_and_default() {
        assert_eq!(filled(&FillerParameter::default(), &[2, 2]).unwrap(), [0.0; 4]);
        let p = FillerParameter { value: Some(2.5), ..param("constant") };
        assert_eq!(filled(&p, &[3]).unwrap(), [2.5; 3]);
        assert_eq!(filled(&p, &[]).unwrap(), [2.5], "a scalar has one element");
    }

    #[test]
    fn gaussian_moments_and_sparsity() {
        let p = FillerParameter { mean: Some(3.0), std: Some(0.5), ..param("gaussian") };
        let (mean, std) = mean_std(&filled(&p, &[100, 500]).unwrap());
        assert!((mean - 3.0).abs() < 0.01 && (std - 0.5).abs() < 0.01, "{mean} {std}");
        let p = FillerParameter { sparse: Some(20), ..p };
        let x = filled(&p, &[100, 500]).unwrap();
        let kept: Vec<f32> = x.iter().copied().filter(|&x| x != 0.0).collect();
        assert!((9_500..10_500).contains(&kept.len()), "{}", kept.len());
        assert!((mean_std(&kept).0 - 3.0).abs() < 0.02);
        let none = FillerParameter { sparse: Some(0), ..param("gaussian") };
        assert_eq!(filled(&none, &[4, 4]).unwrap(), [0.0; 16]);
    }

    #[test]
    fn uniform_range() {
        let p = FillerParameter { min: Some(-2.0), max: Some(4.0), ..param("uniform") };
        let x = filled(&p, &[50_000]).unwrap();
        let (mean, std) = mean_std(&x);
        assert!((mean - 1.0).abs() < 0.03 && (std - 6.0 / 12f64.sqrt()).abs() < 0.03);
        assert!(x.iter().all(|x| (-2.0..=4.0).contains(x)));
        assert!(x.iter().any(|&x| x < -1.99) && x.iter().any(|&x| x > 3.99));
    }

    #[test]
    fn unitball_rows_sum_to_one() {
        let x = filled(&param("positive_unitball"), &[5, 3, 4]).unwrap();
        for row in x.chunks(12) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5 && row.iter().all(|&x| x >= 0.0));
        }
    }

    #[test]
    fn xavier_and_msra_by_fans() {
        // fan_in 30 * 8, fan_out 100 * 8.
        let shape = [100, 30, 2, 4];
        for (norm, n) in
            [(VarianceNorm::FanIn, 240.0), (VarianceNorm::FanOut, 800.0), (VarianceNorm::Average, 520.0f64)]
        {
            let with = |kind| FillerParameter { variance_norm: Some(norm as i32), ..param(kind) };
            let x = filled(&with("xavier"), &shape).unwrap();
            let largest = x.iter().fold(0f32, |m, x| m.max(x.abs()));
            assert!(f64::from(largest) <= (3.0 / n).sqrt() + 1e-6);
            assert!((mean_std(&x).1 * n.sqrt() - 1.0).abs() < 0.02);
            let x = filled(&with("msra"), &shape).unwrap();
            assert!((mean_std(&x).1 * (n / 2.0).sqrt() - 1.0).abs() < 0.02);
        }
        let vector = FillerParameter { variance_norm: Some(1), ..param("xavier") };
        assert!(filled(&vector, &[9]).unwrap().iter().all(|x| x.abs() <= (3f32 / 9.0).sqrt()));
    }

    #[test]
    fn bilinear_kernel() {
        let x = filled(&param("bilinear"), &[1, 2, 4, 4]).unwrap();
        let row = [0.25, 0.75, 0.75, 0.25];
        for (i, x) in x.iter().enumerate() {
            assert_eq!(*x, row[i % 4] * row[i / 4 % 4]);
        }
        let x = filled(&param("bilinear"), &[1, 1, 3, 3]).unwrap();
        assert_eq!(x, [0.25, 0.5, 0.25, 0.5, 1.0, 0.5, 0.25, 0.5, 0.25]);
    }

    #[test]
    fn same_numbers_on_any_number_of_threads() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| filled(&param("gaussian"), &[3 * CHUNK + 5]).unwrap())
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn two_fills_from_one_stream_differ() {
        let mut stream = Stream::new(1, 0, 0);
        let (mut a, mut b) = ([0f64; 5], [0f64; 5]);
        fill(&param("uniform"), &[5], &mut stream, &mut a).unwrap();
        fill(&param("uniform"), &[5], &mut stream, &mut b).unwrap();
        assert!(a.iter().zip(&b).all(|(a, b)| a != b));
    }

    #[test]
    fn bad_parameters() {
        let p = FillerParameter::default;
        let gaussian = || param("gaussian");
        let cases: [(FillerParameter, &[usize], &str); 10] = [
            (FillerParameter { std: Some(-1.0), ..gaussian() }, &[4], "std"),
            (FillerParameter { std: Some(f32::NAN), ..gaussian() }, &[4], "std"),
            (FillerParameter { sparse: Some(5), ..gaussian() }, &[4], "sparse"),
            (FillerParameter { sparse: Some(-2), ..gaussian() }, &[4], "sparse"),
            (FillerParameter { sparse: Some(1), ..p() }, &[4], "sparse"),
            (FillerParameter { min: Some(2.0), ..param("uniform") }, &[4], "min"),
            (FillerParameter { variance_norm: Some(9), ..param("msra") }, &[4], "variance_norm"),
            (param("bilinear"), &[2, 2], "bilinear"),
            (param("bilinear"), &[1, 1, 2, 3], "square"),
            (param("xavier"), &[0, 3], "xavier"),
        ];
        for (param, shape, word) in cases {
            let error = filled(&param, shape).unwrap_err();
            assert_eq!(error.kind(), Kind::Value);
            assert!(error.message().contains(word), "{error}");
        }
        let error = filled(&param("guassian"), &[1]).unwrap_err();
        assert_eq!(error.kind(), Kind::UnknownName);
        assert_eq!(error.suggestion(), Some("did you mean \"gaussian\"?"));
        let error = fill::<f32>(&p(), &[2], &mut Stream::new(1, 0, 0), &mut []).unwrap_err();
        assert_eq!(error.kind(), Kind::Shape);
    }
}
