//! The terminals of a machine: serial lines that somebody sits at.

use std::fmt;

/// A terminal, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// COM1.
    First,
    /// COM3: the log has COM2.
    Second,
    /// COM4.
    Third,
}

impl Terminal {
    /// Every terminal that a machine can have, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::First, Self::Second, Self::Third];

    /// The terminals of a machine that has `count` of them.
    pub fn first(count: usize) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().take(count)
    }

    /// Its number as users say it.
    pub const fn number(self) -> usize {
        self.index() + 1
    }

    /// Its place among all.
    pub const fn index(self) -> usize {
        match self {
            Self::First => 0,
            Self::Second => 1,
            Self::Third => 2,
        }
    }

    /// Its name in scenario files, and of the file with its output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "terminal",
            Self::Second => "terminal2",
            Self::Third => "terminal3",
        }
    }

    /// File of its output in a run's folder.
    pub fn file(self) -> String {
        format!("{}.txt", self.name())
    }
}

impl fmt::Display for Terminal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
