//! `./x bench`: what the hypervisor's operations cost, beside others and against its own limits.
//!
//! The root task `bench-micro` measures and prints lines; here they are read ([`log`]), joined with what is known about each
//! row ([`limits`]), and shown as a table ([`table`]) and as files ([`report`], [`chart`]).

mod chart;
mod limits;
mod log;
mod report;
mod table;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::boot::product::Products;
use crate::boot::stage::Stage;
use crate::error::{Error, Result};
use crate::host::packages;
use crate::machine::terminal::Terminal;
use crate::machine::{Machine, Time};
use crate::repository;
use crate::scenario::Scenario;
use crate::session::end::End;
use crate::session::{LOG, Observer, Session, Wish};
use limits::Limits;
use log::{Log, Unit};
use report::Results;

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchOptions {
    /// Only this part
    part: Option<Part>,
    /// Fail if a figure is above its line in benches/limits.toml
    #[arg(long)]
    check: bool,
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
}

/// The scenario that measures.
const SCENARIO: &str = "bench";
/// Machines on which it is booted, by their number of CPUs: with one, no other CPU's instructions are counted; the
/// second machine is for rows that need another CPU.
const MACHINES: [u32; 2] = [1, 2];

/// Measures or reads, and reports. Returns the exit status.
pub fn execute(options: &BenchOptions) -> Result<i32> {
    let limits = Limits::load()?;
    let log = match &options.from_log {
        Some(file) => Log::parse(&repository::read_text(file)?)
            .map_err(|error| Error::new(format!("{}: {error}", file.display())))?,
        None => measure()?,
    };
    if options.check && log.unit != Unit::Instructions {
        return Err(Error::new("limits are in instructions, the log is in cycles").remedy("check without --from-log"));
    }
    let results = Results::new(&log, &limits, options.part)?;
    table::print(&results);
    let folder = repository::target().join("bench");
    report::write(&results, &folder)?;
    eprintln!("bench: report in {}", folder.join(report::HTML).display());
    if !options.check {
        return Ok(0);
    }
    let above = results.above_limit();
    for row in &above {
        eprintln!("error: {}", row.excess());
    }
    Ok(i32::from(!above.is_empty()))
}

/// Boots the scenario on each machine and joins what they say.
fn measure() -> Result<Log> {
    let scenario = Scenario::load(SCENARIO)?;
    packages::ensure(scenario.machine.needs())?;
    let products = Products::build(&[&scenario])?;
    let mut joined: Option<Log> = None;
    for (index, cpus) in (1..).zip(MACHINES) {
        eprintln!("bench: {cpus} CPU(s) in {}, machine {index} of {}", scenario.machine, MACHINES.len());
        let folder = repository::target().join(format!("run/{SCENARIO}@{cpus}"));
        let log = boot(&scenario, cpus, &products, &folder)?;
        joined = Some(match joined {
            None => log,
            Some(first) => first.with_missing_of(log),
        });
    }
    joined.ok_or_else(|| Error::new("nothing was measured"))
}

fn boot(scenario: &Scenario, cpus: u32, products: &Products, folder: &Path) -> Result<Log> {
    let stage = Stage::prepare(scenario, products, folder)?;
    let machine = Machine {
        platform: scenario.machine,
        cpus,
        memory: scenario.memory,
        terminals: scenario.machine_terminals(),
        time: Time::Instructions,
        debugger: false,
        more: Vec::new(),
    };
    let limit = Duration::from_secs(scenario.timeout);
    let session = Session::start(&machine, &stage.medium(None)?, folder)?;
    let mut progress = Progress::default();
    let end = session.run(&mut progress, Some(Instant::now() + limit))?;
    let file = folder.join(LOG);
    if end != End::SystemExit(0) {
        return Err(Error::new(format!("the measurement did not end well: {end:?}"))
            .remedy(format!("see the log in {}", file.display())));
    }
    Log::parse(&repository::read_text(&file)?).map_err(|error| Error::new(format!("{}: {error}", file.display())))
}

/// Tells the user how far the measurement is.
#[derive(Default)]
struct Progress {
    rows: usize,
}

impl Observer for Progress {
    fn terminal(&mut self, _: Terminal, _: &[u8]) -> Wish {
        Wish::NOTHING
    }

    fn log_line(&mut self, line: &str) -> Wish {
        if let Some(name) = log::row_name(line) {
            self.rows += 1;
            eprintln!("bench: {:>3} {name}", self.rows);
        }
        Wish::NOTHING
    }
}
