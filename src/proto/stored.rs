//! Where the values of a blob stand in a file, and how they get from there to where they are wanted.

use super::window::Window;
use super::wire::{Place, Wire};
use crate::error::{Error, Kind, Result};
use num_traits::Float;

/// Numbers of the fields of a blob that hold values, single and double.
const DATA: u64 = 5;
const DIFF: u64 = 6;
const DOUBLE_DATA: u64 = 8;
const DOUBLE_DIFF: u64 = 9;

/// Bytes that are read at once: what fits a cache.
const PIECE: usize = 1 << 17;

/// Where the values of a blob stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    single: Vec<Run>,
    double: Vec<Run>,
    /// The first field of values that holds something else, by name and offset.
    odd: Option<(&'static str, usize)>,
}

/// Values at equal distances: side by side, as Caffe writes them, or each with a key of its own, as its first versions did.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    at: usize,
    count: usize,
    step: usize,
}

impl Values {
    /// Takes a field of the blob, if it is one of values. Gradients are only looked at.
    pub fn take(&mut self, field: &Place) -> bool {
        let (name, width) = match field.number {
            DATA => ("data", 4),
            DIFF => ("diff", 4),
            DOUBLE_DATA => ("double_data", 8),
            DOUBLE_DIFF => ("double_diff", 8),
            _ => return false,
        };
        let one = if width == 4 { Wire::Fixed32 } else { Wire::Fixed64 };
        let (at, len) = (field.payload.start, field.payload.len());
        if !(field.wire == one || field.wire == Wire::Bytes && len.is_multiple_of(width)) {
            self.odd.get_or_insert((name, field.whole.start));
            return true;
        }
        let count = len / width;
        let runs = match field.number {
            DATA => &mut self.single,
            DOUBLE_DATA => &mut self.double,
            _ => return true,
        };
        let step = if count == 1 { field.whole.len() } else { width };
        match runs.last_mut() {
            Some(run) if count == 1 && run.step == step && run.at + run.count * step == at => run.count += 1,
            _ if count > 0 => runs.push(Run { at, count, step }),
            _ => {}
        }
        true
    }

    /// An error where a field of values holds something else.
    pub fn check(&self) -> Result<()> {
        let Some((name, at)) = self.odd else { return Ok(()) };
        let text =
            format!("not a BlobProto: at byte {at} stands a field \"{name}\" that holds no such numbers");
        Err(Error::new(Kind::Syntax, text))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.runs().iter().map(|r| r.count).sum()
    }

    /// Doubles come first, as in Caffe.
    fn runs(&self) -> &[Run] {
        if self.double.is_empty() { &self.single } else { &self.double }
    }

    /// Reads all of them, which are as many as there is room for.
    pub fn read<T: Float>(&self, window: &mut Window, target: &mut [T]) -> Result<()> {
        // Every float type takes every value of the others, rounded.
        if self.double.is_empty() {
            let value = |b| T::from(f32::from_le_bytes(b)).unwrap_or_else(T::nan);
            read(&self.single, window, target, value)
        } else {
            let value = |b| T::from(f64::from_le_bytes(b)).unwrap_or_else(T::nan);
            read(&self.double, window, target, value)
        }
    }
}

/// Reads values of `N` bytes.
fn read<T: Float, const N: usize>(
    runs: &[Run],
    window: &mut Window,
    mut target: &mut [T],
    value: impl Fn([u8; N]) -> T,
) -> Result<()> {
    for run in runs {
        let (here, rest) = target.split_at_mut(run.count.min(target.len()));
        target = rest;
        let each = (PIECE / run.step).max(1);
        for (i, here) in here.chunks_mut(each).enumerate() {
            let at = run.at + i * each * run.step;
            let bytes = window.part(at..at + (here.len() - 1) * run.step + N)?;
            if run.step == N {
                // The usual case: a loop that the compiler makes vectors of.
                here.iter_mut().zip(bytes.as_chunks().0).for_each(|(t, &b)| *t = value(b));
            } else {
                let values = bytes.chunks(run.step).filter_map(|b| b.first_chunk());
                here.iter_mut().zip(values).for_each(|(t, &b)| *t = value(b));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::proto::weights::{StoredWeights, decode_weights};
    use crate::proto::wire::put_message;
    use prost::encoding::{self, WireType};

    /// A net of one layer "a" with one blob of `count` values in these fields.
    fn file(count: i64, fields: &[u8]) -> Vec<u8> {
        let (mut blob, mut layer, mut net) = (fields.to_vec(), Vec::new(), Vec::new());
        let mut shape = Vec::new();
        encoding::int64::encode_packed(1, &[count], &mut shape);
        put_message(&mut blob, 7, &shape);
        put_message(&mut layer, 1, b"a");
        put_message(&mut layer, 7, &blob);
        put_message(&mut net, 100, &layer);
        net
    }

    fn ramp(range: std::ops::Range<u32>) -> Vec<f32> {
        range.map(|i| i as f32 * 0.5 - 3.0).collect()
    }

    /// What is read to its place is what prost decodes.
    fn check(count: usize, fields: &[u8]) -> usize {
        let bytes = file(count as i64, fields);
        let whole = decode_weights(&bytes).unwrap();
        let mut stored = StoredWeights::of(&bytes).unwrap();
        let (mut single, mut double) = (vec![9.0_f32; count], vec![9.0_f64; count]);
        stored.read(0, 0, &mut single).unwrap();
        stored.read(0, 0, &mut double).unwrap();
        assert_eq!(single, whole.layers[0].blobs[0].values::<f32>().unwrap());
        assert_eq!(double, whole.layers[0].blobs[0].values::<f64>().unwrap());
        assert!(stored.read(0, 0, &mut vec![0.0_f32; count + 1]).is_err());
        assert!(
            stored.read::<f32>(0, 1, &mut [0.0]).is_err() && stored.read::<f32>(1, 0, &mut [0.0]).is_err()
        );
        stored.layers[0].blobs[0].values.runs().len()
    }

    #[test]
    fn values_in_every_form() {
        let n = 100_000;
        let all = ramp(0..n);
        let (mut packed, mut apart, mut mixed) = (Vec::new(), Vec::new(), Vec::new());
        encoding::float::encode_packed(5, &all, &mut packed);
        assert_eq!(check(all.len(), &packed), 1);
        encoding::float::encode_repeated(5, &all, &mut apart);
        assert_eq!(check(all.len(), &apart), 1);
        // Several packed pieces, one of them empty, with gradients and single values between.
        encoding::float::encode_packed(5, &ramp(0..70_000), &mut mixed);
        encoding::float::encode_packed(6, &ramp(0..50), &mut mixed);
        encoding::encode_key(5, WireType::LengthDelimited, &mut mixed);
        encoding::encode_varint(0, &mut mixed);
        encoding::float::encode_repeated(5, &ramp(70_000..70_003), &mut mixed);
        encoding::double::encode_repeated(9, &[1.0], &mut mixed);
        encoding::float::encode_packed(5, &ramp(70_003..n), &mut mixed);
        assert_eq!(check(all.len(), &mixed), 3);
        // One value to each record, packed all the same.
        let mut single = Vec::new();
        all.iter().for_each(|&v| encoding::float::encode_packed(5, &[v], &mut single));
        assert_eq!(check(all.len(), &single), 1);
        // Doubles win.
        let doubles: Vec<f64> = all[..500].iter().map(|&v| f64::from(v) * 0.1).collect();
        encoding::double::encode_packed(8, &doubles, &mut mixed);
        assert_eq!(check(doubles.len(), &mixed), 1);
        let mut apart = Vec::new();
        encoding::double::encode_repeated(8, &doubles, &mut apart);
        assert_eq!(check(doubles.len(), &apart), 1);
        assert_eq!(check(0, &[]), 0);
    }

    #[test]
    fn fields_that_hold_no_values() {
        let refused = |fields: &[u8]| StoredWeights::of(&file(1, fields)).err().unwrap();
        // data as a number, as bytes that are no whole values, and as doubles
        let (mut number, mut odd, mut double) = (Vec::new(), Vec::new(), Vec::new());
        encoding::uint32::encode(5, &7, &mut number);
        encoding::bytes::encode(6, &vec![1_u8; 6], &mut odd);
        encoding::double::encode(5, &1.0, &mut double);
        for (fields, name) in [(number, "\"data\""), (odd, "\"diff\""), (double, "\"data\"")] {
            let error = refused(&fields);
            assert_eq!((error.layer(), error.field()), (Some("a"), Some("blobs[0]")));
            assert!(error.to_string().contains("not a BlobProto: at byte 8"), "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
