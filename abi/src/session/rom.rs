//! ROM: data that the client reads. It holds a consistent snapshot until it asks for the next.

use super::dataspace::Dataspace;
use super::wire::{Cap, Signal};
use crate::{rpc, wire_enum};

rpc! {
    /// A read-only data module; the last element of the label names it.
    pub interface Rom {
        const NAME = "ROM";
        const CAP_QUOTA = 3;
        const RAM_QUOTA = 8 * 1024;
        /// The current content, zero-padded. The dataspace of an earlier call may become invalid.
        fn dataspace() -> Cap<Dataspace> | RomError;
        /// Brings the content of the current dataspace up to date in place; `false` if that needs a new call
        /// of `dataspace`.
        fn update() -> bool;
        /// Sets the signal for new content. If there is newer content than the client has, it is submitted at once.
        fn sigh(sigh: Cap<Signal>);
    }
}

wire_enum! {
    /// Why there is no content.
    pub enum RomError {
        /// There is none yet, or it was withdrawn: same as empty.
        Empty = 1,
        /// The server cannot pay for it.
        OutOfRam = 2,
    }
}
