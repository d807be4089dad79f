//! The table on the terminal.

use crate::bench::log::Unit;
use crate::bench::report::Results;

/// Prints the results.
pub fn print(results: &Results) {
    println!("{}", render(results));
}

fn render(results: &Results) -> String {
    let mut text = columns(&rows(results));
    if !results.boots.is_empty() {
        text.push(String::new());
        text.extend(columns(&boots(results)));
    }
    for (name, reason) in &results.skipped {
        text.push(format!("{name}: not measured: {reason}"));
    }
    text.join("\n")
}

fn rows(results: &Results) -> Vec<Vec<String>> {
    if results.unit == Unit::Cycles {
        return cycles(results);
    }
    let unit = results.unit.to_string();
    let head = ["operation", &unit, "99 %", "limit", "NOVA", "KVM", "CR3 (TLB flushes)", "serialising"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    for row in &results.rows {
        let known = &row.known;
        let above = row.is_above_limit();
        lines.push(vec![
            known.title.clone(),
            row.median.to_string(),
            row.p99.to_string(),
            format!("{}{}", if above { "! " } else { "" }, number(results.limit(row))),
            number(row.nova()),
            number(row.kvm()),
            known.cr3.to_string(),
            known.serialising.to_string(),
        ]);
    }
    lines
}

/// Cycles differ from one time to the next, and neither limits nor others' figures are in them.
fn cycles(results: &Results) -> Vec<Vec<String>> {
    let head = ["cycles", "min", "median", "99 %", "max", "samples"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for row in &results.rows {
        let figures = [row.min, row.median, row.p99, row.max, row.count].map(|figure| figure.to_string());
        lines.push(std::iter::once(row.known.title.clone()).chain(figures).collect());
    }
    lines
}

fn boots(results: &Results) -> Vec<Vec<String>> {
    let head = ["boot to the first process", "guest", "bare", "ratio", "limit"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for boot in &results.boots {
        lines.push(vec![
            boot.known.title.clone(),
            boot.guest.instructions.to_string(),
            boot.bare.instructions.to_string(),
            format!("{:.3}", boot.ratio()),
            format!("{}{}", if boot.is_above_limit() { "! " } else { "" }, boot.known.ratio),
        ]);
    }
    lines
}

/// Aligns cells: the first of a line to the left, the others to the right.
fn columns(lines: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..lines.first().map_or(0, Vec::len)).map(width).collect();
    let align = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).enumerate();
        cells
            .map(|(index, (cell, width))| match index {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect::<Vec<_>>()
            .join("  ")
    };
    lines.iter().map(align).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::results;

    #[test]
    fn columns_are_aligned_and_excess_is_marked() {
        let text = render(&results("insn"));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 7);
        assert_eq!(lines[0].len(), lines[1].len());
        assert!(!lines[1].contains('!') && lines[2].contains("! 19"), "{text}");
        assert!(lines[5].ends_with("1200  1000  1.200  ! 1.15"), "{text}");
        assert!(lines[6].starts_with("c: not measured"));
        let cycles = render(&results("cycle"));
        assert_eq!(cycles.matches('!').count(), 1, "boots only");
        assert!(cycles.lines().nth(1).unwrap().ends_with("1      12    30   40        5"), "{cycles}");
    }
}
