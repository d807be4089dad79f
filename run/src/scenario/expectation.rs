//! What a test run expects to see, as scenario files write it.

use std::fmt;
use std::ops::Deref;

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use crate::machine::terminal::Terminal;

/// A regular expression; `^` and `$` match at line ends. A named group is a figure: it has to be the same wherever a step of the
/// run matches a group of that name.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(pub(super) Regex);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let regex = RegexBuilder::new(&text).multi_line(true).build();
        regex.map(Self).map_err(|_| format!("`{text}` is not a regular expression"))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`", self.0.as_str())
    }
}

/// One expectation.
#[derive(Debug, Clone)]
pub enum Step {
    /// A log line after the one matched last.
    Log(Pattern),
    /// A log line anywhere in the run.
    AlsoLog(Pattern),
    /// Output of a terminal after what was matched there last.
    Terminal(Terminal, Pattern),
    /// Text that is typed at a terminal.
    Send(Terminal, String),
}

impl Step {
    /// The terminal that this step is about.
    pub const fn terminal(&self) -> Option<Terminal> {
        match self {
            Self::Terminal(terminal, _) | Self::Send(terminal, _) => Some(*terminal),
            Self::Log(_) | Self::AlsoLog(_) => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(pattern) | Self::AlsoLog(pattern) => write!(formatter, "log {pattern}"),
            Self::Terminal(terminal, pattern) => write!(formatter, "{terminal} {pattern}"),
            Self::Send(_, text) => write!(formatter, "sending {text:?}"),
        }
    }
}

/// A step as scenario files write it.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Notation {
    Log(Pattern),
    AlsoLog(Pattern),
    Terminal(Pattern),
    Terminal2(Pattern),
    Terminal3(Pattern),
    Send(String),
    Send2(String),
    Send3(String),
    /// Some steps, several times.
    Repeat {
        times: usize,
        steps: Vec<Notation>,
    },
}

impl Notation {
    fn append_to(&self, steps: &mut Vec<Step>) {
        use Terminal::{First, Second, Third};
        steps.push(match self {
            Self::Log(pattern) => Step::Log(pattern.clone()),
            Self::AlsoLog(pattern) => Step::AlsoLog(pattern.clone()),
            Self::Terminal(pattern) => Step::Terminal(First, pattern.clone()),
            Self::Terminal2(pattern) => Step::Terminal(Second, pattern.clone()),
            Self::Terminal3(pattern) => Step::Terminal(Third, pattern.clone()),
            Self::Send(text) => Step::Send(First, text.clone()),
            Self::Send2(text) => Step::Send(Second, text.clone()),
            Self::Send3(text) => Step::Send(Third, text.clone()),
            Self::Repeat { times, steps: repeated } => {
                for step in std::iter::repeat_n(repeated, *times).flatten() {
                    step.append_to(steps);
                }
                return;
            }
        });
    }
}

/// Expectations in their order.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Vec<Notation>")]
pub struct Steps(Vec<Step>);

impl From<Vec<Notation>> for Steps {
    fn from(notations: Vec<Notation>) -> Self {
        let mut steps = Vec::new();
        notations.iter().for_each(|notation| notation.append_to(&mut steps));
        Self(steps)
    }
}

impl Deref for Steps {
    type Target = [Step];

    fn deref(&self) -> &[Step] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_can_be_repeated() {
        #[derive(Deserialize)]
        struct File {
            expect: Steps,
        }
        let text =
            "expect = [{ repeat = { times = 2, steps = [{ send2 = 'a' }, { log = 'b' }] } }, { terminal3 = 'c' }]";
        let steps: Vec<_> = toml::from_str::<File>(text).unwrap().expect.iter().map(Step::to_string).collect();
        let twice = ["sending \"a\"", "log `b`"].repeat(2);
        assert_eq!(steps, [twice, vec!["terminal3 `c`"]].concat());
    }
}
