//! Civil time in UTC, as the clock's registers hold it.

/// Seconds since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixSeconds(pub i64);

pub(super) const SECONDS_PER_DAY: i64 = 86_400;
const SECONDS_PER_HOUR: i64 = 3_600;
const SECONDS_PER_MINUTE: i64 = 60;
/// What two decimal digits of century and two of year can say.
const FIRST: UnixSeconds = UnixSeconds(-62_167_219_200);
const LAST: UnixSeconds = UnixSeconds(253_402_300_799);

const DAYS_PER_ERA: i64 = 146_097;
const YEARS_PER_ERA: i64 = 400;
/// Days from 0000-03-01, where eras start, to the epoch.
const EPOCH_DAYS: i64 = 719_468;

/// A date and time of day; years 0 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DateTime {
    pub year: u16,
    pub month: u8,
    pub day: u8,
    /// 1 is Sunday.
    pub weekday: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
}

impl DateTime {
    /// From seconds since the epoch, limited to the years 0 to 9999.
    pub(super) fn from_unix(time: UnixSeconds) -> Self {
        let seconds = time.clamp(FIRST, LAST).0;
        let days = seconds.div_euclid(SECONDS_PER_DAY);
        let time = seconds.rem_euclid(SECONDS_PER_DAY);
        // A year that starts in March has its leap day last, so months follow a fixed pattern.
        let shifted = days + EPOCH_DAYS;
        let era = shifted.div_euclid(DAYS_PER_ERA);
        let day_of_era = shifted.rem_euclid(DAYS_PER_ERA);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era * YEARS_PER_ERA + year_of_era + i64::from(month <= 2);
        Self {
            year: year as u16,
            month: month as u8,
            day: (day_of_year - (153 * march_month + 2) / 5 + 1) as u8,
            // The epoch was a Thursday.
            weekday: ((days + 4).rem_euclid(7) + 1) as u8,
            hour: (time / SECONDS_PER_HOUR) as u8,
            minute: (time % SECONDS_PER_HOUR / SECONDS_PER_MINUTE) as u8,
            second: (time % SECONDS_PER_MINUTE) as u8,
        }
    }

    /// To seconds since the epoch. Fields out of range carry over, the weekday is ignored.
    pub(super) fn to_unix(self) -> UnixSeconds {
        let month = i64::from(self.month.clamp(1, 12));
        let year = i64::from(self.year) - i64::from(month <= 2);
        let era = year.div_euclid(YEARS_PER_ERA);
        let year_of_era = year.rem_euclid(YEARS_PER_ERA);
        let march_month = (month + 9) % 12;
        let day_of_year = (153 * march_month + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * DAYS_PER_ERA + day_of_era - EPOCH_DAYS;
        UnixSeconds(
            days * SECONDS_PER_DAY
                + i64::from(self.hour) * SECONDS_PER_HOUR
                + i64::from(self.minute) * SECONDS_PER_MINUTE
                + i64::from(self.second),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_dates() {
        let leap_day = DateTime::from_unix(UnixSeconds(951_827_696));
        assert_eq!((leap_day.year, leap_day.month, leap_day.day), (2000, 2, 29));
        assert_eq!((leap_day.hour, leap_day.minute, leap_day.second), (12, 34, 56));
        assert_eq!(leap_day.weekday, 3, "a Tuesday");
        assert_eq!(DateTime::from_unix(UnixSeconds(i64::MAX)).year, 9999);
        assert_eq!(DateTime::from_unix(UnixSeconds(i64::MIN)).year, 0);
    }

    proptest! {
        #[test]
        fn round_trip(seconds in FIRST.0..=LAST.0) {
            let time = DateTime::from_unix(UnixSeconds(seconds));
            prop_assert!((1..=12).contains(&time.month) && (1..=31).contains(&time.day));
            prop_assert_eq!(time.to_unix(), UnixSeconds(seconds));
        }
    }
}
