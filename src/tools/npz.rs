//! Arrays of numbers in NumPy's `.npz` files.

use crate::error::{Error, Kind, Result};
use ndarray::{ArrayD, IxDyn, OwnedRepr};
use ndarray_npy::{NpzReader, NpzWriter, ReadNpzError, ReadableElement};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Cursor;
use std::path::Path;

/// Arrays by name.
pub type Arrays = BTreeMap<String, ArrayD<f32>>;

/// Reads those arrays of a `.npz` file whose names `wanted` accepts, as single precision. Any number type of NumPy will
/// do, compressed or not.
///
/// Errors: the file cannot be read or is no `.npz`; an array of another type.
pub fn read(path: impl AsRef<Path>, wanted: impl Fn(&str) -> bool) -> Result<Arrays> {
    let path = path.as_ref();
    let broken = |e: &dyn std::fmt::Display, what: &str| {
        Error::new(Kind::Syntax, format!("{what} cannot be read: {e}")).in_file(path.display().to_string())
    };
    let file = File::open(path).map_err(|e| Error::io(path, "open", &e))?;
    let mut npz = NpzReader::new(std::io::BufReader::new(file)).map_err(|e| broken(&e, "the .npz file"))?;
    let names = npz.names().map_err(|e| broken(&e, "the list of arrays"))?;
    let mut arrays = Arrays::new();
    for name in names.into_iter().filter(|n| wanted(n)) {
        let tries: [fn(&mut Npz, &str) -> Tried; 8] = [
            |npz, name| read_as::<f32>(npz, name, |v| v),
            |npz, name| read_as::<f64>(npz, name, |v| v as f32),
            |npz, name| read_as::<i64>(npz, name, |v| v as f32),
            |npz, name| read_as::<i32>(npz, name, |v| v as f32),
            |npz, name| read_as::<u8>(npz, name, f32::from),
            |npz, name| read_as::<i8>(npz, name, f32::from),
            |npz, name| read_as::<u32>(npz, name, |v| v as f32),
            |npz, name| read_as::<bool>(npz, name, |v| f32::from(u8::from(v))),
        ];
        let mut first = None;
        for read in tries {
            match read(&mut npz, &name) {
                Ok(array) => {
                    arrays.insert(name.clone(), array);
                    break;
                }
                Err(e) => first = first.or(Some(e)),
            }
        }
        if let (Some(e), false) = (first, arrays.contains_key(&name)) {
            return Err(broken(&e, &format!("the array \"{name}\"")));
        }
    }
    Ok(arrays)
}

type Npz = NpzReader<std::io::BufReader<File>>;
type Tried = std::result::Result<ArrayD<f32>, ReadNpzError>;

fn read_as<E: ReadableElement + Copy>(npz: &mut Npz, name: &str, to_f32: fn(E) -> f32) -> Tried {
    Ok(npz.by_name::<OwnedRepr<E>, IxDyn>(name)?.mapv(to_f32))
}

/// Writes arrays as a `.npz` file, atomically, in the order of their names.
pub fn write(path: impl AsRef<Path>, arrays: &Arrays) -> Result<()> {
    let path = path.as_ref();
    let failed =
        |e: &dyn std::fmt::Display| Error::new(Kind::Io, format!("cannot write {}: {e}", path.display()));
    let mut npz = NpzWriter::new(Cursor::new(Vec::new()));
    for (name, array) in arrays {
        npz.add_array(name.as_str(), array).map_err(|e| failed(&e))?;
    }
    let bytes = npz.finish().map_err(|e| failed(&e))?.into_inner();
    crate::proto::write_atomic(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_come_back_and_other_types_are_converted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let scalar = ArrayD::from_elem(IxDyn(&[]), 2.5f32);
        let matrix = ArrayD::from_shape_fn(IxDyn(&[2, 3]), |i| (10 * i[0] + i[1]) as f32);
        let arrays = Arrays::from([("out/x/y".into(), scalar), ("m".into(), matrix)]);
        write(&path, &arrays).unwrap();
        assert_eq!(read(&path, |_| true).unwrap(), arrays);
        assert_eq!(read(&path, |n| n == "m").unwrap().len(), 1);

        let mut npz = NpzWriter::new(File::create(&path).unwrap());
        npz.add_array("l", &ndarray::arr1(&[1i64, -2])).unwrap();
        npz.add_array("b", &ndarray::arr1(&[true, false])).unwrap();
        npz.finish().unwrap();
        let arrays = read(&path, |_| true).unwrap();
        assert_eq!(arrays["l"].as_slice(), Some([1.0, -2.0].as_slice()));
        assert_eq!(arrays["b"].as_slice(), Some([1.0, 0.0].as_slice()));
    }

    #[test]
    fn a_file_that_is_no_npz_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        assert_eq!(read(&path, |_| true).unwrap_err().kind(), Kind::Io);
        std::fs::write(&path, b"PK no zip").unwrap();
        assert_eq!(read(&path, |_| true).unwrap_err().kind(), Kind::Syntax);
    }
}
