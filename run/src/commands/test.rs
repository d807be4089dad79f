//! `./x test`: the tests, cheapest first; scenarios that take long are left out unless they are asked for.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Instant;

use clap::Args;
use regex::Regex;

use crate::bench;
use crate::boot::product::Products;
use crate::commands::loc;
use crate::conformance::Table;
use crate::error::{Error, Result};
use crate::guest;
use crate::host::command::{checked, not_started, output};
use crate::host::packages::{self, Purpose};
use crate::machine::Firmware;
use crate::machine::terminal::Terminal;
use crate::repository;
use crate::scenario::rom::Source;
use crate::scenario::{self, Scenario};
use crate::session::LOG;
use crate::trial::{Failure, run_trial};

/// Options of `test`.
#[derive(Debug, Args)]
pub struct TestOptions {
    /// Only tests whose name matches
    #[arg(long, value_name = "REGEX")]
    filter: Option<Regex>,
    /// Also scenarios that take long
    #[arg(long)]
    long: bool,
    /// Name the tests instead of running them
    #[arg(long)]
    list: bool,
}

/// How many emulators run at a time.
const EMULATORS: usize = 2;
/// How many lines of a failed scenario's output are shown.
const SHOWN_LINES: usize = 40;

/// Checks of the source code, by name.
const FORMAT: &str = "fmt";
const LINTS: &str = "clippy";
const DOCS: &str = "doc";
const UNIT_TESTS: &str = "unit";
const LINES: &str = "loc";
/// A check of what operations cost.
const COST: &str = "cost";

/// A booted test.
#[derive(Debug)]
struct Booted {
    scenario: Scenario,
    image: Option<Firmware>,
}

impl Booted {
    fn name(&self) -> String {
        format!("scenario:{}", self.scenario.name)
    }
}

/// How many tests passed and failed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn count(&mut self, name: &str, started: Instant, result: &Result<()>) {
        let seconds = started.elapsed().as_secs_f32();
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("test {name} ... ok ({seconds:.1} s)");
            }
            Err(error) => {
                self.failed += 1;
                println!("test {name} ... FAILED ({seconds:.1} s): {error}");
            }
        }
    }
}

/// Runs the tests; the last line of output is the summary. Returns the exit status.
pub fn execute(options: &TestOptions) -> Result<i32> {
    let selected = |name: &str| options.filter.as_ref().is_none_or(|filter| filter.is_match(name));
    let checks: Vec<_> =
        [FORMAT, LINTS, DOCS, UNIT_TESTS, LINES, COST].into_iter().filter(|name| selected(name)).collect();
    let mut booted = all_booted(options.long)?;
    booted.retain(|test| selected(&test.name()));
    if let (Some(filter), true, true) = (&options.filter, checks.is_empty(), booted.is_empty()) {
        let list = if options.long { "./x test --list --long" } else { "./x test --list" };
        return Err(Error::new(format!("no test matches `{filter}`")).remedy(format!("`{list}` names those there are")));
    }
    if options.list {
        checks.iter().for_each(|name| println!("{name}"));
        booted.iter().for_each(|test| println!("{}", test.name()));
        return Ok(0);
    }
    let mut tally = Tally::default();
    for name in checks {
        println!("test {name} ...");
        check(name, &mut tally);
    }
    if !booted.is_empty() {
        let started = Instant::now();
        match prepare(&booted) {
            Ok(products) => boot_all(booted, &products, &mut tally),
            Err(error) => tally.count("preparing scenarios", started, &Err(error)),
        }
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(i32::from(tally.failed > 0))
}

fn all_booted(long: bool) -> Result<Vec<Booted>> {
    let mut tests = Vec::new();
    for scenario in scenario::all()?.into_iter().filter(|scenario| scenario.test) {
        for variant in &scenario.variants {
            tests.push(Booted { scenario: variant.apply(&scenario)?, image: variant.iso });
        }
        tests.push(Booted { scenario, image: None });
    }
    tests.retain(|test| long || !test.scenario.long);
    tests.sort_by_key(Booted::name);
    Ok(tests)
}

fn check(name: &str, tally: &mut Tally) {
    let started = Instant::now();
    match name {
        UNIT_TESTS => unit_tests(tally),
        LINES => tally.count(name, started, &loc::execute()),
        COST => tally.count(name, started, &bench::check()),
        _ => tally.count(name, started, &check_source(name)),
    }
}

fn check_source(name: &str) -> Result<()> {
    const FORMATTED: [&str; 2] = ["--all", "--check"];
    // Freestanding binaries have no test harness, so not `--all-targets`.
    const LINTED: [&str; 7] = ["--workspace", "--lib", "--bins", "--tests", "--", "-D", "warnings"];
    // For the links: those to private items, too, because who reads the documentation works on the code.
    const DOCUMENTED: [&str; 3] = ["--workspace", "--no-deps", "--document-private-items"];
    packages::ensure(&[Purpose::Lint])?;
    let arguments: &[&str] = match name {
        FORMAT => &FORMATTED,
        LINTS => &LINTED,
        _ => &DOCUMENTED,
    };
    // `doc` does not tell its version, and is no component of its own.
    if name != DOCS {
        output(cargo().args([name, "--version"]))
            .map_err(|error| Error::new(error.to_string()).remedy("run `rustup component add rustfmt clippy`"))?;
    }
    checked(cargo().arg(name).args(arguments).env("RUSTDOCFLAGS", "-D warnings"))
}

fn cargo() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(repository::root());
    command
}

/// Runs `cargo test`, shows what it says and adds up its results.
fn unit_tests(tally: &mut Tally) {
    let started = Instant::now();
    if let Err(error) = packages::ensure(&[Purpose::UnitTest]) {
        tally.count(UNIT_TESTS, started, &Err(error));
        return;
    }
    let mut command = cargo();
    command.args(["test", "--workspace", "--tests", "--no-fail-fast"]);
    let mut counted = Tally::default();
    let run = |command: &mut Command, counted: &mut Tally| -> Result<bool> {
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(|cause| not_started(command, &cause))?;
        for line in child
            .stdout
            .take()
            .into_iter()
            .flat_map(|stream| BufReader::new(stream).lines())
            .map_while(std::io::Result::ok)
        {
            println!("{line}");
            if let Some((passed, failed)) = parse_result(&line) {
                counted.passed += passed;
                counted.failed += failed;
            }
        }
        child.wait().map(|status| status.success()).map_err(|cause| not_started(command, &cause))
    };
    let succeeded = run(&mut command, &mut counted);
    tally.passed += counted.passed;
    tally.failed += counted.failed;
    match succeeded {
        Ok(true) => {
            println!("test {UNIT_TESTS} ... ok ({} tests, {:.1} s)", counted.passed, started.elapsed().as_secs_f32())
        }
        Ok(false) if counted.failed > 0 => {
            println!("test {UNIT_TESTS} ... FAILED: {} tests", counted.failed)
        }
        Ok(false) => tally.count(UNIT_TESTS, started, &Err(Error::new("`cargo test` failed, see above"))),
        Err(error) => tally.count(UNIT_TESTS, started, &Err(error)),
    }
}

/// The numbers in a line such as `test result: ok. 12 passed; 0 failed; 0 ignored; ...`.
fn parse_result(line: &str) -> Option<(usize, usize)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut numbers = counts.split("; ").map(|count| count.split_once(' '));
    let (passed, failed) = (numbers.next()??, numbers.next()??);
    (passed.1 == "passed" && failed.1 == "failed").then_some((passed.0.parse().ok()?, failed.0.parse().ok()?))
}

/// Does everything that booted tests share, so that they can run side by side.
fn prepare(tests: &[Booted]) -> Result<Products> {
    let scenarios: Vec<_> = tests.iter().map(|test| &test.scenario).collect();
    packages::ensure(&tests.iter().flat_map(|test| test.scenario.needs_to_run(test.image)).collect::<Vec<_>>())?;
    for source in scenarios.iter().flat_map(|scenario| scenario.sources()) {
        if let Source::Guest { guest, .. } = source {
            guest::provide(guest)?;
        }
    }
    Products::build(&scenarios)
}

/// Boots the tests, a few at a time, and reports each as it ends.
fn boot_all(tests: Vec<Booted>, products: &Products, tally: &mut Tally) {
    let (queue, (results, ended)) = (Mutex::new(VecDeque::from(tests)), channel());
    let mut table = Table::default();
    std::thread::scope(|scope| {
        for _ in 0..EMULATORS {
            let (queue, results) = (&queue, results.clone());
            scope.spawn(move || {
                loop {
                    let next = queue.lock().map_or(None, |mut queue| queue.pop_front());
                    let Some(test) = next else { return };
                    let started = Instant::now();
                    println!("test {} ... (at most {} s)", test.name(), test.scenario.limit().as_secs());
                    let folder = repository::target().join("test").join(&test.scenario.name);
                    let result = run_trial(&test.scenario, test.image, products, &folder);
                    // The receiver outlives this scope's threads.
                    let _ = results.send((test, started, folder, result));
                }
            });
        }
        drop(results);
        for (test, started, folder, result) in ended {
            if result.is_err() {
                show(&folder);
            }
            table.add_run(&test.scenario.name, test.scenario.machine, &folder);
            tally.count(&test.name(), started, &result.map_err(|Failure(reason)| Error::new(reason)));
        }
    });
    if let Err(error) = table.finish() {
        tally.count("conformance table", Instant::now(), &Err(error));
    }
}

/// Shows the ends of a failed scenario's output files.
fn show(folder: &Path) {
    let terminals = Terminal::ALL.map(Terminal::file);
    for file in std::iter::once(LOG).chain(terminals.iter().map(String::as_str)) {
        let path = folder.join(file);
        let Ok(text) = std::fs::read(&path) else {
            continue;
        };
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        println!("--- {} ({} lines)", path.display(), lines.len());
        for line in lines.iter().skip(lines.len().saturating_sub(SHOWN_LINES)) {
            println!("    {line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_results_are_understood() {
        assert_eq!(parse_result("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured"), Some((12, 0)));
        assert_eq!(parse_result("test result: FAILED. 1 passed; 2 failed; 0 ignored"), Some((1, 2)));
        assert_eq!(parse_result("test a::b ... ok"), None);
        assert_eq!(parse_result("test result: ok. many passed"), None);
    }

    #[test]
    fn a_filter_that_matches_nothing_is_an_error() {
        let filter = Regex::new("no-such-test").ok();
        let error = execute(&TestOptions { filter, long: false, list: false }).unwrap_err().to_string();
        assert_eq!(error, "no test matches `no-such-test`; `./x test --list` names those there are");
    }

    #[test]
    fn failures_are_counted() {
        let mut tally = Tally::default();
        tally.count("a", Instant::now(), &Ok(()));
        tally.count("b", Instant::now(), &Err(Error::new("x")));
        assert_eq!(tally, Tally { passed: 1, failed: 1 });
    }
}
