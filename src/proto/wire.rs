//! The records of protobuf's binary form, read one by one with their offsets, so that errors can say where a file
//! breaks off and that parts nobody asks for are not looked into.

use crate::error::{Error, Kind, Result};

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

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    /// Number of the field.
    pub number: u64,
    pub wire: Wire,
    /// Offset of the payload in the file.
    pub offset: usize,
    /// Key, length and value.
    pub whole: &'a [u8],
    /// The value.
    pub payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// The payload as a message, if it can be one.
    pub fn records(&self) -> Records<'a> {
        Records { data: self.payload, base: self.offset, at: 0 }
    }

    /// The payload of a field of bytes, string or message type.
    pub fn bytes(&self, number: u64) -> Option<&'a [u8]> {
        (self.number == number && self.wire == Wire::Bytes).then_some(self.payload)
    }
}

/// The fields of a message in order.
pub(super) struct Records<'a> {
    data: &'a [u8],
    /// Offset of `data` in the file.
    base: usize,
    at: usize,
}

impl<'a> Records<'a> {
    pub fn new(data: &'a [u8]) -> Records<'a> {
        Records { data, base: 0, at: 0 }
    }

    fn varint(&mut self) -> Result<u64> {
        let start = self.at;
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = *self.data.get(self.at).ok_or_else(|| self.short(start, 1))?;
            self.at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.broken(start, "a number of more than 10 bytes"))
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8]> {
        let end = usize::try_from(count).ok().and_then(|n| self.at.checked_add(n));
        let bytes = end.and_then(|end| self.data.get(self.at..end));
        let bytes = bytes.ok_or_else(|| self.short(self.at, count))?;
        self.at += bytes.len();
        Ok(bytes)
    }

    /// Number and wire type.
    fn key(&mut self) -> Result<(u64, u64)> {
        let start = self.at;
        let key = self.varint()?;
        if key >> 3 == 0 || key >> 32 != 0 {
            return Err(self.broken(start, "a field number that no message can have"));
        }
        Ok((key >> 3, key & 7))
    }

    fn record(&mut self, depth: usize) -> Result<Record<'a>> {
        let start = self.at;
        let (number, wire) = self.key()?;
        let mut offset = self.base + self.at;
        let (wire, payload) = match wire {
            0 => {
                let from = self.at;
                self.varint()?;
                (Wire::Varint, self.data.get(from..self.at).unwrap_or_default())
            }
            1 => (Wire::Fixed64, self.take(8)?),
            2 => {
                let count = self.varint()?;
                offset = self.base + self.at;
                (Wire::Bytes, self.take(count)?)
            }
            3 => (Wire::Group, self.group(number, depth)?),
            5 => (Wire::Fixed32, self.take(4)?),
            other => return Err(self.broken(start, &format!("wire type {other}, which does not exist here"))),
        };
        let whole = self.data.get(start..self.at).unwrap_or_default();
        Ok(Record { number, wire, offset, whole, payload })
    }

    /// The inside of a group, past its end.
    fn group(&mut self, number: u64, depth: usize) -> Result<&'a [u8]> {
        let start = self.at;
        if depth >= MOST_NESTED {
            return Err(self.broken(start, "too many groups inside each other"));
        }
        loop {
            let inner = self.at;
            if self.key()? == (number, 4) {
                return Ok(self.data.get(start..inner).unwrap_or_default());
            }
            self.at = inner;
            self.record(depth + 1)?;
        }
    }

    fn short(&self, at: usize, wanted: u64) -> Error {
        let left = self.data.len().saturating_sub(at);
        let text = format!(
            "broken off: at byte {} there should be {wanted} more, but only {left} are left",
            self.base + at
        );
        Error::new(Kind::Syntax, text).suggest("is the file complete?")
    }

    fn broken(&self, at: usize, what: &str) -> Error {
        Error::new(Kind::Syntax, format!("not a file of this kind: at byte {} stands {what}", self.base + at))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>>;

    fn next(&mut self) -> Option<Result<Record<'a>>> {
        if self.at >= self.data.len() {
            return None;
        }
        let record = self.record(0);
        if record.is_err() {
            self.at = self.data.len();
        }
        Some(record)
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
