//! Shapes and values of a [`BlobProto`].

use super::caffe::{BlobProto, BlobShape};
use super::file::read_bytes;
use crate::error::{Error, Kind, Result};
use num_traits::Float;
use prost::Message;
use std::path::Path;

impl BlobProto {
    /// A blob with single-precision data, as Caffe writes it.
    ///
    /// Errors: a dimension above 2⁶³ − 1, or another number of values than the dimensions say.
    pub fn from_data(dims: &[usize], data: Vec<f32>) -> Result<BlobProto> {
        let dim = dims.iter().map(|&d| i64::try_from(d)).collect::<std::result::Result<_, _>>();
        let dim = dim.map_err(|_| Error::new(Kind::Shape, format!("dimensions {dims:?} are too large")))?;
        let blob = BlobProto { shape: Some(BlobShape { dim }), data, ..BlobProto::default() };
        blob.fits(blob.data.len(), "data")?;
        Ok(blob)
    }

    /// Dimensions, outermost first: `num`, `channels`, `height`, `width` of old files, or `shape`.
    pub fn dims(&self) -> Result<Vec<usize>> {
        let old = [self.num, self.channels, self.height, self.width];
        let dims: Vec<i64> = if old.iter().any(Option::is_some) {
            old.iter().map(|d| d.unwrap_or(0).into()).collect()
        } else {
            self.shape.as_ref().map(|s| s.dim.clone()).unwrap_or_default()
        };
        let checked = dims.iter().map(|&d| usize::try_from(d)).collect::<std::result::Result<Vec<_>, _>>();
        let checked = checked.map_err(|_| {
            Error::new(Kind::Shape, format!("a blob with the dimensions {dims:?}"))
                .expected("dimensions of 0 or more")
        })?;
        match count(&checked) {
            Some(_) => Ok(checked),
            None => {
                let text = format!("a blob with the dimensions {dims:?}");
                Err(Error::new(Kind::Shape, text).expected("fewer elements than 2 to the power of 63"))
            }
        }
    }

    /// The values, from single or double precision. Errors: their number is not what the dimensions say.
    pub fn values<T: Float>(&self) -> Result<Vec<T>> {
        self.convert(&self.data, &self.double_data, "data")
    }

    /// The diff, empty if the blob has none. Errors: the number of values is not what the dimensions say.
    pub fn diffs<T: Float>(&self) -> Result<Vec<T>> {
        if self.diff.is_empty() && self.double_diff.is_empty() {
            return Ok(Vec::new());
        }
        self.convert(&self.diff, &self.double_diff, "diff")
    }

    /// Doubles come first, as in Caffe.
    fn convert<T: Float>(&self, single: &[f32], double: &[f64], what: &str) -> Result<Vec<T>> {
        // Every float type takes every value of the others, rounded.
        if double.is_empty() {
            self.fits(single.len(), what)?;
            Ok(single.iter().map(|&v| T::from(v).unwrap_or_else(T::nan)).collect())
        } else {
            self.fits(double.len(), what)?;
            Ok(double.iter().map(|&v| T::from(v).unwrap_or_else(T::nan)).collect())
        }
    }

    /// Checks that the dimensions are possible and the number of values is what they say.
    pub fn check(&self) -> Result<()> {
        let doubles = self.double_data.len();
        self.fits(if doubles == 0 { self.data.len() } else { doubles }, "data")
    }

    /// [`BlobProto::check`] of a blob whose values are elsewhere, so many of them.
    pub(super) fn check_count(&self, found: usize) -> Result<()> {
        self.fits(found, "data")
    }

    fn fits(&self, found: usize, what: &str) -> Result<()> {
        let dims = self.dims()?;
        match count(&dims) {
            Some(wanted) if wanted == found => Ok(()),
            wanted => {
                let text = format!("a blob with the dimensions {dims:?} and another number of values");
                let error = Error::new(Kind::Shape, text).found(format!("{found} in {what}"));
                Err(error.expected(wanted.map_or_else(|| "fewer".to_string(), |n| n.to_string())))
            }
        }
    }
}

/// Product of the dimensions, if it is one that a file can have.
fn count(dims: &[usize]) -> Option<usize> {
    if dims.contains(&0) {
        return Some(0);
    }
    let product = dims.iter().try_fold(1_usize, |n, &d| n.checked_mul(d))?;
    i64::try_from(product).is_ok().then_some(product)
}

/// A blob from the bytes of a file, such as a mean image.
pub fn decode_blob(bytes: &[u8]) -> Result<BlobProto> {
    let blob = super::binary::decode::<BlobProto>(bytes)?;
    blob.check()?;
    Ok(blob)
}

/// Reads a file with one blob (`mean.binaryproto`), whose number of values fits its dimensions.
pub fn read_blob(path: impl AsRef<Path>) -> Result<BlobProto> {
    decode_blob(&read_bytes(&path)?).map_err(|e| e.in_file(path.as_ref().display().to_string()))
}

/// Writes a file with one blob, atomically.
pub fn write_blob(path: impl AsRef<Path>, blob: &BlobProto) -> Result<()> {
    super::write_atomic(path, &blob.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn legacy(dims: [i32; 4], data: Vec<f32>) -> BlobProto {
        let [num, channels, height, width] = dims.map(Some);
        BlobProto { num, channels, height, width, data, ..BlobProto::default() }
    }

    #[test]
    fn old_and_new_shapes() {
        assert_eq!(legacy([1, 2, 1, 3], vec![]).dims().unwrap(), [1, 2, 1, 3]);
        let blob = BlobProto { num: Some(2), ..BlobProto::default() };
        assert_eq!(blob.dims().unwrap(), [2, 0, 0, 0]);
        let blob = BlobProto::from_data(&[2, 3], vec![0.5; 6]).unwrap();
        assert_eq!(blob.dims().unwrap(), [2, 3]);
        assert_eq!(blob.values::<f64>().unwrap(), [0.5; 6]);
        assert!(blob.diffs::<f32>().unwrap().is_empty());
        assert_eq!(BlobProto::from_data(&[], vec![7.0]).unwrap().values::<f32>().unwrap(), [7.0]);
    }

    #[test]
    fn doubles_are_read_in_both_precisions() {
        let shape = Some(BlobShape { dim: vec![2] });
        let blob = BlobProto { shape, double_data: vec![0.1, 1e300], ..BlobProto::default() };
        assert_eq!(blob.values::<f64>().unwrap(), [0.1, 1e300]);
        assert_eq!(blob.values::<f32>().unwrap(), [0.1, f32::INFINITY]);
    }

    #[test]
    fn counts_and_dimensions_that_do_not_fit() {
        assert!(BlobProto::from_data(&[2, 3], vec![0.0; 5]).is_err());
        let error = legacy([1, 1, 2, 2], vec![0.0; 3]).values::<f32>().unwrap_err();
        assert_eq!((error.kind(), error.expectation()), (Kind::Shape, Some("4")));
        for dim in [vec![-1], vec![i64::MAX, 2], vec![1 << 32, 1 << 32, 0, -5], vec![1 << 40, 1 << 40]] {
            let blob = BlobProto { shape: Some(BlobShape { dim }), ..BlobProto::default() };
            assert_eq!(blob.dims().unwrap_err().kind(), Kind::Shape);
        }
        assert!(decode_blob(&legacy([1, 1, 2, 2], vec![0.0; 3]).encode_to_vec()).is_err());
    }
}
