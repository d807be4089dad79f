//! A guest recipe: `guests/<name>/recipe.toml`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::repository;

/// File name of a recipe.
pub const FILE: &str = "recipe.toml";

/// Which packages a guest is made of, and which files it consists of.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Debian packages to fetch.
    pub packages: Vec<Package>,
    /// Files taken out of packages.
    #[serde(default)]
    pub files: Vec<Extract>,
    /// An initramfs made of busybox and a folder.
    pub initramfs: Option<Initramfs>,
}

/// A Debian package.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name, and the folder in the cache that it is unpacked to.
    pub name: String,
    /// Its architecture, if it is not this system's.
    pub architecture: Option<String>,
    /// For a package that only depends on the real one: how that one's name begins.
    pub follow: Option<String>,
}

/// A file of the guest that comes from a package.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extract {
    /// Its name as a file of the guest.
    pub name: String,
    /// Its folder: package name and path in the package. A `*` is the only folder at that place.
    pub folder: PathBuf,
    /// How its name in that folder begins.
    pub prefix: String,
}

/// An initramfs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Initramfs {
    /// Its name as a file of the guest.
    pub name: String,
    /// A statically linked busybox: package name and path in the package.
    pub busybox: PathBuf,
    /// The folder beside the recipe with the files that are added.
    pub root: PathBuf,
}

impl Recipe {
    /// Reads the recipe in a guest's folder.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = repository::read_text(&path)?;
        toml::from_str(&text).map_err(|error| Error::new(format!("{}: {}", path.display(), error.message())))
    }
}
