//! How often a virtual machine exited, for what, and at what cost.

use std::fmt;

/// Kinds of exits, as the VMM tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the field's")]
pub enum ExitKind {
    Cpuid,
    MsrRead,
    MsrWrite,
    PortIn,
    PortOut,
    PortString,
    /// Nested page fault on device memory.
    MmioRead,
    /// Nested page fault on device memory.
    MmioWrite,
    ControlRegister,
    DebugRegister,
    Halt,
    Pause,
    InterruptWindow,
    NmiWindow,
    Hypercall,
    CacheControl,
    Shutdown,
    Recall,
    Other,
}

impl ExitKind {
    /// All kinds.
    pub const ALL: [ExitKind; 19] = [
        ExitKind::Cpuid,
        ExitKind::MsrRead,
        ExitKind::MsrWrite,
        ExitKind::PortIn,
        ExitKind::PortOut,
        ExitKind::PortString,
        ExitKind::MmioRead,
        ExitKind::MmioWrite,
        ExitKind::ControlRegister,
        ExitKind::DebugRegister,
        ExitKind::Halt,
        ExitKind::Pause,
        ExitKind::InterruptWindow,
        ExitKind::NmiWindow,
        ExitKind::Hypercall,
        ExitKind::CacheControl,
        ExitKind::Shutdown,
        ExitKind::Recall,
        ExitKind::Other,
    ];

    fn name(self) -> &'static str {
        match self {
            ExitKind::Cpuid => "cpuid",
            ExitKind::MsrRead => "msr-read",
            ExitKind::MsrWrite => "msr-write",
            ExitKind::PortIn => "port-in",
            ExitKind::PortOut => "port-out",
            ExitKind::PortString => "port-string",
            ExitKind::MmioRead => "mmio-read",
            ExitKind::MmioWrite => "mmio-write",
            ExitKind::ControlRegister => "cr-access",
            ExitKind::DebugRegister => "dr-access",
            ExitKind::Halt => "hlt",
            ExitKind::Pause => "pause",
            ExitKind::InterruptWindow => "irq-window",
            ExitKind::NmiWindow => "nmi-window",
            ExitKind::Hypercall => "hypercall",
            ExitKind::CacheControl => "cache-control",
            ExitKind::Shutdown => "shutdown",
            ExitKind::Recall => "recall",
            ExitKind::Other => "other",
        }
    }
}

/// Buckets of a histogram: powers of two.
const BUCKETS: usize = u64::BITS as usize;

/// Figures of one kind of exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitCounter {
    /// Number of exits.
    pub count: u64,
    /// TSC ticks in all of them.
    pub total: u64,
    /// Ticks in the shortest.
    pub min: u64,
    /// Ticks in the longest.
    pub max: u64,
    /// How many took at least 2^n ticks, but less than twice that; the first bucket has those without any too.
    buckets: [u64; BUCKETS],
}

impl Default for ExitCounter {
    fn default() -> Self {
        ExitCounter { count: 0, total: 0, min: 0, max: 0, buckets: [0; BUCKETS] }
    }
}

impl ExitCounter {
    fn add(&mut self, ticks: u64) {
        if let Some(bucket) = self.buckets.get_mut(ticks.checked_ilog2().unwrap_or(0) as usize) {
            *bucket = bucket.saturating_add(1);
        }
        self.min = if self.count == 0 { ticks } else { self.min.min(ticks) };
        self.max = self.max.max(ticks);
        self.count = self.count.saturating_add(1);
        self.total = self.total.saturating_add(ticks);
    }
}

/// The buckets that are not empty: `LOWER:COUNT,...`.
struct Buckets<'a>(&'a ExitCounter);

impl fmt::Display for Buckets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = self.0.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        for (index, (bucket, count)) in present.enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{}:{count}", 1_u64 << bucket)?;
        }
        Ok(())
    }
}

/// Exits of one virtual CPU or machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitStats {
    counters: [ExitCounter; ExitKind::ALL.len()],
}

impl ExitStats {
    /// Counts one exit that took `ticks` of the TSC to handle.
    pub fn record(&mut self, kind: ExitKind, ticks: u64) {
        self.counters[kind as usize].add(ticks);
    }

    /// Figures of one kind.
    pub fn counter(&self, kind: ExitKind) -> &ExitCounter {
        &self.counters[kind as usize]
    }

    /// Adds the figures of another virtual CPU.
    pub fn merge(&mut self, other: &ExitStats) {
        for (mine, theirs) in self.counters.iter_mut().zip(&other.counters) {
            if theirs.count > 0 {
                mine.min = if mine.count == 0 { theirs.min } else { mine.min.min(theirs.min) };
                mine.max = mine.max.max(theirs.max);
                mine.count = mine.count.saturating_add(theirs.count);
                mine.total = mine.total.saturating_add(theirs.total);
                for (mine, theirs) in mine.buckets.iter_mut().zip(&theirs.buckets) {
                    *mine = mine.saturating_add(*theirs);
                }
            }
        }
    }
}

/// Part of a whole in hundredths of a percent.
fn share(part: u64, whole: u64) -> u64 {
    if whole == 0 { 0 } else { (u128::from(part) * 10_000 / u128::from(whole)) as u64 }
}

impl fmt::Display for ExitStats {
    /// A table with one line per kind that occurred, the most frequent first; then a histogram of each, for programs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |field: fn(&ExitCounter) -> u64| self.counters.iter().map(field).fold(0, u64::saturating_add);
        let (count, total) = (sum(|counter| counter.count), sum(|counter| counter.total));
        let mut rows: Vec<_> = ExitKind::ALL
            .into_iter()
            .map(|kind| (kind, self.counter(kind)))
            .filter(|(_, counter)| counter.count > 0)
            .collect();
        rows.sort_by_key(|(_, counter)| std::cmp::Reverse(counter.count));
        writeln!(
            f,
            "{:>14} {:>10} {:>8} {:>8} {:>12} {:>12} {:>12}",
            "VM-EXIT", "Samples", "Samples%", "Time%", "Min ticks", "Max ticks", "Avg ticks"
        )?;
        for &(kind, counter) in &rows {
            let samples = share(counter.count, count);
            let time = share(counter.total, total);
            writeln!(
                f,
                "{:>14} {:>10} {:>4}.{:02}% {:>4}.{:02}% {:>12} {:>12} {:>12}",
                kind.name(),
                counter.count,
                samples / 100,
                samples % 100,
                time / 100,
                time % 100,
                counter.min,
                counter.max,
                counter.total / counter.count,
            )?;
        }
        writeln!(f, "Total samples: {count}, total ticks: {total}")?;
        for (kind, counter) in rows {
            writeln!(f, "exit-histogram kind={} buckets={}", kind.name(), Buckets(counter))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn kinds_index_their_own_counter() {
        for (index, kind) in ExitKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }

    #[test]
    fn the_table_is_sorted_by_count() {
        let mut stats = ExitStats::default();
        stats.record(ExitKind::Halt, 10);
        for ticks in [100, 300, 200] {
            stats.record(ExitKind::Cpuid, ticks);
        }
        let expected = [
            "       VM-EXIT    Samples Samples%    Time%    Min ticks    Max ticks    Avg ticks\n",
            "         cpuid          3   75.00%   98.36%          100          300          200\n",
            "           hlt          1   25.00%    1.63%           10           10           10\n",
            "Total samples: 4, total ticks: 610\n",
            "exit-histogram kind=cpuid buckets=64:1,128:1,256:1\n",
            "exit-histogram kind=hlt buckets=8:1\n",
        ];
        let expected = expected.concat();
        assert_eq!(stats.to_string(), expected);
    }

    #[test]
    fn an_empty_table_has_only_its_frame() {
        assert_eq!(ExitStats::default().to_string().lines().count(), 2);
    }

    proptest! {
        #[test]
        fn merging_equals_counting_together(
            exits in prop::collection::vec((0..ExitKind::ALL.len(), any::<u64>(), any::<bool>()), 0..50)
        ) {
            let (mut first, mut second, mut all) =
                (ExitStats::default(), ExitStats::default(), ExitStats::default());
            for (kind, ticks, on_first) in exits {
                let kind = ExitKind::ALL[kind];
                if on_first { first.record(kind, ticks) } else { second.record(kind, ticks) }
                all.record(kind, ticks);
            }
            first.merge(&second);
            prop_assert_eq!(&first, &all);
            prop_assert!(!all.to_string().is_empty());
        }
    }
}
