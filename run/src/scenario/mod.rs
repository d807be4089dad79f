//! Scenarios: what is in an image, how init is configured, on which machine it runs, and what it
//! is expected to say. The format is explained in `docs/guides/scenarios.md`.

pub mod config;
pub mod expectation;
pub mod matcher;
pub mod rom;
pub mod size;
pub mod variant;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::host::packages::Purpose;
use crate::machine::terminal::Terminal;
use crate::machine::{Firmware, Platform, Time};
use crate::repository;
use expectation::{Pattern, Steps};
use rom::{Rom, Source};
use size::Size;
use variant::Variant;

/// File name of a scenario's description.
const DESCRIPTION: &str = "scenario.toml";
/// File name of init's configuration.
pub const CONFIG: &str = "config.xml";
/// The root task where a scenario names no other.
const CORE: &str = "core";

/// What is booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// The hypervisor with a root task and its components.
    #[default]
    Hypervisor,
    /// The ROMs `bzImage` and `initrd` on the bare machine: proves guest and tool without the system.
    Linux,
}

/// A scenario as its `scenario.toml` describes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Name of its folder.
    #[serde(skip)]
    pub name: String,
    /// Its folder.
    #[serde(skip)]
    pub folder: PathBuf,
    /// One line for the list of scenarios.
    pub summary: String,
    /// What is booted.
    #[serde(default)]
    pub boot: Boot,
    /// The root task.
    #[serde(default = "default_root")]
    pub root: String,
    /// Programs that are boot modules beside the root task.
    #[serde(default)]
    pub components: Vec<String>,
    /// Files that are boot modules, by ROM name.
    #[serde(default)]
    pub roms: BTreeMap<String, Rom>,
    /// Values of `${name}` in the configuration.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Number of CPUs of the machine.
    #[serde(default = "default_cpus")]
    pub cpus: u32,
    /// Whether the CPUs run in parallel; see [`Time::Parallel`].
    #[serde(default)]
    pub parallel: bool,
    /// Memory of the machine.
    #[serde(default = "default_memory")]
    pub memory: Size,
    /// Emulator and its hardware.
    #[serde(default)]
    pub machine: Platform,
    /// Number of terminals of the machine.
    #[serde(default = "default_terminals")]
    pub terminals: usize,
    /// Time limit of a test run, in seconds.
    #[serde(default = "default_timeout")]
    pub timeout: u64,
    /// Whether `./x test` runs it.
    #[serde(default)]
    pub test: bool,
    /// Whether only `./x test --long` runs it.
    #[serde(default)]
    pub long: bool,
    /// More test runs, each with some of this changed.
    #[serde(default)]
    pub variants: Vec<Variant>,
    /// What a test run expects, in order.
    #[serde(default)]
    pub expect: Steps,
    /// What fails a test run as soon as it appears in a line of log or terminal.
    #[serde(default)]
    pub fail: Vec<Pattern>,
    /// The exit code the system must end with; without it a test run ends with its last expectation.
    pub exit: Option<i32>,
}

fn default_root() -> String {
    CORE.to_owned()
}

const fn default_cpus() -> u32 {
    2
}

const fn default_memory() -> Size {
    Size::mib(512)
}

const fn default_terminals() -> usize {
    1
}

const fn default_timeout() -> u64 {
    60
}

impl Scenario {
    /// Reads the scenario of a given name.
    pub fn load(name: &str) -> Result<Self> {
        let unknown = || {
            let names = all().map(|scenarios| scenarios.into_iter().map(|scenario| scenario.name).collect::<Vec<_>>());
            Error::new(format!("there is no scenario `{name}`"))
                .remedy(format!("there are: {}", names.unwrap_or_default().join(", ")))
        };
        let folder = repository::scenarios().join(name);
        // A name is one component of a path: `..` and the like name no scenario.
        if Path::new(name).file_name() != Some(name.as_ref()) || !folder.join(DESCRIPTION).is_file() {
            return Err(unknown());
        }
        Self::load_from(&folder)
    }

    fn load_from(folder: &Path) -> Result<Self> {
        let path = folder.join(DESCRIPTION);
        let mut scenario = Self::parse(&repository::read_text(&path)?)
            .map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
        scenario.name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        scenario.folder = folder.to_path_buf();
        Ok(scenario)
    }

    /// Reads a description and checks what its types do not.
    fn parse(text: &str) -> Result<Self> {
        let scenario: Self = toml::from_str(text).map_err(|error| Error::new(one_line(&error, text)))?;
        scenario.check()?;
        let mut names = BTreeSet::new();
        for variant in &scenario.variants {
            let variant = variant.apply(&scenario)?;
            variant.check().map_err(|error| Error::new(format!("variant `{}`: {error}", variant.name)))?;
            if !names.insert(variant.name.clone()) {
                return Err(Error::new(format!("two variants are called `{}`", variant.name)));
            }
        }
        Ok(scenario)
    }

    fn check(&self) -> Result<()> {
        let modules = self.modules();
        for name in modules.iter().copied().chain(self.roms.keys().map(String::as_str)) {
            rom::check_name(name)?;
        }
        if let Some(name) = modules.iter().find(|name| self.roms.contains_key(**name)) {
            return Err(Error::new(format!("`{name}` is both a component and a ROM")));
        }
        if self.test && self.expect.is_empty() && self.exit.is_none() {
            return Err(Error::new("a test that expects nothing cannot fail; give `expect` or `exit`"));
        }
        if self.cpus == 0 {
            return Err(Error::new("a machine has at least one CPU"));
        }
        self.check_terminals()
    }

    fn check_terminals(&self) -> Result<()> {
        let most = Terminal::ALL.len();
        if !(1..=most).contains(&self.terminals) {
            return Err(Error::new(format!("a machine has 1 to {most} terminals")));
        }
        let most = self.machine_terminals();
        let missing = self.expect.iter().filter_map(|step| step.terminal()).find(|terminal| terminal.index() >= most);
        match missing {
            Some(terminal) => Err(Error::new(format!("`expect` is about {terminal}, but `terminals` is {most}"))),
            None => Ok(()),
        }
    }

    /// How many of its terminals the machine has.
    pub fn machine_terminals(&self) -> usize {
        self.terminals.min(self.machine.terminals())
    }

    /// The programs in the order of the boot modules: root task first.
    pub fn modules(&self) -> Vec<&str> {
        if self.boot == Boot::Linux {
            return Vec::new();
        }
        let others = self.components.iter().filter(|name| **name != self.root);
        std::iter::once(&self.root).chain(others).map(String::as_str).collect()
    }

    /// Everything that its ROMs are made of.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.roms.values().flat_map(Rom::sources)
    }

    /// What the host must have to provide its ROMs.
    pub fn needs(&self) -> impl Iterator<Item = Purpose> {
        self.sources().filter_map(Source::needs)
    }

    /// What the host must have to run it.
    pub fn needs_to_run(&self, image: Option<Firmware>) -> Vec<Purpose> {
        let image = image.map(|_| Purpose::Image);
        self.machine.needs().iter().copied().chain(image).chain(self.needs()).collect()
    }

    /// What the machine's time is.
    pub const fn time(&self) -> Time {
        if self.parallel { Time::Parallel } else { Time::Host }
    }

    /// Time limit of a test run.
    pub fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// Every scenario, sorted by name.
pub fn all() -> Result<Vec<Scenario>> {
    let folders = repository::list(&repository::scenarios())?;
    folders
        .iter()
        .filter(|folder| folder.join(DESCRIPTION).is_file())
        .map(|folder| Scenario::load_from(folder))
        .collect()
}

/// A TOML error with its line instead of the drawing.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.matches('\n').count() + 1, error.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"
        summary = "a"
        root = "conformance"
        components = ["init", "tick"]
        roms = { data = "text:hello", vmlinuz = { from = "guest:linux/vmlinuz", size = "1M" } }
        cpus = 4
        memory = "1G"
        machine = "bochs-vmx"
        terminals = 2
        timeout = 5
        test = true
        expect = [ { log = "a" }, { also_log = "b" }, { send = "c\n" }, { terminal = "d" } ]
        fail = ["BUG"]
        exit = 3
        variants = [ { cpus = 1 }, { iso = "uefi", memory = "2G" } ]
    "#;

    #[test]
    fn everything_is_read() {
        let scenario = Scenario::parse(FULL).unwrap();
        assert_eq!(scenario.modules(), ["conformance", "init", "tick"]);
        assert_eq!((scenario.cpus, scenario.memory), (4, Size::mib(1024)));
        assert_eq!((scenario.machine, scenario.terminals), (Platform::BochsVmx, 2));
        assert_eq!((scenario.expect.len(), scenario.exit), (4, Some(3)));
    }

    #[test]
    fn defaults_boot_core() {
        let scenario = Scenario::parse("summary = 'a'\ncomponents = ['init']").unwrap();
        assert_eq!(scenario.modules(), ["core", "init"]);
        assert!(!scenario.test && scenario.exit.is_none());
    }

    #[test]
    fn core_may_be_listed() {
        let scenario = Scenario::parse("summary = 'a'\ncomponents = ['core', 'init']").unwrap();
        assert_eq!(scenario.modules(), ["core", "init"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("components = []", "summary"),
            ("summary = 'a'\nsumary = 'b'", "line 2"),
            ("summary = 'a'\nexpect = [ { lag = 'x' } ]", "lag"),
            ("summary = 'a'\nexpect = [ { log = '(' } ]", "("),
            ("summary = 'a'\nroms = { a = 'disk:x' }", "disk:x"),
            ("summary = 'a'\nroms = { 'a,b' = 'text:x' }", "a,b"),
            ("summary = 'a'\nroms = { core = 'text:x' }", "both"),
            ("summary = 'a'\nmemory = 'much'", "much"),
            ("summary = 'a'\ncpus = 0", "CPU"),
            ("summary = 'a'\ntest = true", "expects nothing"),
            ("summary = 'a'\nmachine = 'abacus'", "abacus"),
            ("summary = 'a'\nterminals = 0", "1 to 3"),
            ("summary = 'a'\nterminals = 4", "1 to 3"),
            ("summary = 'a'\nexpect = [ { send2 = 'x' } ]", "terminal2"),
            ("summary = 'a'\nvariants = [ { long = true } ]", "name"),
            ("summary = 'a'\nvariants = [ { cpus = 1 }, { cpus = 1 } ]", "two variants"),
            ("summary = 'a'\nvariants = [ { cpus = 0 } ]", "0-cpus"),
        ] {
            let error = Scenario::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn every_scenario_of_the_repository_is_well_formed() {
        assert!(!all().unwrap().is_empty());
    }

    #[test]
    fn paths_are_not_scenario_names() {
        for name in ["..", ".", "", "a/b", "/etc"] {
            assert!(Scenario::load(name).unwrap_err().to_string().contains("no scenario"), "{name}");
        }
    }
}
