//! IDX files, the format MNIST comes in: arrays of bytes or numbers, often gzipped.
//!
//! Two zero bytes, the type of the elements, the number of axes, the sizes (u32), the elements; all big-endian.
//! <http://yann.lecun.com/exdb/mnist/>

use super::datum::missing_label;
use super::{Record, RecordSource};
use crate::error::{Error, Kind, Result};
use flate2::read::MultiGzDecoder;
use std::fmt::Write;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// An array read from an IDX file.
pub struct IdxArray {
    /// Sizes of its axes, one at least.
    pub shape: Vec<usize>,
    /// Its elements.
    pub values: IdxValues,
}

/// Elements of an IDX file: bytes as they are, other types as f32 (wide integers and doubles are rounded).
#[derive(Clone, Debug, PartialEq)]
pub enum IdxValues {
    /// Type 0x08.
    Bytes(Vec<u8>),
    /// Types 0x09 (i8), 0x0B (i16), 0x0C (i32), 0x0D (f32), 0x0E (f64).
    Floats(Vec<f32>),
}

impl IdxArray {
    /// Reads a file, gzipped or not: its first bytes tell, not its name.
    ///
    /// Errors: a file that cannot be read, that is no IDX file, or that has fewer or more bytes than its header says.
    pub fn open(path: &Path) -> Result<IdxArray> {
        let failed = |e: &io::Error| Error::io(path, "read", e);
        let mut file = BufReader::new(File::open(path).map_err(|e| failed(&e))?);
        let gzipped = file.fill_buf().map_err(|e| failed(&e))?.starts_with(&[0x1f, 0x8b]);
        let read = if gzipped { IdxArray::read(MultiGzDecoder::new(file)) } else { IdxArray::read(file) };
        read.map_err(|e| e.in_file(path.display().to_string()))
    }

    /// Reads the bytes of an IDX file to their end.
    pub fn read(mut from: impl Read) -> Result<IdxArray> {
        let mut magic = [0; 4];
        from.read_exact(&mut magic).map_err(|e| broken(&e))?;
        let [0, 0, kind, axes @ 1..=255] = magic else {
            return Err(Error::new(Kind::Syntax, "this is no IDX file")
                .expected("two zero bytes, the type of the elements, the number of axes")
                .found(format!("{magic:02x?}")));
        };
        let width = match kind {
            0x08 | 0x09 => 1,
            0x0B => 2,
            0x0C | 0x0D => 4,
            0x0E => 8,
            _ => {
                return Err(Error::new(Kind::Syntax, "unknown type of elements in an IDX file")
                    .expected("0x08, 0x09, 0x0b, 0x0c, 0x0d or 0x0e")
                    .found(format!("{kind:#04x}")));
            }
        };
        let mut shape = Vec::with_capacity(axes.into());
        for _ in 0..axes {
            let mut size = [0; 4];
            from.read_exact(&mut size).map_err(|e| broken(&e))?;
            shape.push(u32::from_be_bytes(size) as usize);
        }
        let size = shape.iter().try_fold(width, |n: usize, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
        // The header is not trusted: memory is taken as bytes come, and one byte too many is enough to know.
        let mut bytes = Vec::new();
        from.take((size as u64).saturating_add(1)).read_to_end(&mut bytes).map_err(|e| broken(&e))?;
        if bytes.len() != size {
            let more = bytes.len() > size;
            return Err(Error::new(Kind::Data, "an IDX file has not the size its header says")
                .expected(format!("{shape:?} elements of {width} bytes: {size} bytes"))
                .found(if more { "more".to_string() } else { format!("{} bytes", bytes.len()) }));
        }
        Ok(IdxArray { shape, values: values(kind, bytes) })
    }
}

fn broken(error: &io::Error) -> Error {
    let what = match error.kind() {
        io::ErrorKind::UnexpectedEof => "an IDX file is cut short".to_string(),
        _ => format!("an IDX file cannot be read: {error}"),
    };
    Error::new(Kind::Data, what)
}

fn values(kind: u8, bytes: Vec<u8>) -> IdxValues {
    fn each<const N: usize>(bytes: &[u8], number: fn([u8; N]) -> f32) -> IdxValues {
        IdxValues::Floats(bytes.as_chunks().0.iter().map(|&b| number(b)).collect())
    }
    match kind {
        0x09 => each(&bytes, |b| f32::from(i8::from_be_bytes(b))),
        0x0B => each(&bytes, |b| f32::from(i16::from_be_bytes(b))),
        0x0C => each(&bytes, |b| i32::from_be_bytes(b) as f32),
        0x0D => each(&bytes, f32::from_be_bytes),
        0x0E => each(&bytes, |b| f64::from_be_bytes(b) as f32),
        _ => IdxValues::Bytes(bytes),
    }
}

/// Records from an IDX file of images, labels in a second file beside it. Both are held in memory.
pub struct IdxSource {
    name: String,
    images: IdxArray,
    shape: [usize; 3],
    /// Empty where there is no labels file.
    labels: Vec<i32>,
}

impl IdxSource {
    /// Opens an images file of count × height × width, count × channels × height × width, count × channels, or count
    /// elements. The labels file has its name with `images` replaced by `labels` and `idx3` by `idx1`, with or without
    /// `.gz`; where there is none the records have no label.
    ///
    /// Errors: those of [`IdxArray::open`] for both files; no images; labels that are not one integer for each image.
    pub fn open(path: &Path) -> Result<IdxSource> {
        let images = IdxArray::open(path)?;
        let name = path.display().to_string();
        let shape = match *images.shape.as_slice() {
            [_] => [1, 1, 1],
            [_, channels] => [channels, 1, 1],
            [_, height, width] => [1, height, width],
            [_, channels, height, width] => [channels, height, width],
            _ => {
                return Err(Error::new(Kind::Data, "an IDX file of images has too many axes")
                    .expected("count x channels x height x width at most")
                    .found(format!("{:?}", images.shape))
                    .in_file(name));
            }
        };
        if images.shape.contains(&0) {
            return Err(Error::new(Kind::Data, "an IDX file has no images")
                .found(format!("shape {:?}", images.shape))
                .in_file(name));
        }
        let labels = match labels_beside(path) {
            Some(path) => read_labels(&path, images.shape[0])?,
            None => Vec::new(),
        };
        Ok(IdxSource { name, images, shape, labels })
    }
}

/// The labels file that belongs to an images file, if it exists.
fn labels_beside(images: &Path) -> Option<PathBuf> {
    let images_name = images.file_name()?.to_str()?;
    let name = images_name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1");
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    [name.clone(), plain.to_string(), format!("{plain}.gz")]
        .into_iter()
        .filter(|name| name != images_name)
        .map(|name| images.with_file_name(name))
        .find(|path| path.is_file())
}

fn read_labels(path: &Path, count: usize) -> Result<Vec<i32>> {
    let array = IdxArray::open(path)?;
    let refuse = |message: &str| Error::new(Kind::Data, message).in_file(path.display().to_string());
    if array.shape != [count] {
        return Err(refuse("an IDX file has not one label for each image")
            .expected(format!("{count} labels"))
            .found(format!("shape {:?}", array.shape)));
    }
    match array.values {
        IdxValues::Bytes(bytes) => Ok(bytes.into_iter().map(i32::from).collect()),
        IdxValues::Floats(floats) => floats
            .into_iter()
            .map(|x| match x as i32 {
                // Above 2^24 a float no longer tells neighbours apart.
                label if label as f32 == x && x.abs() <= 16_777_216.0 => Ok(label),
                _ => Err(refuse("a label is no integer of at most 24 bits").found(x)),
            })
            .collect(),
    }
}

impl RecordSource for IdxSource {
    fn count(&self) -> usize {
        self.images.shape.first().copied().unwrap_or(0)
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read(&mut self, index: usize, record: &mut Record) -> Result<()> {
        if index >= self.count() {
            let message = format!("record {index} of {} is not there", self.count());
            return Err(Error::new(Kind::Data, message).in_file(&*self.name));
        }
        record.key.clear();
        // Writing to a string cannot fail.
        let _ = write!(record.key, "{index}");
        record.shape = self.shape;
        record.label = self.labels.get(index).copied();
        record.bytes.clear();
        record.floats.clear();
        let size: usize = self.shape.iter().product();
        let range = index * size..(index + 1) * size;
        match &self.images.values {
            IdxValues::Bytes(values) => record.bytes.extend_from_slice(&values[range]),
            IdxValues::Floats(values) => record.floats.extend_from_slice(&values[range]),
        }
        Ok(())
    }

    fn labels(&mut self) -> Result<Vec<i32>> {
        if self.labels.is_empty() {
            return Err(missing_label("0").in_file(&*self.name));
        }
        Ok(self.labels.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::{Purpose, Stream};
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    fn idx(kind: u8, shape: &[u32], bytes: &[u8]) -> Vec<u8> {
        let mut file = vec![0, 0, kind, shape.len() as u8];
        shape.iter().for_each(|d| file.extend(d.to_be_bytes()));
        file.extend(bytes);
        file
    }

    fn floats(kind: u8, bytes: &[u8], count: u32) -> Vec<f32> {
        match IdxArray::read(idx(kind, &[count], bytes).as_slice()).unwrap().values {
            IdxValues::Floats(v) => v,
            IdxValues::Bytes(_) => panic!("bytes"),
        }
    }

    #[test]
    fn every_type_of_element() {
        let bytes = IdxArray::read(idx(8, &[1, 2], &[7, 255]).as_slice()).unwrap();
        assert_eq!((bytes.shape, bytes.values), (vec![1, 2], IdxValues::Bytes(vec![7, 255])));
        assert_eq!(floats(0x09, &[255, 2], 2), [-1.0, 2.0]);
        assert_eq!(floats(0x0B, &[1, 0, 255, 254], 2), [256.0, -2.0]);
        assert_eq!(floats(0x0C, &(-70_000i32).to_be_bytes(), 1), [-70_000.0]);
        assert_eq!(floats(0x0D, &1.5f32.to_be_bytes(), 1), [1.5]);
        assert_eq!(floats(0x0E, &(-2.25f64).to_be_bytes(), 1), [-2.25]);
    }

    #[test]
    fn bad_files_are_refused() {
        let good = idx(8, &[2, 1, 2], &[1, 2, 3, 4]);
        assert!(IdxArray::read(good.as_slice()).is_ok());
        for cut in 0..good.len() {
            assert!(IdxArray::read(&good[..cut]).is_err(), "cut at {cut}");
        }
        let kind = |bytes: Vec<u8>| IdxArray::read(bytes.as_slice()).err().map(|e| e.kind());
        assert_eq!(kind([good.as_slice(), &[0]].concat()), Some(Kind::Data), "one byte too many");
        assert_eq!(kind(idx(0x0A, &[1], &[1])), Some(Kind::Syntax));
        assert_eq!(kind(idx(8, &[], &[1])), Some(Kind::Syntax), "no axes");
        assert_eq!(kind(b"PNG....".to_vec()), Some(Kind::Syntax));
        assert_eq!(kind(idx(0x0E, &[u32::MAX; 5], &[0; 64])), Some(Kind::Data), "a size that overflows");
    }

    #[test]
    fn mutated_files_never_panic() {
        let good = idx(0x0B, &[2, 3], &[5; 12]);
        let mut stream = Stream::of(Purpose::Check, 2, 0, 0);
        let mut refused = 0;
        for _ in 0..50_000 {
            let mut bytes = good.clone();
            let at = stream.below(12) as usize;
            bytes[at] = stream.next_u32() as u8;
            bytes.truncate(bytes.len() - (stream.below(2) * stream.below(13)) as usize);
            refused += usize::from(IdxArray::read(bytes.as_slice()).is_err());
        }
        assert!(refused > 25_000, "{refused}");
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gz = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(bytes).unwrap();
        gz.finish().unwrap()
    }

    #[test]
    fn labels_beside_the_images_gzipped_or_not() {
        let images = idx(0x0D, &[2, 1, 1], &[1.0f32.to_be_bytes(), 2.0f32.to_be_bytes()].concat());
        let labels = idx(8, &[2], &[3, 4]);
        for (zip_images, labels_name, zip_labels) in [
            (false, "t-labels-idx1-ubyte", false),
            (true, "t-labels-idx1-ubyte.gz", true),
            (true, "t-labels-idx1-ubyte", false),
            // The name says nothing about the content.
            (false, "t-labels-idx1-ubyte.gz", false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path =
                folder.path().join(if zip_images { "t-images-idx3-ubyte.gz" } else { "t-images-idx3-ubyte" });
            std::fs::write(&path, if zip_images { gzip(&images) } else { images.clone() }).unwrap();
            let mut source = IdxSource::open(&path).unwrap();
            assert!(source.labels().unwrap_err().message().contains("no label"));
            std::fs::write(
                folder.path().join(labels_name),
                if zip_labels { gzip(&labels) } else { labels.clone() },
            )
            .unwrap();
            let mut source = IdxSource::open(&path).unwrap();
            let mut record = Record::default();
            source.read(1, &mut record).unwrap();
            assert_eq!(
                (record.floats.as_slice(), record.label, record.shape),
                (&[2.0][..], Some(4), [1, 1, 1])
            );
            assert_eq!(source.labels().unwrap(), [3, 4]);
            assert!(source.read(2, &mut record).is_err());
            std::fs::write(folder.path().join(labels_name), idx(8, &[3], &[1, 2, 3])).unwrap();
            let error = IdxSource::open(&path).err().unwrap();
            assert!(error.to_string().contains(labels_name), "{error}");
        }
    }
}
