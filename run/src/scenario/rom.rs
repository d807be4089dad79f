//! Boot modules that are not programs of the workspace.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::boot::product::Products;
use crate::error::{Error, Result};
use crate::guest;
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
}

/// A ROM as scenario files write it: a source, or a source and a size.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Notation {
    Whole(String),
    Resized { from: String, size: Size },
}

impl TryFrom<Notation> for Rom {
    type Error = String;

    fn try_from(notation: Notation) -> std::result::Result<Self, String> {
        let (source, size) = match notation {
            Notation::Whole(source) => (source, None),
            Notation::Resized { from, size } => (from, Some(size)),
        };
        let source = Source::try_from(source)?;
        Ok(Self { source, size })
    }
}

impl Rom {
    /// All of a source.
    pub const fn whole(source: Source) -> Self {
        Self { source, size: None }
    }

    /// Writes the content to `destination`. `folder` is the scenario's folder.
    pub fn stage(&self, folder: &Path, products: &Products, destination: &Path) -> Result<()> {
        self.source.stage(folder, products, destination)?;
        let Some(size) = self.size else {
            return Ok(());
        };
        let file = File::options().write(true).open(destination);
        file.and_then(|file| file.set_len(size.in_bytes())).map_err(|cause| Error::io("resize", destination, &cause))
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
    /// `program:NAME`: a program of the workspace that runs on a bare machine, as a guest.
    Program(String),
    /// `file:PATH`: a file, relative to the scenario's folder.
    File(PathBuf),
    /// `text:TEXT`: the text itself.
    Text(String),
}

impl TryFrom<String> for Source {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let problem =
            || format!("`{text}` is no ROM source: write guest:NAME/FILE, program:NAME, file:PATH or text:TEXT");
        let (kind, value) = text.split_once(':').ok_or_else(problem)?;
        match kind {
            "guest" => {
                let (guest, file) = value.split_once('/').ok_or_else(problem)?;
                Ok(Self::Guest { guest: guest.to_owned(), file: file.to_owned() })
            }
            "program" => Ok(Self::Program(value.to_owned())),
            "file" => Ok(Self::File(PathBuf::from(value))),
            "text" => Ok(Self::Text(value.to_owned())),
            _ => Err(problem()),
        }
    }
}

impl Source {
    /// What the host must have to provide this ROM.
    pub fn needs(&self) -> Option<Purpose> {
        matches!(self, Self::Guest { .. }).then_some(Purpose::Guest)
    }

    /// The program of the workspace that it is.
    pub fn program(&self) -> Option<&str> {
        match self {
            Self::Program(name) => Some(name),
            Self::Guest { .. } | Self::File(_) | Self::Text(_) => None,
        }
    }

    fn stage(&self, folder: &Path, products: &Products, destination: &Path) -> Result<()> {
        match self {
            Self::Program(name) => repository::copy(products.guest(name)?, destination),
            Self::Guest { guest, file } => repository::copy(&guest::provide(guest)?.file(file)?, destination),
            Self::File(path) => repository::copy(&folder.join(path), destination),
            Self::Text(text) => repository::write(destination, text),
        }
    }
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
    }

    #[test]
    fn names_cannot_confuse_a_boot_loader() {
        assert!(check_name("bzImage-6.1_x").is_ok());
        for wrong in ["", "a b", "a,b", "../a", "a/b", ".", "a\"b"] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }
}
