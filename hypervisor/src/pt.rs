//! Portal: an entry point into a local EC.

use crate::ec::Ec;
use crate::mem::Weak;
use crate::mem::object::{Header, Word};
use abi::state::Mtd;

/// A portal.
#[derive(Default)]
#[repr(C, align(256))]
pub struct Pt {
    header: Header,
    /// Handler.
    pub ec: Weak<Ec>,
    /// Entry instruction pointer.
    pub ip: Word,
    /// Delivered in RDI.
    pub id: Word,
    /// State selection for events.
    mtd: Word,
}

/// Byte offsets for `arch::fastpath`.
#[allow(missing_docs, reason = "the names are the fields'")]
pub mod offset {
    use super::Pt;
    use core::mem::offset_of;
    pub const EC: usize = offset_of!(Pt, ec);
    pub const IP: usize = offset_of!(Pt, ip);
    pub const MTD: usize = offset_of!(Pt, mtd);
    pub const ID: usize = offset_of!(Pt, id);
}

impl Pt {
    /// Sets up a fresh portal.
    pub fn init(&self, ec: &'static Ec, ip: u64, id: u64, mtd: Mtd) {
        self.ec.set(Some(ec));
        self.ip.set(ip);
        self.configure(id, mtd);
    }

    /// Sets id and state selection.
    pub fn configure(&self, id: u64, mtd: Mtd) {
        self.id.set(id);
        self.mtd.set(u64::from(mtd.bits()));
    }

    /// State selection for events.
    #[inline(always)]
    pub fn mtd(&self) -> Mtd {
        Mtd::from_bits_retain(self.mtd.get() as u32)
    }
}
