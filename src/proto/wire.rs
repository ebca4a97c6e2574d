//! The records of protobuf's binary form, read one by one with their offsets, so that errors can say where a file
//! breaks off and that parts nobody asks for are not looked into.

use crate::error::{Error, Kind, Result};
use std::ops::Range;

/// Groups inside groups that are skipped.
const MOST_NESTED: usize = 100;

/// How a record's value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Varint,
    Fixed64,
    Bytes,
    Group,
    Fixed32,
}

/// Bytes of a file, looked at one by one.
pub(super) trait Bytes {
    /// The byte at an offset before the end of the file.
    fn byte(&mut self, at: usize) -> Result<u8>;
}

/// Where one field of a message stands.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Number of the field.
    pub number: u64,
    pub wire: Wire,
    /// Offsets in the file of key, length and value.
    pub whole: Range<usize>,
    /// Those of the value.
    pub payload: Range<usize>,
}

impl Place {
    /// Whether it is a field of bytes, string or message type of this number.
    pub fn is(&self, number: u64) -> bool {
        self.number == number && self.wire == Wire::Bytes
    }

    /// The payload as a message, if it can be one.
    pub fn places(&self) -> Places {
        Places::new(self.payload.clone())
    }
}

/// Walks over the fields of a message, of which it looks at keys and lengths alone.
pub(super) struct Places {
    at: usize,
    end: usize,
}

impl Places {
    /// The message at these offsets.
    pub fn new(message: Range<usize>) -> Places {
        Places { at: message.start, end: message.end }
    }

    /// The next field; none at the end of the message, and after an error.
    pub fn next(&mut self, bytes: &mut impl Bytes) -> Option<Result<Place>> {
        if self.at >= self.end {
            return None;
        }
        let place = self.place(bytes, 0);
        if place.is_err() {
            self.at = self.end;
        }
        Some(place)
    }

    fn varint(&mut self, bytes: &mut impl Bytes) -> Result<u64> {
        let start = self.at;
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            if self.at >= self.end {
                return Err(self.short(start, 1));
            }
            let byte = bytes.byte(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(broken(start, "a number of more than 10 bytes"))
    }

    fn take(&mut self, count: u64) -> Result<Range<usize>> {
        let start = self.at;
        let end = usize::try_from(count).ok().and_then(|n| start.checked_add(n));
        let end = end.filter(|&end| end <= self.end).ok_or_else(|| self.short(start, count))?;
        self.at = end;
        Ok(start..end)
    }

    /// Number and wire type.
    fn key(&mut self, bytes: &mut impl Bytes) -> Result<(u64, u64)> {
        let start = self.at;
        let key = self.varint(bytes)?;
        if key >> 3 == 0 || key >> 32 != 0 {
            return Err(broken(start, "a field number that no message can have"));
        }
        Ok((key >> 3, key & 7))
    }

    fn place(&mut self, bytes: &mut impl Bytes, depth: usize) -> Result<Place> {
        let start = self.at;
        let (number, wire) = self.key(bytes)?;
        let (wire, payload) = match wire {
            0 => {
                let from = self.at;
                self.varint(bytes)?;
                (Wire::Varint, from..self.at)
            }
            1 => (Wire::Fixed64, self.take(8)?),
            2 => {
                let count = self.varint(bytes)?;
                (Wire::Bytes, self.take(count)?)
            }
            3 => (Wire::Group, self.group(bytes, number, depth)?),
            5 => (Wire::Fixed32, self.take(4)?),
            other => return Err(broken(start, &format!("wire type {other}, which does not exist here"))),
        };
        Ok(Place { number, wire, whole: start..self.at, payload })
    }

    /// The inside of a group, past its end.
    fn group(&mut self, bytes: &mut impl Bytes, number: u64, depth: usize) -> Result<Range<usize>> {
        let start = self.at;
        if depth >= MOST_NESTED {
            return Err(broken(start, "too many groups inside each other"));
        }
        loop {
            let inner = self.at;
            if self.key(bytes)? == (number, 4) {
                return Ok(start..inner);
            }
            self.at = inner;
            self.place(bytes, depth + 1)?;
        }
    }

    fn short(&self, at: usize, wanted: u64) -> Error {
        let left = self.end.saturating_sub(at);
        let text =
            format!("broken off: at byte {at} there should be {wanted} more, but only {left} are left");
        Error::new(Kind::Syntax, text).suggest("is the file complete?")
    }
}

fn broken(at: usize, what: &str) -> Error {
    Error::new(Kind::Syntax, format!("not a file of this kind: at byte {at} stands {what}"))
}

impl Bytes for &[u8] {
    fn byte(&mut self, at: usize) -> Result<u8> {
        Ok(self.get(at).copied().unwrap_or_default())
    }
}

/// One field of a message in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    /// Number of the field.
    pub number: u64,
    pub wire: Wire,
    /// Offset of the value.
    pub offset: usize,
    /// Key, length and value.
    pub whole: &'a [u8],
    /// The value.
    pub payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// The payload of a field of bytes, string or message type.
    pub fn bytes(&self, number: u64) -> Option<&'a [u8]> {
        (self.number == number && self.wire == Wire::Bytes).then_some(self.payload)
    }
}

/// The fields of a message in memory, in order.
pub(super) struct Records<'a> {
    data: &'a [u8],
    places: Places,
}

impl<'a> Records<'a> {
    pub fn new(data: &'a [u8]) -> Records<'a> {
        Records { data, places: Places::new(0..data.len()) }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>>;

    fn next(&mut self) -> Option<Result<Record<'a>>> {
        let data = self.data;
        let part = |range| data.get(range).unwrap_or_default();
        let place = self.places.next(&mut &*data)?;
        Some(place.map(|Place { number, wire, whole, payload }| Record {
            number,
            wire,
            offset: payload.start,
            whole: part(whole),
            payload: part(payload),
        }))
    }
}

/// A message without those of its records that `keep` does not want.
pub(super) fn filtered(data: &[u8], keep: impl Fn(&Record) -> bool) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for record in Records::new(data) {
        let record = record?;
        if keep(&record) {
            out.extend_from_slice(record.whole);
        }
    }
    Ok(out)
}

/// Appends a field of message type.
pub(super) fn put_message(out: &mut Vec<u8>, number: u32, payload: &[u8]) {
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, out);
    prost::encoding::encode_varint(payload.len() as u64, out);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_cut_as_they_were_written() {
        // 1: varint 300; 2: "ab"; 3: a group with 1: varint 5; 4: 4 bytes; 5: 8 bytes
        let data = [
            0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x1b, 0x08, 5, 0x1c, 0x25, 1, 2, 3, 4, 0x29, 1, 2, 3, 4,
            5, 6, 7, 8,
        ];
        let records: Vec<_> = Records::new(&data).map(Result::unwrap).collect();
        let kinds: Vec<_> = records.iter().map(|r| (r.number, r.wire, r.payload.len())).collect();
        let expected = [
            (1, Wire::Varint, 2),
            (2, Wire::Bytes, 2),
            (3, Wire::Group, 3 - 1),
            (4, Wire::Fixed32, 4),
            (5, Wire::Fixed64, 8),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(filtered(&data, |_| true).unwrap(), data);
        assert_eq!(filtered(&data, |r| r.number == 2).unwrap(), data[3..7]);
    }

    #[test]
    fn broken_data_says_where() {
        let last = |data: &[u8]| Records::new(data).last().unwrap().unwrap_err().to_string();
        assert!(last(&[0x08, 1, 0x12, 9, 1]).contains("at byte 4 there should be 9 more, but only 1"));
        assert!(last(&[0x08, 0xff]).contains("byte 1"));
        assert!(last(&[0x0e]).contains("wire type 6"));
        assert!(last(&[0x00]).contains("field number"));
        assert!(
            last(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).contains("broken off")
        );
        assert!(last(&[0x0b; 5000]).contains("groups inside each other"));
        assert!(last(&[0x0b, 0x08, 1]).contains("broken off"));
    }
}
