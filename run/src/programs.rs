//! The workspace's packages and programs, as cargo knows them.

use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, MetadataCommand};

use crate::error::{Error, Result};
use crate::repository;

/// A program of the workspace: what a scenario calls a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Name of the binary.
    pub name: String,
    /// The package it belongs to.
    pub package: String,
}

/// The packages of this repository.
#[derive(Debug)]
pub struct Workspace {
    metadata: Metadata,
}

impl Workspace {
    /// Asks cargo. Needs no network: dependencies are not resolved.
    pub fn load() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .manifest_path(repository::root().join("Cargo.toml"))
            .no_deps()
            .exec()
            .map_err(|error| Error::new(format!("cargo cannot read the workspace: {error}")))?;
        Ok(Self { metadata })
    }

    /// The packages of the workspace, without their dependencies.
    pub fn packages(&self) -> &[cargo_metadata::Package] {
        &self.metadata.packages
    }

    /// Every program, by name.
    pub fn programs(&self) -> Vec<Program> {
        let mut programs: Vec<_> = self
            .metadata
            .packages
            .iter()
            .flat_map(|package| package.targets.iter().map(move |target| (package, target)))
            .filter(|(_, target)| target.is_bin())
            .map(|(package, target)| Program { name: target.name.clone(), package: package.name.to_string() })
            .collect();
        programs.sort_by(|a, b| a.name.cmp(&b.name));
        programs
    }

    /// The program of a given name.
    pub fn program(&self, name: &str) -> Result<Program> {
        let programs = self.programs();
        let known = || programs.iter().map(|program| program.name.as_str()).collect::<Vec<_>>().join(", ");
        programs.iter().find(|program| program.name == name).cloned().ok_or_else(|| {
            Error::new(format!("no package of the workspace has a binary `{name}`"))
                .remedy(format!("there are: {}", known()))
        })
    }
}

/// The folder of a package, relative to the repository.
pub fn folder(package: &cargo_metadata::Package) -> PathBuf {
    let manifest = package.manifest_path.as_std_path();
    let folder = manifest.parent().unwrap_or(Path::new(""));
    folder.strip_prefix(repository::root()).unwrap_or(folder).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name() {
        let workspace = Workspace::load().unwrap();
        let this = workspace.program("run").unwrap();
        assert_eq!(this.package, "run");
        let error = workspace.program("no-such-component").unwrap_err().to_string();
        assert!(error.contains("`no-such-component`") && error.contains("run"), "{error}");
    }

    #[test]
    fn folders_are_relative_to_the_repository() {
        let workspace = Workspace::load().unwrap();
        let this = workspace.packages().iter().find(|package| package.name == "run").unwrap();
        assert_eq!(folder(this), Path::new("run"));
    }
}
