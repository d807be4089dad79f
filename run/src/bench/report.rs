//! Results: rows joined with what is known about them, and the files written from that.

use std::path::Path;

use serde::Serialize;

use crate::bench::limits::{Limit, Limits};
use crate::bench::linux_boot::Boot;
use crate::bench::log::{Sample, Unit};
use crate::bench::{Measured, Part, chart};
use crate::error::{Error, Result};
use crate::machine::Platform;
use crate::repository;

/// The report for humans.
pub const HTML: &str = "report.html";
/// The same for programs.
const JSON: &str = "results.json";

/// A measured row.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What is known about it.
    #[serde(flatten)]
    pub known: Limit,
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
    /// Instructions outside the hypervisor.
    pub user: u64,
    /// The same row under KVM in the same run.
    pub kvm_median: Option<u64>,
    /// Histogram: lower ends of buckets, and what is in them.
    pub buckets: Vec<(u64, u64)>,
}

impl Row {
    fn new(known: &Limit, sample: &Sample, kvm: Option<&Sample>) -> Self {
        let Sample { min, median, p99, max, count, user, buckets, .. } = sample.clone();
        let kvm_median = kvm.map(|sample| sample.median);
        Self { known: known.clone(), min, median, p99, max, count, user, kvm_median, buckets }
    }

    /// What KVM needs: measured in this run, or else known.
    pub fn kvm(&self) -> Option<u64> {
        self.kvm_median.or_else(|| self.known.kvm.as_ref().map(|anchor| anchor.insn))
    }

    /// What NOVA needs.
    pub fn nova(&self) -> Option<u64> {
        self.known.nova.as_ref().map(|anchor| anchor.insn)
    }

    /// Whether it costs more than it may.
    pub fn is_above_limit(&self) -> bool {
        self.median > self.known.limit
    }

    /// That it does, as a sentence.
    pub fn excess(&self) -> String {
        let (name, limit) = (self.known.full_name(), self.known.limit);
        format!("{name}: {} instructions, at most {limit}", self.median)
    }
}

/// Everything that is reported.
#[derive(Debug, Serialize)]
pub struct Results {
    /// What the figures count.
    pub unit: Unit,
    /// The machine.
    pub machine: std::collections::BTreeMap<String, String>,
    /// Rows in the order of the limits.
    pub rows: Vec<Row>,
    /// Boots of Linux.
    pub boots: Vec<Boot>,
    /// Rows that could not be measured, and why.
    pub skipped: std::collections::BTreeMap<String, String>,
}

impl Results {
    /// Joins what was measured with the limits. A row without limits is an error, and so is a missing one where all rows
    /// of a part are to be there (`is_complete`): the two belong together.
    pub fn new(measured: &Measured, limits: &Limits, part: Option<Part>, is_complete: bool) -> Result<Self> {
        let log = measured.log.as_ref().ok_or_else(|| Error::new("nothing was measured"))?;
        let known =
            |name: &str| limits.row.iter().any(|limit| limit.machine == Platform::default() && limit.name == name);
        let unknown = log.rows.iter().find(|row| !known(&row.name));
        if let Some(row) = unknown {
            return Err(Error::new(format!("unknown row `{}`", row.name)).remedy("add it to benches/limits.toml"));
        }
        // The part of KVM compares: its rows are those of guests.
        let part = part.map(|part| if part == Part::Kvm { Part::Guest } else { part });
        let mut rows = Vec::new();
        for limit in limits.row.iter().filter(|limit| part.is_none_or(|part| limit.part == part)) {
            let log =
                if limit.machine == Platform::default() { Some(log) } else { measured.others.get(&limit.machine) };
            let sample = log.and_then(|log| log.row(&limit.name));
            let kvm = measured.kvm.as_ref().and_then(|log| log.row(&limit.name));
            match sample {
                Some(sample) => rows.push(Row::new(limit, sample, kvm)),
                None if log.is_some_and(|log| log.skipped.contains_key(&limit.name)) || !is_complete => {}
                None => {
                    return Err(Error::new(format!("`{}` was not measured", limit.full_name())));
                }
            }
        }
        let skipped = log.skipped.clone();
        Ok(Self { unit: log.unit, machine: log.machine.clone(), rows, boots: measured.boots.clone(), skipped })
    }

    /// What costs more than it may, as sentences.
    pub fn excess(&self) -> Vec<String> {
        let rows = self.rows.iter().filter(|row| row.is_above_limit()).map(Row::excess);
        let boots = self.boots.iter().filter(|boot| boot.is_above_limit()).map(Boot::excess);
        rows.chain(boots).collect()
    }

    /// The limit of a row, where it is in the unit of the figures.
    pub fn limit(&self, row: &Row) -> Option<u64> {
        (self.unit == Unit::Instructions).then_some(row.known.limit)
    }
}

/// Writes the files of the report.
pub fn write(results: &Results, folder: &Path) -> Result<()> {
    repository::create_folder(folder)?;
    let json =
        serde_json::to_string_pretty(results).map_err(|error| Error::new(format!("cannot write {JSON}: {error}")))?;
    repository::write(&folder.join(JSON), json)?;
    repository::write(&folder.join(HTML), html(results))
}

const STYLE: &str = "body{font:15px/1.4 system-ui,sans-serif;max-width:70em;margin:2em auto;color:#222}\
table{border-collapse:collapse}td,th{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:right}\
td:first-child,th:first-child{text-align:left}.above{color:#b00;font-weight:bold}small{color:#666}";

fn html(results: &Results) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Kilonova: measured cost</title>\
         <style>{STYLE}</style>\n<h1>Measured cost, in {}</h1>\n<p><small>{}</small></p>\n",
        results.unit,
        escape(&results.machine.iter().map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ")),
    );
    page += &chart::bars(&results.rows, results.unit);
    page += "<h2>Figures</h2>\n<table><tr><th>operation<th>min<th>median<th>99 %<th>max<th>outside<th>limit<th>NOVA<th>KVM\
             <th>CR3 (TLB flushes)<th>serialising</tr>\n";
    results.rows.iter().for_each(|row| page += &table_row(results, row));
    page += "</table>\n<p><small>outside: instructions of user mode and guest among the median. CR3: loads of the page-table \
             root, each of which flushes the TLB; nothing else in these operations does. serialising: further serialising \
             instructions and world switches.</small></p>\n";
    results.boots.iter().for_each(|boot| page += &boot_section(boot));
    page += "<h2>Distributions</h2>\n";
    results.rows.iter().for_each(|row| page += &chart::histogram(&row.known.title, &row.buckets));
    page += "<h2>Sources and notes</h2>\n<ul>\n";
    for row in &results.rows {
        let known = &row.known;
        for (whose, anchor) in [("NOVA", &known.nova), ("KVM", &known.kvm)] {
            if let Some(anchor) = anchor {
                page += &format!("<li>{}, {whose}: {}</li>\n", escape(&known.title), escape(&anchor.source));
            }
        }
        if let Some(note) = &known.note {
            page += &format!("<li>{}: {}</li>\n", escape(&known.title), escape(note));
        }
    }
    page + "</ul>\n</html>\n"
}

/// A boot: figures, timeline, and what its exits took.
fn boot_section(boot: &Boot) -> String {
    let known = &boot.known;
    let mut section = format!(
        "<h2>{}</h2>\n<p{}>{} instructions as a guest, {} on the bare machine: {:.3} times (at most {})</p>\n",
        escape(&known.title),
        if boot.is_above_limit() { " class=\"above\"" } else { "" },
        boot.guest.instructions,
        boot.bare.instructions,
        boot.ratio(),
        known.ratio,
    );
    let kvm = known.kvm.as_ref().map(|kvm| format!("KVM: {kvm}"));
    for text in kvm.iter().chain(&known.note) {
        section += &format!("<p><small>{}</small></p>\n", escape(text));
    }
    section += &chart::timeline(boot);
    if !boot.guest.exits.is_empty() {
        section += "<h3>Its exits, by ticks in the VMM</h3>\n";
    }
    for exits in &boot.guest.exits {
        section += &chart::histogram(&format!("{}: {}", exits.kind, exits.count()), &exits.buckets);
    }
    section
}

fn table_row(results: &Results, row: &Row) -> String {
    let known = &row.known;
    let above = results.limit(row).is_some() && row.is_above_limit();
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    format!(
        "<tr><td>{}<td>{}<td{}>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}</tr>\n",
        escape(&known.title),
        row.min,
        if above { " class=\"above\"" } else { "" },
        row.median,
        row.p99,
        row.max,
        row.user,
        number(results.limit(row)),
        number(row.nova()),
        number(row.kvm()),
        known.cr3,
        known.serialising,
    )
}

/// Text in HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::bench::log::Log;

    pub fn results(unit: &str) -> Results {
        let log = Log::parse(&format!(
            "bench-log version=1 unit={unit} cpus=1
             bench name=a unit={unit} user=4 min=1 median=12 p99=30 max=40 n=5
             histogram name=a unit={unit} buckets=1:2,30:3
             bench name=b unit={unit} user=4 min=1 median=20 p99=30 max=40 n=5
             histogram name=b unit={unit} buckets=1:5
             skipped name=c reason=x
             bench-end"
        ));
        let boots = vec![crate::bench::linux_boot::tests::sample(1200)];
        let measured = Measured { log: log.ok(), boots, ..Measured::default() };
        Results::new(&measured, &limits(), None, true).unwrap()
    }

    fn limits() -> Limits {
        toml::from_str(
            "row = [
                { name = 'a', title = 'A <call>', part = 'ipc', limit = 12, cr3 = 2, serialising = 0, nova = { insn = 9, source = 'x' } },
                { name = 'b', title = 'B', part = 'exits', limit = 19, cr3 = 0, serialising = 0, note = 'n' },
                { name = 'c', title = 'C', part = 'exits', limit = 19, cr3 = 0, serialising = 0 },
            ]",
        )
        .unwrap()
    }

    #[test]
    fn rows_above_their_limit_are_found() {
        let results = results("insn");
        let expected = ["b: 20 instructions, at most 19", "linux: 1.200 times the bare machine, at most 1.15"];
        assert_eq!(results.excess(), expected);
    }

    #[test]
    fn a_log_and_limits_that_do_not_fit_are_refused() {
        let log =
            "bench-log version=1 unit=insn\nbench name=z unit=insn user=0 min=1 median=1 p99=1 max=1 n=1\nbench-end";
        let results = |text: &str, is_complete| {
            let measured = Measured { log: Log::parse(text).ok(), ..Measured::default() };
            Results::new(&measured, &limits(), None, is_complete)
        };
        assert!(results(log, true).unwrap_err().to_string().contains("`z`"));
        let empty = "bench-log version=1 unit=insn\nbench-end";
        assert!(results(empty, true).unwrap_err().to_string().contains("`a` was not measured"));
        assert!(results(empty, false).unwrap().rows.is_empty(), "a machine's log may have some rows only");
    }

    #[test]
    fn a_row_of_another_machine_has_its_own_limit() {
        let mut limits = limits();
        let vmx = Limit { machine: Platform::BochsVmx, limit: 29, ..limits.row[0].clone() };
        limits.row = vec![limits.row[0].clone(), vmx];
        let log = |median| {
            let row = format!("bench name=a unit=insn user=0 min=1 median={median} p99=40 max=40 n=1");
            Log::parse(&format!("bench-log version=1 unit=insn\n{row}\nbench-end")).ok()
        };
        let mut measured = Measured { log: log(12), ..Measured::default() };
        let error = Results::new(&measured, &limits, None, true).unwrap_err().to_string();
        assert!(error.contains("`a@bochs-vmx` was not measured"), "{error}");
        measured.others.extend(log(30).map(|log| (Platform::BochsVmx, log)));
        let results = Results::new(&measured, &limits, None, true).unwrap();
        assert_eq!(results.excess(), ["a@bochs-vmx: 30 instructions, at most 29"]);
    }

    #[test]
    fn the_page_names_everything() {
        let page = html(&results("insn"));
        for expected in ["A &lt;call&gt;", "class=\"above\">20", "<svg", "NOVA: x", "B: n", "1.200 times", "Linux &lt;"]
        {
            assert!(page.contains(expected), "{expected}: {page}");
        }
        assert!(!html(&results("cycle")).contains("class=\"above\">20"), "cycles have no limits");
    }
}
