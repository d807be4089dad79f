//! The table on the terminal.

use crate::bench::log::Unit;
use crate::bench::report::Results;

/// Prints the results.
pub fn print(results: &Results) {
    println!("{}", render(results));
}

fn render(results: &Results) -> String {
    let mut lines = vec![vec![
        "operation".to_owned(),
        results.unit.to_string(),
        "99 %".to_owned(),
        "limit".to_owned(),
        "NOVA".to_owned(),
        "KVM".to_owned(),
        "CR3".to_owned(),
        "serialising".to_owned(),
    ]];
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    for row in &results.rows {
        let known = &row.known;
        let above = results.unit == Unit::Instructions && row.is_above_limit();
        lines.push(vec![
            known.title.clone(),
            row.median.to_string(),
            row.p99.to_string(),
            format!("{}{}", if above { "! " } else { "" }, number(results.limit(row))),
            number(known.nova.as_ref().map(|anchor| anchor.insn)),
            number(known.kvm.as_ref().map(|anchor| anchor.insn)),
            known.cr3.to_string(),
            known.serialising.to_string(),
        ]);
    }
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
    let mut text: Vec<_> = lines.iter().map(align).collect();
    for (name, reason) in &results.skipped {
        text.push(format!("{name}: not measured: {reason}"));
    }
    text.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::results;

    #[test]
    fn columns_are_aligned_and_excess_is_marked() {
        let text = render(&results("insn"));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0].len(), lines[1].len());
        assert!(!lines[1].contains('!') && lines[2].contains("! 19"), "{text}");
        assert!(lines[3].starts_with("c: not measured"));
        assert!(!render(&results("cycle")).contains('!'));
    }
}
