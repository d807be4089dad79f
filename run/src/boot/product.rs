//! The programs that scenarios are made of, compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::host::packages::{self, Purpose};
use crate::programs::Workspace;
use crate::scenario::{Boot, Scenario};
use crate::toolchain::Toolchain;

/// The program that runs in ring 0.
const HYPERVISOR: &str = "hypervisor";

/// Compiled programs by name.
#[derive(Debug, Default)]
pub struct Products {
    hypervisor: Option<PathBuf>,
    components: BTreeMap<String, PathBuf>,
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
        let hypervisor = workspace.program(HYPERVISOR)?;
        let programs = names.iter().map(|name| workspace.program(name)).collect::<Result<Vec<_>>>()?;
        eprintln!("build: hypervisor, {}", names.iter().copied().collect::<Vec<_>>().join(", "));
        let hypervisor = Toolchain::ring0()?.build(&[hypervisor])?.pop();
        let files = Toolchain::component().build(&programs)?;
        let components = names.into_iter().map(str::to_owned).zip(files).collect();
        Ok(Self { hypervisor, components })
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
