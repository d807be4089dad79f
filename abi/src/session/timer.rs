//! Timer: one alarm and a clock per session.

use super::wire::{Cap, Signal};
use crate::rpc;

/// Shortest time in microseconds to an alarm; alarms closer together than this are given together.
pub const SHORTEST_US: u64 = 250;
/// Shortest period in microseconds.
pub const SHORTEST_PERIOD_US: u64 = 1000;

rpc! {
    /// A timer.
    pub interface Timer {
        const NAME = "Timer";
        const CAP_QUOTA = 3;
        const RAM_QUOTA = 8 * 1024;
        /// Raises the alarm once, `us` microseconds from now; ends a period.
        fn trigger_once(us: u64);
        /// Raises the alarm every `us` microseconds, planned from the time of the call, so without drift. 0 ends it.
        fn trigger_periodic(us: u64);
        /// Sets the signal for alarms.
        fn sigh(sigh: Cap<Signal>);
        /// Milliseconds since the session was made.
        fn elapsed_ms() -> u64;
        /// Microseconds since the session was made.
        fn elapsed_us() -> u64;
    }
}
