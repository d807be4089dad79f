//! Hypercalls: numbers, registers, and a view of the arguments of each.
//!
//! `SYSCALL` with RDI = number (bits 4:0), flags (7:5), selector (63:8); further arguments in RSI, RDX, R8, R9,
//! R10. Returns a [`Status`](crate::status::Status) in RAX and values in RDX and R8. RCX, R11, RDI, RSI, R9, R10
//! and all FPU/SSE/AVX state are clobbered; RBX, RBP, RSP, R12 to R15 are preserved. (`call` and `reply`
//! also carry a message: RSI tag, RDX, R8, R9, R10 words.)

mod context;
mod domain;
mod interrupt;
mod machine;
mod portal;
mod schedule;
mod semaphore;
mod space;

pub use context::{CreateEc, CtrlEc, EcBody};
pub use domain::{CreatePd, CtrlPd};
pub use interrupt::{AssignInt, IntSource};
pub use machine::{CtrlHw, HwOp};
pub use portal::{CreatePt, CtrlPt};
pub use schedule::CreateSc;
pub use semaphore::{CreateSm, SmDown};
pub use space::{CreateSpace, Delegate, SpaceKind};

use crate::cap::Sel;

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
    /// [`CreateEc`], whose kind is in the flags.
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

/// Registers after a hypercall: [`Status`](crate::status::Status), then values or a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names are the registers'")]
pub struct Registers {
    pub rax: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
}

/// Enters the kernel with these [`Args`], for a block of `unsafe`: [`Registers`]. Clobbers what a `sysv64` function may clobber, and
/// does not touch the stack. What the hypercall does to memory is the caller's to know.
#[macro_export]
macro_rules! syscall {
    ($args:expr) => {{
        let args: $crate::hypercall::Args = $args;
        let (rax, rsi, rdx, r8, r9, r10): (u64, u64, u64, u64, u64, u64);
        core::arch::asm!(
            "syscall",
            inlateout("rdi") args.rdi => _,
            inlateout("rsi") args.rsi => rsi,
            inlateout("rdx") args.rdx => rdx,
            inlateout("r8") args.r8 => r8,
            inlateout("r9") args.r9 => r9,
            inlateout("r10") args.r10 => r10,
            lateout("rax") rax,
            clobber_abi("sysv64"),
            options(nostack),
        );
        $crate::hypercall::Registers { rax, rsi, rdx, r8, r9, r10 }
    }};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Mtd;
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
            for call in [CtrlPd::Transfer { to: a, from: b, pages: n }, CtrlPd::Query { pd: a }] {
                prop_assert_eq!(CtrlPd::decode(&call.encode()), Some(call));
            }
            for call in [CtrlEc::Recall { ec: a }, CtrlEc::SetFsBase { base: n }] {
                prop_assert_eq!(CtrlEc::decode(&call.encode()), Some(call));
            }
            for op in [HwOp::Reset, HwOp::Sleep] {
                let call = CtrlHw { hw: a, op, sleep_type: n };
                prop_assert_eq!(CtrlHw::decode(&call.encode()), Some(call));
            }
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
        assert_eq!(CtrlEc::decode(&bad(Number::CtrlEc)), None);
        assert_eq!(CtrlHw::decode(&bad(Number::CtrlHw)), None);
        assert_eq!(CreateEc::decode(&bad(Number::CreateEc)), None);
    }
}
