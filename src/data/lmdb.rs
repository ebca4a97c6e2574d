//! LMDB data bases of `Datum` records, as Caffe's tools write them.
//!
//! Opened read-only and without LMDB's lock file, whose version changes between releases of LMDB and which
//! cannot be made in a read-only folder. So nobody may write to the data base while it is open.

use super::datum::{self, DatumReader};
use super::{Record, RecordSource};
use crate::error::{Error, Kind, Result};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithoutTls};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Records from an LMDB folder, in the order of their keys.
pub struct LmdbSource {
    name: String,
    /// Holds a clone of the environment, so it must go before the handle: fields are dropped in this order.
    txn: RoTxn<'static, WithoutTls>,
    _handle: Handle,
    database: Database<'static, Bytes, Bytes>,
    count: usize,
    reader: DatumReader,
    /// Index and key of the record read last.
    last: Option<(usize, Vec<u8>)>,
    keys: Option<Keys>,
}

/// All keys, one behind the other.
#[derive(Default)]
struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    fn get(&self, index: usize) -> Option<&[u8]> {
        let start = if index == 0 { 0 } else { *self.ends.get(index - 1)? };
        self.bytes.get(start..*self.ends.get(index)?)
    }
}

impl LmdbSource {
    /// Opens a folder that holds `data.mdb`. Costs the same for any number of records.
    ///
    /// Errors: no such folder, a file that is not LMDB's or is cut short, a data base without records.
    pub fn open(path: &Path) -> Result<LmdbSource> {
        let name = path.display().to_string();
        let path = path.canonicalize().map_err(|e| Error::io(path, "open the data base", &e))?;
        let map_size = check(&path.join("data.mdb"))?;
        let refuse = |e: heed::Error| failed(&e).in_file(&*name);
        // (The handle is the last to go, on the ways out as well.)
        let (handle, env) = Handle::new(&path, map_size).map_err(refuse)?;
        let database = env.read_txn().and_then(|txn| {
            env.open_databases_and_commit(txn, |opener, txn| {
                opener.open_database(txn, None).map(CommitOrAbort::<_, ()>::Commit)
            })
        });
        let database = database.map_err(refuse)?.commit().flatten();
        let txn = env.static_read_txn().map_err(refuse)?;
        let count = match &database {
            Some(database) => database.len(&txn).map_err(refuse)?,
            None => 0,
        };
        let (Some(database), Ok(count @ 1..)) = (database, usize::try_from(count)) else {
            return Err(Error::new(Kind::Data, "the data base is empty").in_file(name));
        };
        // Each record takes ten bytes at least; more is a lie, and memory for an index would be taken by it.
        if count > map_size / 10 {
            return Err(Error::new(Kind::Data, "the LMDB data base is corrupt")
                .found(format!("{count} records in {map_size} bytes"))
                .in_file(name));
        }
        let reader = DatumReader::default();
        Ok(LmdbSource { name, txn, _handle: handle, database, count, reader, last: None, keys: None })
    }
}

impl RecordSource for LmdbSource {
    fn count(&self) -> usize {
        self.count
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read(&mut self, index: usize, record: &mut Record) -> Result<()> {
        let refuse = |e: heed::Error| failed(&e).in_file(&*self.name);
        let txn = &self.txn;
        let found = match (&self.last, &self.keys) {
            _ if index == 0 => self.database.first(txn),
            (Some((last, key)), _) if last + 1 == index => {
                self.database.get_greater_than(txn, key.as_slice())
            }
            (_, Some(keys)) => match keys.get(index) {
                Some(key) => self.database.get(txn, key).map(|value| value.map(|value| (key, value))),
                None => Ok(None),
            },
            // A jump without an index happens once, when a run is resumed.
            _ => self.database.iter(txn).and_then(|mut all| all.nth(index).transpose()),
        };
        let Some((key, value)) = found.map_err(refuse)? else {
            let message = format!("record {index} of {} is not there", self.count);
            return Err(Error::new(Kind::Data, message).in_file(&*self.name));
        };
        write_key(&mut record.key, key);
        let result = self.reader.read(value, record);
        let last = self.last.get_or_insert_default();
        last.0 = index;
        last.1.clear();
        last.1.extend_from_slice(key);
        result.map_err(|e| e.in_file(&*self.name))
    }

    fn index(&mut self) -> Result<()> {
        if self.keys.is_none() {
            let refuse = |e: heed::Error| failed(&e).in_file(&*self.name);
            let mut keys = Keys::default();
            for entry in self.database.iter(&self.txn).map_err(refuse)? {
                keys.bytes.extend_from_slice(entry.map_err(refuse)?.0);
                keys.ends.push(keys.bytes.len());
            }
            self.keys = Some(keys);
        }
        Ok(())
    }

    fn labels(&mut self) -> Result<Vec<i32>> {
        let refuse = |e: heed::Error| failed(&e).in_file(&*self.name);
        let mut labels = Vec::with_capacity(self.count);
        for entry in self.database.iter(&self.txn).map_err(refuse)? {
            let (key, value) = entry.map_err(refuse)?;
            let label = datum::label(value, &String::from_utf8_lossy(key));
            labels.push(label.map_err(|e| e.in_file(&*self.name))?);
        }
        Ok(labels)
    }
}

/// The key as text: Caffe's tools write digits and file names.
fn write_key(to: &mut String, key: &[u8]) {
    to.clear();
    for part in key.utf8_chunks() {
        to.push_str(part.valid());
        part.invalid().iter().for_each(|_| to.push('\u{fffd}'));
    }
}

fn failed(error: &heed::Error) -> Error {
    Error::new(Kind::Data, format!("the LMDB data base cannot be read: {error}"))
}

/// One user of an open environment. LMDB forbids a process to open one path twice, so the train and the test net
/// share an environment; its last user closes it.
struct Handle {
    path: PathBuf,
}

/// The open environments by canonical path, each with the number of its users.
static OPEN: Mutex<BTreeMap<PathBuf, (Env<WithoutTls>, usize)>> = Mutex::new(BTreeMap::new());

impl Handle {
    fn new(path: &Path, map_size: usize) -> heed::Result<(Handle, Env<WithoutTls>)> {
        // The map is whole at every moment, so a panic elsewhere spoils nothing.
        let mut open = OPEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let path = path.to_path_buf();
        if let Some((env, users)) = open.get_mut(&path) {
            *users += 1;
            return Ok((Handle { path }, env.clone()));
        }
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(map_size);
        // SAFETY: LMDB asks that the file does not change under the map and that nobody writes without its lock.
        // We only read; that no other program writes meanwhile is said in the documentation above.
        let env = unsafe { options.flags(EnvFlags::READ_ONLY | EnvFlags::NO_LOCK).open(&path) }?;
        open.insert(path.clone(), (env.clone(), 1));
        Ok((Handle { path }, env))
    }
}

impl Drop for Handle {
    /// Closes under the lock, so that nobody finds the environment half closed.
    fn drop(&mut self) {
        let mut open = OPEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, users)) = open.get_mut(&self.path) {
            *users -= 1;
            if *users == 0 {
                open.remove(&self.path);
            }
        }
    }
}

/// Looks at the two meta pages of `data.mdb` before LMDB does, which maps the file and would crash where it is cut
/// short. Returns the size to map: that of the file, not the terabyte that Caffe's tools set aside.
///
/// Layout (64-bit, in the byte order of the machine), from the start of a page: header 16 bytes, magic u32 at 16,
/// version u32 at 20, page size u32 at 40, last page u64 at 136, transaction u64 at 144.
fn check(path: &Path) -> Result<usize> {
    let mut file = File::open(path).map_err(|e| {
        Error::io(path, "open the data base", &e).suggest("source names the folder that holds data.mdb")
    })?;
    let length = file.metadata().map_err(|e| Error::io(path, "read", &e))?.len();
    let refuse = |message: &str| Error::new(Kind::Data, message).in_file(path.display().to_string());
    let no_lmdb = || refuse("this is no LMDB data base").expected("LMDB's data format 1, 64-bit");
    let u32_at =
        |b: &[u8], at: usize| b.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
    let u64_at =
        |b: &[u8], at: usize| b.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes);

    // Pages have 64 KiB at most.
    let mut head = Vec::new();
    file.by_ref().take(2 << 16).read_to_end(&mut head).map_err(|e| Error::io(path, "read", &e))?;
    let page = u32_at(&head, 40).filter(|p| p.is_power_of_two() && (256..=1 << 16).contains(p));
    let page = page.ok_or_else(no_lmdb)? as usize;
    let mut newest = None;
    for meta in [head.get(..page), head.get(page..2 * page)] {
        let meta = meta.ok_or_else(no_lmdb)?;
        if u32_at(meta, 16) != Some(0xBEEF_C0DE) || u32_at(meta, 20) != Some(1) {
            return Err(no_lmdb());
        }
        newest = newest.max(u64_at(meta, 144).zip(u64_at(meta, 136)));
    }
    let last_page = newest.map_or(0, |(_, last_page)| last_page);
    let needed = last_page.checked_add(1).and_then(|n| n.checked_mul(page as u64));
    if needed.is_none_or(|needed| needed > length) {
        return Err(refuse("the LMDB data base is cut short")
            .expected(needed.map_or("fewer pages".to_string(), |n| format!("{n} bytes at least")))
            .found(format!("{length} bytes")));
    }
    // A multiple of any page size of the system.
    let map_size = length.next_multiple_of(1 << 16);
    usize::try_from(map_size).map_err(|_| refuse("the data base is too large for this machine"))
}
