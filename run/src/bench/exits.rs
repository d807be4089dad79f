//! How long exits took, as a VMM reports it on request: `exit-histogram kind=KIND buckets=LOWER:COUNT,...`.

use serde::Serialize;

/// Exits of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exits {
    /// The kind.
    pub kind: String,
    /// Lower ends of buckets in ticks, and what is in them.
    pub buckets: Vec<(u64, u64)>,
}

/// How the report begins; in front of it may be who says it.
const START: &str = "exit-histogram ";

impl Exits {
    /// Reads a line, if it is one of these.
    pub fn parse(line: &str) -> Option<Self> {
        let (_, text) = line.split_once(START)?;
        let field = |key: &str| text.split_whitespace().find_map(|word| word.strip_prefix(key));
        let buckets = super::log::buckets(field("buckets=")?)?;
        Some(Self { kind: field("kind=")?.to_owned(), buckets })
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_lines_are_read() {
        let exits = Exits::parse("[init -> vmm] exit-histogram kind=cpuid buckets=128:5,256:1").unwrap();
        assert_eq!((exits.kind.as_str(), exits.count()), ("cpuid", 6));
        assert_eq!(Exits::parse("[init -> vmm] exit-histogram kind=cpuid buckets=128"), None);
        assert_eq!(Exits::parse("hello"), None);
    }
}
