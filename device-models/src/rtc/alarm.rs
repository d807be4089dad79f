//! The alarm's time of day, each field of which may match anything.

use super::calendar::{SECONDS_PER_DAY, UnixSeconds};

const HOURS: u8 = 24;
const SIXTY: u8 = 60;

/// Fields that are `None` match anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alarm {
    hour: Option<u8>,
    minute: Option<u8>,
    second: Option<u8>,
}

impl Alarm {
    /// An alarm; `None` where a field is out of range, so that it never matches.
    pub(super) fn new(hour: Option<u8>, minute: Option<u8>, second: Option<u8>) -> Option<Self> {
        let valid =
            hour.is_none_or(|h| h < HOURS) && minute.is_none_or(|m| m < SIXTY) && second.is_none_or(|s| s < SIXTY);
        valid.then_some(Self { hour, minute, second })
    }

    /// Seconds from `from` to the first match at or after it. Takes at most some hundred steps.
    pub(super) fn seconds_until(self, from: UnixSeconds) -> Option<u32> {
        let from = u32::try_from(from.0.rem_euclid(SECONDS_PER_DAY)).ok()?;
        let matches = |field: Option<u8>, value: u32| field.is_none_or(|f| u32::from(f) == value);
        let (first_hour, first_minute) = (from / 3600, from / 60 % 60);
        for hour in first_hour..=first_hour + u32::from(HOURS) {
            if !matches(self.hour, hour % u32::from(HOURS)) {
                continue;
            }
            let begin = if hour == first_hour { first_minute } else { 0 };
            for minute in (begin..u32::from(SIXTY)).filter(|m| matches(self.minute, *m)) {
                let start = hour * 3600 + minute * 60;
                let found =
                    (start.max(from)..start + 60).find(|second| matches(self.second, second % u32::from(SIXTY)));
                if let Some(found) = found {
                    return Some(found - from);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_counting(hour in proptest::option::of(0u8..24), minute in proptest::option::of(0u8..60), second in proptest::option::of(0u8..60), from in 0i64..86_400) {
            let alarm = Alarm::new(hour, minute, second).unwrap();
            let hit = |t: i64| {
                let t = t % 86_400;
                hour.is_none_or(|h| i64::from(h) == t / 3600)
                    && minute.is_none_or(|m| i64::from(m) == t / 60 % 60)
                    && second.is_none_or(|s| i64::from(s) == t % 60)
            };
            let counted = (from..from + 86_400).position(hit).map(|n| n as u32);
            prop_assert_eq!(alarm.seconds_until(UnixSeconds(from)), counted);
        }
    }
}
