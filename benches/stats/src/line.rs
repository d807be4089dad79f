//! The lines of a log: a header with the version of the format, a line per row and its histogram, and the end.
//!
//! `run/src/bench/log.rs` reads them. Header: `bench-log version=FORMAT unit=UNIT key=value...`.

use crate::{Histogram, Summary};
use core::fmt;

/// Version of the lines.
pub const FORMAT: u32 = 1;
/// The last line.
pub const END: &str = "bench-end";

/// What the time stamp counter counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Instructions, as an emulator's may.
    Instructions,
    /// Cycles.
    Cycles,
}

impl Unit {
    /// Tells it from `ticks` that `instructions` took: they are the same to 0.1 % where the counter counts instructions.
    #[must_use]
    pub const fn of(ticks: u64, instructions: u64) -> Self {
        if ticks.abs_diff(instructions) < instructions / 1000 { Self::Instructions } else { Self::Cycles }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Instructions => "insn",
            Self::Cycles => "cycle",
        })
    }
}

/// A row.
#[derive(Clone, Copy, Debug)]
pub struct RowLine<'a> {
    /// Its name in `benches/limits.toml`.
    pub name: &'a str,
    /// Of the figures.
    pub unit: Unit,
    /// Instructions that are those of the measuring program.
    pub user: u64,
    /// The figures.
    pub summary: Summary,
}

impl fmt::Display for RowLine<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "bench name={} unit={} user={} {}", self.name, self.unit, self.user, self.summary)
    }
}

/// Distribution of a row.
#[derive(Clone, Copy, Debug)]
pub struct HistogramLine<'a> {
    /// Name of the row.
    pub name: &'a str,
    /// Of the samples.
    pub unit: Unit,
    /// Sorted.
    pub samples: &'a [u64],
}

impl fmt::Display for HistogramLine<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "histogram name={} unit={} buckets={}", self.name, self.unit, Histogram(self.samples))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::ToString;

    #[test]
    fn lines_have_the_documented_form() {
        let mut samples = [3, 1, 2];
        let summary = Summary::of(&mut samples).unwrap();
        let row = RowLine { name: "a", unit: Unit::Cycles, user: 4, summary };
        assert_eq!(row.to_string(), "bench name=a unit=cycle user=4 min=1 median=2 p99=3 max=3 n=3");
        let histogram = HistogramLine { name: "a", unit: Unit::Instructions, samples: &samples };
        assert_eq!(histogram.to_string(), "histogram name=a unit=insn buckets=1:1,2:1,3:1");
    }

    #[test]
    fn a_counter_of_instructions_is_recognised() {
        assert_eq!(Unit::of(2_000_006, 2_000_000), Unit::Instructions);
        assert_eq!(Unit::of(1_000_000, 2_000_000), Unit::Cycles);
    }
}
