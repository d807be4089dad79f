//! Portals.

use super::{Args, Number};
use crate::cap::Sel;
use crate::state::Mtd;

/// Creates a portal paid by `pd` (needs `PD_CREATE`), bound to the local EC `ec` (needs `EC_BIND_PT`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreatePt {
    /// Free selector for the new capability.
    pub dst: Sel,
    /// Owner and payer.
    pub pd: Sel,
    /// Handler.
    pub ec: Sel,
    /// Entry instruction pointer.
    pub ip: u64,
    /// Delivered in RDI.
    pub id: u64,
    /// State delivered with events.
    pub mtd: Mtd,
}

impl CreatePt {
    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let mut args = Args::new(Number::CreatePt, 0, self.dst);
        args.rsi = self.pd.0 << 32 | self.mtd.bits() as u64;
        args.rdx = self.ec.0;
        args.r8 = self.ip;
        args.r9 = self.id;
        args
    }

    /// From registers.
    #[must_use]
    pub const fn decode(args: &Args) -> Self {
        Self {
            dst: args.sel(),
            pd: Sel(args.rsi >> 32),
            ec: Sel(args.rdx),
            ip: args.r8,
            id: args.r9,
            mtd: Mtd::from_bits_truncate(args.rsi as u32),
        }
    }
}

/// Sets id and state selection of a portal (needs `PT_CTRL`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CtrlPt {
    /// Portal.
    pub pt: Sel,
    /// Delivered in RDI.
    pub id: u64,
    /// State delivered with events.
    pub mtd: Mtd,
}

impl CtrlPt {
    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let mut args = Args::new(Number::CtrlPt, 0, self.pt);
        args.rsi = self.mtd.bits() as u64;
        args.rdx = self.id;
        args
    }

    /// From registers.
    #[must_use]
    pub const fn decode(args: &Args) -> Self {
        Self { pt: args.sel(), id: args.rdx, mtd: Mtd::from_bits_truncate(args.rsi as u32) }
    }
}
