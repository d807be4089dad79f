//! More test runs of a scenario, each with some of it changed.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::machine::{Firmware, Platform};
use crate::scenario::Scenario;
use crate::scenario::expectation::Steps;
use crate::scenario::rom::Rom;
use crate::scenario::size::Size;

/// Changes to a scenario.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Variant {
    /// What it is called; without it, what it changes of the machine.
    name: Option<String>,
    /// Emulator and its hardware.
    machine: Option<Platform>,
    /// Number of CPUs.
    cpus: Option<u32>,
    /// Memory of the machine.
    memory: Option<Size>,
    /// Boot from an image through this firmware.
    pub iso: Option<Firmware>,
    /// Time limit, in seconds.
    timeout: Option<u64>,
    /// Whether only `./x test --long` runs it.
    long: Option<bool>,
    /// Other programs.
    components: Option<Vec<String>>,
    /// Other or more ROMs.
    #[serde(default)]
    roms: BTreeMap<String, Rom>,
    /// Other or more values of placeholders.
    #[serde(default)]
    options: BTreeMap<String, String>,
    /// Other expectations.
    expect: Option<Steps>,
    /// Another exit code.
    exit: Option<i32>,
}

impl Variant {
    /// The changed scenario; its name tells what was changed.
    pub fn apply(&self, scenario: &Scenario) -> Result<Scenario> {
        let mut changed = scenario.clone();
        let mark = self.name.clone().unwrap_or_else(|| self.marks().join("+"));
        if mark.is_empty() {
            return Err(Error::new("a variant that changes nothing of the machine needs a `name`"));
        }
        changed.name = format!("{}@{mark}", scenario.name);
        changed.variants.clear();
        changed.machine = self.machine.unwrap_or(changed.machine);
        changed.cpus = self.cpus.unwrap_or(changed.cpus);
        changed.memory = self.memory.unwrap_or(changed.memory);
        changed.timeout = self.timeout.unwrap_or(changed.timeout);
        changed.long = self.long.unwrap_or(changed.long);
        if let Some(components) = &self.components {
            changed.components.clone_from(components);
        }
        changed.roms.extend(self.roms.clone());
        changed.options.extend(self.options.clone());
        changed.exit = self.exit.or(changed.exit);
        if let Some(expect) = &self.expect {
            changed.expect.clone_from(expect);
        }
        Ok(changed)
    }

    fn marks(&self) -> Vec<String> {
        let marks = [
            self.machine.map(|machine| machine.to_string()),
            self.cpus.map(|cpus| format!("{cpus}-cpus")),
            self.memory.map(|memory| memory.to_string()),
            self.iso.map(|firmware| firmware.to_string()),
        ];
        marks.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(text: &str) -> Scenario {
        let scenario: Scenario = toml::from_str(&format!("summary = 'a'\n{text}")).unwrap();
        Scenario { name: "sample".into(), ..scenario }
    }

    fn only_variant(scenario: &Scenario) -> Result<Scenario> {
        scenario.variants.first().unwrap().apply(scenario)
    }

    #[test]
    fn names_say_what_is_changed() {
        let scenario = scenario("variants = [{ cpus = 1 }, { iso = 'uefi', memory = '2G' }, { cpus = 1, name = 'b' }]");
        let names: Vec<_> = scenario.variants.iter().map(|variant| variant.apply(&scenario).unwrap().name).collect();
        assert_eq!(names, ["sample@1-cpus", "sample@2G+uefi", "sample@b"]);
        let nothing = only_variant(&Scenario { variants: vec![Variant::default()], ..scenario });
        assert!(nothing.unwrap_err().to_string().contains("`name`"));
    }

    #[test]
    fn contents_are_replaced_or_added() {
        let changed = only_variant(&scenario(
            "components = ['init', 'tick']\nroms = { a = 'text:a', b = 'text:b' }\noptions = { x = '1' }\n\
             expect = [{ log = 'one' }]\nvariants = [{ name = 'v', components = ['init'], long = true, timeout = 7, exit = 2, \
             roms = { b = 'text:c' }, options = { y = '2' }, expect = [{ log = 'two' }] }]",
        ))
        .unwrap();
        assert_eq!(changed.components, ["init"]);
        assert!(changed.long && changed.timeout == 7 && changed.exit == Some(2) && changed.variants.is_empty());
        let roms: Vec<_> = changed.roms.keys().map(String::as_str).collect();
        assert_eq!(roms, ["a", "b"]);
        assert_ne!(changed.roms.get("a"), changed.roms.get("b"));
        assert_eq!(changed.options.len(), 2);
        assert_eq!(changed.expect.first().unwrap().to_string(), "log `two`");
    }
}
