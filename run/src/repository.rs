//! Where things are in the repository.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The root folder of the repository this tool was built from.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Build products and staged boot files; may be deleted at any time.
pub fn target() -> PathBuf {
    root().join("target")
}

/// Scenario folders, one per scenario.
pub fn scenarios() -> PathBuf {
    root().join("run/scenarios")
}

/// Guest recipes, one folder per guest.
pub fn guests() -> PathBuf {
    root().join("guests")
}

/// Downloads that are worth keeping when `target` is deleted.
pub fn cache() -> PathBuf {
    root().join(".cache")
}

/// Reads a text file.
pub fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|cause| Error::io("read", path, &cause))
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|cause| Error::io("read", path, &cause))
}

/// Writes a file, replacing what was there.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    std::fs::write(path, content).map_err(|cause| Error::io("write", path, &cause))
}

/// Copies a file.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map(|_| ()).map_err(|cause| Error::io("copy", from, &cause))
}

/// Creates a folder and its parents.
pub fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|cause| Error::io("create", path, &cause))
}

/// Deletes a folder with its content if it exists, and creates it empty.
pub fn create_empty_folder(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(Error::io("delete", path, &cause)),
        _ => create_folder(path),
    }
}

/// The entries of a folder, sorted by name.
pub fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let failed = |cause| Error::io("list", path, &cause);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    Ok(entries)
}
