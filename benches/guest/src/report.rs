//! From samples to lines.

use crate::console::{self, Buffer};
use crate::cpu::loops::{self, LOOP, SAMPLES};
use crate::{cpu, rows};
use bench_stats::{END, FORMAT, HistogramLine, RowLine, Summary, Unit};
use core::fmt::Write;

/// Instructions of the loop that tells whether the counter counts instructions.
const CALIBRATION: u64 = 20_000;

/// Everything so far.
pub struct Report {
    /// What the figures count.
    pub unit: Unit,
    /// What taking a stamp costs.
    pub stamp: u64,
    lines: Buffer,
    samples: [u64; SAMPLES],
}

impl Report {
    fn new(entered: u64) -> Self {
        // An interrupt of the host makes it longer, so it is short and one of many.
        let ticks = (0..20).map(|_| loops::calibrate()).min().unwrap_or(0);
        let unit = Unit::of(ticks, CALIBRATION);
        loops::nothing();
        let stamp = loops::intervals().min().unwrap_or(0).saturating_sub(LOOP);
        let mut report = Self { unit, stamp, lines: Buffer::new(), samples: [0; SAMPLES] };
        let name = cpu::hypervisor();
        let name = str::from_utf8(&name).unwrap_or_default().trim_end_matches('\0');
        report.line(format_args!("bench-log version={FORMAT} unit={unit} host={name} entered={entered} stamp={stamp}"));
        report
    }

    fn line(&mut self, line: core::fmt::Arguments<'_>) {
        if writeln!(self.lines, "{line}").is_err() {
            console::print(format_args!("error: no room for lines\n"));
        }
    }

    /// Adds a row, `user` of whose instructions are this program's.
    pub fn row(&mut self, name: &str, user: u64, samples: impl Iterator<Item = u64>) {
        let mut count = 0;
        for (to, sample) in self.samples.iter_mut().zip(samples) {
            *to = sample;
            count += 1;
        }
        let mut all = self.samples;
        let samples = all.get_mut(..count).unwrap_or_default();
        if let Some(summary) = Summary::of(samples) {
            let unit = self.unit;
            self.line(format_args!("{}", RowLine { name, unit, user, summary }));
            self.line(format_args!("{}", HistogramLine { name, unit, samples }));
        }
    }

    /// Adds why a row is missing.
    pub fn skip(&mut self, name: &str, reason: &str) {
        self.line(format_args!("skipped name={name} reason={reason}"));
    }
}

/// Measures and prints everything.
pub fn run(entered: u64) {
    let mut report = Report::new(entered);
    rows::all(&mut report);
    report.line(format_args!("{END}"));
    console::print(format_args!("{}", report.lines.text()));
}
