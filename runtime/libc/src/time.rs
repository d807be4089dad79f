//! Clocks, all of which are the TSC.

use libc::timespec;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Nanoseconds of some TSC ticks at a rate.
fn ns_of(ticks: u64, hz: u64) -> u64 {
    saturate(u128::from(ticks) * u128::from(NS_PER_SECOND) / u128::from(hz.max(1)))
}

/// TSC ticks of some nanoseconds at a rate, rounded up: nothing that waits for them is early.
fn ticks_of(ns: u64, hz: u64) -> u64 {
    saturate((u128::from(ns) * u128::from(hz)).div_ceil(u128::from(NS_PER_SECOND)))
}

fn saturate(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Nanoseconds of a point in time or a duration, the largest value if that is more; `None` if it is none.
fn ns_of_timespec(time: &timespec) -> Option<u64> {
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let ns = u64::try_from(time.tv_nsec).ok().filter(|ns| *ns < NS_PER_SECOND)?;
    Some(seconds.saturating_mul(NS_PER_SECOND).saturating_add(ns))
}

fn timespec_of(ns: u64) -> timespec {
    timespec { tv_sec: (ns / NS_PER_SECOND) as i64, tv_nsec: (ns % NS_PER_SECOND) as i64 }
}

#[cfg(kilonova)]
mod clocks {
    use core::ffi::c_int;

    use libc::timespec;
    use runtime::semaphore;
    use runtime::sys::tsc;

    use super::{ns_of, ns_of_timespec, ticks_of, timespec_of};
    use crate::errno::fail;

    /// Nanoseconds since the machine's start.
    fn now_ns() -> u64 {
        ns_of(tsc::now(), tsc::hz())
    }

    /// The deadline for a point in time, or for a duration from now; `None` if it is neither.
    pub(crate) fn deadline(time: &timespec, absolute: bool) -> Option<u64> {
        let ticks = ticks_of(ns_of_timespec(time)?, tsc::hz());
        let deadline = if absolute { ticks } else { tsc::now().saturating_add(ticks) };
        // 0 would be no deadline.
        Some(deadline.max(1))
    }

    /// Blocks the calling thread.
    pub(crate) fn sleep_ns(ns: u64) {
        semaphore::sleep_until(tsc::now().saturating_add(ticks_of(ns, tsc::hz())));
    }

    fn is_clock(clock: libc::clockid_t) -> bool {
        matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC | libc::CLOCK_BOOTTIME)
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut timespec) -> c_int {
        if !is_clock(clock) {
            return fail(libc::EINVAL);
        }
        // SAFETY: the caller's pointer is valid.
        unsafe { *time = timespec_of(now_ns()) };
        0
    }

    /// Returns the error. It is never interrupted, so it never tells the rest.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn clock_nanosleep(
        clock: libc::clockid_t,
        flags: c_int,
        time: *const timespec,
        _rest: *mut timespec,
    ) -> c_int {
        // SAFETY: the caller's pointer is valid.
        let time = unsafe { &*time };
        match deadline(time, flags & libc::TIMER_ABSTIME != 0) {
            Some(deadline) if is_clock(clock) => {
                semaphore::sleep_until(deadline);
                0
            }
            _ => libc::EINVAL,
        }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn nanosleep(time: *const timespec, rest: *mut timespec) -> c_int {
        // SAFETY: passed on to the caller.
        match unsafe { clock_nanosleep(libc::CLOCK_MONOTONIC, 0, time, rest) } {
            0 => 0,
            error => fail(error),
        }
    }
}

#[cfg(kilonova)]
pub(crate) use clocks::{deadline, sleep_ns};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_time_is_refused() {
        for (tv_sec, tv_nsec) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
            assert_eq!(ns_of_timespec(&timespec { tv_sec, tv_nsec }), None);
        }
        assert_eq!(ns_of_timespec(&timespec { tv_sec: i64::MAX, tv_nsec: 0 }), Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn a_deadline_is_not_early_and_at_most_a_tick_late(ns in 0..u64::MAX / 8, hz in 1_000_000_u64..8_000_000_000) {
            let ticks = ticks_of(ns, hz);
            prop_assume!(ticks < u64::MAX);
            prop_assert!(u128::from(ticks) * u128::from(NS_PER_SECOND) >= u128::from(ns) * u128::from(hz));
            prop_assert!(ticks == 0 || ns_of(ticks - 1, hz) < ns || ns == 0);
        }

        #[test]
        fn a_point_in_time_survives(ns: u64) {
            prop_assert_eq!(ns_of_timespec(&timespec_of(ns)), Some(ns));
        }
    }
}
