//! `./x run`: boot a scenario and connect the user to its terminal.

use std::io::{IsTerminal, Write, stderr, stdin, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::boot::overrides::{MachineOverrides, Overrides};
use crate::boot::product::Products;
use crate::boot::stage::Stage;
use crate::error::{Error, Result};
use crate::host::packages;
use crate::machine::terminal::Terminal;
use crate::machine::{Firmware, Machine, qemu};
use crate::repository;
use crate::scenario::{self, Boot, Scenario};
use crate::session::end::End;
use crate::session::escape::{Escape, Intent};
use crate::session::screen::Screen;
use crate::session::tty::{self, RawTerminal};
use crate::session::{LOG, Observer, Session, Wish};

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunOptions {
    /// Scenario to run; without it, the scenarios are listed
    scenario: Option<String>,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    machine: MachineOverrides,
    /// Show the log of hypervisor and components on standard error, or copy it to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    log: Option<Option<PathBuf>>,
    /// Boot from an image through this firmware
    #[arg(long, value_name = "FIRMWARE")]
    iso: Option<Firmware>,
    /// Wait for gdb at localhost:1234 before the first instruction
    #[arg(long)]
    gdb: bool,
    /// More arguments for QEMU, for example "-d int,cpu_reset -D qemu.log"; its files are in target/run/SCENARIO
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    emulator_args: Option<String>,
    /// End the run after this many seconds, as a failure
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

/// Runs a scenario; returns the exit status of this tool.
pub fn execute(options: &RunOptions) -> Result<i32> {
    let Some(name) = &options.scenario else {
        return list().map(|()| 0);
    };
    let mut scenario = Scenario::load(name)?;
    options.overrides.apply(&mut scenario)?;
    options.machine.apply(&mut scenario);
    packages::ensure(&scenario.needs_to_run(options.iso))?;
    let products = Products::build(&[&scenario])?;
    let folder = repository::target().join("run").join(&scenario.name);
    let stage = Stage::prepare(&scenario, &products, &folder)?;
    let medium = stage.medium(scenario.machine.medium_firmware(options.iso))?;
    let mut machine = Machine::of(&scenario, scenario.time());
    machine.debugger = options.gdb;
    machine.more = options.emulator_args.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect();
    announce(&machine, &products, &scenario.name, &folder);
    let log = LogCopy::open(options.log.as_ref())?;
    let session = Session::start(&machine, &medium, &folder)?;
    tty::listen(session.event_source())?;
    let raw = RawTerminal::enter()?;
    let screen = Screen::new(machine.terminals);
    let mut user = User { escape: raw.is_some().then(Escape::default), screen, log, failure: None };
    let end = session.run(&mut user, options.timeout.map(Duration::from_secs));
    drop(raw);
    match user.failure {
        Some(error) => Err(error),
        None => report(&end?, &scenario, &folder),
    }
}

fn list() -> Result<()> {
    println!("Scenarios, for `./x run SCENARIO`:");
    let scenarios = scenario::all()?;
    let width = scenarios.iter().map(|scenario| scenario.name.len()).max().unwrap_or_default();
    for scenario in scenarios {
        println!("  {:<width$} {}", scenario.name, scenario.summary);
    }
    Ok(())
}

fn announce(machine: &Machine, products: &Products, name: &str, folder: &Path) {
    let Machine { platform, cpus, memory, .. } = machine;
    eprintln!("run: {name} on {platform} with {cpus} CPUs and {memory}; log in {}", folder.join(LOG).display());
    if let (true, Ok(hypervisor)) = (machine.debugger, products.hypervisor()) {
        eprintln!("run: waiting for gdb: gdb {} -ex 'target remote {}'", hypervisor.display(), qemu::DEBUGGER);
    }
    if stdin().is_terminal() {
        let switch = match machine.terminals {
            1 => String::new(),
            count => format!(", Ctrl-A 1 to Ctrl-A {count} switch between terminals"),
        };
        eprintln!("run: Ctrl-A X leaves{switch}");
    }
}

/// Turns the end of a run into an exit status, or an error that says where to look.
fn report(end: &End, scenario: &Scenario, folder: &Path) -> Result<i32> {
    /// Shells report a program ended by signal N as 128 + N.
    const ENDED_BY_SIGNAL: i32 = 128;
    /// Of a failure whose own code is none that a process can end with.
    const FAILURE: i32 = 1;
    let log = || format!("see the log in {}", folder.join(LOG).display());
    match end {
        End::SystemExit(0) => Ok(0),
        End::SystemExit(code) => {
            eprintln!("run: the system ended with exit code {code}; {}. Its last words:", log());
            last_words(&folder.join(LOG)).iter().for_each(|line| eprintln!("    {line}"));
            Ok(if (1..=i32::from(u8::MAX)).contains(code) { *code } else { FAILURE })
        }
        End::Stopped => Ok(0),
        End::Signal(number) => Ok(ENDED_BY_SIGNAL + number),
        End::EmulatorEnded { success: true, .. } if scenario.boot == Boot::Linux => Ok(0),
        End::EmulatorEnded { message, .. } if message.is_empty() => {
            Err(Error::new("the machine was switched off or reset before the system ended").remedy(log()))
        }
        End::EmulatorEnded { message, .. } => {
            Err(Error::new(format!("the emulator ended: {}", message.replace('\n', " "))).remedy(log()))
        }
        End::Panic(line) => Err(Error::new(line.clone()).remedy(log())),
        End::Timeout => Err(Error::new("the time is up").remedy(log())),
    }
}

/// The last lines of a log, where the cause of an end is.
fn last_words(log: &Path) -> Vec<String> {
    const LINES: usize = 5;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.into_iter().rev().take(LINES).rev().collect()
}

/// Where the log goes beside its file.
enum LogCopy {
    Nowhere,
    StandardError,
    File(std::fs::File, PathBuf),
}

impl LogCopy {
    fn open(option: Option<&Option<PathBuf>>) -> Result<Self> {
        match option {
            None => Ok(Self::Nowhere),
            Some(None) => Ok(Self::StandardError),
            Some(Some(path)) => {
                let file = std::fs::File::create(path).map_err(|cause| Error::io("create", path, &cause))?;
                Ok(Self::File(file, path.clone()))
            }
        }
    }

    /// Writes a line; a terminal in raw mode does not return the carriage by itself.
    fn write(&mut self, line: &str, raw: bool) -> Result<()> {
        let (written, path) = match self {
            Self::Nowhere => return Ok(()),
            Self::StandardError if raw => (write!(stderr(), "{line}\r\n"), Path::new("standard error")),
            Self::StandardError => (writeln!(stderr(), "{line}"), Path::new("standard error")),
            Self::File(file, path) => (writeln!(file, "{line}"), path.as_path()),
        };
        written.map_err(|cause| Error::io("write the log to", path, &cause))
    }
}

/// The user in front of the terminal.
struct User {
    // Absent where input is not typed but comes from a file or pipe.
    escape: Option<Escape>,
    screen: Screen,
    log: LogCopy,
    /// Why the run had to be stopped.
    failure: Option<Error>,
}

/// Writes to the user's terminal; false if nobody reads that any more.
fn display(bytes: &[u8]) -> bool {
    let mut terminal = stdout().lock();
    terminal.write_all(bytes).and_then(|()| terminal.flush()).is_ok()
}

impl Observer for User {
    fn terminal(&mut self, terminal: Terminal, output: &[u8]) -> Wish {
        // Without a reader of the output there is no point in going on.
        if display(self.screen.output(terminal, output)) { Wish::NOTHING } else { Wish::Stop }
    }

    fn log_line(&mut self, line: &str) -> Wish {
        match self.log.write(line, self.escape.is_some()) {
            Ok(()) => Wish::NOTHING,
            Err(error) => {
                self.failure.get_or_insert(error);
                Wish::Stop
            }
        }
    }

    fn input(&mut self, input: &[u8]) -> Wish {
        let Some(escape) = &mut self.escape else {
            return Wish::Send(vec![(Terminal::First, input.to_vec())]);
        };
        let mut typed = Vec::new();
        for intent in escape.typed(input) {
            match intent {
                Intent::Type(text) => typed.push((self.screen.shown(), text)),
                Intent::Show(terminal) if display(&self.screen.show(terminal)) => {}
                Intent::Show(_) | Intent::Leave => return Wish::Stop,
            }
        }
        Wish::Send(typed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(boot: &str) -> Scenario {
        toml::from_str(&format!("summary = 'a'\nboot = '{boot}'")).unwrap()
    }

    fn ended(message: &str) -> End {
        End::EmulatorEnded { success: true, message: message.into() }
    }

    #[test]
    fn the_exit_status_is_the_systems() {
        let system = scenario("hypervisor");
        let folder = Path::new("/run");
        assert_eq!(report(&End::SystemExit(3), &system, folder), Ok(3));
        for code in [256, -1, i32::MIN, i32::MAX] {
            assert_eq!(report(&End::SystemExit(code), &system, folder), Ok(1), "the low byte of {code} is another");
        }
        assert_eq!(report(&End::Stopped, &system, folder), Ok(0));
        assert_eq!(report(&ended(""), &scenario("linux"), folder), Ok(0));
        assert_eq!(report(&End::Signal(2), &system, folder), Ok(130));
    }

    #[test]
    fn a_log_that_cannot_be_written_is_a_failure() {
        let log = LogCopy::open(Some(&Some("/dev/full".into()))).unwrap();
        let mut user = User { escape: None, screen: Screen::new(1), log, failure: None };
        assert_eq!(user.log_line("[kernel] x"), Wish::Stop);
        let error = user.failure.unwrap().to_string();
        assert!(error.starts_with("cannot write the log to /dev/full: "), "{error}");
    }

    #[test]
    fn last_words_are_the_end_of_the_log() {
        let log = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(log.path(), "1\n2\n3\n4\n[init -> vmm] Error: x\n[core] system exit: 1\r\n").unwrap();
        let words = last_words(log.path());
        assert_eq!(words.first().map(String::as_str), Some("2"));
        assert_eq!(words.last().map(String::as_str), Some("[core] system exit: 1"));
        assert!(last_words(Path::new("/no/such/log")).is_empty());
    }

    #[test]
    fn failures_say_where_to_look() {
        let system = scenario("hypervisor");
        for end in [ended(""), ended("no such machine"), End::Timeout, End::Panic("[kernel] panic: x".into())] {
            let text = report(&end, &system, Path::new("/run")).unwrap_err().to_string();
            assert!(text.ends_with("/run/log.txt"), "{text}");
        }
    }
}
