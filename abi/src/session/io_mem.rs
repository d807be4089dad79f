//! `IO_MEM`: the registers of a device. Session arguments: `base`, `size` (bytes), `wc` (write-combined).

use super::dataspace::Dataspace;
use super::wire::Cap;
use crate::rpc;

rpc! {
    /// A physical range outside RAM.
    pub interface IoMem {
        const NAME = "IO_MEM";
        const CAP_QUOTA = 3;
        const RAM_QUOTA = 8 * 1024;
        /// The range, from the page that `base` is in to the one that its last byte is in.
        fn dataspace() -> Cap<Dataspace>;
    }
}
