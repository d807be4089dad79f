//! Addresses. A physical address is not a pointer; the only way from one to the other is the direct map of the
//! kernel-memory pool ([`super::direct`]).

/// Host-physical address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct Phys(pub u64);

/// Bytes of a page.
pub const PAGE: u64 = abi::PAGE_SIZE;

impl Phys {
    /// The address `bytes` further; saturates, so that a range check still fails.
    #[must_use]
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}
