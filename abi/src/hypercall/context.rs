//! Execution contexts.

use super::{Args, CpuId, Number};
use crate::cap::Sel;

/// Creates an execution context of `pd` on `cpu` for life, paid by `pd` (needs `PD_CREATE`; for a vCPU
/// `PD_CREATE_SPACE`), in the object, memory and port spaces of `pd`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreateEc {
    /// Free selector for the new capability.
    pub dst: Sel,
    /// Owner and payer.
    pub pd: Sel,
    /// CPU.
    pub cpu: CpuId,
    /// First selector, in the object space of `pd`, of the portals for its [events](crate::event).
    pub event_base: Sel,
    /// The rest depends on the kind.
    pub body: EcBody,
}

/// Part of [`CreateEc`] that depends on the kind, which is in the flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EcBody {
    /// Thread: starts at `ip` with stack pointer `sp` when its scheduling context is created. RDI holds `sp`.
    Thread {
        /// Page-aligned user address of its UTCB; unmapped so far.
        utcb: u64,
        /// Initial stack pointer.
        sp: u64,
        /// Initial instruction pointer.
        ip: u64,
    },
    /// Portal handler: enters each portal with this stack pointer.
    Local {
        /// Page-aligned user address of its UTCB; unmapped so far.
        utcb: u64,
        /// Stack pointer at each entry.
        sp: u64,
    },
    /// vCPU. Spaces are of the same PD and need `SPACE_ASSIGN`.
    Vcpu {
        /// Guest-physical memory.
        guest: Sel,
        /// I/O ports that it reaches without exit, or [`Sel::NONE`].
        pio: Sel,
        /// MSRs that it reaches without exit, or [`Sel::NONE`].
        msr: Sel,
    },
}

impl CreateEc {
    const THREAD: u64 = 0;
    const LOCAL: u64 = 1;
    const VCPU: u64 = 2;
    const SEL_BITS: u32 = 32;

    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let (kind, rdx, r8, r10) = match self.body {
            EcBody::Thread { utcb, sp, ip } => (Self::THREAD, utcb, sp, ip),
            EcBody::Local { utcb, sp } => (Self::LOCAL, utcb, sp, 0),
            EcBody::Vcpu { guest, pio, msr } => {
                let maps = (pio.0 & u32::MAX as u64) << Self::SEL_BITS | msr.0 & u32::MAX as u64;
                (Self::VCPU, guest.0, maps, 0)
            }
        };
        let rsi = self.pd.0 << 16 | self.cpu.0 as u64;
        Args { rsi, rdx, r8, r9: self.event_base.0, r10, ..Args::new(Number::CreateEc, kind, self.dst) }
    }

    /// From registers; `None` for an unknown kind.
    #[must_use]
    pub const fn decode(args: &Args) -> Option<Self> {
        let body = match args.flags() {
            Self::THREAD => EcBody::Thread { utcb: args.rdx, sp: args.r8, ip: args.r10 },
            Self::LOCAL => EcBody::Local { utcb: args.rdx, sp: args.r8 },
            Self::VCPU => EcBody::Vcpu {
                guest: Sel(args.rdx),
                pio: Self::narrow(args.r8 >> Self::SEL_BITS),
                msr: Self::narrow(args.r8 & u32::MAX as u64),
            },
            _ => return None,
        };
        let cpu = CpuId(args.rsi as u16);
        Some(Self { dst: args.sel(), pd: Sel(args.rsi >> 16), cpu, event_base: Sel(args.r9), body })
    }

    const fn narrow(raw: u64) -> Sel {
        if raw == Sel::NONE.0 & u32::MAX as u64 { Sel::NONE } else { Sel(raw) }
    }
}

/// Operation on an execution context.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CtrlEc {
    /// Makes it raise its recall event before it continues (needs `EC_CTRL`).
    Recall {
        /// Execution context.
        ec: Sel,
    },
    /// Sets the FS base of the calling EC. (User mode cannot do so itself: the hypervisor need not read it back.)
    SetFsBase {
        /// User address.
        base: u64,
    },
}

impl CtrlEc {
    const RECALL: u64 = 0;
    const SET_FS_BASE: u64 = 1;

    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        match self {
            Self::Recall { ec } => Args::new(Number::CtrlEc, Self::RECALL, ec),
            Self::SetFsBase { base } => {
                let mut args = Args::new(Number::CtrlEc, Self::SET_FS_BASE, Sel(0));
                args.rsi = base;
                args
            }
        }
    }

    /// From registers; `None` for an unknown operation.
    #[must_use]
    pub const fn decode(args: &Args) -> Option<Self> {
        match args.flags() {
            Self::RECALL => Some(Self::Recall { ec: args.sel() }),
            Self::SET_FS_BASE => Some(Self::SetFsBase { base: args.rsi }),
            _ => None,
        }
    }
}
