//! The lines of measuring programs (`benches/stats`): what was measured.
//!
//! A log comes from a serial line and may hold anything else too; only lines of the format count.

use std::collections::BTreeMap;
use std::fmt;

/// Version of the format that this tool reads.
const FORMAT: &str = "1";

const HEADER: &str = "bench-log ";
const ROW: &str = "bench ";
const HISTOGRAM: &str = "histogram ";
const SKIPPED: &str = "skipped ";
/// The last line.
pub const END: &str = "bench-end";

/// What the figures count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum Unit {
    /// Instructions, by an emulator.
    #[serde(rename = "instructions")]
    Instructions,
    /// Cycles of the time stamp counter.
    #[serde(rename = "cycles")]
    Cycles,
}

impl Unit {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "insn" => Some(Self::Instructions),
            "cycle" => Some(Self::Cycles),
            _ => None,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Instructions => "instructions",
            Self::Cycles => "cycles",
        })
    }
}

/// A measured operation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sample {
    /// Name.
    pub name: String,
    /// Smallest.
    pub min: u64,
    /// In the middle.
    pub median: u64,
    /// 99 % are not above.
    pub p99: u64,
    /// Largest.
    pub max: u64,
    /// How often it was measured.
    pub count: u64,
    /// How many of its instructions are outside the hypervisor.
    pub user: u64,
    /// Lower ends of the histogram's buckets, and what is in them.
    pub buckets: Vec<(u64, u64)>,
}

/// Everything that a machine measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// What the figures count.
    pub unit: Unit,
    /// What the machine is, as it says.
    pub machine: BTreeMap<String, String>,
    /// Rows in their order.
    pub rows: Vec<Sample>,
    /// Names of rows that could not be measured, and why.
    pub skipped: BTreeMap<String, String>,
}

/// Why a text is no log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// There is no header.
    NoHeader,
    /// The header is of this other version.
    Version(String),
    /// The end is missing.
    Incomplete,
    /// This line does not follow the format.
    Line(String),
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader => formatter.write_str("there is no line that begins with `bench-log`"),
            Self::Version(version) => {
                write!(formatter, "the log is of version {version}, this tool reads version {FORMAT}")
            }
            Self::Incomplete => write!(formatter, "the log ends before `{END}`"),
            Self::Line(line) => write!(formatter, "cannot read the line `{line}`"),
        }
    }
}

/// Name of the row that a line holds.
pub fn row_name(line: &str) -> Option<&str> {
    line.strip_prefix(ROW)?.split_whitespace().find_map(|word| word.strip_prefix("name="))
}

impl Log {
    /// Reads a log: that of the last measurement in it.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        let start = lines.iter().rposition(|line| line.starts_with(HEADER)).ok_or(Malformed::NoHeader)?;
        let mut lines = lines.into_iter().skip(start);
        let mut log = Self::header(lines.next().unwrap_or_default())?;
        for line in lines {
            if line == END {
                return Ok(log);
            }
            log.line(line).ok_or_else(|| Malformed::Line(line.to_owned()))?;
        }
        Err(Malformed::Incomplete)
    }

    fn header(line: &str) -> Result<Self, Malformed> {
        let mut machine = fields(line.strip_prefix(HEADER).unwrap_or_default());
        let version = machine.remove("version").unwrap_or_default();
        if version != FORMAT {
            return Err(Malformed::Version(version));
        }
        let unit = machine.remove("unit").and_then(|text| Unit::parse(&text));
        Ok(Self {
            unit: unit.ok_or_else(|| Malformed::Line(line.to_owned()))?,
            machine,
            rows: Vec::new(),
            skipped: BTreeMap::new(),
        })
    }

    fn line(&mut self, line: &str) -> Option<()> {
        if let Some(text) = line.strip_prefix(ROW) {
            let fields = fields(text);
            let number = |key: &str| fields.get(key)?.parse().ok();
            if Unit::parse(fields.get("unit")?)? != self.unit {
                return None;
            }
            self.rows.push(Sample {
                name: fields.get("name")?.clone(),
                min: number("min")?,
                median: number("median")?,
                p99: number("p99")?,
                max: number("max")?,
                count: number("n")?,
                user: number("user")?,
                buckets: Vec::new(),
            });
        } else if let Some(text) = line.strip_prefix(HISTOGRAM) {
            let fields = fields(text);
            let name = fields.get("name")?;
            let row = self.rows.iter_mut().find(|row| row.name == *name)?;
            row.buckets = buckets(fields.get("buckets")?)?;
        } else if let Some(text) = line.strip_prefix(SKIPPED) {
            let (name, reason) = text.strip_prefix("name=")?.split_once(" reason=")?;
            self.skipped.insert(name.to_owned(), reason.to_owned());
        }
        Some(())
    }

    /// The row of this name.
    pub fn row(&self, name: &str) -> Option<&Sample> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// This log with the rows that only `other` has.
    pub fn with_missing_of(mut self, other: Self) -> Self {
        for (name, reason) in other.skipped {
            if self.row(&name).is_none() {
                self.skipped.entry(name).or_insert(reason);
            }
        }
        for row in other.rows {
            if !self.rows.iter().any(|own| own.name == row.name) {
                self.skipped.remove(&row.name);
                self.rows.push(row);
            }
        }
        self
    }
}

/// Words of the form `key=value`.
fn fields(text: &str) -> BTreeMap<String, String> {
    text.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Words of the form `LOWER:COUNT,...`.
pub fn buckets(text: &str) -> Option<Vec<(u64, u64)>> {
    let bucket = |word: &str| {
        let (lower, count) = word.split_once(':')?;
        Some((lower.parse().ok()?, count.parse().ok()?))
    };
    text.split(',').map(bucket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "[kernel] hello\r
bench-log version=1 abi=1 unit=insn hz=1000 cpus=1\r
bench name=a unit=insn user=4 min=1 median=2 p99=3 max=4 n=5\r
histogram name=a unit=insn buckets=1:2,3:3\r
noise\r
skipped name=b reason=one CPU\r
bench-end\r
[core] system exit: 0\r
";

    #[test]
    fn a_log_is_read() {
        let log = Log::parse(GOOD).unwrap();
        assert_eq!(log.unit, Unit::Instructions);
        let row = &log.rows[0];
        assert_eq!((row.min, row.median, row.p99, row.max), (1, 2, 3, 4));
        assert_eq!((row.count, row.user), (5, 4));
        assert_eq!(row.buckets, [(1, 2), (3, 3)]);
        assert_eq!(log.skipped["b"], "one CPU");
        assert_eq!(log.machine["cpus"], "1");
    }

    #[test]
    fn what_is_no_log_is_named() {
        let error = |text: &str| Log::parse(text).unwrap_err();
        assert_eq!(error("hello"), Malformed::NoHeader);
        assert_eq!(error(&GOOD.replace("version=1", "version=7")), Malformed::Version("7".into()));
        assert_eq!(error(&GOOD.replace("bench-end", "")), Malformed::Incomplete);
        for (from, to) in [("median=2", "median=x"), ("unit=insn user", "unit=cycle user"), ("3:3", "3")] {
            assert!(matches!(error(&GOOD.replace(from, to)), Malformed::Line(_)), "{to}");
        }
    }

    #[test]
    fn another_log_fills_gaps_only() {
        let first = Log::parse(GOOD).unwrap();
        let text = GOOD
            .replace("skipped name=b reason=one CPU", "bench name=b unit=insn user=1 min=9 median=9 p99=9 max=9 n=9");
        let second = Log::parse(&text.replace("median=2", "median=77")).unwrap();
        let joined = first.with_missing_of(second);
        let medians: Vec<_> = joined.rows.iter().map(|row| row.median).collect();
        assert_eq!(medians, [2, 9]);
        assert!(joined.skipped.is_empty());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail_badly(text in "(bench(-log|-end)?|histogram|skipped| |=|name|unit|insn|buckets|:|,|[0-9]|\n){0,60}") {
            let _ = Log::parse(&format!("bench-log version=1 unit=insn\n{text}"));
        }
    }
}
