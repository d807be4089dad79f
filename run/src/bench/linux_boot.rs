//! What the boot of a Linux guest costs, beside that of the same kernel on the bare machine: instructions from the kernel's
//! entry to its first process, by the time stamp counter, which ticks once per instruction.

use serde::Serialize;

use super::limits::BootLimit;
use super::measure::{Bench, Said};
use crate::boot::overrides::{APPEND, EXIT_STATS, INITRD_ROM, KERNEL_ROM};
use crate::error::{Error, Result};
use crate::scenario::rom::{Rom, Source};

/// Linux as a guest, and on the bare machine.
const GUEST: &str = "bench-linux";
const BARE: &str = "bench-bare-linux";
/// What is booted instead of Linux to learn the time at a kernel's entry.
const STAMP: &str = "bench-guest";
/// How the lines begin that tell the times of entry and end.
const ENTRY: &str = "bench-log ";
const ENTRY_KEY: &str = "entered=";
const LAST: &str = "bench-boot tsc=";

/// A boot, measured.
#[derive(Debug, Clone, Serialize)]
pub struct Boot {
    /// What is known about it.
    #[serde(flatten)]
    pub known: BootLimit,
    /// On the bare machine.
    pub bare: Run,
    /// As a guest.
    pub guest: Run,
}

/// One boot.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// From entry to first process.
    pub instructions: u64,
    /// Time of the kernel's clock, in microseconds, and text of each of its messages.
    pub messages: Vec<(u64, String)>,
    /// Histograms of exits by kind, where the VMM counted them.
    pub exits: Vec<super::exits::Exits>,
}

impl Boot {
    /// Boots both.
    pub fn measure(known: &BootLimit) -> Result<Self> {
        let (bare, guest) = (boot(BARE, known, false)?, boot(GUEST, known, false)?);
        Ok(Self { known: known.clone(), bare, guest })
    }

    /// Counts the guest's exits where that is wanted: it takes instructions, so it has a boot of its own.
    pub fn with_exits(mut self) -> Result<Self> {
        if self.known.exits {
            self.guest.exits = boot(GUEST, &self.known, true)?.exits;
        }
        Ok(self)
    }

    /// Guest by bare machine.
    pub fn ratio(&self) -> f64 {
        self.guest.instructions as f64 / self.bare.instructions.max(1) as f64
    }

    /// Whether it costs more than it may.
    pub fn is_above_limit(&self) -> bool {
        self.ratio() > self.known.ratio
    }

    /// That it does, as a sentence.
    pub fn excess(&self) -> String {
        format!("{}: {:.3} times the bare machine, at most {}", self.known.name, self.ratio(), self.known.ratio)
    }
}

fn boot(scenario: &str, known: &BootLimit, exit_stats: bool) -> Result<Run> {
    let mut bench = Bench::load(scenario)?;
    bench.scenario.name = format!("{scenario}-{}", known.name);
    if exit_stats {
        bench.scenario.options.insert(EXIT_STATS.to_owned(), "yes".to_owned());
    }
    if let Some(append) = bench.scenario.options.get_mut(APPEND) {
        append.push_str(&known.append);
    }
    let said = bench.run_out(|line| line.starts_with(LAST))?;
    let last = number(&said, LAST).ok_or_else(|| Error::new(format!("`{scenario}` told no time")))?;
    Ok(Run {
        instructions: last.saturating_sub(entry(scenario)?),
        messages: said.terminal.iter().filter_map(|line| message(line)).collect(),
        exits: said.log.iter().filter_map(|line| super::exits::Exits::parse(line)).collect(),
    })
}

/// The time at the entry of a kernel of the scenario: what loads it takes part in the machine's time, not in the kernel's.
fn entry(scenario: &str) -> Result<u64> {
    let mut bench = Bench::load(scenario)?;
    bench.scenario.roms.insert(KERNEL_ROM.to_owned(), Rom::whole(Source::Program(STAMP.to_owned())));
    bench.scenario.roms.insert(INITRD_ROM.to_owned(), Rom::whole(Source::Text(" ".to_owned())));
    bench.scenario.name.push_str("-entry");
    let said = bench.run(|line| line == super::log::END)?;
    number(&said, ENTRY).ok_or_else(|| Error::new(format!("`{scenario}` told no time of entry")))
}

/// The number behind a line's beginning, or behind the key of a time of entry.
fn number(said: &Said, start: &str) -> Option<u64> {
    let line = said.terminal.iter().find_map(|line| line.strip_prefix(start))?;
    let text = line.split_whitespace().find_map(|word| word.strip_prefix(ENTRY_KEY)).unwrap_or(line);
    text.trim().parse().ok()
}

/// Time and text of a message of the kernel: `[    1.234567] text`.
fn message(line: &str) -> Option<(u64, String)> {
    let (time, text) = line.strip_prefix('[')?.split_once("] ")?;
    let (seconds, micros) = time.trim().split_once('.')?;
    const MICROS: u64 = 1_000_000;
    Some((seconds.parse::<u64>().ok()? * MICROS + micros.parse::<u64>().ok()?, text.to_owned()))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn sample(guest: u64) -> Boot {
        let known = BootLimit {
            name: "linux".into(),
            title: "Linux <full>".into(),
            append: String::new(),
            exits: false,
            ratio: 1.15,
            kvm: None,
            note: None,
        };
        let run = |instructions| Run {
            instructions,
            messages: vec![(0, "Linux version 6.1".into()), (instructions, "Run /init as init process".into())],
            exits: Vec::new(),
        };
        Boot { known, bare: run(1000), guest: run(guest) }
    }

    #[test]
    fn ratios_are_compared_with_their_limit() {
        assert!(!sample(1150).is_above_limit());
        assert!(sample(1151).is_above_limit());
        assert_eq!(sample(1200).excess(), "linux: 1.200 times the bare machine, at most 1.15");
    }

    #[test]
    fn times_are_found() {
        let said = |line: &str| Said { log: Vec::new(), terminal: vec!["x".into(), line.into()] };
        assert_eq!(number(&said("bench-boot tsc=123"), LAST), Some(123));
        assert_eq!(number(&said("bench-log version=1 entered=77 stamp=3"), ENTRY), Some(77));
        assert_eq!(number(&said("bench-boot tsc=abc"), LAST), None);
        assert_eq!(message("[    1.000002] Run /init"), Some((1_000_002, "Run /init".into())));
        assert_eq!(message("[    x] Run /init"), None);
    }
}
