//! Booting what measures, and collecting what it says.

use std::path::PathBuf;

use crate::boot::product::Products;
use crate::boot::stage::Stage;
use crate::error::{Error, Result};
use crate::host::packages;
use crate::machine::terminal::Terminal;
use crate::machine::{Machine, Platform, Time};
use crate::repository;
use crate::scenario::Scenario;
use crate::session::end::End;
use crate::session::lines::LineSplitter;
use crate::session::{Observer, Session, Wish};

use super::log::{self, Log};

/// The root task that measures the hypervisor.
const MICRO: &str = "bench";
/// The guest that measures its exits, under this project's VMM.
const GUEST: &str = "bench-guest";
/// The same under KVM.
const KVM: &str = "bench-kvm";
/// Measures the hypervisor: on a machine with one CPU, so that no other CPU's instructions are counted, and on one with two
/// what needs another CPU.
pub fn micro() -> Result<Log> {
    let with_cpus = |cpus| micro_with(Platform::default(), cpus);
    Ok(with_cpus(1)?.with_missing_of(with_cpus(2)?))
}

/// Measures the hypervisor on a machine with one CPU and other virtualisation hardware.
pub fn micro_on(platform: Platform) -> Result<Log> {
    micro_with(platform, 1)
}

fn micro_with(platform: Platform, cpus: u32) -> Result<Log> {
    let mut bench = Bench::load(MICRO)?;
    (bench.scenario.machine, bench.scenario.cpus) = (platform, cpus);
    bench.log()
}

/// Measures the exits of a guest.
pub fn guest() -> Result<Log> {
    guest_on(Platform::default())
}

/// Measures the exits of a guest on a machine.
pub fn guest_on(platform: Platform) -> Result<Log> {
    let mut bench = Bench::load(GUEST)?;
    bench.scenario.machine = platform;
    bench.log()
}

/// Measures the exits of the same guest under KVM.
pub fn kvm() -> Result<Log> {
    Bench::load(KVM)?.log()
}

/// A scenario that is booted to be measured: its time is instructions.
pub struct Bench {
    /// The scenario, which may be changed.
    pub scenario: Scenario,
}

/// What a measurement said.
pub struct Said {
    /// Lines of the log.
    pub log: Vec<String>,
    /// Lines of the terminal.
    pub terminal: Vec<String>,
}

impl Bench {
    /// Reads a scenario.
    pub fn load(name: &str) -> Result<Self> {
        Scenario::load(name).map(|scenario| Self { scenario })
    }

    /// Boots it up to the end of its measurements, which it may print on the log or on its terminal.
    fn log(&self) -> Result<Log> {
        let said = self.run(|line| line == log::END)?;
        let lines = if said.terminal.iter().any(|line| line == log::END) { said.terminal } else { said.log };
        let malformed = |error| Error::new(format!("{}: {error}", self.folder().display()));
        Log::parse(&lines.join("\n")).map_err(malformed)
    }

    /// Boots it until a line is the last one.
    pub fn run(&self, is_last: impl Fn(&str) -> bool) -> Result<Said> {
        self.follow(Collector::new(&is_last, true))
    }

    /// Boots it until the machine switches itself off. A line has to come before that.
    pub fn run_out(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Said> {
        self.follow(Collector::new(&is_wanted, false))
    }

    fn follow(&self, mut collector: Collector<'_>) -> Result<Said> {
        let Self { scenario } = self;
        packages::ensure(&scenario.needs_to_run(None))?;
        let products = Products::build(&[scenario])?;
        let folder = self.folder();
        eprintln!("bench: {} on {} CPU(s) of {}", scenario.name, scenario.cpus, scenario.machine);
        let stage = Stage::prepare(scenario, &products, &folder)?;
        let medium = stage.medium(scenario.machine.medium_firmware(None))?;
        let session = Session::start(&Machine::of(scenario, Time::Instructions), &medium, &folder)?;
        let end = session.run(&mut collector, Some(scenario.limit()))?;
        if collector.is_complete {
            return Ok(collector.said);
        }
        let reason = match end {
            End::EmulatorEnded { message, .. } if !message.is_empty() => message.replace('\n', " "),
            End::Timeout => format!("{} s passed", scenario.timeout),
            end => format!("{end:?}"),
        };
        Err(Error::new(format!("the measurement `{}` did not end well: {reason}", scenario.name))
            .remedy(format!("see what it said in {}", folder.display())))
    }

    fn folder(&self) -> PathBuf {
        let Scenario { name, machine, cpus, .. } = &self.scenario;
        repository::target().join(format!("run/{name}@{machine}@{cpus}"))
    }
}

/// Collects lines, and tells the user how far the measurement is.
struct Collector<'a> {
    said: Said,
    terminal: LineSplitter,
    is_last: &'a dyn Fn(&str) -> bool,
    is_complete: bool,
    /// The run ends when it is.
    stops: bool,
    rows: usize,
}

impl<'a> Collector<'a> {
    fn new(is_last: &'a dyn Fn(&str) -> bool, stops: bool) -> Self {
        let said = Said { log: Vec::new(), terminal: Vec::new() };
        Self { said, terminal: LineSplitter::default(), is_last, is_complete: false, stops, rows: 0 }
    }

    fn note(&mut self, line: &str) {
        if let Some(name) = log::row_name(line) {
            self.rows += 1;
            eprintln!("bench: {:>3} {name}", self.rows);
        }
        self.is_complete |= (self.is_last)(line);
    }

    fn wish(&self) -> Wish {
        if self.is_complete && self.stops { Wish::Stop } else { Wish::NOTHING }
    }
}

impl Observer for Collector<'_> {
    fn terminal(&mut self, terminal: Terminal, output: &[u8]) -> Wish {
        if terminal == Terminal::First {
            for line in self.terminal.push(output) {
                let line = line.trim().to_owned();
                self.note(&line);
                self.said.terminal.push(line);
            }
        }
        self.wish()
    }

    fn log_line(&mut self, line: &str) -> Wish {
        let line = line.trim();
        self.note(line);
        self.said.log.push(line.to_owned());
        self.wish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_collected_up_to_the_last() {
        let is_last = |line: &str| line == "bench-end";
        let mut collector = Collector::new(&is_last, true);
        assert_eq!(collector.log_line("[core] hello"), Wish::NOTHING);
        assert_eq!(collector.terminal(Terminal::First, b"bench name=a x\r\nbench-"), Wish::NOTHING);
        assert_eq!(collector.terminal(Terminal::First, b"end\r\n"), Wish::Stop);
        assert_eq!(collector.said.log, ["[core] hello"]);
        assert_eq!(collector.said.terminal, ["bench name=a x", "bench-end"]);
        assert_eq!(collector.rows, 1);
    }

    #[test]
    fn every_measurement_has_its_scenario() {
        for name in [MICRO, GUEST, KVM] {
            Bench::load(name).unwrap();
        }
    }
}
