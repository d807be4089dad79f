//! What a test run expects to see, and matching it against what is seen.
//!
//! Matching is driven by output alone: no step waits for time to pass.

use std::collections::VecDeque;
use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

/// A regular expression; `^` and `$` match at line ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(Regex);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let regex = RegexBuilder::new(&text).multi_line(true).build();
        regex
            .map(Self)
            .map_err(|_| format!("`{text}` is not a regular expression"))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`", self.0.as_str())
    }
}

/// One expectation.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A log line after the one matched last.
    Log(Pattern),
    /// A log line anywhere in the run.
    AlsoLog(Pattern),
    /// Terminal output after what was matched last.
    Terminal(Pattern),
    /// Text that is typed at the terminal.
    Send(String),
}

/// Terminal output that a step has not matched yet is kept up to this size.
const UNMATCHED_LIMIT: usize = 1 << 20;
/// Log lines that wait for a terminal step are kept up to this number.
const WAITING_LINES: usize = 100_000;

/// The state of matching one run.
#[derive(Debug)]
pub struct Matcher {
    steps: VecDeque<Step>,
    any_order: Vec<Pattern>,
    fail: Vec<Pattern>,
    log: VecDeque<String>,
    terminal: Vec<u8>,
    terminal_line: Vec<u8>,
    outbox: Vec<u8>,
    failure: Option<String>,
}

impl Matcher {
    /// A matcher before any output.
    pub fn new(steps: &[Step], fail: &[Pattern]) -> Self {
        let (mut ordered, mut any_order) = (VecDeque::new(), Vec::new());
        for step in steps {
            match step {
                Step::AlsoLog(pattern) => any_order.push(pattern.clone()),
                step => ordered.push_back(step.clone()),
            }
        }
        let mut matcher = Self {
            steps: ordered,
            any_order,
            fail: fail.to_vec(),
            log: VecDeque::new(),
            terminal: Vec::new(),
            terminal_line: Vec::new(),
            outbox: Vec::new(),
            failure: None,
        };
        matcher.advance();
        matcher
    }

    /// Takes a log line, without its line end.
    pub fn log_line(&mut self, line: &str) {
        self.check_failure(line.as_bytes(), "log");
        self.any_order
            .retain(|pattern| !pattern.0.is_match(line.as_bytes()));
        self.log.push_back(line.to_owned());
        if self.log.len() > WAITING_LINES {
            self.log.pop_front();
        }
        self.advance();
    }

    /// Takes terminal output. Carriage returns are dropped so that `$` matches at line ends.
    pub fn terminal(&mut self, output: &[u8]) {
        for byte in output.iter().copied().filter(|byte| *byte != b'\r') {
            self.terminal.push(byte);
            if byte == b'\n' {
                let line = std::mem::take(&mut self.terminal_line);
                self.check_failure(&line, "terminal");
            } else if self.terminal_line.len() < UNMATCHED_LIMIT {
                self.terminal_line.push(byte);
            }
        }
        self.advance();
        let excess = self.terminal.len().saturating_sub(UNMATCHED_LIMIT);
        self.terminal.drain(..excess);
    }

    /// What the steps want typed now.
    pub fn take_outbox(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outbox)
    }

    /// The line that must not have appeared.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Whether nothing is left to wait for.
    pub fn is_complete(&self) -> bool {
        self.steps.is_empty() && self.any_order.is_empty()
    }

    /// What the run is waiting for.
    pub fn awaited(&self) -> String {
        let next = self.steps.front().map(|step| match step {
            Step::Log(pattern) | Step::AlsoLog(pattern) => format!("log {pattern}"),
            Step::Terminal(pattern) => format!("terminal {pattern}"),
            Step::Send(text) => format!("sending {text:?}"),
        });
        let others = self
            .any_order
            .iter()
            .map(|pattern| format!("log {pattern}"));
        next.into_iter()
            .chain(others)
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn check_failure(&mut self, line: &[u8], stream: &str) {
        if self.failure.is_none() && self.fail.iter().any(|pattern| pattern.0.is_match(line)) {
            self.failure = Some(format!("{stream}: {}", String::from_utf8_lossy(line)));
        }
    }

    fn advance(&mut self) {
        while let Some(step) = self.steps.front() {
            match step {
                Step::Log(pattern) => {
                    let Some(index) = self
                        .log
                        .iter()
                        .position(|line| pattern.0.is_match(line.as_bytes()))
                    else {
                        // Lines that do not match the awaited step are passed for good.
                        self.log.clear();
                        return;
                    };
                    self.log.drain(..=index);
                }
                Step::Terminal(pattern) => {
                    let Some(found) = pattern.0.find(&self.terminal).map(|found| found.end())
                    else {
                        return;
                    };
                    self.terminal.drain(..found);
                }
                Step::Send(text) => self.outbox.extend_from_slice(text.as_bytes()),
                // Never queued: see `new`.
                Step::AlsoLog(_) => {}
            }
            self.steps.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::try_from(text.to_owned()).unwrap()
    }

    fn matcher(steps: &[Step]) -> Matcher {
        Matcher::new(steps, &[pattern("panic")])
    }

    #[test]
    fn log_steps_are_ordered() {
        let mut matcher = matcher(&[Step::Log(pattern("one")), Step::Log(pattern("two"))]);
        matcher.log_line("two");
        matcher.log_line("one");
        assert_eq!(matcher.awaited(), "log `two`");
        matcher.log_line("two");
        assert!(matcher.is_complete());
    }

    #[test]
    fn one_line_satisfies_one_step() {
        let mut matcher = matcher(&[Step::Log(pattern("tick")), Step::Log(pattern("tick"))]);
        matcher.log_line("tick");
        assert!(!matcher.is_complete());
        matcher.log_line("tick");
        assert!(matcher.is_complete());
    }

    #[test]
    fn log_lines_wait_for_a_terminal_step() {
        let mut matcher = matcher(&[Step::Terminal(pattern("login")), Step::Log(pattern("up"))]);
        matcher.log_line("up");
        matcher.terminal(b"login");
        assert!(
            matcher.is_complete(),
            "the streams are not synchronised: {}",
            matcher.awaited()
        );
    }

    #[test]
    fn any_order_lines_count_from_the_start() {
        let mut matcher = matcher(&[
            Step::Log(pattern("last")),
            Step::AlsoLog(pattern("early")),
            Step::AlsoLog(pattern("late")),
        ]);
        matcher.log_line("early");
        matcher.log_line("last");
        assert_eq!(matcher.awaited(), "log `late`");
        matcher.log_line("late");
        assert!(matcher.is_complete());
    }

    #[test]
    fn text_is_sent_when_its_turn_comes() {
        let mut matcher = matcher(&[
            Step::Terminal(pattern("# $")),
            Step::Send("uname\n".into()),
            Step::Terminal(pattern("^Linux$")),
        ]);
        assert!(matcher.take_outbox().is_empty());
        matcher.terminal(b"\r\nboot\r\n~ ");
        assert!(matcher.take_outbox().is_empty());
        matcher.terminal(b"# ");
        assert_eq!(matcher.take_outbox(), b"uname\n");
        matcher.terminal(b"uname\r\nLinux\r\n");
        assert!(matcher.is_complete());
    }

    #[test]
    fn terminal_steps_do_not_match_twice() {
        let mut matcher = matcher(&[Step::Terminal(pattern("a")), Step::Terminal(pattern("a"))]);
        matcher.terminal(b"a");
        assert!(!matcher.is_complete());
    }

    #[test]
    fn forbidden_lines_fail_at_once() {
        let mut matcher = matcher(&[]);
        matcher.terminal(b"kernel pan");
        assert_eq!(matcher.failure(), None);
        matcher.terminal(b"ic - not syncing\n");
        assert_eq!(
            matcher.failure(),
            Some("terminal: kernel panic - not syncing")
        );
    }

    #[test]
    fn memory_is_bounded() {
        let mut matcher = matcher(&[Step::Terminal(pattern("end"))]);
        for _ in 0..3 {
            matcher.terminal(&vec![b'.'; UNMATCHED_LIMIT]);
        }
        assert!(matcher.terminal.len() <= UNMATCHED_LIMIT);
        matcher.terminal(b"end");
        assert!(matcher.is_complete());
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(cuts in proptest::collection::vec(0usize..20, 0..6)) {
            let text = b"boot\r\nlogin: \xff\r\n# ";
            let mut matcher = matcher(&[Step::Terminal(pattern("login")), Step::Terminal(pattern("# $"))]);
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut start = 0;
            for end in cuts.into_iter().chain([text.len()]).map(|end| end.min(text.len())) {
                matcher.terminal(&text[start..end]);
                start = end;
            }
            prop_assert!(matcher.is_complete());
        }
    }
}
