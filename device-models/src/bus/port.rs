//! Port I/O: the access, and the bus that finds its model in one table look-up.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeInclusive;

/// Number of I/O ports of the architecture (Intel SDM vol. 1, 19.3).
const PORTS: usize = 1 << 16;

/// Table entry of a port that nobody claims.
const UNCLAIMED: u8 = 0;

/// What a read of an unclaimed port returns: the bus floats high.
pub const FLOATING: u32 = u32::MAX;

/// Operand size of a port access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortSize {
    /// One byte.
    Byte,
    /// Two bytes.
    Word,
    /// Four bytes.
    Dword,
}

impl PortSize {
    /// The size in bytes.
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }

    /// The size that has `bytes` bytes, if the architecture knows it.
    #[must_use]
    pub const fn from_bytes(bytes: u8) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Word),
            4 => Some(Self::Dword),
            _ => None,
        }
    }

    /// The bits of a register that an access of this size transfers.
    #[inline]
    #[must_use]
    pub const fn mask(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => u32::MAX,
        }
    }
}

/// One IN or OUT of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortAccess {
    /// First port.
    pub port: u16,
    /// Operand size.
    pub size: PortSize,
}

impl PortAccess {
    /// A one-byte access.
    #[must_use]
    pub const fn byte(port: u16) -> Self {
        Self { port, size: PortSize::Byte }
    }
}

/// The widths a model decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// An 8-bit device: the bus splits wider accesses into bytes, lowest port first, as an ISA
    /// bridge does.
    Byte,
    /// The model sees accesses as the guest made them.
    Wide,
}

/// A model that decodes I/O ports.
pub trait PortClaims {
    /// How wide accesses reach the model.
    const LANES: Lanes;

    /// The ports at which accesses to the model start.
    fn ports(&self) -> impl IntoIterator<Item = RangeInclusive<u16>>;
}

/// Why a claim failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortClaimError<Id> {
    /// Two models want the same port.
    Overlap {
        /// The first port in dispute.
        port: u16,
        /// Who holds it.
        owner: Id,
        /// Who asked for it.
        claimant: Id,
    },
    /// The bus holds as many models as its table can tell apart.
    Full {
        /// Who asked.
        claimant: Id,
    },
}

impl<Id: fmt::Display> fmt::Display for PortClaimError<Id> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlap { port, owner, claimant } => write!(f, "{claimant} claims port {port:#x} of {owner}"),
            Self::Full { claimant } => write!(f, "no room on the port bus for {claimant}"),
        }
    }
}

impl<Id: fmt::Debug + fmt::Display> core::error::Error for PortClaimError<Id> {}

struct Claim<Id> {
    id: Id,
    lanes: Lanes,
}

/// Finds the model that decodes a port.
///
/// `Id` is the wiring's name of a model; a `Copy` enum makes the dispatch a jump table.
pub struct PortBus<Id> {
    table: Box<[u8]>,
    claims: Vec<Claim<Id>>,
}

impl<Id: Copy> Default for PortBus<Id> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Id: Copy> PortBus<Id> {
    /// A bus without models.
    #[must_use]
    pub fn new() -> Self {
        Self { table: vec![UNCLAIMED; PORTS].into_boxed_slice(), claims: Vec::new() }
    }

    /// Gives `model` the ports it decodes, all or none of them.
    ///
    /// # Errors
    /// [`PortClaimError`] when a port is taken or the bus is full; the bus is then unchanged.
    pub fn claim<M: PortClaims>(&mut self, id: Id, model: &M) -> Result<(), PortClaimError<Id>> {
        let index = u8::try_from(self.claims.len() + 1).map_err(|_| PortClaimError::Full { claimant: id })?;
        for port in model.ports().into_iter().flatten() {
            if let Some(owner) = self.owner(port) {
                return Err(PortClaimError::Overlap { port, owner: owner.id, claimant: id });
            }
        }
        for port in model.ports().into_iter().flatten() {
            if let Some(entry) = self.table.get_mut(usize::from(port)) {
                *entry = index;
            }
        }
        self.claims.push(Claim { id, lanes: M::LANES });
        Ok(())
    }

    #[inline]
    fn owner(&self, port: u16) -> Option<&Claim<Id>> {
        let index = self.table.get(usize::from(port)).copied()?;
        self.claims.get(usize::from(index).wrapping_sub(1))
    }

    /// Performs an IN: `device` reads the model it is given; the result has no bits beyond the
    /// access size.
    #[inline]
    pub fn read(&self, access: PortAccess, mut device: impl FnMut(Id, PortAccess) -> u32) -> u32 {
        let value = match self.owner(access.port) {
            Some(claim) if access.size == PortSize::Byte || claim.lanes == Lanes::Wide => device(claim.id, access),
            None if access.size == PortSize::Byte => FLOATING,
            _ => self.read_bytes(access, device),
        };
        value & access.size.mask()
    }

    /// Performs an OUT: `device` writes the model it is given.
    #[inline]
    pub fn write(&self, access: PortAccess, value: u32, mut device: impl FnMut(Id, PortAccess, u32)) {
        match self.owner(access.port) {
            Some(claim) if access.size == PortSize::Byte || claim.lanes == Lanes::Wide => {
                device(claim.id, access, value & access.size.mask());
            }
            None if access.size == PortSize::Byte => {}
            _ => self.write_bytes(access, value, device),
        }
    }

    #[cold]
    fn read_bytes(&self, access: PortAccess, mut device: impl FnMut(Id, PortAccess) -> u32) -> u32 {
        (0..access.size.bytes()).fold(0, |value, lane| {
            let port = access.port.wrapping_add(lane);
            let byte = match self.owner(port) {
                Some(claim) => device(claim.id, PortAccess::byte(port)),
                None => FLOATING,
            };
            value | (byte & PortSize::Byte.mask()) << (u32::from(lane) * u8::BITS)
        })
    }

    #[cold]
    fn write_bytes(&self, access: PortAccess, value: u32, mut device: impl FnMut(Id, PortAccess, u32)) {
        for lane in 0..access.size.bytes() {
            let port = access.port.wrapping_add(lane);
            if let Some(claim) = self.owner(port) {
                let byte = value >> (u32::from(lane) * u8::BITS) & PortSize::Byte.mask();
                device(claim.id, PortAccess::byte(port), byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes(RangeInclusive<u16>);
    impl PortClaims for Bytes {
        const LANES: Lanes = Lanes::Byte;
        fn ports(&self) -> impl IntoIterator<Item = RangeInclusive<u16>> {
            [self.0.clone()]
        }
    }
    struct Wide(u16);
    impl PortClaims for Wide {
        const LANES: Lanes = Lanes::Wide;
        fn ports(&self) -> impl IntoIterator<Item = RangeInclusive<u16>> {
            [self.0..=self.0]
        }
    }

    fn bus() -> PortBus<char> {
        let mut bus = PortBus::new();
        bus.claim('b', &Bytes(0x20..=0x21)).unwrap();
        bus.claim('w', &Wide(0xcf8)).unwrap();
        bus.claim('e', &Bytes(0xffff..=0xffff)).unwrap();
        bus
    }

    #[test]
    fn overlap_names_both_and_changes_nothing() {
        let mut bus = bus();
        let error = bus.claim('x', &Bytes(0x1f..=0x20)).unwrap_err();
        assert_eq!(error, PortClaimError::Overlap { port: 0x20, owner: 'b', claimant: 'x' });
        assert!(bus.claim('y', &Bytes(0x1f..=0x1f)).is_ok());
    }

    #[test]
    fn unclaimed_reads_all_ones_of_its_size() {
        let read = |size| bus().read(PortAccess { port: 0x999, size }, |_, _| 0);
        assert_eq!(read(PortSize::Byte), 0xff);
        assert_eq!(read(PortSize::Word), 0xffff);
        assert_eq!(read(PortSize::Dword), u32::MAX);
    }

    #[test]
    fn wide_accesses_are_split_for_byte_models_only() {
        let dword = |port| PortAccess { port, size: PortSize::Dword };
        let value = bus().read(dword(0x1f), |_, access| u32::from(access.port) | 0xaa00);
        assert_eq!(value, 0xff21_20ff);
        let mut seen = Vec::new();
        bus().write(dword(0xcf8), 0x1234_5678, |id, access, value| {
            seen.push((id, access.port, value));
        });
        bus().write(dword(0x20), 0x1234_5678, |id, access, value| {
            seen.push((id, access.port, value));
        });
        // The port number wraps at the end of the I/O space.
        bus().write(dword(0xffff), 0x1234_5678, |id, access, value| {
            seen.push((id, access.port, value));
        });
        assert_eq!(seen, [('w', 0xcf8, 0x1234_5678), ('b', 0x20, 0x78), ('b', 0x21, 0x56), ('e', 0xffff, 0x78)]);
    }
}
