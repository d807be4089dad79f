//! Boot modules that are not programs of the workspace.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::boot::product::Products;
use crate::error::{Error, Result};
use crate::guest::{self, initramfs};
use crate::host::command::checked;
use crate::host::packages::Purpose;
use crate::repository;
use crate::scenario::size::Size;

/// A boot module that is not a program.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Notation")]
pub struct Rom {
    /// Where the content comes from.
    pub source: Source,
    /// To which size it is cut, or padded with zeros.
    pub size: Option<Size>,
    /// Programs and files that an initramfs has besides, by their paths in it.
    pub add: BTreeMap<String, Source>,
}

/// A ROM as scenario files write it: a source, or a source and what is changed of it.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Notation {
    Whole(String),
    Resized { from: String, size: Size },
    Extended { from: String, add: BTreeMap<String, String> },
}

impl TryFrom<Notation> for Rom {
    type Error = String;

    fn try_from(notation: Notation) -> std::result::Result<Self, String> {
        let (source, size, add) = match notation {
            Notation::Whole(source) => (source, None, BTreeMap::new()),
            Notation::Resized { from, size } => (from, Some(size), BTreeMap::new()),
            Notation::Extended { from, add } => (from, None, add),
        };
        let added = |(path, source)| Ok((path, Source::try_from(source)?));
        let add = add.into_iter().map(added).collect::<std::result::Result<_, String>>()?;
        let source = Source::try_from(source)?;
        Ok(Self { source, size, add })
    }
}

impl Rom {
    /// All of a source.
    pub const fn whole(source: Source) -> Self {
        Self { source, size: None, add: BTreeMap::new() }
    }

    /// Everything that it is made of.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        std::iter::once(&self.source).chain(self.add.values())
    }

    /// Writes the content to `destination`. `folder` is the scenario's folder.
    pub fn stage(&self, folder: &Path, products: &Products, destination: &Path) -> Result<()> {
        self.source.stage(folder, products, destination)?;
        self.append(folder, products, destination)?;
        let Some(size) = self.size else {
            return Ok(());
        };
        let file = File::options().write(true).open(destination);
        file.and_then(|file| file.set_len(size.in_bytes())).map_err(|cause| Error::io("resize", destination, &cause))
    }

    /// Appends an archive to the one that is there: Linux unpacks one after the other, a later file in place of an
    /// earlier one.
    fn append(&self, folder: &Path, products: &Products, destination: &Path) -> Result<()> {
        if self.add.is_empty() {
            return Ok(());
        }
        let scratch = destination.with_extension("part");
        let mut files = Vec::new();
        for (path, source) in &self.add {
            source.stage(folder, products, &scratch)?;
            files.push((path.as_str(), repository::read(&scratch)?));
        }
        let archive = initramfs::overlay(files)?;
        append(destination, &archive).map_err(|cause| Error::io("extend", destination, &cause))?;
        std::fs::remove_file(&scratch).map_err(|cause| Error::io("delete", &scratch, &cause))
    }
}

/// Where the content of a ROM comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `guest:NAME/FILE`: a file that a guest recipe provides.
    Guest {
        /// Folder in `guests/`.
        guest: String,
        /// One of the files its recipe provides.
        file: String,
    },
    /// `file:PATH`: a file, relative to the scenario's folder.
    File(PathBuf),
    /// `text:TEXT`: the text itself.
    Text(String),
    /// `program:NAME`: a program of the workspace that runs on a bare machine, as a guest.
    Program(String),
    /// `linux:NAME`: a program of the workspace for Linux, with everything that it needs.
    Linux(String),
}

impl TryFrom<String> for Source {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let problem = || {
            format!(
                "`{text}` is no ROM source: write guest:NAME/FILE, file:PATH, text:TEXT, program:NAME or linux:NAME"
            )
        };
        let (kind, value) = text.split_once(':').ok_or_else(problem)?;
        match kind {
            "guest" => {
                let (guest, file) = value.split_once('/').ok_or_else(problem)?;
                Ok(Self::Guest { guest: guest.to_owned(), file: file.to_owned() })
            }
            "file" => Ok(Self::File(PathBuf::from(value))),
            "text" => Ok(Self::Text(value.to_owned())),
            "program" => Ok(Self::Program(value.to_owned())),
            "linux" => Ok(Self::Linux(value.to_owned())),
            _ => Err(problem()),
        }
    }
}

impl Source {
    /// What the host must have to provide this ROM.
    pub fn needs(&self) -> Option<Purpose> {
        matches!(self, Self::Guest { .. }).then_some(Purpose::Guest)
    }

    /// Name of a program for a bare machine.
    pub fn program(&self) -> Option<&str> {
        if let Self::Program(name) = self { Some(name) } else { None }
    }

    /// Name of a program for Linux.
    pub fn linux(&self) -> Option<&str> {
        if let Self::Linux(name) = self { Some(name) } else { None }
    }

    fn stage(&self, folder: &Path, products: &Products, destination: &Path) -> Result<()> {
        match self {
            Self::Guest { guest, file } => repository::copy(&guest::provide(guest)?.file(file)?, destination),
            Self::File(path) => repository::copy(&folder.join(path), destination),
            Self::Text(text) => repository::write(destination, text),
            Self::Program(name) => repository::copy(products.guest(name)?, destination),
            Self::Linux(name) => strip(products.linux(name)?, destination),
        }
    }
}

/// Appends an archive where the kernel looks for one: at a multiple of four bytes.
fn append(file: &Path, archive: &[u8]) -> std::io::Result<()> {
    const ALIGNMENT: u64 = 4;
    let mut file = File::options().append(true).open(file)?;
    let size = file.metadata()?.len();
    file.set_len(size.next_multiple_of(ALIGNMENT))?;
    file.write_all(archive)
}

/// Copies a program without its symbols, which would only have to be unpacked.
fn strip(program: &Path, destination: &Path) -> Result<()> {
    checked(Command::new("strip").arg("-o").arg(destination).arg(program))
}

/// Checks a module name: letters, digits, `.`, `_`, `-`. Boot loaders separate modules by commas and a
/// module's name from its arguments by a blank, so a name has neither.
pub fn check_name(name: &str) -> Result<()> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(Error::new(format!("`{name}` is no module name: use letters, digits, `.`, `_` and `-`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let source = |text: &str| Source::try_from(text.to_owned());
        let guest = Source::Guest { guest: "linux".into(), file: "vmlinuz".into() };
        assert_eq!(source("guest:linux/vmlinuz"), Ok(guest));
        assert_eq!(source("program:probe").unwrap().program(), Some("probe"));
        assert_eq!(source("file:a:b"), Ok(Source::File("a:b".into())));
        assert_eq!(source("text:"), Ok(Source::Text(String::new())));
        for wrong in ["linux", "guest:linux", "http://x"] {
            assert!(source(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rom_can_be_cut_and_padded() {
        #[derive(Deserialize)]
        struct Sample {
            rom: Rom,
        }
        let folder = tempfile::tempdir().unwrap();
        let staged = |text: &str| {
            let rom = toml::from_str::<Sample>(text).unwrap().rom;
            let file = folder.path().join("rom");
            rom.stage(folder.path(), &Products::default(), &file).unwrap();
            std::fs::read(file).unwrap()
        };
        assert_eq!(staged("rom = 'text:hello'"), b"hello");
        assert_eq!(staged("rom = { from = 'text:hello', size = '2' }"), b"he");
        assert_eq!(staged("rom = { from = 'text:hello', size = '7' }"), b"hello\0\0");
        let extended = staged("rom = { from = 'text:hello', add = { 'bin/x' = 'text:content' } }");
        assert!(extended.starts_with(b"hello\x00\x00\x00070701"), "the next archive begins at a multiple of four");
        assert!(extended.windows(7).any(|part| part == b"content"));
    }

    #[test]
    fn names_cannot_confuse_a_boot_loader() {
        assert!(check_name("bzImage-6.1_x").is_ok());
        for wrong in ["", "a b", "a,b", "../a", "a/b", ".", "a\"b"] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }
}
