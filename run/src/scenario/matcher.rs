//! Matching what a test run expects against what is seen.
//!
//! Output alone drives it: no step waits for time to pass.

use std::collections::{BTreeMap, VecDeque};

use regex::bytes::{Captures, Regex};

use crate::machine::terminal::Terminal;
use crate::scenario::expectation::{Pattern, Step};
use crate::session::lines::LineSplitter;

/// Terminal output that a step has not matched yet is kept up to this size.
const UNMATCHED_LIMIT: usize = 1 << 20;
/// Log lines that wait for a terminal step are kept up to this number.
const WAITING_LINES: usize = 100_000;

/// The output of one terminal.
#[derive(Debug, Default)]
struct Stream {
    /// What no step has matched yet.
    unmatched: Vec<u8>,
    lines: LineSplitter,
}

/// What named groups have matched.
#[derive(Debug, Default)]
struct Figures(BTreeMap<String, Vec<u8>>);

impl Figures {
    /// Takes note of the named groups of a match; the first that was something else before is the error.
    fn check(&mut self, pattern: &Regex, found: &Captures) -> Result<(), String> {
        for name in pattern.capture_names().flatten() {
            let Some(value) = found.name(name).map(|group| group.as_bytes()) else { continue };
            let known = self.0.entry(name.to_owned()).or_insert_with(|| value.to_vec());
            if known != value {
                let [known, value] = [known.as_slice(), value].map(String::from_utf8_lossy);
                return Err(format!("{name}: {known:?} became {value:?}"));
            }
        }
        Ok(())
    }
}

/// The state of matching one run.
#[derive(Debug)]
pub struct Matcher {
    steps: VecDeque<Step>,
    any_order: Vec<Pattern>,
    fail: Vec<Pattern>,
    log: VecDeque<String>,
    terminals: [Stream; Terminal::ALL.len()],
    outbox: Vec<(Terminal, Vec<u8>)>,
    figures: Figures,
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
            terminals: Default::default(),
            outbox: Vec::new(),
            figures: Figures::default(),
            failure: None,
        };
        matcher.advance();
        matcher
    }

    /// Takes a log line, without its line end.
    pub fn log_line(&mut self, line: &str) {
        self.check_failure(line, "log");
        self.any_order.retain(|pattern| !pattern.0.is_match(line.as_bytes()));
        self.log.push_back(line.to_owned());
        if self.log.len() > WAITING_LINES {
            self.log.pop_front();
        }
        self.advance();
    }

    /// Takes output of a terminal. Carriage returns are dropped so that `$` matches at line ends.
    pub fn terminal(&mut self, terminal: Terminal, output: &[u8]) {
        let output: Vec<_> = output.iter().copied().filter(|byte| *byte != b'\r').collect();
        let Some(stream) = self.terminals.get_mut(terminal.index()) else {
            return;
        };
        stream.unmatched.extend(&output);
        for line in stream.lines.push(&output) {
            self.check_failure(&line, terminal.name());
        }
        self.advance();
        for stream in &mut self.terminals {
            let excess = stream.unmatched.len().saturating_sub(UNMATCHED_LIMIT);
            stream.unmatched.drain(..excess);
        }
    }

    /// What the steps want typed now, and where.
    pub fn take_outbox(&mut self) -> Vec<(Terminal, Vec<u8>)> {
        std::mem::take(&mut self.outbox)
    }

    /// The line that must not have appeared, or the figure that must not have changed.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Whether nothing is left to wait for.
    pub fn is_complete(&self) -> bool {
        self.steps.is_empty() && self.any_order.is_empty()
    }

    /// What the run is waiting for.
    pub fn awaited(&self) -> String {
        let next = self.steps.front().map(Step::to_string);
        let others = self.any_order.iter().map(|pattern| format!("log {pattern}"));
        next.into_iter().chain(others).collect::<Vec<_>>().join(", ")
    }

    fn check_failure(&mut self, line: &str, stream: &str) {
        if self.failure.is_none() && self.fail.iter().any(|pattern| pattern.0.is_match(line.as_bytes())) {
            self.failure = Some(format!("unwanted line on {stream}: {line}"));
        }
    }

    fn advance(&mut self) {
        while let Some(step) = self.steps.front() {
            match step {
                Step::Log(Pattern(pattern)) => {
                    let mut lines = self.log.iter().enumerate();
                    let Some((index, found)) =
                        lines.find_map(|(index, line)| Some((index, pattern.captures(line.as_bytes())?)))
                    else {
                        // Lines that do not match the awaited step are passed for good.
                        self.log.clear();
                        return;
                    };
                    let checked = self.figures.check(pattern, &found);
                    self.log.drain(..=index);
                    self.failure = self.failure.take().or(checked.err());
                }
                Step::Terminal(terminal, Pattern(pattern)) => {
                    let Some(stream) = self.terminals.get_mut(terminal.index()) else {
                        return;
                    };
                    let Some(found) = pattern.captures(&stream.unmatched) else {
                        return;
                    };
                    let checked = self.figures.check(pattern, &found);
                    let end = found.get(0).map_or(0, |whole| whole.end());
                    stream.unmatched.drain(..end);
                    self.failure = self.failure.take().or(checked.err());
                }
                Step::Send(terminal, text) => {
                    self.outbox.push((*terminal, text.clone().into_bytes()));
                }
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

    use super::Terminal::{First, Second};
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
        let mut matcher = matcher(&[Step::Terminal(First, pattern("login")), Step::Log(pattern("up"))]);
        matcher.log_line("up");
        matcher.terminal(First, b"login");
        assert!(matcher.is_complete(), "the streams are not synchronised: {}", matcher.awaited());
    }

    #[test]
    fn any_order_lines_count_from_the_start() {
        let mut matcher =
            matcher(&[Step::Log(pattern("last")), Step::AlsoLog(pattern("early")), Step::AlsoLog(pattern("late"))]);
        matcher.log_line("early");
        matcher.log_line("last");
        assert_eq!(matcher.awaited(), "log `late`");
        matcher.log_line("late");
        assert!(matcher.is_complete());
    }

    #[test]
    fn text_is_sent_when_its_turn_comes() {
        let mut matcher = matcher(&[
            Step::Terminal(First, pattern("# $")),
            Step::Send(First, "uname\n".into()),
            Step::Terminal(First, pattern("^Linux$")),
        ]);
        assert!(matcher.take_outbox().is_empty());
        matcher.terminal(First, b"\r\nboot\r\n~ ");
        assert!(matcher.take_outbox().is_empty());
        matcher.terminal(First, b"# ");
        assert_eq!(matcher.take_outbox(), [(First, b"uname\n".to_vec())]);
        matcher.terminal(First, b"uname\r\nLinux\r\n");
        assert!(matcher.is_complete());
    }

    #[test]
    fn terminal_steps_do_not_match_twice() {
        let mut matcher = matcher(&[Step::Terminal(First, pattern("a")), Step::Terminal(First, pattern("a"))]);
        matcher.terminal(First, b"a");
        assert!(!matcher.is_complete());
    }

    #[test]
    fn terminals_are_matched_separately() {
        let mut matcher = matcher(&[
            Step::Terminal(Second, pattern("# ")),
            Step::Send(Second, "two\n".into()),
            Step::Terminal(First, pattern("# ")),
        ]);
        matcher.terminal(First, b"# ");
        assert_eq!(matcher.awaited(), "terminal2 `# `");
        matcher.terminal(Second, b"# ");
        assert_eq!(matcher.take_outbox(), [(Second, b"two\n".to_vec())]);
        assert!(matcher.is_complete());
        matcher.terminal(First, b"kernel pan");
        matcher.terminal(Second, b"ic\n");
        assert_eq!(matcher.failure(), None, "two halves are no line");
        matcher.terminal(First, b"ic\n");
        assert_eq!(matcher.failure(), Some("unwanted line on terminal: # kernel panic"));
    }

    #[test]
    fn figures_stay_the_same() {
        let left = |rest: &str| Step::Log(pattern(&format!("(?<left>[0-9]+) left{rest}")));
        let steps = [left(""), Step::Terminal(First, pattern("(?<other>[0-9]+) ")), left(" again")];
        for (last, failure) in [("7 left again", None), ("8 left again", Some(r#"left: "7" became "8""#))] {
            let mut matcher = matcher(&steps);
            matcher.log_line("7 left");
            matcher.terminal(First, b"9 ");
            matcher.log_line("6 left");
            matcher.log_line(last);
            assert!(matcher.is_complete());
            assert_eq!(matcher.failure(), failure);
        }
    }

    #[test]
    fn forbidden_lines_fail_at_once() {
        let mut matcher = matcher(&[]);
        matcher.terminal(First, b"kernel pan");
        assert_eq!(matcher.failure(), None);
        matcher.terminal(First, b"ic - not syncing\n");
        assert_eq!(matcher.failure(), Some("unwanted line on terminal: kernel panic - not syncing"));
    }

    #[test]
    fn memory_is_bounded() {
        let mut matcher = matcher(&[Step::Terminal(First, pattern("end"))]);
        for _ in 0..3 {
            matcher.terminal(First, &vec![b'.'; UNMATCHED_LIMIT]);
        }
        assert!(matcher.terminals[0].unmatched.len() <= UNMATCHED_LIMIT);
        matcher.terminal(First, b"end");
        assert!(matcher.is_complete());
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(cuts in proptest::collection::vec(0usize..20, 0..6)) {
            let text = b"boot\r\nlogin: \xff\r\n# ";
            let mut matcher = matcher(&[Step::Terminal(First, pattern("login")), Step::Terminal(First, pattern("# $"))]);
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut start = 0;
            for end in cuts.into_iter().chain([text.len()]).map(|end| end.min(text.len())) {
                matcher.terminal(First, &text[start..end]);
                start = end;
            }
            prop_assert!(matcher.is_complete());
        }
    }
}
