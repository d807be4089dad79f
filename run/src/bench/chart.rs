//! Plots as SVG.

use svg::Document;
use svg::node::element::{Rectangle, Text, Title};

use crate::bench::report::{Results, Row};

const WIDTH: u64 = 900;
const LABELS: u64 = 380;
const BAR: u64 = 12;
const GAP: u64 = 10;
const FONT: u64 = 13;
/// Room for the figure behind the longest bar.
const FIGURES: u64 = 110;

/// Height of the bars of a histogram.
const HISTOGRAM_HEIGHT: u64 = 90;
const HISTOGRAM_BAR: u64 = 14;

const OWN: &str = "#3267a8";
const ABOVE: &str = "#b03030";
const NOVA: &str = "#9aa5b1";
const KVM: &str = "#d9a441";

/// Bars of all rows beside those of others. Each row has its own scale: what matters is the ratio.
pub fn bars(results: &Results) -> String {
    let mut document = Document::new();
    let mut y = GAP;
    for row in &results.rows {
        let above = results.limit(row).is_some() && row.is_above_limit();
        let mut all = vec![("", row.median, if above { ABOVE } else { OWN })];
        // Others are known in instructions; beside cycles they would say nothing.
        if results.limit(row).is_some() {
            let anchors = [("NOVA", &row.known.nova, NOVA), ("KVM", &row.known.kvm, KVM)];
            all.extend(
                anchors.iter().filter_map(|(whose, anchor, colour)| Some((*whose, anchor.as_ref()?.insn, *colour))),
            );
        }
        document = document.add(label(&row.known.title, LABELS - GAP, y + BAR, "end"));
        let longest = all.iter().map(|bar| bar.1).max().unwrap_or(1).max(1);
        for (whose, value, colour) in all {
            let length = (WIDTH - LABELS - FIGURES) * value / longest;
            let text = format!("{value} {whose}");
            document = document.add(bar(LABELS, y, length.max(1), BAR, colour)).add(label(
                text.trim(),
                LABELS + length + GAP / 2,
                y + BAR - 1,
                "start",
            ));
            y += BAR + 2;
        }
        y += GAP;
    }
    finish(document, WIDTH, y)
}

/// Distribution of a row.
pub fn histogram(row: &Row) -> String {
    let most = row.buckets.iter().map(|bucket| bucket.1).max().unwrap_or(1).max(1);
    let mut document = Document::new().add(label(&row.known.title, 0, FONT, "start"));
    let bottom = FONT + GAP + HISTOGRAM_HEIGHT;
    let mut x = 0;
    for (lower, count) in &row.buckets {
        // A single sample is still seen.
        let height = (HISTOGRAM_HEIGHT * count / most).max(1);
        let title = Title::new(format!("from {lower}: {count}"));
        document = document.add(bar(x, bottom - height, HISTOGRAM_BAR, height, OWN).add(title));
        x += HISTOGRAM_BAR + 2;
    }
    let ends = row.buckets.first().zip(row.buckets.last());
    if let Some(((first, _), (last, _))) = ends {
        let range = format!("{first} to {last}");
        document = document.add(label(&range, 0, bottom + FONT + 2, "start"));
    }
    finish(document, WIDTH / 2, bottom + 2 * FONT)
}

fn bar(x: u64, y: u64, width: u64, height: u64, colour: &str) -> Rectangle {
    Rectangle::new().set("x", x).set("y", y).set("width", width).set("height", height).set("fill", colour)
}

fn label(text: &str, x: u64, y: u64, anchor: &str) -> Text {
    Text::new(text).set("x", x).set("y", y).set("text-anchor", anchor)
}

fn finish(document: Document, width: u64, height: u64) -> String {
    document
        .set("width", width)
        .set("height", height)
        .set("font-family", "sans-serif")
        .set("font-size", FONT)
        .to_string()
        + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::results;

    #[test]
    fn a_bar_is_as_long_as_its_figure_says() {
        let text = bars(&results("insn"));
        let own = format!("width=\"{}\"", WIDTH - LABELS - FIGURES);
        let nova = format!("width=\"{}\"", (WIDTH - LABELS - FIGURES) * 9 / 12);
        assert!(text.contains(&own) && text.contains(&nova), "{text}");
        assert_eq!(text.matches(ABOVE).count(), 1);
        assert!(!bars(&results("cycle")).contains(NOVA));
    }

    #[test]
    fn every_bucket_is_seen() {
        let text = histogram(&results("insn").rows[0]);
        assert_eq!(text.matches("<rect").count(), 2, "{text}");
        assert!(text.contains("1 to 30"));
    }
}
