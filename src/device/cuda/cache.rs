//! What took long to find out, on the disk, so that only the first process does: compiled kernels, the fastest algorithms of convolutions.
//!
//! A file holds the question and the answer, compressed with a checksum. The question is compared in full, so that neither equal names nor damage can give
//! wrong answers: it is asked anew. So it is where nothing can be written.

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The user's folder for all this: `$CORTADO_CACHE`, else `cortado` in `$XDG_CACHE_HOME` or `~/.cache`. None where
/// `CORTADO_CACHE` is `off`, or there is no home.
pub fn folder() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    match std::env::var_os("CORTADO_CACHE") {
        Some(given) if given.is_empty() || given == "off" => None,
        Some(given) => Some(given.into()),
        None => {
            let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
            caches.map(|caches| caches.join("cortado"))
        }
    }
}

/// What answers are of: a folder in the user's.
#[derive(Clone, Copy, Debug)]
pub(super) enum Room {
    /// What was compiled.
    Kernels,
    /// Which algorithm was the fastest.
    Convolutions,
}

/// The file of a question.
fn file(folder: &Path, room: Room, key: &str) -> PathBuf {
    // FNV-1a: the same for every build of Cortado.
    let hash =
        key.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let room = match room {
        Room::Kernels => "kernels",
        Room::Convolutions => "convolutions",
    };
    folder.join(room).join(format!("{hash:016x}.gz"))
}

/// The answer to `key`, if it is there and whole.
pub(super) fn read(folder: &Path, room: Room, key: &str) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    GzDecoder::new(std::fs::File::open(file(folder, room, key)).ok()?).read_to_end(&mut all).ok()?;
    let rest = all.strip_prefix(key.as_bytes())?;
    Some(rest.strip_prefix(&[0])?.to_vec())
}

/// Keeps the answer to `key`, which has no zeros.
pub(super) fn write(folder: &Path, room: Room, key: &str, answer: &[u8]) -> std::io::Result<()> {
    let path = file(folder, room, key);
    let parent = path.parent().unwrap_or(folder);
    std::fs::create_dir_all(parent)?;
    let new = tempfile::NamedTempFile::new_in(parent)?;
    let mut packed = GzEncoder::new(new, Compression::fast());
    packed.write_all(key.as_bytes())?;
    packed.write_all(&[0])?;
    packed.write_all(answer)?;
    packed.finish()?.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), Room::Kernels, "key"), None);
        write(dir.path(), Room::Kernels, "key", b"code").unwrap();
        assert_eq!(read(dir.path(), Room::Kernels, "key"), Some(b"code".to_vec()));
        assert_eq!(read(dir.path(), Room::Convolutions, "key"), None);
        // Another key under the same name, damage, an end too early.
        std::fs::copy(file(dir.path(), Room::Kernels, "key"), file(dir.path(), Room::Kernels, "other"))
            .unwrap();
        assert_eq!(read(dir.path(), Room::Kernels, "other"), None);
        let path = file(dir.path(), Room::Kernels, "key");
        let whole = std::fs::read(&path).unwrap();
        for at in [whole.len() / 2, whole.len() - 6] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read(dir.path(), Room::Kernels, "key"), None, "byte {at}");
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(read(dir.path(), Room::Kernels, "key"), None);
        write(dir.path(), Room::Kernels, "key", b"code").unwrap();
        assert_eq!(read(dir.path(), Room::Kernels, "key"), Some(b"code".to_vec()));
        assert!(write(&path, Room::Kernels, "key", b"code").is_err(), "a file is no folder");
    }
}
