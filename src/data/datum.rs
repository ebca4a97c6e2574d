//! `Datum`: the message that Caffe's tools write for each record of a data base.

use super::Record;
use crate::error::{Error, Kind, Result};
use crate::proto::caffe::Datum;
use prost::Message;

/// Decodes one `Datum` after the other with the same buffers.
#[derive(Default)]
pub struct DatumReader {
    datum: Datum,
}

/// The one field of a `Datum` that grouping by label needs; the others are skipped unread.
#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(int32, optional, tag = "5")]
    label: Option<i32>,
}

impl DatumReader {
    /// Decodes the bytes of a `Datum` into `record`; its key is left as it is and named in errors.
    pub fn read(&mut self, bytes: &[u8], record: &mut Record) -> Result<()> {
        // Clears the fields by hand: Message::clear would give the buffers back.
        let Datum { channels, height, width, data, label, float_data, encoded } = &mut self.datum;
        (*channels, *height, *width, *label, *encoded) = (None, None, None, None, None);
        data.get_or_insert_default().clear();
        float_data.clear();
        self.datum.merge(bytes).map_err(|e| malformed(&record.key, &e))?;
        let datum = &mut self.datum;
        if datum.encoded() {
            let message = format!("record \"{}\" holds an encoded image (JPEG or PNG)", record.key);
            return Err(Error::new(Kind::Unsupported, message)
                .expected("raw pixels in Datum.data or floats in Datum.float_data")
                .suggest("write the data base without --encoded"));
        }
        record.shape = shape(datum, &record.key)?;
        record.label = datum.label;
        std::mem::swap(&mut record.bytes, datum.data.get_or_insert_default());
        std::mem::swap(&mut record.floats, &mut datum.float_data);
        // As in Caffe, the bytes count where there are both.
        if !record.bytes.is_empty() {
            record.floats.clear();
        }
        let found = record.bytes.len().max(record.floats.len());
        let expected = record.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if expected != Some(found) {
            let [c, h, w] = record.shape;
            let message = format!("record \"{}\" has not as many values as its shape says", record.key);
            return Err(Error::new(Kind::Data, message)
                .expected(format!("{c} x {h} x {w} values"))
                .found(format!("{found} values")));
        }
        Ok(())
    }
}

/// The label of a `Datum`, without a look at its values.
pub fn label(bytes: &[u8], key: &str) -> Result<i32> {
    let label = Label::decode(bytes).map_err(|e| malformed(key, &e))?.label;
    label.ok_or_else(|| missing_label(key))
}

/// A record that has no label where one is needed.
pub(super) fn missing_label(key: &str) -> Error {
    Error::new(Kind::Data, format!("record \"{key}\" has no label"))
        .expected("a label for each record (IDX: a labels file beside the images, named ...labels-idx1...)")
        .suggest("without labels give the layer one top only")
}

fn malformed(key: &str, error: &prost::DecodeError) -> Error {
    Error::new(Kind::Data, format!("record \"{key}\" is corrupt: {error}")).expected("a Datum message")
}

fn shape(datum: &Datum, key: &str) -> Result<[usize; 3]> {
    let sizes = [datum.channels(), datum.height(), datum.width()];
    let mut shape = [0; 3];
    for (to, &from) in shape.iter_mut().zip(&sizes) {
        *to = usize::try_from(from).unwrap_or(0);
    }
    if shape.contains(&0) {
        return Err(Error::new(Kind::Data, format!("record \"{key}\" has a shape that makes no sense"))
            .expected("channels, height and width of 1 at least")
            .found(format!("{} x {} x {}", sizes[0], sizes[1], sizes[2])));
    }
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::{Purpose, Stream};

    fn datum() -> Datum {
        Datum {
            channels: Some(2),
            height: Some(1),
            width: Some(3),
            data: Some(vec![1, 2, 3, 4, 5, 6]),
            label: Some(-4),
            ..Default::default()
        }
    }

    fn read(datum: &Datum) -> Result<Record> {
        let mut record = Record { key: "k".into(), ..Default::default() };
        DatumReader::default().read(&datum.encode_to_vec(), &mut record).map(|()| record)
    }

    #[test]
    fn bytes_and_floats() {
        let record = read(&datum()).unwrap();
        assert_eq!((record.shape, record.label), ([2, 1, 3], Some(-4)));
        assert_eq!((record.bytes.as_slice(), record.floats.len()), ([1, 2, 3, 4, 5, 6].as_slice(), 0));
        let floats = Datum { data: None, float_data: vec![0.5; 6], label: None, ..datum() };
        let record = read(&floats).unwrap();
        assert_eq!((record.bytes.len(), record.floats, record.label), (0, vec![0.5; 6], None));
        assert_eq!(label(&datum().encode_to_vec(), "k").unwrap(), -4);
    }

    #[test]
    fn a_reader_forgets_the_record_before() {
        let (mut reader, mut record) = (DatumReader::default(), Record::default());
        reader.read(&datum().encode_to_vec(), &mut record).unwrap();
        let floats = Datum { data: None, label: None, float_data: vec![2.0; 6], ..datum() };
        for _ in 0..3 {
            reader.read(&floats.encode_to_vec(), &mut record).unwrap();
            assert_eq!(
                (record.bytes.len(), record.floats.as_slice(), record.label),
                (0, &[2.0; 6][..], None)
            );
            reader.read(&datum().encode_to_vec(), &mut record).unwrap();
            assert_eq!((record.bytes.len(), record.floats.len(), record.label), (6, 0, Some(-4)));
        }
        assert!(reader.read(&[], &mut record).is_err());
    }

    #[test]
    fn what_is_wrong_is_said_with_the_key() {
        let cases = [
            (Datum { encoded: Some(true), ..datum() }, Kind::Unsupported),
            (Datum { channels: Some(0), ..datum() }, Kind::Data),
            (Datum { width: Some(-3), ..datum() }, Kind::Data),
            (Datum { height: None, ..datum() }, Kind::Data),
            (
                Datum { height: Some(i32::MAX), width: Some(i32::MAX), channels: Some(i32::MAX), ..datum() },
                Kind::Data,
            ),
            (Datum { width: Some(4), ..datum() }, Kind::Data),
            (Datum { data: None, ..datum() }, Kind::Data),
        ];
        for (datum, kind) in cases {
            let error = read(&datum).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.message().contains("\"k\""), "{error}");
        }
        let unlabelled = Datum { label: None, ..datum() }.encode_to_vec();
        assert!(label(&unlabelled, "k").unwrap_err().message().contains("no label"));
    }

    #[test]
    fn mutated_bytes_never_panic() {
        let good = Datum { float_data: vec![1.0; 6], ..datum() }.encode_to_vec();
        let mut stream = Stream::of(Purpose::Check, 1, 0, 0);
        let (mut reader, mut record, mut refused) = (DatumReader::default(), Record::default(), 0);
        for _ in 0..50_000 {
            let mut bytes = good.clone();
            for _ in 0..=stream.below(3) {
                let at = stream.below(bytes.len() as u64) as usize;
                bytes[at] = stream.next_u32() as u8;
            }
            bytes.truncate(bytes.len() - (stream.below(2) * stream.below(8)) as usize);
            refused += usize::from(reader.read(&bytes, &mut record).is_err());
            let _ = label(&bytes, "k");
        }
        assert!(refused > 10_000, "{refused}");
    }
}
