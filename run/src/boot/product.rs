//! The programs that scenarios are made of, compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::host::packages::{self, Purpose};
use crate::programs::{Program, Workspace};
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
    linux: BTreeMap<String, PathBuf>,
}

impl Products {
    /// Compiles everything that some scenarios need, each program once.
    pub fn build(scenarios: &[&Scenario]) -> Result<Self> {
        let systems: Vec<_> = scenarios.iter().filter(|scenario| scenario.boot == Boot::Hypervisor).collect();
        let components: BTreeSet<_> = systems.iter().flat_map(|scenario| scenario.modules()).collect();
        let sources = || scenarios.iter().flat_map(|scenario| scenario.sources());
        let guests: BTreeSet<_> = sources().filter_map(Source::program).collect();
        let linux: BTreeSet<_> = sources().filter_map(Source::linux).collect();
        if components.is_empty() && guests.is_empty() && linux.is_empty() {
            return Ok(Self::default());
        }
        packages::ensure(&[Purpose::Build])?;
        let workspace = Workspace::load()?;
        let hypervisor = if systems.is_empty() { None } else { Some(workspace.program(HYPERVISOR)?) };
        let all = hypervisor.iter().map(|program| program.name.as_str()).chain(components.iter().copied());
        let names: Vec<_> = all.chain(guests.iter().copied()).chain(linux.iter().copied()).collect();
        eprintln!("build: {}", names.join(", "));
        let hypervisor = hypervisor.map(|program| Toolchain::ring0()?.build(&[program])).transpose()?;
        Ok(Self {
            hypervisor: hypervisor.and_then(|mut files| files.pop()),
            components: compile(&workspace, &components, || Ok(Toolchain::component()))?,
            guests: compile(&workspace, &guests, Toolchain::ring0)?,
            linux: compile(&workspace, &linux, || Ok(Toolchain::linux()))?,
        })
    }

    /// The hypervisor, with symbols.
    pub fn hypervisor(&self) -> Result<&Path> {
        self.hypervisor.as_deref().ok_or_else(|| not_built(HYPERVISOR))
    }

    /// A component, with symbols.
    pub fn component(&self, name: &str) -> Result<&Path> {
        self.components.get(name).map(PathBuf::as_path).ok_or_else(|| not_built(name))
    }

    /// A guest of the workspace, as a boot loader wants it.
    pub fn guest(&self, name: &str) -> Result<&Path> {
        self.guests.get(name).map(PathBuf::as_path).ok_or_else(|| not_built(name))
    }

    /// A program for Linux, with symbols.
    pub fn linux(&self, name: &str) -> Result<&Path> {
        self.linux.get(name).map(PathBuf::as_path).ok_or_else(|| not_built(name))
    }
}

/// Compiles programs in one way, if there are any.
fn compile(
    workspace: &Workspace,
    names: &BTreeSet<&str>,
    toolchain: impl FnOnce() -> Result<Toolchain>,
) -> Result<BTreeMap<String, PathBuf>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let programs = names.iter().map(|name| workspace.program(name)).collect::<Result<Vec<Program>>>()?;
    let files = toolchain()?.build(&programs)?;
    Ok(names.iter().map(|name| (*name).to_owned()).zip(files).collect())
}

fn not_built(name: &str) -> Error {
    Error::new(format!("`{name}` was not built"))
}
