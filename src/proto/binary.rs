//! Binary messages other than nets: `.solverstate` files and the `Datum` records of data bases.

use super::caffe::{Datum, SolverState};
use super::file::read_bytes;
use super::wire::Records;
use crate::error::{Error, Kind, Result};
use prost::{Message, Name};
use std::path::Path;

/// A message from all of the bytes. Errors say where the bytes break off.
pub fn decode<M: Message + Name + Default>(bytes: &[u8]) -> Result<M> {
    // Prost reads well-formed data as fast as it goes; only where it fails is the place looked for.
    M::decode(bytes).map_err(|error| match Records::new(bytes).find_map(|r| r.err()) {
        Some(place) => place,
        None => Error::new(Kind::Syntax, format!("not a {}: {error}", M::NAME)),
    })
}

/// A record of a data base.
pub fn decode_datum(bytes: &[u8]) -> Result<Datum> {
    decode(bytes)
}

/// Reads a `.solverstate`, Caffe's or ours.
pub fn read_solver_state(path: impl AsRef<Path>) -> Result<SolverState> {
    let bytes = read_bytes(&path)?;
    let state = not_hdf5(&bytes).and_then(|()| decode(&bytes));
    state.map_err(|e| e.in_file(path.as_ref().display().to_string()))
}

/// Writes a `.solverstate` atomically. Caffe reads it and skips what is ours.
pub fn write_solver_state(path: impl AsRef<Path>, state: &SolverState) -> Result<()> {
    super::write_atomic(path, &state.encode_to_vec())
}

/// Refuses HDF5 files, which Caffe's other snapshot format makes.
pub(super) fn not_hdf5(bytes: &[u8]) -> Result<()> {
    if bytes.starts_with(b"\x89HDF") {
        return Err(Error::new(Kind::Unsupported, "an HDF5 file where a binary protobuf file is expected"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::caffe::{BlobProto, DataPosition, ResumeState};

    #[test]
    fn solver_states_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.solverstate");
        let state = SolverState {
            iter: Some(10),
            learned_net: Some("a.caffemodel".into()),
            history: vec![BlobProto::from_data(&[2], vec![1.0, -2.0]).unwrap()],
            current_step: Some(1),
            resume: Some(ResumeState {
                devices: Some(2),
                seed: Some(u64::MAX),
                pass: Some(20),
                losses: vec![0.5, 0.25],
                data: vec![DataPosition { layer: Some("mnist".into()), records: Some(640), test_net: None }],
            }),
        };
        write_solver_state(&path, &state).unwrap();
        assert_eq!(read_solver_state(&path).unwrap(), state);
        let bytes = read_bytes(&path).unwrap();
        let error = decode::<SolverState>(&bytes[..bytes.len() - 3]).unwrap_err();
        assert!(error.to_string().contains("broken off: at byte"), "{error}");
        super::super::write_atomic(&path, b"\x89HDF\r\n\x1a\n").unwrap();
        assert!(read_solver_state(&path).unwrap_err().to_string().contains("HDF5"));
    }

    #[test]
    fn a_datum_and_what_is_none() {
        let datum =
            Datum { channels: Some(1), data: Some(vec![1, 2, 255]), label: Some(7), ..Datum::default() };
        assert_eq!(decode_datum(&datum.encode_to_vec()).unwrap(), datum);
        // data with the wire type of a number
        let error = decode_datum(&[0x20, 1]).unwrap_err();
        assert!(error.to_string().contains("not a Datum"), "{error}");
    }
}
