//! `benches/limits.toml`: what each row is, what it may cost, and what it costs elsewhere.

use serde::{Deserialize, Serialize};

use crate::bench::Part;
use crate::error::{Error, Result};
use crate::machine::Platform;
use crate::repository;

/// The file, below the root of the repository.
const FILE: &str = "benches/limits.toml";

/// What others need for a comparable operation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// Instructions.
    pub insn: u64,
    /// Of what, and how it was found.
    pub source: String,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limit {
    /// Name, as the measuring program prints it.
    pub name: String,
    /// Machine that it is measured on.
    #[serde(default)]
    pub machine: Platform,
    /// What is measured, in words.
    pub title: String,
    /// Part that it belongs to.
    pub part: Part,
    /// Instructions that it may need.
    pub limit: u64,
    /// Loads of CR3 on the path. Each flushes the TLB, and nothing else on the path does.
    pub cr3: u64,
    /// Further serialising instructions on the path (SDM vol. 3, 9.3), world switches included.
    pub serialising: u64,
    /// NOVA.
    pub nova: Option<Anchor>,
    /// KVM.
    pub kvm: Option<Anchor>,
    /// What has to be known to judge the figure.
    pub note: Option<String>,
    /// Whether it is in the main plot.
    #[serde(default)]
    pub plot: bool,
}

/// A boot of Linux.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BootLimit {
    /// Name.
    pub name: String,
    /// What is booted, in words.
    pub title: String,
    /// What the kernel's command line has besides.
    pub append: String,
    /// Whether its exits are counted too.
    #[serde(default)]
    pub exits: bool,
    /// Instructions that it may need, by those on the bare machine.
    pub ratio: f64,
    /// That ratio with KVM, and of what.
    pub kvm: Option<String>,
    /// What has to be known to judge the figure.
    pub note: Option<String>,
}

/// All rows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// In the order in which they are shown.
    pub row: Vec<Limit>,
    /// Boots of Linux.
    #[serde(default)]
    pub boot: Vec<BootLimit>,
}

impl Limit {
    /// Name with the machine, unless that is the usual one.
    pub fn full_name(&self) -> String {
        let Self { name, machine, .. } = self;
        if *machine == Platform::default() { name.clone() } else { format!("{name}@{machine}") }
    }
}

impl Limits {
    /// Reads the file.
    pub fn load() -> Result<Self> {
        let text = repository::read_text(&repository::root().join(FILE))?;
        toml::from_str(&text).map_err(|error| Error::new(format!("{FILE}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_well_formed() {
        let limits = Limits::load().unwrap();
        let names: std::collections::BTreeSet<_> = limits.row.iter().map(Limit::full_name).collect();
        assert_eq!(names.len(), limits.row.len(), "names are unique");
        assert!(limits.row.iter().all(|row| row.limit > 0));
    }
}
