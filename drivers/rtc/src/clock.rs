//! MC146818 (data sheet): reading a date that does not change meanwhile, in whatever format the chip keeps it.

/// Access to the chip's registers.
pub trait Registers {
    /// Reads register `index`.
    fn read(&mut self, index: u8) -> u8;
}

/// Registers that hold the date, in the order of [`Raw`].
const DATE: [u8; 6] = [0, 2, 4, 7, 8, 9];
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
/// Where PCs keep the century, in the format of the date; 0 or nonsense on some.
const CENTURY: u8 = 0x32;
/// An update is in progress.
const UPDATING: u8 = 1 << 7;
const BINARY: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;
const PM: u8 = 1 << 7;
/// Looks at a clock that is always being updated: then it does not work. An update takes 2 ms, far less than this many reads.
const PATIENCE: u32 = 100_000;

/// Second, minute, hour, day, month, year, century as read.
type Raw = [u8; 7];

fn read_once(registers: &mut impl Registers) -> Option<Raw> {
    (0..PATIENCE).find(|_| registers.read(STATUS_A) & UPDATING == 0)?;
    let mut raw = [0; 7];
    for (value, index) in raw.iter_mut().zip(DATE.into_iter().chain([CENTURY])) {
        *value = registers.read(index);
    }
    Some(raw)
}

/// The date in seconds since 1970; `None` if the chip shows none.
pub fn read(registers: &mut impl Registers) -> Option<u64> {
    // Two equal readings in a row are one state: an update may have begun right after the first look.
    let mut last = read_once(registers)?;
    for _ in 0..PATIENCE {
        let next = read_once(registers)?;
        if next == last {
            let format = registers.read(STATUS_B);
            return decode(next, format).and_then(seconds);
        }
        last = next;
    }
    None
}

/// A date and time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Date {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

fn number(value: u8, format: u8) -> Option<u64> {
    if format & BINARY != 0 {
        return Some(u64::from(value));
    }
    let (tens, ones) = (value >> 4, value & 0xf);
    (tens < 10 && ones < 10).then(|| u64::from(tens) * 10 + u64::from(ones))
}

fn decode([second, minute, hour, day, month, year, century]: Raw, format: u8) -> Option<Date> {
    let hour = if format & HOURS_24 != 0 {
        number(hour, format)?
    } else {
        let twelve = number(hour & !PM, format)?;
        twelve % 12 + if hour & PM != 0 { 12 } else { 0 }
    };
    let century = number(century, format).filter(|century| (19..30).contains(century)).unwrap_or(20);
    Some(Date {
        year: century * 100 + number(year, format)?,
        month: number(month, format)?,
        day: number(day, format)?,
        hour,
        minute: number(minute, format)?,
        second: number(second, format)?,
    })
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn seconds(date: Date) -> Option<u64> {
    let Date { year, month, day, hour, minute, second } = date;
    let valid = (1970..3000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let years: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
    let months: u64 = (1..month).map(|month| days_of(year, month)).sum();
    valid.then(|| (((years + months + day - 1) * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A chip that updates itself after a number of reads.
    struct Chip {
        registers: [u8; 128],
        update_after: u32,
    }

    impl Registers for Chip {
        fn read(&mut self, index: u8) -> u8 {
            self.update_after = self.update_after.wrapping_sub(1);
            if self.update_after == 0 {
                self.registers[0] = 0;
                self.registers[2] = 1;
            }
            self.registers[usize::from(index)]
        }
    }

    fn chip(date: Raw, format: u8, update_after: u32) -> Chip {
        let mut registers = [0; 128];
        for (value, index) in date.into_iter().zip(DATE.into_iter().chain([CENTURY])) {
            registers[usize::from(index)] = value;
        }
        registers[usize::from(STATUS_B)] = format;
        Chip { registers, update_after }
    }

    #[test]
    fn known_dates_in_all_formats() {
        // 2026-11-20 22:24:59 UTC.
        let expected = Some(1_795_213_499);
        let bcd = [0x59, 0x24, 0x22, 0x20, 0x11, 0x26, 0x20];
        assert_eq!(read(&mut chip(bcd, HOURS_24, 0)), expected);
        let twelve = [0x59, 0x24, 0x10 | PM, 0x20, 0x11, 0x26, 0];
        assert_eq!(read(&mut chip(twelve, 0, 0)), expected);
        let binary = [59, 24, 22, 20, 11, 26, 20];
        assert_eq!(read(&mut chip(binary, HOURS_24 | BINARY, 0)), expected);
        let leap_day = [0, 0, 0, 29, 2, 0, 20];
        assert_eq!(read(&mut chip(leap_day, HOURS_24 | BINARY, 0)), Some(951_782_400));
    }

    #[test]
    fn an_update_in_between_is_noticed() {
        for update_after in 1..30 {
            let seen = read(&mut chip([59, 0, 0, 1, 1, 70, 19], HOURS_24 | BINARY, update_after));
            assert!(matches!(seen, Some(59 | 60)), "{seen:?} after {update_after}");
        }
    }

    #[test]
    fn no_date_and_a_clock_that_never_rests_are_none() {
        assert_eq!(read(&mut chip([0, 0, 0, 31, 2, 20, 20], HOURS_24 | BINARY, 0)), None);
        let mut busy = chip([0; 7], 0, 0);
        busy.registers[usize::from(STATUS_A)] = UPDATING;
        assert_eq!(read(&mut busy), None);
    }

    proptest! {
        #[test]
        fn any_registers_are_survived(date: [u8; 7], format: u8) {
            let _ = read(&mut chip(date, format, 0));
        }
    }
}
