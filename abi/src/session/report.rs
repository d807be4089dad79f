//! Report: state that a component makes known. The latest one counts; there is no queue.

use super::dataspace::Dataspace;
use super::wire::{Cap, Signal};
use crate::{rpc, wire_enum};

rpc! {
    /// A report. Session argument: `buffer_size`.
    pub interface Report {
        const NAME = "Report";
        const CAP_QUOTA = 4;
        const RAM_QUOTA = 16 * 1024;
        /// The buffer to write it into.
        fn dataspace() -> Cap<Dataspace>;
        /// The first `length` bytes of the buffer are the new state.
        fn submit(length: u64) | SubmitError;
        /// Sets the signal for responses.
        fn response_sigh(sigh: Cap<Signal>);
        /// Puts the latest response into the buffer and says how long it is.
        fn obtain_response() -> u64;
    }
}

wire_enum! {
    /// Why a report was not taken.
    pub enum SubmitError {
        /// It is longer than the buffer.
        TooLong = 1,
    }
}
