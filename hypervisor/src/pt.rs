//! Portal: an entry point into a local EC.

use crate::ec::Ec;
use crate::mem::Weak;
use crate::mem::object::{Header, Word};
use abi::state::Mtd;

/// A portal. Its layout is known to `arch::layout`.
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
    pub(crate) mtd: Word,
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
