//! Plots as SVG.

use svg::Document;
use svg::node::element::{Group, Polyline, Rectangle, Text, Title};

use crate::bench::linux_boot::{Boot, Run};
use crate::bench::log::Unit;
use crate::bench::report::Row;

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
const GROUND: &str = "#ffffff";
/// Room for an entry of a legend.
const LEGEND: u64 = 100;

/// Bars of rows with a legend, on a ground of their own: for pages of any colour.
pub fn main_plot(rows: &[Row], unit: Unit) -> String {
    let (document, height) = draw_bars(rows, unit, FONT + 2 * GAP);
    let mut legend = Document::new().add(bar(0, 0, WIDTH, height, GROUND));
    for (x, (name, colour)) in (GAP..).step_by(LEGEND as usize).zip([("Kilonova", OWN), ("NOVA", NOVA), ("KVM", KVM)]) {
        legend = legend.add(bar(x, GAP, BAR, BAR, colour)).add(label(name, x + BAR + GAP / 2, GAP + BAR - 1, "start"));
    }
    let title = format!("{unit} per operation; less is better; each operation has its own scale");
    legend = legend.add(label(&title, WIDTH - GAP, GAP + BAR - 1, "end"));
    finish(legend.add(document), WIDTH, height)
}

/// Bars of rows beside those of others. Each row has its own scale: what matters is the ratio.
pub fn bars(rows: &[Row], unit: Unit) -> String {
    let (document, height) = draw_bars(rows, unit, GAP);
    finish(Document::new().add(document), WIDTH, height)
}

/// Bars from `y` on, and where they end.
fn draw_bars(rows: &[Row], unit: Unit, mut y: u64) -> (Group, u64) {
    let comparable = unit == Unit::Instructions;
    let mut document = Group::new();
    for row in rows {
        let mut all = vec![("", row.median, if comparable && row.is_above_limit() { ABOVE } else { OWN })];
        // Others are known in instructions; beside cycles they would say nothing.
        if comparable {
            let others = [("NOVA", row.nova(), NOVA), ("KVM", row.kvm(), KVM)];
            all.extend(others.into_iter().filter_map(|(whose, value, colour)| Some((whose, value?, colour))));
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
    (document, y)
}

/// A distribution: lower ends of buckets, and what is in them.
pub fn histogram(title: &str, buckets: &[(u64, u64)]) -> String {
    let most = buckets.iter().map(|bucket| bucket.1).max().unwrap_or(1).max(1);
    let mut document = Document::new().add(label(title, 0, FONT, "start"));
    let bottom = FONT + GAP + HISTOGRAM_HEIGHT;
    let mut x = 0;
    for (lower, count) in buckets {
        // A single sample is still seen.
        let height = (HISTOGRAM_HEIGHT * count / most).max(1);
        let title = Title::new(format!("from {lower}: {count}"));
        document = document.add(bar(x, bottom - height, HISTOGRAM_BAR, height, OWN).add(title));
        x += HISTOGRAM_BAR + 2;
    }
    let ends = buckets.first().zip(buckets.last());
    if let Some(((first, _), (last, _))) = ends {
        let range = format!("{first} to {last}");
        document = document.add(label(&range, 0, bottom + FONT + 2, "start"));
    }
    finish(document, WIDTH / 2, bottom + 2 * FONT)
}

/// Height of the curves of a timeline.
const TIMELINE_HEIGHT: u64 = 240;
/// Messages of the kernel that are marked: what a boot consists of.
const MILESTONES: [&str; 6] =
    ["Linux version", "Memory:", "smp: Brought up", "Unpacking initramfs", "Freeing initrd", "Run /init"];

/// How a boot gets on: messages of the kernel over time, on the bare machine and as a guest.
pub fn timeline(boot: &Boot) -> String {
    let last = |run: &Run| run.messages.last().map_or(0, |message| message.0);
    let longest = last(&boot.bare).max(last(&boot.guest)).max(1);
    let most = boot.bare.messages.len().max(boot.guest.messages.len()).max(1) as u64;
    let bottom = GAP + TIMELINE_HEIGHT;
    let mut document = Document::new();
    for (run, name, colour, row) in [(&boot.bare, "bare machine", NOVA, 0), (&boot.guest, "guest", OWN, 1)] {
        let x = |micros: u64| (WIDTH - FIGURES) * micros / longest;
        let points = run.messages.iter().zip(1..);
        let points: Vec<_> =
            points.map(|((at, _), n)| format!("{},{}", x(*at), bottom - TIMELINE_HEIGHT * n / most)).collect();
        document = document
            .add(Polyline::new().set("points", points.join(" ")).set("fill", "none").set("stroke", colour))
            .add(label(name, x(last(run)) + GAP / 2, GAP + FONT + row * (FONT + GAP), "start"));
        for (at, text) in &run.messages {
            if MILESTONES.iter().any(|milestone| text.starts_with(milestone)) {
                let title = Title::new(format!("{} ms, {name}: {text}", at / 1000));
                document = document.add(bar(x(*at), bottom + GAP * row, 3, GAP, colour).add(title));
            }
        }
    }
    let axis =
        format!("0 to {} ms of the kernel's clock; messages so far; marks: {}", longest / 1000, MILESTONES.join(", "));
    finish(document.add(label(&axis, 0, bottom + 2 * GAP + FONT, "start")), WIDTH, bottom + 2 * GAP + 2 * FONT)
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
        let rows = results("insn").rows;
        let text = bars(&rows, Unit::Instructions);
        let own = format!("width=\"{}\"", WIDTH - LABELS - FIGURES);
        let nova = format!("width=\"{}\"", (WIDTH - LABELS - FIGURES) * 9 / 12);
        assert!(text.contains(&own) && text.contains(&nova), "{text}");
        assert_eq!(text.matches(ABOVE).count(), 1);
        let plot = main_plot(&rows, Unit::Instructions);
        assert!(plot.contains(&own) && plot.contains("KVM"), "{plot}");
        assert!(!bars(&rows, Unit::Cycles).contains(NOVA));
    }

    #[test]
    fn every_bucket_is_seen() {
        let text = histogram("A", &results("insn").rows[0].buckets);
        assert_eq!(text.matches("<rect").count(), 2, "{text}");
        assert!(text.contains("1 to 30"));
    }

    #[test]
    fn a_timeline_ends_with_the_longer_boot() {
        let text = timeline(&results("insn").boots[0]);
        assert!(text.contains(&format!("{},{GAP}", WIDTH - FIGURES)), "{text}");
        assert_eq!(text.matches("<rect").count(), 4, "two milestones each");
    }
}
