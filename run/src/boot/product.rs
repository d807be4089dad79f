//! The programs that scenarios are made of, compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::host::packages::{self, Purpose};
use crate::programs::Workspace;
use crate::scenario::rom::Source;
use crate::scenario::{Boot, Scenario};
use crate::toolchain::Toolchain;

/// The program that runs in ring 0.
const HYPERVISOR: &str = "hypervisor";

/// Compiled programs by name.
#[derive(Debug, Default)]
pub struct Products {
    hypervisor: Option<PathBuf>,
    components: BTreeMap<String, PathBuf>,
    guests: BTreeMap<String, PathBuf>,
}

impl Products {
    /// Compiles everything that some scenarios need, each program once.
    pub fn build(scenarios: &[&Scenario]) -> Result<Self> {
        let systems: Vec<_> = scenarios.iter().filter(|scenario| scenario.boot == Boot::Hypervisor).collect();
        if systems.is_empty() {
            return Ok(Self::default());
        }
        packages::ensure(&[Purpose::Build])?;
        let workspace = Workspace::load()?;
        let names: BTreeSet<_> = systems.iter().flat_map(|scenario| scenario.modules()).collect();
        let sources = systems.iter().flat_map(|scenario| scenario.roms.values()).map(|rom| &rom.source);
        let guests: BTreeSet<_> = sources.filter_map(Source::program).collect();
        let find = |names: &mut dyn Iterator<Item = &str>| {
            names.map(|name| workspace.program(name)).collect::<Result<Vec<_>>>()
        };
        let bare = find(&mut std::iter::once(HYPERVISOR).chain(guests.iter().copied()))?;
        let programs = find(&mut names.iter().copied())?;
        let all = bare.iter().chain(&programs).map(|program| program.name.as_str());
        eprintln!("build: {}", all.collect::<Vec<_>>().join(", "));
        let mut files = Toolchain::ring0()?.build(&bare)?.into_iter();
        let hypervisor = files.next();
        let guests = guests.into_iter().map(str::to_owned).zip(files).collect();
        let files = Toolchain::component().build(&programs)?;
        let components = names.into_iter().map(str::to_owned).zip(files).collect();
        Ok(Self { hypervisor, components, guests })
    }

    /// A guest of the workspace, as a boot loader wants it.
    pub fn guest(&self, name: &str) -> Result<&Path> {
        self.guests.get(name).map(PathBuf::as_path).ok_or_else(|| not_built(name))
    }

    /// The hypervisor, with symbols.
    pub fn hypervisor(&self) -> Result<&Path> {
        self.hypervisor.as_deref().ok_or_else(|| not_built(HYPERVISOR))
    }

    /// A component, with symbols.
    pub fn component(&self, name: &str) -> Result<&Path> {
        self.components.get(name).map(PathBuf::as_path).ok_or_else(|| not_built(name))
    }
}

fn not_built(name: &str) -> Error {
    Error::new(format!("`{name}` was not built"))
}
