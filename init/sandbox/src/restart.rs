//! When a child that has ended is started again: at once if it had finished, later and later if it fails again and again.

/// Microseconds until a child is started again that has failed once.
const FIRST_DELAY: u64 = 100_000;
/// The longest delay.
const LONGEST_DELAY: u64 = 10_000_000;
/// A child that has lived this long has recovered from what was before.
const RECOVERED: u64 = 10_000_000;

/// What is remembered of the former lives of a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backoff {
    /// Microseconds between its last end and the start of its present life.
    delay: u64,
}

impl Backoff {
    /// After a life of so many microseconds.
    #[must_use]
    pub fn after(self, life: u64, has_failed: bool) -> Self {
        let delay = match self.delay {
            _ if !has_failed => 0,
            delay if delay == 0 || life >= RECOVERED => FIRST_DELAY,
            delay => delay.saturating_mul(2).min(LONGEST_DELAY),
        };
        Self { delay }
    }

    /// Microseconds until the next start.
    #[must_use]
    pub const fn delay(self) -> u64 {
        self.delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_until_they_are_long_enough() {
        let mut backoff = Backoff::default();
        let delays: [u64; 9] = core::array::from_fn(|_| {
            backoff = backoff.after(1000, true);
            backoff.delay() / 1000
        });
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.after(RECOVERED - 1, true).delay(), LONGEST_DELAY);
        assert_eq!(backoff.after(RECOVERED, true).delay(), FIRST_DELAY);
        assert_eq!(backoff.after(0, false), Backoff::default());
    }
}
