//! The conformance table: what programs that check the system have found, by check and by machine.
//!
//! Such a program writes a line per check, `ok N - name` or `not ok N - name: ...`, and `# section` above those that belong
//! together. A section that is repeated, for each CPU perhaps, has the same checks again, and counts once. What a
//! machine is known to do against its manual is `not ok N - name # TODO why`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::error::Result;
use crate::machine::Platform;
use crate::machine::terminal::Terminal;
use crate::repository;
use crate::session::LOG;

/// The table, in the folder of test runs.
const FILE: &str = "conformance.md";

/// Result of a check; of several, the worst counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Ok,
    Deviates(String),
    Failed,
}

/// A check: its section, its name, and how many of that name were before it in the section.
type Check = (String, String, usize);

/// Results of the same program on several machines.
#[derive(Debug, Default)]
struct Program {
    /// In the order in which they were first seen.
    checks: Vec<Check>,
    machines: Vec<(Platform, BTreeMap<Check, Verdict>)>,
}

impl Program {
    fn add(&mut self, platform: Platform, check: Check, verdict: Verdict) {
        if !self.checks.contains(&check) {
            // Behind the last one of its section.
            let behind = self.checks.iter().rposition(|known| known.0 == check.0).map(|at| at + 1);
            self.checks.insert(behind.unwrap_or(self.checks.len()), check.clone());
        }
        let at = self.machines.iter().position(|(known, _)| *known == platform).unwrap_or_else(|| {
            self.machines.push((platform, BTreeMap::new()));
            self.machines.len() - 1
        });
        if let Some((_, results)) = self.machines.get_mut(at) {
            let slot = results.entry(check).or_insert(Verdict::Ok);
            *slot = verdict.max(slot.clone());
        }
    }

    fn sections(&self) -> Vec<&str> {
        let mut sections: Vec<_> = self.checks.iter().map(|(section, ..)| section.as_str()).collect();
        sections.dedup();
        sections
    }
}

/// The results of all test runs.
#[derive(Debug, Default)]
pub struct Table(BTreeMap<String, Program>);

impl Table {
    /// Takes the checks in the output of a run, if it has some.
    pub fn add_run(&mut self, scenario: &str, platform: Platform, folder: &Path) {
        let terminal = Terminal::First.file();
        for file in [LOG, terminal.as_str()] {
            if let Ok(text) = std::fs::read(folder.join(file)) {
                self.add(scenario, platform, &String::from_utf8_lossy(&text));
            }
        }
    }

    fn add(&mut self, scenario: &str, platform: Platform, text: &str) {
        let program = scenario.split('@').next().unwrap_or(scenario);
        let (mut section, mut seen) = (String::new(), BTreeMap::<String, usize>::new());
        // A last line without its end may be half of one.
        let complete = text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default();
        for line in complete.lines() {
            if let Some(name) = line.strip_prefix("# ") {
                section = name.trim_end().to_owned();
                seen.clear();
            }
            let Some((name, verdict)) = parse(line) else { continue };
            let count = seen.entry(name.clone()).or_default();
            *count += 1;
            let check = (section.clone(), name, *count);
            self.0.entry(program.to_owned()).or_default().add(platform, check, verdict);
        }
    }

    /// Prints how many checks passed, by section and machine, and writes the whole table to a file; unless everything
    /// ran on one kind of machine.
    pub fn finish(mut self) -> Result<()> {
        self.0.retain(|_, program| program.machines.len() > 1);
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.values_mut().for_each(|program| program.machines.sort_by_key(|(platform, _)| platform.to_string()));
        let file = repository::target().join("test").join(FILE);
        repository::write(&file, self.details())?;
        println!("conformance, checks passed of those made (each of them in {}):", file.display());
        print!("{}", self.summary());
        Ok(())
    }

    fn summary(&self) -> String {
        let mut text = String::new();
        for (name, program) in &self.0 {
            text += &format!("{name:<40}");
            program.machines.iter().for_each(|(platform, _)| text += &format!("{:>22}", platform.to_string()));
            text.push('\n');
            for section in program.sections() {
                text += &format!("  {section:<38}");
                for (_, results) in &program.machines {
                    let here = || results.iter().filter(|((of, ..), _)| of == section);
                    let passed = here().filter(|(_, verdict)| **verdict == Verdict::Ok).count();
                    let explained = here().filter(|(_, verdict)| matches!(verdict, Verdict::Deviates(_))).count();
                    let note = if explained > 0 { format!(", {explained} explained") } else { String::new() };
                    text += &format!("{:>22}", format!("{passed}/{}{note}", here().count()));
                }
                text.push('\n');
            }
        }
        text
    }

    fn details(&self) -> String {
        let mut text = String::from("# Conformance\n");
        let mut notes: Vec<&str> = Vec::new();
        for (name, program) in &self.0 {
            let columns: String = program.machines.iter().map(|(platform, _)| format!(" {platform} |")).collect();
            let _ = writeln!(text, "\n## {name}\n\n| check |{columns}\n|---|{}", "---|".repeat(program.machines.len()));
            let mut section = "";
            for check in &program.checks {
                if check.0 != section {
                    section = &check.0;
                    let _ = writeln!(text, "| **{section}** |{}", " |".repeat(program.machines.len()));
                }
                let _ = write!(text, "| {} |", check.1);
                for (_, results) in &program.machines {
                    let cell = match results.get(check) {
                        None => "-".to_owned(),
                        Some(Verdict::Ok) => "ok".to_owned(),
                        Some(Verdict::Failed) => "**failed**".to_owned(),
                        Some(Verdict::Deviates(why)) => {
                            let number = notes.iter().position(|note| note == why).unwrap_or_else(|| {
                                notes.push(why);
                                notes.len() - 1
                            });
                            format!("deviates ({})", number + 1)
                        }
                    };
                    let _ = write!(text, " {cell} |");
                }
                text.push('\n');
            }
        }
        text.push('\n');
        for (number, why) in (1..).zip(notes) {
            let _ = writeln!(text, "{number}. {why}");
        }
        text
    }
}

/// Name and result of the check that a line is about.
fn parse(line: &str) -> Option<(String, Verdict)> {
    let line = line.trim_end();
    let (failed, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (true, rest),
        None => (false, line.strip_prefix("ok ")?),
    };
    let (number, name) = rest.split_once(" - ")?;
    number.parse::<u32>().ok()?;
    if !failed {
        return Some((name.to_owned(), Verdict::Ok));
    }
    Some(match name.split_once(" # TODO ") {
        Some((name, why)) => (name.to_owned(), Verdict::Deviates(why.to_owned())),
        None => (name.split_once(": got ").map_or(name, |(name, _)| name).to_owned(), Verdict::Failed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_checks_are_understood() {
        let verdict = |line| parse(line).map(|(_, verdict)| verdict);
        assert_eq!(parse("ok 3 - a: b\r"), Some(("a: b".into(), Verdict::Ok)));
        assert_eq!(parse("not ok 3 - a: got 1, expected 2"), Some(("a".into(), Verdict::Failed)));
        assert_eq!(parse("not ok 3 - a # TODO because"), Some(("a".into(), Verdict::Deviates("because".into()))));
        assert_eq!((verdict("ok three - a"), verdict("[core] ok"), verdict("1..3")), (None, None, None));
    }

    #[test]
    fn machines_are_columns_and_the_worst_of_all_cpus_counts() {
        let mut table = Table::default();
        table.add(
            "p@2-cpus",
            Platform::QemuSvm,
            "# s\nok 1 - a\nok 2 - a\nok 3 - b\n# s\nok 4 - a\nok 5 - a\nok 6 - b\nok 7 - ha",
        );
        table.add(
            "p@bochs-svm",
            Platform::BochsSvm,
            "# s\nok 1 - a\nok 2 - a\nok 3 - b\n# s\nnot ok 4 - a # TODO why\n",
        );
        table.add("p@bochs-vmx", Platform::BochsVmx, "# s\nok 1 - a\nnot ok 2 - a: got 1, expected 2\n# t\nok 3 - c\n");
        let text = table.details();
        assert!(text.contains("| check | qemu-svm | bochs-svm | bochs-vmx |"), "{text}");
        assert!(
            text.contains("| a | ok | deviates (1) | ok |\n| a | ok | ok | **failed** |\n| b | ok | ok | - |"),
            "{text}"
        );
        assert!(text.contains("| c | - | - | ok |") && text.ends_with("\n1. why\n"), "{text}");
        let summary = table.summary();
        assert!(
            summary.contains("3/3") && summary.contains("2/3, 1 explained") && summary.contains("1/2"),
            "{summary}"
        );
    }
}
