//! Spaces, and delegation between them.

use super::{Args, Number};
use crate::cap::Sel;
#[cfg(doc)]
use crate::cap::{MemRights, Perms};

/// Kind of a space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SpaceKind {
    /// Capabilities; at most one per PD.
    Object = 0,
    /// Host memory; at most one per PD.
    Memory = 1,
    /// I/O ports. The first one of a PD is that of its threads; further ones are for vCPUs.
    Pio = 2,
    /// Guest-physical memory.
    Guest = 3,
    /// Model-specific registers.
    Msr = 4,
    /// Device memory.
    Dma = 5,
}

impl SpaceKind {
    const fn from_raw(raw: u64) -> Option<Self> {
        Some(match raw {
            0 => Self::Object,
            1 => Self::Memory,
            2 => Self::Pio,
            3 => Self::Guest,
            4 => Self::Msr,
            5 => Self::Dma,
            _ => return None,
        })
    }
}

/// Creates a space paid by `pd` (needs `PD_CREATE_SPACE`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreateSpace {
    /// Free selector for the new capability.
    pub dst: Sel,
    /// Owner and payer.
    pub pd: Sel,
    /// What the space holds.
    pub kind: SpaceKind,
}

impl CreateSpace {
    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let mut args = Args::new(Number::CreateSpace, 0, self.dst);
        args.rsi = self.pd.0;
        args.rdx = self.kind as u64;
        args
    }

    /// From registers; `None` for an unknown kind.
    #[must_use]
    pub const fn decode(args: &Args) -> Option<Self> {
        match SpaceKind::from_raw(args.rdx) {
            Some(kind) => Some(Self { dst: args.sel(), pd: Sel(args.rsi), kind }),
            None => None,
        }
    }
}

/// Copies `count` units from `src` of space `from` to `dst` of space `to`, replacing what is there. A unit is a
/// capability, a page, a port, or an MSR. With empty rights it removes, and `from` is not looked at.
/// On return RDX holds the units done: fewer than asked, with `OutOfMemory`, if the destination's account ran
/// empty, or with `Success` if the hypervisor stopped to let others run: call again for the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delegate {
    /// Source space (needs `SPACE_GRANT`).
    pub from: Sel,
    /// Destination space (needs `SPACE_TAKE`).
    pub to: Sel,
    /// First unit in the source: selector, page number, port or MSR.
    pub src: u64,
    /// First unit in the destination.
    pub dst: u64,
    /// Units.
    pub count: u64,
    /// What to pass on at most, by the type of the destination: [`Perms`] of capabilities, [`MemRights`] of pages
    /// and MSRs (`READ`, `WRITE`); for ports any bit. Zero removes.
    pub rights: u32,
}

impl Delegate {
    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let mut args = Args::new(Number::Delegate, 0, self.to);
        args.rsi = self.from.0 << 32 | self.rights as u64;
        args.rdx = self.src;
        args.r8 = self.dst;
        args.r9 = self.count;
        args
    }

    /// From registers.
    #[must_use]
    pub const fn decode(args: &Args) -> Self {
        Self {
            from: Sel(args.rsi >> 32),
            to: args.sel(),
            src: args.rdx,
            dst: args.r8,
            count: args.r9,
            rights: args.rsi as u32,
        }
    }
}
