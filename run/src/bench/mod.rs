//! `./x bench`: what operations cost, beside others and against the project's own limits.
//!
//! Programs that measure print lines ([`measure`] boots them, [`log`] reads them); here these are joined with what is known
//! about each row ([`limits`]), and shown as a table ([`table`]) and as files ([`report`], [`chart`]). Boots of Linux are
//! compared with those on the bare machine ([`linux_boot`]).

mod chart;
mod exits;
mod limits;
mod linux_boot;
mod log;
mod measure;
mod report;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::error::{Error, Result};
use crate::machine::Platform;
use crate::repository;
use limits::Limits;
use linux_boot::Boot;
use log::{Log, Sample, Unit};
use report::Results;

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchOptions {
    /// Only this part
    part: Option<Part>,
    /// Fail if a figure is above its line in benches/limits.toml
    #[arg(long)]
    check: bool,
    /// Write the main plot, of which docs/cost.svg is one, to this file
    #[arg(long, value_name = "FILE", conflicts_with = "from_log")]
    plot: Option<PathBuf>,
    /// Report what a machine printed on its serial line instead of booting an emulator
    #[arg(long, value_name = "FILE")]
    from_log: Option<PathBuf>,
}

/// A part of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// VM exits, interrupts and timeouts
    Exits,
    /// Hypercalls, calls, exceptions, semaphores
    Ipc,
    /// Creation of objects, delegation
    Objects,
    /// Guests of the real VMM: exits end to end, boots of Linux
    Guest,
    /// The same exits under KVM, beside the VMM's
    Kvm,
}

/// What was measured.
#[derive(Debug, Default)]
pub struct Measured {
    /// Rows of this system, on the usual machine.
    pub log: Option<Log>,
    /// Its rows on other machines.
    pub others: BTreeMap<Platform, Log>,
    /// Rows of the same names under KVM.
    pub kvm: Option<Log>,
    /// Boots of Linux.
    pub boots: Vec<Boot>,
}

impl Measured {
    /// Measures a part, or everything.
    fn take(part: Option<Part>, limits: &Limits) -> Result<Self> {
        let (micro, guest, boots, kvm) = match part {
            None => (true, true, true, true),
            Some(Part::Exits | Part::Ipc | Part::Objects) => (true, false, false, false),
            Some(Part::Guest) => (false, true, true, false),
            Some(Part::Kvm) => (false, true, false, true),
        };
        let mut measured = Self::default();
        if micro {
            measured.add(measure::micro()?);
        }
        if guest {
            measured.add(measure::guest()?);
        }
        measured.add_others(part, limits)?;
        if boots {
            let boots = limits.boot.iter().map(|known| Boot::measure(known).and_then(Boot::with_exits));
            measured.boots = boots.collect::<Result<_>>()?;
        }
        if kvm {
            measured.kvm = Some(measure::kvm()?);
        }
        Ok(measured)
    }

    /// Measures what has limits on other machines.
    fn add_others(&mut self, part: Option<Part>, limits: &Limits) -> Result<()> {
        let rows = limits.row.iter().filter(|row| part.is_none_or(|part| row.part == part));
        let others = rows.filter(|row| row.machine != Platform::default());
        let programs: BTreeSet<_> = others.map(|row| (row.machine, row.part == Part::Guest)).collect();
        for (machine, is_guest) in programs {
            let log = if is_guest { measure::guest_on(machine)? } else { measure::micro_on(machine)? };
            let joined = join(self.others.remove(&machine), log);
            self.others.insert(machine, joined);
        }
        Ok(())
    }

    fn add(&mut self, log: Log) {
        self.log = Some(join(self.log.take(), log));
    }

    /// What a machine printed.
    fn read(file: &Path, limits: &Limits) -> Result<Self> {
        let text = repository::read_text(file)?;
        let log = Log::parse(&text).map_err(|error| Error::new(format!("{}: {error}", file.display())))?;
        Ok(Self::of_machine(log, limits))
    }

    /// Rows that have limits of their own with VMX are those of a machine that has it.
    fn of_machine(mut log: Log, limits: &Limits) -> Self {
        const VMX: Platform = Platform::BochsVmx;
        let mut others = BTreeMap::new();
        if log.machine.get("virtualisation").is_some_and(|kind| kind == "vmx") {
            let mut vmx = log.clone();
            let is_own = |row: &Sample| limits.row.iter().any(|limit| limit.machine == VMX && limit.name == row.name);
            vmx.rows.retain(is_own);
            log.rows.retain(|row| !is_own(row));
            others.insert(VMX, vmx);
        }
        Self { log: Some(log), others, ..Self::default() }
    }
}

/// What is known, and what is new in `log`.
fn join(known: Option<Log>, log: Log) -> Log {
    match known {
        None => log,
        Some(known) => known.with_missing_of(log),
    }
}

/// Measures everything that has a limit, and fails where it costs more than it may.
pub fn check() -> Result<()> {
    let limits = Limits::load()?;
    let mut measured = Measured::default();
    measured.add(measure::micro()?);
    measured.add_others(None, &limits)?;
    measured.add(measure::guest()?);
    measured.boots = limits.boot.iter().map(Boot::measure).collect::<Result<_>>()?;
    let excess = Results::new(&measured, &limits, None, true)?.excess();
    if excess.is_empty() { Ok(()) } else { Err(Error::new(excess.join("; "))) }
}

/// Measures or reads, and reports. Returns the exit status.
pub fn execute(options: &BenchOptions) -> Result<i32> {
    let limits = Limits::load()?;
    let measured = match &options.from_log {
        Some(file) => Measured::read(file, &limits)?,
        None => Measured::take(options.part, &limits)?,
    };
    let results = Results::new(&measured, &limits, options.part, options.from_log.is_none())?;
    if options.check && results.unit != Unit::Instructions {
        return Err(Error::new("limits are in instructions, the log is in cycles").remedy("check without --from-log"));
    }
    table::print(&results);
    let folder = repository::target().join("bench");
    report::write(&results, &folder)?;
    eprintln!("bench: report in {}", folder.join(report::HTML).display());
    if let Some(file) = &options.plot {
        let rows: Vec<_> = results.rows.iter().filter(|row| row.known.plot).cloned().collect();
        repository::write(file, chart::main_plot(&rows, results.unit))?;
    }
    if !options.check {
        return Ok(0);
    }
    let excess = results.excess();
    excess.iter().for_each(|text| eprintln!("error: {text}"));
    Ok(i32::from(!excess.is_empty()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        options: BenchOptions,
    }

    fn from_log(text: &str) -> Result<i32> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let file = file.path().to_string_lossy().into_owned();
        execute(&Command::try_parse_from(["bench", "--check", "--from-log", &file]).unwrap().options)
    }

    #[test]
    fn an_unknown_part_is_named_with_those_that_exist() {
        let error = Command::try_parse_from(["bench", "abacus"]).unwrap_err();
        assert_ne!(error.exit_code(), 0);
        let text = error.to_string();
        assert!(text.contains("abacus") && text.contains("exits, ipc, objects, guest, kvm"), "{text}");
    }

    #[test]
    fn a_machine_with_vmx_has_the_limits_of_vmx() {
        let limits = Limits::load().unwrap();
        let row = |name| format!("bench name={name} unit=insn user=0 min=9 median=9 p99=9 max=9 n=1\n");
        let rows = row("exit-cpuid") + &row("null-hypercall");
        let machines = |kind| {
            let text = format!("bench-log version=1 unit=insn virtualisation={kind}\n{rows}bench-end");
            let measured = Measured::of_machine(Log::parse(&text).unwrap(), &limits);
            let results = Results::new(&measured, &limits, None, false).unwrap();
            results.rows.iter().map(|row| row.known.full_name()).collect::<Vec<_>>()
        };
        assert_eq!(machines("vmx"), ["null-hypercall", "exit-cpuid@bochs-vmx"]);
        assert_eq!(machines("svm"), ["null-hypercall", "exit-cpuid"]);
    }

    #[test]
    fn a_log_that_cannot_be_used_is_refused() {
        for (text, expected) in [
            ("bench-log version=7 unit=insn\nbench-end", "version 7"),
            ("hello", "no line that begins with `bench-log`"),
            ("bench-log version=1 unit=cycle\nbench-end", "in cycles"),
        ] {
            let error = from_log(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let limits = Limits::load().unwrap();
        assert!(Measured::read(Path::new("/no/such/file"), &limits).unwrap_err().to_string().contains("/no/such/file"));
    }
}
