//! Writing an initramfs: a cpio archive in the "newc" format (Linux:
//! `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! Equal inputs give equal bytes: entries are sorted, owners are root, times are zero.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cpio::newc::{Builder, ModeFileType, trailer};

use crate::error::{Error, Result};
use crate::repository;

/// What an entry of the archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Folder,
    File { content: Vec<u8>, executable: bool },
    Link(String),
    CharacterDevice { major: u32, minor: u32 },
}

/// Folders that the system is mounted on or that programs expect.
const FOLDERS: [&str; 6] = ["dev", "proc", "root", "run", "sys", "tmp"];
const BUSYBOX: &str = "bin/busybox";
/// The kernel opens this before init runs. Linux `Documentation/admin-guide/devices.txt`: 5, 1 is the console.
const CONSOLE: (&str, Entry) = ("dev/console", Entry::CharacterDevice { major: 5, minor: 1 });

/// Builds an archive from the files below `root`, a busybox, and a link for each of its applets
/// (one path per line, as `busybox --list-full` prints them). A file of `root` replaces an applet.
pub fn build(root: &Path, busybox: &[u8], applets: &str) -> Result<Vec<u8>> {
    let mut entries = BTreeMap::new();
    for applet in applets.lines().map(str::trim).filter(|applet| !applet.is_empty() && *applet != BUSYBOX) {
        insert(&mut entries, applet, Entry::Link(format!("/{BUSYBOX}")));
    }
    for folder in FOLDERS {
        insert(&mut entries, folder, Entry::Folder);
    }
    insert(&mut entries, CONSOLE.0, CONSOLE.1);
    insert(&mut entries, BUSYBOX, Entry::File { content: busybox.to_vec(), executable: true });
    add_folder(&mut entries, root, "")?;
    write(&entries).map_err(|cause| Error::new(format!("cannot write the initramfs: {cause}")))
}

/// Builds an archive of programs and files, to be unpacked over another one, behind which it goes.
pub fn overlay(files: Vec<(&str, Vec<u8>)>) -> Result<Vec<u8>> {
    let mut entries = BTreeMap::new();
    for (path, content) in files {
        insert(&mut entries, path, Entry::File { content, executable: true });
    }
    write(&entries).map_err(|cause| Error::new(format!("cannot write the initramfs: {cause}")))
}

/// Adds an entry and the folders above it.
fn insert(entries: &mut BTreeMap<String, Entry>, path: &str, entry: Entry) {
    for (end, _) in path.match_indices('/') {
        if let Some(folder) = path.get(..end) {
            entries.entry(folder.to_owned()).or_insert(Entry::Folder);
        }
    }
    entries.insert(path.to_owned(), entry);
}

fn add_folder(entries: &mut BTreeMap<String, Entry>, folder: &Path, prefix: &str) -> Result<()> {
    for path in repository::list(folder)? {
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        let metadata = path.symlink_metadata().map_err(|cause| Error::io("read", &path, &cause))?;
        if metadata.is_symlink() {
            let target = std::fs::read_link(&path).map_err(|cause| Error::io("read", &path, &cause))?;
            insert(entries, &name, Entry::Link(target.to_string_lossy().into_owned()));
        } else if metadata.is_dir() {
            insert(entries, &name, Entry::Folder);
            add_folder(entries, &path, &format!("{name}/"))?;
        } else {
            const OWNER_MAY_EXECUTE: u32 = 0o100;
            let executable = metadata.permissions().mode() & OWNER_MAY_EXECUTE != 0;
            insert(entries, &name, Entry::File { content: repository::read(&path)?, executable });
        }
    }
    Ok(())
}

fn write(entries: &BTreeMap<String, Entry>) -> std::io::Result<Vec<u8>> {
    let mut archive = Vec::new();
    for (number, (path, entry)) in (1..).zip(entries) {
        let builder = Builder::new(path).ino(number).uid(0).gid(0).mtime(0);
        let (builder, content): (_, &[u8]) = match entry {
            Entry::Folder => (builder.nlink(2).mode(0o755).set_mode_file_type(ModeFileType::Directory), &[]),
            Entry::Link(target) => (builder.mode(0o777).set_mode_file_type(ModeFileType::Symlink), target.as_bytes()),
            Entry::CharacterDevice { major, minor } => {
                let device = builder.rdev_major(*major).rdev_minor(*minor);
                (device.mode(0o600).set_mode_file_type(ModeFileType::Char), &[])
            }
            Entry::File { content, executable } => {
                let mode = if *executable { 0o755 } else { 0o644 };
                (builder.mode(mode).set_mode_file_type(ModeFileType::Regular), content)
            }
        };
        let size = u32::try_from(content.len()).map_err(std::io::Error::other)?;
        let mut writer = builder.write(&mut archive, size);
        writer.write_all(content)?;
        writer.finish()?;
    }
    trailer(&mut archive)?;
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use cpio::newc::Reader;

    use super::*;

    fn sample() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/inittab"), "::sysinit").unwrap();
        std::os::unix::fs::symlink("bin/busybox", root.path().join("init")).unwrap();
        root
    }

    /// Path, mode and content of each entry.
    fn read(mut archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            let mut reader = Reader::new(archive).unwrap();
            if reader.entry().is_trailer() {
                return entries;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            entries.push((name, mode, content));
            archive = reader.finish().unwrap();
        }
    }

    #[test]
    fn entries_are_what_linux_needs() {
        let archive = build(sample().path(), b"ELF", "bin/busybox\nbin/sh\nusr/bin/id\n").unwrap();
        let entries = read(&archive);
        let get = |name: &str| entries.iter().find(|entry| entry.0 == name).map(|entry| (entry.1, entry.2.as_slice()));
        assert_eq!(get("bin/busybox"), Some((0o100_755, &b"ELF"[..])));
        assert_eq!(get("bin/sh"), Some((0o120_777, &b"/bin/busybox"[..])));
        assert_eq!(get("init"), Some((0o120_777, &b"bin/busybox"[..])));
        assert_eq!(get("etc/inittab"), Some((0o100_644, &b"::sysinit"[..])));
        assert_eq!(get("proc"), Some((0o040_755, &b""[..])));
        assert_eq!(get("dev/console"), Some((0o020_600, &b""[..])));
    }

    #[test]
    fn a_folder_comes_before_its_content() {
        let names: Vec<_> =
            read(&build(sample().path(), b"", "usr/bin/id").unwrap()).into_iter().map(|entry| entry.0).collect();
        for (index, name) in names.iter().enumerate() {
            if let Some((folder, _)) = name.rsplit_once('/') {
                let position = names.iter().position(|other| other == folder);
                assert!(position.is_some_and(|position| position < index), "{name}");
            }
        }
    }

    #[test]
    fn equal_inputs_give_equal_bytes() {
        assert_eq!(build(sample().path(), b"x", "bin/sh"), build(sample().path(), b"x", "bin/sh"));
    }
}
