//! Session arguments: `label="client -> name", ram_quota=8192, cap_quota=3`.
//!
//! A list of `key=value` separated by commas. A value is in double quotes unless it is a number or a word. It
//! cannot contain a double quote. The first occurrence of a key counts.

use core::fmt::Write;

use super::parent::{ARGS_MAX, Quota};
use super::wire::Text;

/// Between the elements of a label.
pub const LABEL_SEPARATOR: &str = " -> ";
/// Key of the label.
pub const LABEL: &str = "label";
/// Key of the bytes of RAM donated.
pub const RAM_QUOTA: &str = "ram_quota";
/// Key of the capabilities donated.
pub const CAP_QUOTA: &str = "cap_quota";

/// Arguments that cannot be written: too long, or a value with a double quote in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unwritable;

/// Arguments as they were given: an allegation of the client until its parent has rewritten them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Args<'a>(pub &'a str);

impl<'a> Args<'a> {
    /// All keys with their values, unquoted, in order. Ends at the first thing that is no argument.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (key, after) = rest.split_once('=')?;
            let after = after.trim_start();
            let (value, next) = match after.strip_prefix('"') {
                Some(quoted) => {
                    let (value, next) = quoted.split_once('"')?;
                    (value, next.trim_start().strip_prefix(',').unwrap_or_default())
                }
                None => {
                    let (value, next) = after.split_once(',').unwrap_or((after, ""));
                    (value.trim(), next)
                }
            };
            rest = next;
            Some((key.trim(), value))
        })
    }

    /// The value of a key.
    #[must_use]
    pub fn get(self, key: &str) -> Option<&'a str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The value of a key as a number: decimal or `0x`, with an optional `K`, `M` or `G` (powers of 1024).
    #[must_use]
    pub fn number(self, key: &str) -> Option<u64> {
        parse_number(self.get(key)?)
    }

    /// The label; empty if there is none.
    #[must_use]
    pub fn label(self) -> &'a str {
        self.get(LABEL).unwrap_or_default()
    }

    /// The donation; 0 for what is not given.
    #[must_use]
    pub fn quota(self) -> Quota {
        Quota { ram: self.number(RAM_QUOTA).unwrap_or_default(), caps: self.number(CAP_QUOTA).unwrap_or_default() }
    }

    /// The arguments with one key set to another value, which comes first.
    ///
    /// # Errors
    /// The result is too long or the value holds a double quote.
    pub fn with(self, key: &str, value: &str) -> Result<Text<ARGS_MAX>, Unwritable> {
        let mut text = Text::new();
        append(&mut text, key, value)?;
        for (name, old) in self.iter().filter(|(name, _)| *name != key) {
            append(&mut text, name, old)?;
        }
        Ok(text)
    }

    /// The arguments with another donation.
    ///
    /// # Errors
    /// The result is too long.
    pub fn with_quota(self, quota: Quota) -> Result<Text<ARGS_MAX>, Unwritable> {
        let mut number = Text::<20>::new();
        write!(number, "{}", quota.ram).map_err(|_| Unwritable)?;
        let args = self.with(RAM_QUOTA, &number)?;
        number.clear();
        write!(number, "{}", quota.caps).map_err(|_| Unwritable)?;
        Args(&args).with(CAP_QUOTA, &number)
    }
}

/// Appends an argument.
///
/// # Errors
/// The result is too long or the value holds a double quote.
pub fn append(args: &mut Text<ARGS_MAX>, key: &str, value: &str) -> Result<(), Unwritable> {
    if value.contains('"') {
        return Err(Unwritable);
    }
    let separator = if args.is_empty() { "" } else { ", " };
    let plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let quote = if plain { "" } else { "\"" };
    write!(args, "{separator}{key}={quote}{value}{quote}").map_err(|_| Unwritable)
}

/// A number as configurations and arguments write it: decimal or `0x`, with an optional `K`, `M` or `G`.
#[must_use]
pub fn parse_number(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (text.strip_suffix('K')?, 10),
        b'M' => (text.strip_suffix('M')?, 20),
        b'G' => (text.strip_suffix('G')?, 30),
        _ => (text, 0),
    };
    let (digits, radix) = match digits.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None => (digits, 10),
    };
    // `from_str_radix` would accept a sign.
    if !digits.starts_with(|first: char| first.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()?.checked_mul(1 << shift)
}

/// The words that mean yes, as configurations and arguments write them.
pub const YES: [&str; 4] = ["yes", "true", "on", "1"];
/// The words that mean no.
pub const NO: [&str; 4] = ["no", "false", "off", "0"];

/// A truth value: one of [`YES`] or of [`NO`].
#[must_use]
pub fn parse_truth(text: &str) -> Option<bool> {
    let is_one_of = |words: [&str; 4]| words.contains(&text.trim());
    if is_one_of(YES) { Some(true) } else { is_one_of(NO).then_some(false) }
}

/// Last element of a label.
#[must_use]
pub fn last_element(label: &str) -> &str {
    label.rsplit(LABEL_SEPARATOR).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn arguments_are_found_by_key() {
        let args = Args(r#"label="init -> a, b=7", ram_quota=12K , cap_quota=0x10, flag"#);
        assert_eq!(args.label(), "init -> a, b=7");
        assert_eq!(args.quota(), Quota { ram: 12 << 10, caps: 16 });
        assert_eq!(args.get("b"), None);
        assert_eq!(args.get("flag"), None);
    }

    #[test]
    fn numbers_are_checked() {
        assert_eq!(parse_number("2M"), Some(2 << 20));
        assert_eq!(parse_number("0xffffffffffffffffK"), None);
        assert_eq!(parse_number("0xffffffffffffffff"), Some(u64::MAX));
        assert_eq!(parse_number(" 0x4d0 "), Some(0x4d0));
        assert_eq!(parse_number("0x2G"), Some(2 << 30));
        for bad in ["", "K", "-1", "+1", "0x", "0x+1", "1 2", "1T", "12f", "0x1ffffffffffffffff"] {
            assert_eq!(parse_number(bad), None, "{bad}");
        }
    }

    #[test]
    fn truth_has_many_words() {
        assert!(YES.iter().all(|word| parse_truth(word) == Some(true)));
        assert!(NO.iter().all(|word| parse_truth(word) == Some(false)));
        assert_eq!(parse_truth(" yes "), Some(true));
        assert_eq!((parse_truth("Yes"), parse_truth("maybe"), parse_truth("")), (None, None, None));
    }

    #[test]
    fn the_last_element_of_a_label() {
        assert_eq!(last_element("init -> vmm -> config"), "config");
        assert_eq!(last_element("config"), "config");
        assert_eq!(last_element("init -> "), "");
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(ram: u64, caps: u64, label in "[a-z ,=>-]{0,40}", other in "[a-z0-9_]{1,9}") {
            let mut text = Text::new();
            append(&mut text, "other", &other).unwrap();
            let text = Args(&text).with(LABEL, &label).unwrap();
            let text = Args(&text).with_quota(Quota { ram, caps }).unwrap();
            let args = Args(&text);
            prop_assert_eq!(args.label(), label);
            prop_assert_eq!(args.quota(), Quota { ram, caps });
            prop_assert_eq!(args.get("other"), Some(other.as_str()));
            prop_assert_eq!(args.iter().count(), 4);
        }

        #[test]
        fn hostile_arguments_are_harmless(text in "\\PC{0,80}", key in "[a-z]{0,3}") {
            let _ = (Args(&text).get(&key), Args(&text).with(&key, &text), Args(&text).quota());
        }

        #[test]
        fn nothing_is_cut(label in "[a-z]{161,200}") {
            prop_assert_eq!(Args("").with(LABEL, &label), Err(Unwritable));
        }
    }
}
