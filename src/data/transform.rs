//! From a record to the input of a net: crop, mirror, subtract the mean, scale.
//!
//! y\[c, i, j\] = (x\[c, top + i, left + j\] − mean) · scale, with j counted from the right in a mirrored image. The
//! mean is one value, one for each channel, or an image of the record's size (taken at the place in the record).

use super::Record;
use crate::error::{Error, Kind, Result};
use crate::math::{Real, Stream};
use crate::proto::caffe::{BlobProto, Phase, TransformationParameter};
use prost::Message;
use std::path::Path;

/// Does what a `TransformationParameter` says, as Caffe's data transformer does.
pub struct Transformer<T> {
    scale: T,
    mean: Mean<T>,
    /// Side of the square that is cut out; 0: the whole image.
    crop: usize,
    mirror: bool,
    phase: Phase,
}

enum Mean<T> {
    /// None, or one for all channels, or one for each.
    Values(Vec<T>),
    /// Shape and values of the mean image, and its file.
    Image([usize; 3], Vec<T>, String),
}

impl<T: Real> Transformer<T> {
    /// Reads the parameter and the mean file it may name. `force_color` and `force_gray` concern encoded images only.
    ///
    /// Errors: `mean_file` and `mean_value` together, a mean file that cannot be read, numbers that are not finite.
    pub fn new(param: &TransformationParameter, phase: Phase) -> Result<Transformer<T>> {
        let wrong = |field: &str, message: &str| Error::new(Kind::Value, message).in_field(&path(field));
        if !param.scale().is_finite() {
            return Err(wrong("scale", "scale must be finite").found(param.scale()));
        }
        if let Some(value) = param.mean_value.iter().find(|v| !v.is_finite()) {
            return Err(wrong("mean_value", "mean_value must be finite").found(value));
        }
        let mean = match &param.mean_file {
            Some(_) if !param.mean_value.is_empty() => {
                return Err(wrong("mean_value", "mean_file and mean_value cannot both be given")
                    .expected("one of them"));
            }
            Some(file) => read_mean(Path::new(file)).map_err(|e| e.in_field(&path("mean_file")))?,
            None => Mean::Values(param.mean_value.iter().map(|&v| T::from_f64(v.into())).collect()),
        };
        let scale = T::from_f64(param.scale().into());
        Ok(Transformer { scale, mean, crop: param.crop_size() as usize, mirror: param.mirror(), phase })
    }

    /// Channels, height and width that a record of this shape becomes.
    ///
    /// Errors: a record smaller than the crop, or of another shape than the mean.
    pub fn output_shape(&self, record: [usize; 3]) -> Result<[usize; 3]> {
        let [channels, height, width] = record;
        let found = || format!("a record of {channels} x {height} x {width}");
        let wrong = |field: &str, message: &str| Error::new(Kind::Shape, message).in_field(&path(field));
        match &self.mean {
            Mean::Image(shape, _, file) if *shape != record => {
                return Err(wrong("mean_file", "the mean image has not the shape of the records")
                    .expected(format!("{} x {} x {}, the shape of {file}", shape[0], shape[1], shape[2]))
                    .found(found()));
            }
            Mean::Values(v) if v.len() > 1 && v.len() != channels => {
                return Err(wrong("mean_value", "give one mean_value, or one for each channel")
                    .expected(format!("1 or {} channels", v.len()))
                    .found(found()));
            }
            _ => {}
        }
        if self.crop == 0 {
            return Ok(record);
        }
        if self.crop > height.min(width) {
            return Err(wrong("crop_size", "crop_size is larger than a record")
                .expected(format!("height and width of {} at least", self.crop))
                .found(found()));
        }
        Ok([channels, self.crop, self.crop])
    }

    /// Writes the transformed record to `out`, channels × height × width as [`Transformer::output_shape`] says. In the
    /// TRAIN phase the crop is random, else it is the middle; mirroring is random in both, as in Caffe. The stream
    /// belongs to this record alone.
    pub fn apply(&self, record: &Record, stream: &mut Stream, out: &mut [T]) -> Result<()> {
        let [channels, rows, columns] = self.output_shape(record.shape)?;
        let [_, height, width] = record.shape;
        let (spare_rows, spare_columns) = (height - rows, width - columns);
        // Always three draws in this order, so that a field changed leaves the other choices as they were.
        let mut draw = |n: usize| stream.below(n as u64) as usize;
        let (top, left, mirror) =
            (draw(spare_rows + 1), draw(spare_columns + 1), draw(2) == 1 && self.mirror);
        let (top, left) = match self.phase {
            Phase::Train => (top, left),
            Phase::Test => (spare_rows / 2, spare_columns / 2),
        };
        let values = if record.bytes.is_empty() { record.floats.len() } else { record.bytes.len() };
        if values != channels * height * width || out.len() != channels * rows * columns {
            return Err(Error::new(
                Kind::Shape,
                format!("record \"{}\" does not fit its shape or place", record.key),
            ));
        }
        for (i, line) in out.chunks_mut(columns).enumerate() {
            let (channel, row) = (i / rows, i % rows);
            let from = (channel * height + top + row) * width + left;
            let window = from..from + columns;
            if record.bytes.is_empty() {
                copy(&record.floats[window.clone()], line, |&x| T::from_f64(x.into()));
            } else {
                copy(&record.bytes[window.clone()], line, |&x| T::from_f64(x.into()));
            }
            match &self.mean {
                Mean::Image(_, mean, _) => line.iter_mut().zip(&mean[window]).for_each(|(y, &m)| *y -= m),
                Mean::Values(mean) => {
                    if let Some(&m) = mean.get(channel).or(mean.first()) {
                        line.iter_mut().for_each(|y| *y -= m);
                    }
                }
            }
            line.iter_mut().for_each(|y| *y *= self.scale);
            if mirror {
                line.reverse();
            }
        }
        Ok(())
    }
}

fn copy<S, T>(from: &[S], to: &mut [T], convert: impl Fn(&S) -> T) {
    to.iter_mut().zip(from).for_each(|(y, x)| *y = convert(x));
}

fn path(field: &str) -> String {
    format!("transform_param.{field}")
}

/// Reads a mean image as `compute_image_mean` writes it: a binary `BlobProto`.
fn read_mean<T: Real>(path: &Path) -> Result<Mean<T>> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read the mean", &e))?;
    let refuse = |message: String| Error::new(Kind::Data, message).in_file(&*name);
    let blob = BlobProto::decode(bytes.as_slice())
        .map_err(|e| refuse(format!("the mean file is corrupt: {e}")).expected("a binary BlobProto"))?;
    let sizes: Vec<i64> = match &blob.shape {
        Some(shape) => shape.dim.clone(),
        None => [blob.num(), blob.channels(), blob.height(), blob.width()].map(i64::from).to_vec(),
    };
    let values: Vec<f64> = match blob.double_data.is_empty() {
        true => blob.data.iter().map(|&v| v.into()).collect(),
        false => blob.double_data,
    };
    let shape: Vec<usize> = sizes.iter().filter_map(|&d| usize::try_from(d).ok()).collect();
    // Leading axes that are missing count as 1; a batch of means makes no sense.
    let shape = match *shape.as_slice() {
        _ if shape.len() != sizes.len() => None,
        [h, w] => Some([1, h, w]),
        [c, h, w] | [1, c, h, w] => Some([c, h, w]),
        _ => None,
    };
    let size = shape.and_then(|s| s.iter().try_fold(1usize, |n, &d| n.checked_mul(d)));
    match (shape, size) {
        (Some(shape), Some(size)) if size == values.len() && size > 0 => {
            if values.iter().any(|v| !v.is_finite()) {
                return Err(refuse("the mean file holds numbers that are not finite".to_string()));
            }
            Ok(Mean::Image(shape, values.into_iter().map(T::from_f64).collect(), name))
        }
        _ => Err(refuse("the mean file holds no image".to_string())
            .expected("a blob of 1 x channels x height x width")
            .found(format!("shape {sizes:?} with {} values", values.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::Purpose;
    use crate::proto::caffe::BlobShape;

    fn record() -> Record {
        let bytes = (0..24).collect();
        Record { key: "r".into(), shape: [2, 3, 4], bytes, ..Default::default() }
    }

    fn stream(n: u64) -> Stream {
        Stream::of(Purpose::Record, 1, 0, n)
    }

    fn apply(param: &TransformationParameter, phase: Phase, n: u64) -> Result<Vec<f32>> {
        let t = Transformer::new(param, phase)?;
        let mut out = vec![f32::NAN; t.output_shape([2, 3, 4])?.iter().product()];
        t.apply(&record(), &mut stream(n), &mut out).map(|()| out)
    }

    #[test]
    fn scale_and_mean_values() {
        let p = TransformationParameter { scale: Some(0.5), mean_value: vec![2.0], ..Default::default() };
        let expected: Vec<f32> = (0..24).map(|x| (x as f32 - 2.0) * 0.5).collect();
        assert_eq!(apply(&p, Phase::Train, 0).unwrap(), expected);
        let p = TransformationParameter { mean_value: vec![1.0, 10.0], ..Default::default() };
        let y = apply(&p, Phase::Test, 0).unwrap();
        assert_eq!((y[0], y[11], y[12], y[23]), (-1.0, 10.0, 2.0, 13.0));
        let floats: Vec<f32> = (0..24).map(|x| x as f32).collect();
        let float_record = Record { bytes: vec![], floats: floats.clone(), ..record() };
        let mut out = vec![0.0; 24];
        let t = Transformer::<f64>::new(&Default::default(), Phase::Test).unwrap();
        t.apply(&float_record, &mut stream(0), &mut out).unwrap();
        assert_eq!(out, floats.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
    }

    #[test]
    fn centre_crop_in_test() {
        let p = TransformationParameter { crop_size: Some(2), ..Default::default() };
        // Rows 0 and 1 ((3 - 2) / 2 = 0), columns 1 and 2.
        assert_eq!(apply(&p, Phase::Test, 0).unwrap(), [1.0, 2.0, 5.0, 6.0, 13.0, 14.0, 17.0, 18.0]);
    }

    #[test]
    fn random_crop_and_mirror_in_train_reach_every_place() {
        let p = TransformationParameter { crop_size: Some(2), mirror: Some(true), ..Default::default() };
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..300 {
            let y = apply(&p, Phase::Train, n).unwrap();
            assert_eq!(y, apply(&p, Phase::Train, n).unwrap(), "a record's stream decides");
            let (mirrored, first) = (y[0] > y[1], y[0].min(y[1]));
            let plain: Vec<f32> = [0, 1, 4, 5, 12, 13, 16, 17].iter().map(|&d| first + d as f32).collect();
            let expected: Vec<f32> = match mirrored {
                true => plain.chunks(2).flat_map(|c| [c[1], c[0]]).collect(),
                false => plain,
            };
            assert_eq!(y, expected);
            seen.insert((first as usize, mirrored));
        }
        // 2 rows x 3 columns x 2.
        assert_eq!(seen.len(), 12);
        let p = TransformationParameter { mirror: Some(true), ..Default::default() };
        let firsts: Vec<f32> = (0..50).map(|n| apply(&p, Phase::Test, n).unwrap()[0]).collect();
        assert!(firsts.contains(&0.0) && firsts.contains(&3.0), "mirrors in TEST too, as Caffe does");
    }

    #[test]
    fn mean_file_is_taken_at_the_place_in_the_record() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mean.binaryproto");
        let param = |crop| TransformationParameter {
            mean_file: Some(file.display().to_string()),
            crop_size: Some(crop),
            scale: Some(2.0),
            ..Default::default()
        };
        let data: Vec<f32> = (0..24).map(|x| (x * x) as f32).collect();
        let shape = BlobShape { dim: vec![1, 2, 3, 4] };
        std::fs::write(
            &file,
            BlobProto { shape: Some(shape), data: data.clone(), ..Default::default() }.encode_to_vec(),
        )
        .unwrap();
        let y = apply(&param(2), Phase::Test, 0).unwrap();
        let expected = [1.0f32, 2.0, 5.0, 6.0, 13.0, 14.0, 17.0, 18.0].map(|x| 2.0 * (x - x * x));
        assert_eq!(y, expected);

        let legacy = BlobProto {
            num: Some(1),
            channels: Some(2),
            height: Some(3),
            width: Some(4),
            data,
            ..Default::default()
        };
        std::fs::write(&file, legacy.encode_to_vec()).unwrap();
        assert_eq!(apply(&param(2), Phase::Test, 0).unwrap(), expected);

        std::fs::write(&file, BlobProto { width: Some(5), ..legacy.clone() }.encode_to_vec()).unwrap();
        assert!(apply(&param(0), Phase::Test, 0).unwrap_err().message().contains("no image"));
        let wider = BlobProto { width: Some(2), height: Some(6), ..legacy };
        std::fs::write(&file, wider.encode_to_vec()).unwrap();
        assert_eq!(apply(&param(0), Phase::Test, 0).unwrap_err().kind(), Kind::Shape);
        std::fs::write(&file, b"\xff\xff").unwrap();
        let error = apply(&param(0), Phase::Test, 0).unwrap_err();
        assert!(error.message().contains("corrupt") && error.field() == Some("transform_param.mean_file"));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(apply(&param(0), Phase::Test, 0).unwrap_err().kind(), Kind::Io);
    }

    #[test]
    fn bad_parameters() {
        let p = TransformationParameter::default;
        let both = TransformationParameter { mean_file: Some("x".into()), mean_value: vec![1.0], ..p() };
        assert_eq!(apply(&both, Phase::Test, 0).unwrap_err().kind(), Kind::Value);
        let cases = [
            (TransformationParameter { crop_size: Some(4), ..p() }, "transform_param.crop_size"),
            (TransformationParameter { mean_value: vec![1.0; 3], ..p() }, "transform_param.mean_value"),
            (TransformationParameter { scale: Some(f32::NAN), ..p() }, "transform_param.scale"),
        ];
        for (param, field) in cases {
            assert_eq!(apply(&param, Phase::Test, 0).unwrap_err().field(), Some(field));
        }
    }
}
