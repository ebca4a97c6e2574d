//! Where the windows of a pooling lie along one axis.

use crate::error::{Error, Kind, Result};
use crate::proto::caffe::pooling_parameter::RoundMode;
use std::ops::Range;

/// Windows along one axis: window `p` begins at `p·stride − pad`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    pub input: usize,
    pub output: usize,
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
}

impl Axis {
    /// Counts the windows by Caffe's rule: rounded as `round` says; with a pad, a last window that begins behind the
    /// image and its pad is left out.
    pub fn new(input: usize, kernel: usize, stride: usize, pad: usize, round: RoundMode) -> Result<Axis> {
        // All are below 2³³, so nothing here overflows.
        let room = input as i64 + 2 * pad as i64 - kernel as i64;
        let stride_ = stride as i64;
        let steps = match round {
            RoundMode::Ceil => (room + stride_ - 1).div_euclid(stride_),
            RoundMode::Floor => room.div_euclid(stride_),
        };
        let mut output = usize::try_from(steps + 1).unwrap_or(0);
        if pad > 0 && output > 0 && (output - 1) * stride >= input + pad {
            output -= 1;
        }
        if output == 0 || input == 0 {
            return Err(Error::new(Kind::Shape, "the pooling window is larger than the padded image")
                .expected(format!("at most {}", input + 2 * pad))
                .found(kernel));
        }
        let axis = Axis { input, output, kernel, stride, pad };
        if axis.range(output - 1).is_empty() {
            return Err(Error::new(Kind::Shape, "the last pooling window lies outside of the image")
                .found(format!("size {input}, window {kernel}, stride {stride}"))
                .suggest("round_mode: FLOOR, or a stride of at most the window"));
        }
        Ok(axis)
    }

    /// The part of window `p` that lies in the image.
    #[inline(always)]
    pub fn range(&self, p: usize) -> Range<usize> {
        let begin = p * self.stride;
        let end = (begin + self.kernel).saturating_sub(self.pad).min(self.input);
        begin.saturating_sub(self.pad).min(end)..end
    }

    /// Length of window `p` in the image and its pad: the divisor of an average.
    #[inline(always)]
    pub fn padded_len(&self, p: usize) -> usize {
        let begin = p * self.stride;
        (begin + self.kernel).min(self.input + 2 * self.pad) - begin
    }

    /// The windows that lie in the image as a whole.
    pub fn whole(&self) -> Range<usize> {
        let begin = self.pad.div_ceil(self.stride).min(self.output);
        let fits = (self.input + self.pad).checked_sub(self.kernel);
        let end = fits.map_or(0, |last| last / self.stride + 1).min(self.output);
        begin..end.max(begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_as_caffe_counts_them() {
        let n =
            |input, kernel, stride, pad, round| Axis::new(input, kernel, stride, pad, round).unwrap().output;
        assert_eq!(n(24, 2, 2, 0, RoundMode::Ceil), 12);
        assert_eq!(n(112, 3, 2, 0, RoundMode::Ceil), 56);
        assert_eq!(n(112, 3, 2, 0, RoundMode::Floor), 55);
        // With a pad the last window, which would begin behind the image, is left out.
        assert_eq!(n(3, 2, 2, 1, RoundMode::Ceil), 2);
        // A window larger than the image still fits once by rounding up.
        assert_eq!(n(2, 3, 2, 0, RoundMode::Ceil), 1);
    }

    #[test]
    fn ranges_divisors_and_whole_windows() {
        let axis = Axis::new(7, 3, 2, 1, RoundMode::Ceil).unwrap();
        let all: Vec<_> = (0..axis.output).map(|p| (axis.range(p), axis.padded_len(p))).collect();
        assert_eq!(all, [(0..2, 3), (1..4, 3), (3..6, 3), (5..7, 3)]);
        assert_eq!(axis.whole(), 1..3);
        let axis = Axis::new(6, 3, 2, 0, RoundMode::Ceil).unwrap();
        assert_eq!((axis.range(2), axis.padded_len(2), axis.whole()), (4..6, 2, 0..2));
        assert_eq!(Axis::new(2, 3, 2, 0, RoundMode::Ceil).unwrap().whole(), 0..0);
    }

    #[test]
    fn impossible_windows_are_refused() {
        assert!(Axis::new(2, 4, 1, 0, RoundMode::Ceil).is_err());
        assert!(Axis::new(2, 3, 2, 0, RoundMode::Floor).is_err());
        assert!(Axis::new(0, 1, 1, 0, RoundMode::Ceil).is_err());
        let e = Axis::new(56, 1, 2, 0, RoundMode::Ceil).unwrap_err();
        assert!(e.message().contains("outside"), "{e}");
    }
}
