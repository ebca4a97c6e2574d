//! Compiled kernels on the disk, so that only the first process compiles them.
//!
//! A file holds what was compiled and what came out, compressed with a checksum. What was compiled is compared in full, so that neither equal names
//! nor damage can give wrong kernels: they are compiled anew. So they are where nothing can be written.

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The user's folder for compiled kernels: `$CORTADO_CACHE`, else `cortado` in `$XDG_CACHE_HOME` or `~/.cache`. None where
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

/// The file of what was compiled.
fn file(folder: &Path, key: &str) -> PathBuf {
    // FNV-1a: the same for every build of Cortado.
    let hash =
        key.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    folder.join("kernels").join(format!("{hash:016x}.gz"))
}

/// What came out when `key` was compiled, if that is there and whole.
pub(super) fn read(folder: &Path, key: &str) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    GzDecoder::new(std::fs::File::open(file(folder, key)).ok()?).read_to_end(&mut all).ok()?;
    let rest = all.strip_prefix(key.as_bytes())?;
    Some(rest.strip_prefix(&[0])?.to_vec())
}

/// Keeps what came out when `key`, which has no zeros, was compiled.
pub(super) fn write(folder: &Path, key: &str, compiled: &[u8]) -> std::io::Result<()> {
    let path = file(folder, key);
    let parent = path.parent().unwrap_or(folder);
    std::fs::create_dir_all(parent)?;
    let new = tempfile::NamedTempFile::new_in(parent)?;
    let mut packed = GzEncoder::new(new, Compression::fast());
    packed.write_all(key.as_bytes())?;
    packed.write_all(&[0])?;
    packed.write_all(compiled)?;
    packed.finish()?.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), "key"), None);
        write(dir.path(), "key", b"code").unwrap();
        assert_eq!(read(dir.path(), "key"), Some(b"code".to_vec()));
        // Another key under the same name, damage, an end too early.
        std::fs::copy(file(dir.path(), "key"), file(dir.path(), "other")).unwrap();
        assert_eq!(read(dir.path(), "other"), None);
        let path = file(dir.path(), "key");
        let whole = std::fs::read(&path).unwrap();
        for at in [whole.len() / 2, whole.len() - 6] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read(dir.path(), "key"), None, "byte {at}");
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(read(dir.path(), "key"), None);
        write(dir.path(), "key", b"code").unwrap();
        assert_eq!(read(dir.path(), "key"), Some(b"code".to_vec()));
        assert!(write(&path, "key", b"code").is_err(), "a file is no folder");
    }
}
