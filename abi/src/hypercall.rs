//! Hypercalls: numbers, registers, and a view of the arguments of each.
//!
//! `SYSCALL` with RDI = number (bits 4:0), flags (7:5), selector (63:8); further arguments in RSI, RDX, R8, R9,
//! R10. Returns a [`Status`](crate::status::Status) in RAX and values in RDX and R8. RCX, R11, RDI, RSI, R9, R10
//! and all FPU/SSE/AVX state are clobbered; RBX, RBP, RSP, R12 to R15 are preserved. (`call` and `reply`
//! also carry a message: RSI tag, RDX, R8, R9, R10 words.)

use crate::cap::Sel;
#[cfg(doc)]
use crate::cap::{MemRights, Perms};
use crate::state::Mtd;

/// Number of a hypercall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Number {
    /// Send a message to a portal and wait for the reply.
    Call = 0,
    /// Reply to the caller and wait for the next call.
    Reply = 1,
    /// [`CreatePd`].
    CreatePd = 2,
    /// [`CreateSpace`].
    CreateSpace = 3,
    /// [`CreateThread`], [`CreateLocal`] or [`CreateVcpu`], by flags.
    CreateEc = 4,
    /// [`CreateSc`].
    CreateSc = 5,
    /// [`CreatePt`].
    CreatePt = 6,
    /// [`CreateSm`].
    CreateSm = 7,
    /// Destroy the object named by the selector.
    Destroy = 8,
    /// [`Delegate`].
    Delegate = 9,
    /// [`CtrlPd`].
    CtrlPd = 10,
    /// [`CtrlEc`].
    CtrlEc = 11,
    /// Query the time consumed by the SC named by the selector: TSC ticks in RDX.
    CtrlSc = 12,
    /// [`CtrlPt`].
    CtrlPt = 13,
    /// Up the semaphore named by the selector.
    SmUp = 14,
    /// [`SmDown`].
    SmDown = 15,
    /// [`AssignInt`].
    AssignInt = 16,
    /// [`CtrlHw`].
    CtrlHw = 17,
}

/// One more than the highest number.
pub const COUNT: u64 = 18;
/// A number that is no hypercall and never will be: the null hypercall.
pub const NULL: u64 = 31;

/// Argument registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names are the registers'")]
pub struct Args {
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
}

/// Bits 4:0 of RDI.
pub const NUMBER_MASK: u64 = 0x1f;
/// Shift of the flags in RDI.
pub const FLAGS_SHIFT: u32 = 5;
/// Width mask of the flags.
pub const FLAGS_MASK: u64 = 7;
/// Shift of the selector in RDI.
pub const SEL_SHIFT: u32 = 8;

/// RDI of a hypercall.
#[must_use]
pub const fn rdi(number: Number, flags: u64, sel: Sel) -> u64 {
    sel.0 << SEL_SHIFT | (flags & FLAGS_MASK) << FLAGS_SHIFT | number as u64
}

impl Args {
    const fn new(number: Number, flags: u64, sel: Sel) -> Self {
        Self { rdi: rdi(number, flags, sel), rsi: 0, rdx: 0, r8: 0, r9: 0, r10: 0 }
    }

    /// The selector in RDI.
    #[must_use]
    pub const fn sel(&self) -> Sel {
        Sel(self.rdi >> SEL_SHIFT)
    }

    /// The flags in RDI.
    #[must_use]
    pub const fn flags(&self) -> u64 {
        self.rdi >> FLAGS_SHIFT & FLAGS_MASK
    }

    /// The number in RDI.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.rdi & NUMBER_MASK
    }
}

/// Index of a CPU: dense, 0 is the boot CPU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CpuId(pub u16);

/// Creates a protection domain with an account of `quota` pages of kernel memory taken from the account of
/// `parent` (needs `PD_CREATE | PD_QUOTA`). The new capability goes to `dst`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreatePd {
    /// Free selector for the new capability.
    pub dst: Sel,
    /// Account that the quota comes from.
    pub parent: Sel,
    /// Pages of kernel memory.
    pub quota: u64,
}

impl CreatePd {
    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let mut args = Args::new(Number::CreatePd, 0, self.dst);
        args.rsi = self.parent.0;
        args.rdx = self.quota;
        args
    }

    /// From registers.
    #[must_use]
    pub const fn decode(args: &Args) -> Self {
        Self { dst: args.sel(), parent: Sel(args.rsi), quota: args.rdx }
    }
}

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

/// Creates a space paid by `pd` (needs `PD_CREATE`).
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

/// What kind of execution context to create (flags of [`Number::CreateEc`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EcKind {
    /// Runs on its own once a scheduling context is bound to it.
    Thread,
    /// Handles calls to the portals bound to it.
    Local,
    /// Virtual CPU.
    Vcpu,
}

/// Creates an execution context of `pd` on `cpu` for life, paid by `pd` (needs `PD_CREATE`), in the object,
/// memory and port spaces of `pd`.
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

/// Part of [`CreateEc`] that depends on the kind.
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
        let kind = match self.body {
            EcBody::Thread { .. } => Self::THREAD,
            EcBody::Local { .. } => Self::LOCAL,
            EcBody::Vcpu { .. } => Self::VCPU,
        };
        let mut args = Args::new(Number::CreateEc, kind, self.dst);
        args.rsi = self.pd.0 << 16 | self.cpu.0 as u64;
        args.r9 = self.event_base.0;
        match self.body {
            EcBody::Thread { utcb, sp, ip } => {
                args.rdx = utcb;
                args.r8 = sp;
                args.r10 = ip;
            }
            EcBody::Local { utcb, sp } => {
                args.rdx = utcb;
                args.r8 = sp;
            }
            EcBody::Vcpu { guest, pio, msr } => {
                args.rdx = guest.0;
                args.r8 = (pio.0 & u32::MAX as u64) << Self::SEL_BITS | msr.0 & u32::MAX as u64;
            }
        }
        args
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

/// Creates a scheduling context paid by `pd`, bound to `ec` (needs `EC_BIND_SC`), which becomes runnable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreateSc {
    /// Free selector for the new capability.
    pub dst: Sel,
    /// Owner and payer.
    pub pd: Sel,
    /// Thread or vCPU without a scheduling context.
    pub ec: Sel,
    /// Priority: 0 lowest, [`CreateSc::PRIORITIES`] - 1 highest.
    pub priority: u8,
    /// Microseconds to run before others of the same priority have their turn; not 0.
    pub budget_us: u32,
}

impl CreateSc {
    /// Number of priorities.
    pub const PRIORITIES: u8 = 128;

    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let mut args = Args::new(Number::CreateSc, 0, self.dst);
        args.rsi = self.pd.0;
        args.rdx = self.ec.0;
        args.r8 = (self.priority as u64) << 32 | self.budget_us as u64;
        args
    }

    /// From registers; `None` for a priority out of range or no budget.
    #[must_use]
    pub const fn decode(args: &Args) -> Option<Self> {
        let priority = args.r8 >> 32;
        let budget_us = args.r8 as u32;
        if priority >= Self::PRIORITIES as u64 || budget_us == 0 {
            return None;
        }
        let (pd, ec) = (Sel(args.rsi), Sel(args.rdx));
        Some(Self { dst: args.sel(), pd, ec, priority: priority as u8, budget_us })
    }
}

/// Creates a portal paid by `pd`, bound to the local EC `ec` (needs `EC_BIND_PT`).
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

/// Creates a semaphore paid by `pd` (needs `PD_CREATE`).
///
/// A semaphore can be a *member* of another one, its receiver: then each up of the member also makes the receiver
/// ready, and a down on the receiver takes the oldest ready member, returning the member's id in RDX and its whole
/// counter, now zero, in R8. So one thread waits for any number of signals and interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CreateSm {
    /// Free selector for the new capability.
    pub dst: Sel,
    /// Owner and payer.
    pub pd: Sel,
    /// Initial value.
    pub count: u64,
    /// Receiver (needs `SM_DOWN`), or [`Sel::NONE`].
    pub receiver: Sel,
    /// Reported by downs on the receiver.
    pub id: u64,
}

impl CreateSm {
    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let mut args = Args::new(Number::CreateSm, 0, self.dst);
        args.rsi = self.pd.0;
        args.rdx = self.count;
        args.r8 = self.receiver.0;
        args.r9 = self.id;
        args
    }

    /// From registers.
    #[must_use]
    pub const fn decode(args: &Args) -> Self {
        let (pd, receiver) = (Sel(args.rsi), Sel(args.r8));
        Self { dst: args.sel(), pd, count: args.rdx, receiver, id: args.r9 }
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

/// Operation on an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CtrlPd {
    /// Moves `pages` of unused quota from `from` (needs `PD_QUOTA`) to `to` (needs `PD_QUOTA`).
    Transfer {
        /// Destination account.
        to: Sel,
        /// Source account.
        from: Sel,
        /// Pages.
        pages: u64,
    },
    /// Quota in RDX and used pages in R8 of `pd` (needs `PD_QUOTA`).
    Query {
        /// Account.
        pd: Sel,
    },
}

impl CtrlPd {
    const TRANSFER: u64 = 0;
    const QUERY: u64 = 1;

    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        match self {
            Self::Transfer { to, from, pages } => {
                let mut args = Args::new(Number::CtrlPd, Self::TRANSFER, to);
                args.rsi = from.0;
                args.rdx = pages;
                args
            }
            Self::Query { pd } => Args::new(Number::CtrlPd, Self::QUERY, pd),
        }
    }

    /// From registers; `None` for an unknown operation.
    #[must_use]
    pub const fn decode(args: &Args) -> Option<Self> {
        match args.flags() {
            Self::TRANSFER => Some(Self::Transfer { to: args.sel(), from: Sel(args.rsi), pages: args.rdx }),
            Self::QUERY => Some(Self::Query { pd: args.sel() }),
            _ => None,
        }
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

/// Takes one from the semaphore (all of it with `zero`; the value taken is returned in R8), or waits until
/// that is possible or the deadline has passed. A down on a level-triggered interrupt semaphore unmasks it, whether
/// or not there was anything to take. On a receiver see [`CreateSm`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SmDown {
    /// Semaphore.
    pub sm: Sel,
    /// Take all instead of one.
    pub zero: bool,
    /// Absolute TSC value; [`SmDown::FOREVER`] for no deadline; one that has passed never waits.
    pub deadline: u64,
}

impl SmDown {
    /// No deadline.
    pub const FOREVER: u64 = 0;

    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let mut args = Args::new(Number::SmDown, self.zero as u64, self.sm);
        args.rsi = self.deadline;
        args
    }

    /// From registers.
    #[must_use]
    pub const fn decode(args: &Args) -> Self {
        Self { sm: args.sel(), zero: args.flags() & 1 != 0, deadline: args.rsi }
    }
}

/// Source of an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IntSource {
    /// Pin of an I/O APIC by its global system interrupt number.
    Gsi {
        /// Global system interrupt.
        gsi: u32,
        /// Level-triggered: masked after each interrupt until the next down.
        level: bool,
        /// Active low.
        low: bool,
    },
    /// Message-signalled: the address is returned in RDX and the data in R8.
    Msi,
}

/// Routes an interrupt to `cpu` and ups `sm` (needs `SM_DOWN`) at each occurrence. Needs `HW_INTERRUPT`.
/// The assignment ends with the semaphore.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AssignInt {
    /// The authority.
    pub hw: Sel,
    /// Semaphore.
    pub sm: Sel,
    /// Where interrupts arrive.
    pub cpu: CpuId,
    /// What interrupts.
    pub source: IntSource,
}

impl AssignInt {
    const MSI: u64 = 1;
    const LEVEL: u64 = 2;
    const LOW: u64 = 4;

    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let (flags, gsi) = match self.source {
            IntSource::Gsi { gsi, level, low } => {
                (if level { Self::LEVEL } else { 0 } | if low { Self::LOW } else { 0 }, gsi)
            }
            IntSource::Msi => (Self::MSI, 0),
        };
        let mut args = Args::new(Number::AssignInt, flags, self.hw);
        args.rsi = self.sm.0;
        args.rdx = self.cpu.0 as u64;
        args.r8 = gsi as u64;
        args
    }

    /// From registers.
    #[must_use]
    pub const fn decode(args: &Args) -> Self {
        let flags = args.flags();
        let source = if flags & Self::MSI != 0 {
            IntSource::Msi
        } else {
            let gsi = if args.r8 > u32::MAX as u64 { u32::MAX } else { args.r8 as u32 };
            IntSource::Gsi { gsi, level: flags & Self::LEVEL != 0, low: flags & Self::LOW != 0 }
        };
        Self { hw: args.sel(), sm: Sel(args.rsi), cpu: CpuId(args.rdx as u16), source }
    }
}

/// Operation on the machine (needs `HW_POWER`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum HwOp {
    /// Reset the machine.
    Reset = 0,
    /// Enter a sleep state: RSI holds the SLP_TYPa and SLP_TYPb values of its `\_Sx` object (bits 2:0 and 10:8).
    Sleep = 1,
}

/// Power control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CtrlHw {
    /// The authority.
    pub hw: Sel,
    /// What to do.
    pub op: HwOp,
    /// SLP_TYPa in bits 2:0, SLP_TYPb in bits 10:8.
    pub sleep_type: u64,
}

impl CtrlHw {
    /// To registers.
    #[must_use]
    pub const fn encode(self) -> Args {
        let mut args = Args::new(Number::CtrlHw, self.op as u64, self.hw);
        args.rsi = self.sleep_type;
        args
    }

    /// From registers; `None` for an unknown operation.
    #[must_use]
    pub const fn decode(args: &Args) -> Option<Self> {
        let op = match args.flags() {
            0 => HwOp::Reset,
            1 => HwOp::Sleep,
            _ => return None,
        };
        Some(Self { hw: args.sel(), op, sleep_type: args.rsi })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sel() -> impl Strategy<Value = Sel> {
        (0..Sel::COUNT).prop_map(Sel)
    }

    proptest! {
        #[test]
        fn create_calls_round_trip(dst in sel(), pd in sel(), ec in sel(), ip: u64, id: u64, mtd: u32, n: u64) {
            let mtd = Mtd::from_bits_truncate(mtd);
            let a = CreatePd { dst, parent: pd, quota: n };
            prop_assert_eq!(CreatePd::decode(&a.encode()), a);
            let a = CreatePt { dst, pd, ec, ip, id, mtd };
            prop_assert_eq!(CreatePt::decode(&a.encode()), a);
            let a = CreateSm { dst, pd, count: n, receiver: ec, id };
            prop_assert_eq!(CreateSm::decode(&a.encode()), a);
            let a = CtrlPt { pt: dst, id, mtd };
            prop_assert_eq!(CtrlPt::decode(&a.encode()), a);
        }

        #[test]
        fn create_ec_round_trips(dst in sel(), pd in sel(), cpu: u16, ev in sel(), a: u64, b: u64, c: u64,
                                 pio in sel(), kind in 0..4) {
            let body = match kind {
                0 => EcBody::Thread { utcb: a, sp: b, ip: c },
                1 => EcBody::Local { utcb: a, sp: b },
                2 => EcBody::Vcpu { guest: dst, pio, msr: Sel::NONE },
                _ => EcBody::Vcpu { guest: dst, pio: Sel::NONE, msr: pio },
            };
            let call = CreateEc { dst, pd, cpu: CpuId(cpu), event_base: ev, body };
            prop_assert_eq!(CreateEc::decode(&call.encode()), Some(call));
        }

        #[test]
        fn create_sc_round_trips_and_checks(dst in sel(), pd in sel(), ec in sel(), priority: u8, budget_us: u32) {
            let call = CreateSc { dst, pd, ec, priority, budget_us };
            let valid = priority < CreateSc::PRIORITIES && budget_us != 0;
            prop_assert_eq!(CreateSc::decode(&call.encode()), valid.then_some(call));
        }

        #[test]
        fn control_calls_round_trip(a in sel(), b in sel(), n: u64, count: u64, m: u64, rights: u32, gsi: u32,
                                    level: bool, low: bool, cpu: u16) {
            let call = Delegate { from: a, to: b, src: n, dst: m, count, rights };
            prop_assert_eq!(Delegate::decode(&call.encode()), call);
            let call = CtrlPd::Transfer { to: a, from: b, pages: n };
            prop_assert_eq!(CtrlPd::decode(&call.encode()), Some(call));
            let call = SmDown { sm: a, zero: level, deadline: n };
            prop_assert_eq!(SmDown::decode(&call.encode()), call);
            for source in [IntSource::Gsi { gsi, level, low }, IntSource::Msi] {
                let call = AssignInt { hw: a, sm: b, cpu: CpuId(cpu), source };
                prop_assert_eq!(AssignInt::decode(&call.encode()), call);
            }
        }
    }

    #[test]
    fn every_space_kind_round_trips() {
        for kind in
            [SpaceKind::Object, SpaceKind::Memory, SpaceKind::Pio, SpaceKind::Guest, SpaceKind::Msr, SpaceKind::Dma]
        {
            let call = CreateSpace { dst: Sel(7), pd: Sel(9), kind };
            assert_eq!(CreateSpace::decode(&call.encode()), Some(call));
        }
        let mut args = CreateSpace { dst: Sel(7), pd: Sel(9), kind: SpaceKind::Dma }.encode();
        args.rdx = 6;
        assert_eq!(CreateSpace::decode(&args), None);
    }

    #[test]
    fn unknown_operations_do_not_decode() {
        let bad = |number| Args { rdi: rdi(number, 7, Sel(0)), ..Args::default() };
        assert_eq!(CtrlPd::decode(&bad(Number::CtrlPd)), None);
        assert_eq!(CtrlHw::decode(&bad(Number::CtrlHw)), None);
        assert_eq!(CreateEc::decode(&bad(Number::CreateEc)), None);
    }
}
