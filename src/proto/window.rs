//! A file of which little is in memory at a time.

use super::wire::Bytes;
use crate::error::{Error, Kind, Result};
use std::io::{Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

/// Bytes that are read where one is looked at: keys and lengths stand far apart in a file of weights.
const LITTLE: usize = 1 << 12;

/// What can be read at any offset: a file, or bytes in memory.
trait Input: Read + Seek + Send {}
impl<R: Read + Seek + Send> Input for R {}

/// Some of the bytes of a file.
pub(super) struct Window<'a> {
    input: Box<dyn Input + 'a>,
    /// Bytes of the file.
    len: usize,
    /// Offset of what is in the buffer.
    start: usize,
    buffer: Vec<u8>,
}

impl Window<'static> {
    /// Of a file. What has no length and cannot be read at any offset, such as a pipe, is read as a whole.
    pub fn open(path: &Path) -> Result<Window<'static>> {
        let failed = |error| Error::io(path, "read", &error);
        let file = std::fs::File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_file() {
            Window::new(Box::new(file)).map_err(failed)
        } else {
            let bytes = super::file::read_bytes(path)?;
            Window::new(Box::new(Cursor::new(bytes))).map_err(failed)
        }
    }
}

impl<'a> Window<'a> {
    /// Of bytes in memory.
    pub fn of(bytes: &'a [u8]) -> Window<'a> {
        Window { input: Box::new(Cursor::new(bytes)), len: bytes.len(), start: 0, buffer: Vec::new() }
    }

    fn new(mut input: Box<dyn Input + 'a>) -> std::io::Result<Window<'a>> {
        let len = input.seek(SeekFrom::End(0))?;
        let len = usize::try_from(len).map_err(|_| ErrorKind::FileTooLarge)?;
        Ok(Window { input, len, start: 0, buffer: Vec::new() })
    }

    /// Bytes of the file.
    pub fn len(&self) -> usize {
        self.len
    }

    /// These bytes, as long as nothing else is asked for.
    pub fn part(&mut self, range: Range<usize>) -> Result<&[u8]> {
        if range.start < self.start || range.end > self.start + self.buffer.len() {
            self.bring(range.start, range.len())?;
        }
        let from = range.start - self.start;
        Ok(self.buffer.get(from..from + range.len()).unwrap_or_default())
    }

    /// Brings so many bytes, and a little more.
    fn bring(&mut self, at: usize, count: usize) -> Result<()> {
        let count = count.max(LITTLE).min(self.len.saturating_sub(at));
        self.start = at;
        self.buffer.clear();
        let mut read = || {
            self.input.seek(SeekFrom::Start(at as u64))?;
            self.buffer.resize(count, 0);
            self.input.read_exact(&mut self.buffer)
        };
        read()
            .map_err(|error| Error::new(Kind::Io, format!("cannot read {count} bytes at byte {at}: {error}")))
    }
}

impl Bytes for Window<'_> {
    fn byte(&mut self, at: usize) -> Result<u8> {
        Ok(self.part(at..at + 1)?.first().copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_is_what_stands_there() {
        let bytes: Vec<u8> = (0..20_000).map(|i| (i % 251) as u8).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        for mut window in [Window::of(&bytes), Window::open(file.path()).unwrap()] {
            assert_eq!(window.len(), bytes.len());
            for range in
                [0..1, 3..9000, 3..4, 19_999..20_000, 0..20_000, 5..5, 12_000..12_001, 11_999..12_003]
            {
                assert_eq!(window.part(range.clone()).unwrap(), &bytes[range.clone()], "{range:?}");
                if !range.is_empty() {
                    assert_eq!(window.byte(range.start).unwrap(), bytes[range.start]);
                }
            }
        }
    }

    #[test]
    fn a_file_that_shrinks_meanwhile_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [1; 10_000]).unwrap();
        let mut window = Window::open(file.path()).unwrap();
        window.part(0..10).unwrap();
        std::fs::write(file.path(), [1; 5000]).unwrap();
        let error = window.part(4000..9000).unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        assert!(error.to_string().contains("at byte 4000"), "{error}");
    }
}
