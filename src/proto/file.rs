//! Whole files: read at once, written atomically.

use crate::error::{Error, Kind, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// All bytes of a file.
pub fn read_bytes(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    fs::read(&path).map_err(|error| Error::io(&path, "read", &error))
}

/// Writes a file so that at every moment, also after a crash, its name leads to the old or the new content, never to a
/// part: a temporary file in the same folder is written, synced, renamed, and the folder synced. A symbolic
/// link stays and what it points to is replaced; the access rights of a file that exists are kept.
pub fn write_atomic(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    // A new file has no canonical path yet.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if target.is_dir() {
        return Err(Error::new(Kind::Io, format!("cannot write {}: it is a folder", path.display())));
    }
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    write(&target, &folder, bytes).map_err(|error| Error::io(path, "write", &error))
}

fn write(target: &Path, folder: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".cortado-").suffix(".part");
    match fs::metadata(target) {
        Ok(old) => builder.permissions(old.permissions()),
        Err(_) => ordinary_rights(&mut builder),
    };
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(target).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// Temporary files are private; a snapshot gets what the user's umask gives every new file.
#[cfg(unix)]
fn ordinary_rights<'a, 'b, 'c>(
    builder: &'c mut tempfile::Builder<'a, 'b>,
) -> &'c mut tempfile::Builder<'a, 'b> {
    use std::os::unix::fs::PermissionsExt;
    builder.permissions(fs::Permissions::from_mode(0o666))
}

#[cfg(not(unix))]
fn ordinary_rights<'a, 'b, 'c>(
    builder: &'c mut tempfile::Builder<'a, 'b>,
) -> &'c mut tempfile::Builder<'a, 'b> {
    builder
}

/// The rename is on the disk only when its folder is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new content").unwrap();
        assert_eq!(read_bytes(&path).unwrap(), b"new content");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_rights_are_kept() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a.bin"), folder.path().join("link"));
        write_atomic(&path, b"old").unwrap();
        let fresh = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        File::create(folder.path().join("usual")).unwrap();
        let usual = fs::metadata(folder.path().join("usual")).unwrap().permissions().mode() & 0o777;
        assert_eq!(fresh, usual);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&path, &link).unwrap();
        write_atomic(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().file_type().is_symlink());
        assert_eq!(read_bytes(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_failure_names_the_file_and_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_atomic(folder.path().join("no/such/a.bin"), b"x").unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        assert!(error.to_string().contains("a.bin"));
        assert!(write_atomic(folder.path(), b"x").unwrap_err().to_string().contains("folder"));
        assert!(read_bytes(folder.path().join("none")).unwrap_err().to_string().contains("none"));
    }
}
