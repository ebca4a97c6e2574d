//! The extents of a blob.

use crate::error::{Error, Kind, Result};
use std::fmt;
use std::ops::Deref;

/// Extents of a blob, outermost first (N×C×H×W for images). No axes at all is a scalar of one element.
///
/// It reads as a slice of `usize`; the number of elements always fits an `isize`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(Vec<usize>);

/// More axes than this are refused, as in Caffe.
pub const MAX_AXES: usize = 32;

impl Shape {
    /// A shape of these extents; an error where it has over 32 axes or more elements than memory can address.
    pub fn new(dims: impl Into<Vec<usize>>) -> Result<Shape> {
        let dims = dims.into();
        if dims.len() > MAX_AXES {
            return Err(Error::new(Kind::Shape, format!("a blob of {} axes", dims.len()))
                .expected(format!("at most {MAX_AXES} axes")));
        }
        // Eight bytes an element is the largest type; a bound here makes every later product safe.
        let limit = isize::MAX as usize / 8;
        let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d).filter(|&n| n <= limit));
        match count {
            Some(_) => Ok(Shape(dims)),
            None => {
                Err(Error::new(Kind::Shape, "a blob too large for this machine").found(format!("{dims:?}")))
            }
        }
    }

    /// From the `dim` fields of a message, which may not be negative.
    pub fn from_dims(dims: &[i64]) -> Result<Shape> {
        let dims: Result<Vec<usize>> = dims
            .iter()
            .map(|&d| {
                usize::try_from(d).map_err(|_| {
                    Error::new(Kind::Shape, "a negative dimension").expected("dim: 0 or more").found(d)
                })
            })
            .collect();
        Shape::new(dims?)
    }

    /// The shape of a single number.
    pub fn scalar() -> Shape {
        Shape(Vec::new())
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.0.iter().product()
    }

    /// Number of elements from this axis on (1 at the end).
    pub fn count_from(&self, axis: usize) -> usize {
        self.0.iter().skip(axis).product()
    }

    /// Number of elements before this axis.
    pub fn count_to(&self, axis: usize) -> usize {
        self.0.iter().take(axis).product()
    }

    /// The axis that `axis` means, where −1 is the last; an error where there is none.
    pub fn axis(&self, axis: i32) -> Result<usize> {
        let n = self.0.len() as i64;
        let wanted = if axis < 0 { i64::from(axis) + n } else { i64::from(axis) };
        if (0..n).contains(&wanted) {
            return Ok(wanted as usize);
        }
        Err(Error::new(Kind::Shape, format!("axis {axis} of a blob with {n} axes"))
            .expected(format!("an axis from {} to {}", -n, n - 1))
            .found(format!("shape {self}")))
    }

    /// The extent at an axis, 1 where the shape has fewer axes (Caffe's legacy num, channels, height, width).
    pub fn legacy(&self, axis: usize) -> usize {
        self.0.get(axis).copied().unwrap_or(1)
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.0
    }
}

/// As Caffe's log has it: `64 20 24 24 (737280)`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for d in &self.0 {
            write!(f, "{d} ")?;
        }
        write!(f, "({})", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_axes() {
        let s = Shape::new([2, 3, 4]).unwrap();
        assert_eq!((s.count(), s.count_from(1), s.count_to(1), s.count_from(3)), (24, 12, 2, 1));
        assert_eq!((s.axis(-1).unwrap(), s.axis(0).unwrap()), (2, 0));
        assert!(s.axis(3).is_err() && s.axis(-4).is_err());
        assert_eq!(s.to_string(), "2 3 4 (24)");
        assert_eq!(Shape::scalar().count(), 1);
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert!(Shape::new([usize::MAX, 2]).is_err());
        assert!(Shape::new([1 << 40, 1 << 40]).is_err());
        assert!(Shape::new(vec![1; 33]).is_err());
        assert!(Shape::from_dims(&[2, -1]).is_err());
    }
}
