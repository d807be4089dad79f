//! `RTC`: the wall clock.

use crate::{rpc, wire_enum};

rpc! {
    /// A clock that knows the date.
    pub interface Rtc {
        const NAME = "RTC";
        const CAP_QUOTA = 3;
        const RAM_QUOTA = 8 * 1024;
        /// Seconds since 1970-01-01 00:00 UTC.
        fn unix_seconds() -> u64 | RtcError;
    }
}

wire_enum! {
    /// Why the time is not known.
    pub enum RtcError {
        /// The clock shows no valid date.
        Invalid = 1,
    }
}
