//! Memory sizes as users write them.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A number of bytes, written with an optional binary suffix: `64K`, `512M`, `2G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(u64);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Size {
    /// A size in MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count * MIB)
    }

    /// The size in bytes.
    pub const fn in_bytes(self) -> u64 {
        self.0
    }

    /// The size in MiB, rounded up.
    pub const fn in_mib(self) -> u64 {
        self.0.div_ceil(MIB)
    }

    /// The sum, or `None` where it does not fit.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || format!("`{text}` is not a memory size; write for example 512M or 2G");
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = match text.strip_prefix(digits).unwrap_or_default().to_ascii_uppercase().as_str() {
            "" => 1,
            "K" => KIB,
            "M" => MIB,
            "G" => GIB,
            _ => return Err(problem()),
        };
        let count: u64 = digits.parse().map_err(|_| problem())?;
        count.checked_mul(unit).map(Self).ok_or_else(problem)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes != 0 && bytes % GIB == 0 => write!(formatter, "{}G", bytes / GIB),
            bytes if bytes != 0 && bytes % MIB == 0 => write!(formatter, "{}M", bytes / MIB),
            bytes if bytes != 0 && bytes % KIB == 0 => write!(formatter, "{}K", bytes / KIB),
            bytes => write!(formatter, "{bytes}"),
        }
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn suffixes_are_binary() {
        assert_eq!("512M".parse(), Ok(Size(512 << 20)));
        assert_eq!("4g".parse(), Ok(Size(4 << 30)));
        assert_eq!("100".parse(), Ok(Size(100)));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "M", "-1M", "1.5G", "12MB", "1T", "99999999999G", "M512"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(bytes: u64) {
            prop_assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }
    }
}
