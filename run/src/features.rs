//! What `docs/features.md` names as shown by a booted test: there is such a test.

use std::collections::BTreeSet;

use crate::repository;
use crate::scenario;

const DOCUMENT: &str = "docs/features.md";
/// What some names of scenarios begin with there.
const PREFIX: &str = "scenario:";
/// In the place of a name.
const ANY: &str = "...";

/// Scenarios that are tests, and their variants.
fn tests() -> BTreeSet<String> {
    let scenarios = scenario::all().unwrap().into_iter().filter(|scenario| scenario.test);
    let names = scenarios.flat_map(|scenario| {
        let variants: Vec<_> = scenario.variants.iter().map(|variant| variant.apply(&scenario).unwrap().name).collect();
        std::iter::once(scenario.name).chain(variants)
    });
    names.collect()
}

/// What a line names between backticks and is not there. `@variant` belongs to the scenario that was named last.
fn missing(line: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let (mut scenario, mut missing) = ("", Vec::new());
    for word in line.split('`').skip(1).step_by(2).filter(|word| !word.contains([' ', '/'])) {
        let name = word.strip_prefix(PREFIX).unwrap_or(word);
        let (base, variant) = name.split_once('@').unwrap_or((name, ""));
        let is_test = word != name || !variant.is_empty() || base.starts_with("kernel-");
        if name == ANY || !(is_test || tests.contains(name)) {
            continue;
        }
        scenario = if base.is_empty() { scenario } else { base };
        let name = if variant.is_empty() { scenario.to_owned() } else { format!("{scenario}@{variant}") };
        if !tests.contains(&name) {
            missing.push(name);
        }
    }
    missing
}

#[test]
fn documented_tests_exist() {
    let (text, tests) = (repository::read_text(&repository::root().join(DOCUMENT)).unwrap(), tests());
    let missing: Vec<_> = text.lines().flat_map(|line| missing(line, &tests)).collect();
    assert!(missing.is_empty(), "{DOCUMENT} names tests that do not exist: {missing:?}");
}

#[test]
fn names_are_found_in_prose() {
    let tests = ["linux", "linux@pic", "kernel-ipc"].map(str::to_owned).into();
    assert!(missing("| `scenario:linux`, `@pic` (`./x`, tests of `core`); `kernel-ipc`, `linux` |", &tests).is_empty());
    let wrong = missing("| `scenario:linus`, `linux@pick`, `@pig`, `kernel-ips`; `scenario:...` |", &tests);
    assert_eq!(wrong, ["linus", "linux@pick", "linux@pig", "kernel-ips"]);
    assert_eq!(missing("`@pic`", &tests), ["@pic"]);
}
