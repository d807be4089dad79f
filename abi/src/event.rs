//! Events of an execution context and the portals that handle them.
//!
//! An event numbered `n` of an EC calls the portal at selector `event base + n` of the EC's object space.
//! With no portal there, the EC stops for good and its creator can see it dead.

/// Events of a host EC (thread): the exception vectors (SDM vol. 3, 6.15).
pub mod host {
    /// Number of exception vectors.
    pub const EXCEPTIONS: u64 = 32;
    /// The EC was recalled.
    pub const RECALL: u64 = 32;
    /// Number of events of a host EC.
    pub const COUNT: u64 = 33;
}

/// Events of a vCPU: the vendor's exit number below 0xf0, normalised ones above.
pub mod guest {
    /// Nested page fault (SVM exit 0x400, VMX reason 48): reason word as on SVM, address guest-physical.
    pub const NESTED_FAULT: u64 = 0xfc;
    /// The control block holds a state that the CPU refuses to enter.
    pub const INVALID_STATE: u64 = 0xfd;
    /// First activation: the handler must supply the whole initial state.
    pub const STARTUP: u64 = 0xfe;
    /// The vCPU was recalled.
    pub const RECALL: u64 = 0xff;
    /// Number of events of a vCPU.
    pub const COUNT: u64 = 0x100;
}

/// What arrives in registers with every event, beside the state selected by the portal's
/// [`Mtd`](crate::state::Mtd): RDI portal id, RSI the selection delivered, and these words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventWords {
    /// RDX: exception vector or the vendor's exit number (not normalised).
    pub reason: u64,
    /// R8: exception error code, SVM EXITINFO1, VMX exit qualification.
    pub info1: u64,
    /// R9: CR2 of a page fault, SVM EXITINFO2, guest-physical address of a nested page fault.
    pub info2: u64,
    /// R10: instruction pointer.
    pub rip: u64,
}
