//! Terminal: a stream of characters in both directions, through a buffer shared with the server.

use super::dataspace::Dataspace;
use super::wire::{Cap, Signal};
use crate::{rpc, wire_record};

/// Bytes of the shared buffer.
pub const BUFFER_SIZE: u64 = 4096;

rpc! {
    /// A terminal.
    pub interface Terminal {
        const NAME = "Terminal";
        const CAP_QUOTA = 6;
        const RAM_QUOTA = 16 * 1024;
        /// Size in characters; 0 times 0 if unknown.
        fn size() -> TerminalSize;
        /// Whether characters can be read.
        fn avail() -> bool;
        /// Moves up to `max` received characters into the buffer and says how many.
        fn read(max: u64) -> u64;
        /// Takes up to `count` characters from the buffer and says how many: write the rest later.
        fn write(count: u64) -> u64;
        /// Whether all characters that were taken have left. For a client that is about to end.
        fn is_sent() -> bool;
        /// The buffer.
        fn dataspace() -> Cap<Dataspace>;
        /// Sets the signal for the connection. If it is connected already, it is submitted at once.
        fn connected_sigh(sigh: Cap<Signal>);
        /// Sets the signal for characters that can be read. If there are some already, it is submitted at once.
        fn read_avail_sigh(sigh: Cap<Signal>);
        /// Sets the signal for a changed size.
        fn size_changed_sigh(sigh: Cap<Signal>);
    }
}

wire_record! {
    /// Size in characters.
    pub struct TerminalSize {
        /// Columns.
        pub columns: u16,
        /// Lines.
        pub lines: u16,
    }
}
