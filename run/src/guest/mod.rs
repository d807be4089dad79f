//! Guests: what runs inside virtual machines, provided by recipes in `guests/`.

pub mod initramfs;
mod recipe;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::host::apt::Lists;
use crate::host::command::{checked, output};
use crate::repository;
use recipe::{Extract, Package, Recipe};

/// The files of a guest, ready to use.
#[derive(Debug)]
pub struct Guest {
    name: String,
    folder: PathBuf,
    files: Vec<String>,
}

impl Guest {
    /// The path of one of the guest's files.
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        if self.files.iter().any(|file| file == name) {
            return Ok(self.folder.join(name));
        }
        Err(Error::new(format!("guest `{}` has no file `{name}`", self.name))
            .remedy(format!("there are: {}", self.files.join(", "))))
    }
}

/// Provides a guest: fetches packages that are not in the cache yet (the only step that needs a
/// network), and makes the guest's files from them.
pub fn provide(name: &str) -> Result<Guest> {
    let source = repository::guests().join(name);
    let recipe = Recipe::load(&source)?;
    let cache = repository::cache().join("guests").join(name);
    let packages = cache.join("packages");
    for package in &recipe.packages {
        fetch(package, &packages)?;
    }
    let mut files = Vec::new();
    for extract in &recipe.files {
        replace(&cache.join(&extract.name), &repository::read(&find(extract, &packages)?)?)?;
        files.push(extract.name.clone());
    }
    if let Some(initramfs) = &recipe.initramfs {
        let busybox = packages.join(&initramfs.busybox);
        let applets = output(Command::new(&busybox).arg("--list-full"))?;
        let archive = initramfs::build(&source.join(&initramfs.root), &repository::read(&busybox)?, &applets)?;
        replace(&cache.join(&initramfs.name), &archive)?;
        files.push(initramfs.name.clone());
    }
    Ok(Guest { name: name.to_owned(), folder: cache, files })
}

/// Fetches and unpacks a package into `packages/<name>`, unless it is there. The folder appears
/// with its complete content or not at all.
fn fetch(package: &Package, packages: &Path) -> Result<()> {
    let destination = packages.join(&package.name);
    if destination.is_dir() {
        return Ok(());
    }
    let work = packages.join(format!("{}.part", package.name));
    repository::create_empty_folder(&work)?;
    let lists = match &package.architecture {
        Some(architecture) => Lists::of(architecture, &repository::cache().join("apt").join(architecture))?,
        None => Lists::default(),
    };
    let mut wanted = vec![package.name.clone()];
    if let Some(prefix) = &package.follow {
        wanted = lists.dependencies(&package.name)?;
        wanted.retain(|name| name.starts_with(prefix));
        if wanted.is_empty() {
            return Err(Error::new(format!("Debian package {} depends on no `{prefix}…`", package.name)));
        }
    }
    let content = work.join("content");
    for file in lists.download(&wanted, &work)? {
        checked(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&content))?;
    }
    std::fs::rename(&content, &destination).map_err(|cause| Error::io("move", &content, &cause))?;
    std::fs::remove_dir_all(&work).map_err(|cause| Error::io("delete", &work, &cause))
}

/// The one file of a folder whose name begins as the recipe says.
fn find(extract: &Extract, packages: &Path) -> Result<PathBuf> {
    let folder = folder_of(extract, packages)?;
    let mut found = repository::list(&folder)?;
    found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&extract.prefix)));
    match <[PathBuf; 1]>::try_from(found) {
        Ok([file]) => Ok(file),
        Err(found) => Err(Error::new(format!(
            "{} files in {} begin with `{}`, expected one",
            found.len(),
            folder.display(),
            extract.prefix
        ))),
    }
}

/// The folder of a file: a `*` in it stands for the one folder that is there, whatever its name.
fn folder_of(extract: &Extract, packages: &Path) -> Result<PathBuf> {
    let mut folder = packages.to_path_buf();
    for part in &extract.folder {
        if part != "*" {
            folder.push(part);
            continue;
        }
        let mut found = repository::list(&folder)?;
        found.retain(|path| path.is_dir());
        folder = match <[PathBuf; 1]>::try_from(found) {
            Ok([only]) => only,
            Err(found) => {
                return Err(Error::new(format!("{} folders in {}, expected one", found.len(), folder.display())));
            }
        };
    }
    Ok(folder)
}

/// Writes a file unless it has this content already; another run may be reading it.
fn replace(path: &Path, content: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    const READABLE_BY_ALL: u32 = 0o644;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(READABLE_BY_ALL))
        .tempfile_in(folder)
        .map_err(|cause| Error::io("create a file in", folder, &cause))?;
    std::io::Write::write_all(&mut file, content).map_err(|cause| Error::io("write", path, &cause))?;
    file.persist(path).map(|_| ()).map_err(|error| Error::io("write", path, &error.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_file_must_fit() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("vmlinuz-1"), "").unwrap();
        let extract = Extract { name: "vmlinuz".into(), folder: ".".into(), prefix: "vmlinuz-".into() };
        assert!(find(&extract, folder.path()).unwrap().ends_with("vmlinuz-1"));
        std::fs::create_dir_all(folder.path().join("6.1/kvm")).unwrap();
        std::fs::write(folder.path().join("6.1/kvm/kvm.ko"), "").unwrap();
        let module = Extract { name: "kvm.ko".into(), folder: "*/kvm".into(), prefix: "kvm.ko".into() };
        assert!(find(&module, folder.path()).unwrap().ends_with("6.1/kvm/kvm.ko"));
        std::fs::write(folder.path().join("vmlinuz-2"), "").unwrap();
        assert!(find(&extract, folder.path()).unwrap_err().to_string().starts_with("2 files"));
    }

    #[test]
    fn every_recipe_of_the_repository_is_well_formed() {
        let folders = repository::list(&repository::guests()).unwrap();
        let recipes: Vec<_> = folders.iter().filter(|folder| folder.join(recipe::FILE).is_file()).collect();
        assert!(!recipes.is_empty());
        for folder in recipes {
            Recipe::load(folder).unwrap();
        }
    }

    #[test]
    fn an_unknown_guest_or_file_is_named() {
        assert!(provide("no-such-guest").unwrap_err().to_string().contains("no-such-guest"));
        let guest = Guest { name: "linux".into(), folder: "/x".into(), files: vec!["vmlinuz".into()] };
        assert!(guest.file("../secret").unwrap_err().to_string().contains("there are: vmlinuz"));
        assert_eq!(guest.file("vmlinuz").unwrap(), Path::new("/x/vmlinuz"));
    }
}
