//! Dataspace: a container of memory that can be attached to address spaces. Core owns them all.

use crate::rpc;

rpc! {
    /// A dataspace.
    pub interface Dataspace {
        const NAME = "Dataspace";
        const CAP_QUOTA = 0;
        const RAM_QUOTA = 0;
        /// Bytes: a multiple of the page size.
        fn size() -> u64;
        /// Whether it can be attached writeable.
        fn writeable() -> bool;
    }
}
