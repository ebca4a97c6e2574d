//! One image with its label, and where such records come from.

use crate::error::Result;

/// One datum: an image (or any array with three axes) and its label. Its buffers are used again for the next one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Name of the record in its source (the key of a data base, the number in an IDX file), for messages.
    pub key: String,
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// Values, channels × height × width, where they are bytes; else empty.
    pub bytes: Vec<u8>,
    /// Values, channels × height × width, where they are floats; else empty.
    pub floats: Vec<f32>,
    /// Label, if the record has one.
    pub label: Option<i32>,
}

/// Records in a fixed order, read one at a time.
pub trait RecordSource: Send {
    /// How many records there are; 1 at least.
    fn count(&self) -> usize;

    /// Name of the file or folder, for messages.
    fn name(&self) -> &str;

    /// Reads record `index` (below [`RecordSource::count`]) into `record`. One after the other is fast; any order is
    /// after [`RecordSource::index`].
    ///
    /// Errors: a record that is corrupt or not supported, by its key.
    fn read(&mut self, index: usize, record: &mut Record) -> Result<()>;

    /// Prepares reading in any order. May visit all keys once, but no values.
    fn index(&mut self) -> Result<()> {
        Ok(())
    }

    /// Labels of all records, in their order.
    ///
    /// Errors: a record without a label, by its key.
    fn labels(&mut self) -> Result<Vec<i32>>;
}
