//! What code in assembler knows of types and constants in Rust, each fact once: a block of [`kernel_asm`] begins with the
//! definitions of symbols such as `Ec.utcb`, `Reg.Rip` or `State.Idle`.

pub(super) use super::descriptor::{PORTS_DENIED, PORTS_MAPPED, USER_CS, USER_SS};
pub(super) use super::entry::vector::{EXCEPTIONS, GENERAL_PROTECTION};
pub(super) use super::{percpu::IO_MAP, vmx::ENTRY_LAUNCH, x86::Msr};
pub(super) use crate::cpu::Cpu;
pub(super) use crate::ec::{Ec, State};
pub(super) use crate::event::FLAGS_WRITABLE;
pub(super) use crate::frame::{EXTENDED, Kind, Reg};
pub(super) use crate::ipc::USER_FLAGS;
pub(super) use crate::mem::object::{CapSlot, Header};
pub(super) use crate::{pt::Pt, sched::STATUSES, sm::Sm, space::obj::ObjSpace};
pub(super) use abi::cap::ObjectType;
pub(super) use abi::hypercall::{NUMBER_MASK, Number, SEL_SHIFT};
pub(super) use abi::{USER_TOP, message::MAX_WORDS, status::Status};

use crate::frame::PUSHED;
use crate::mem::object::{CAP_SLOT_BITS, SLOT};
use abi::cap::{Perms, Sel};
use abi::state::{Mtd, word};

/// Offset of the end of the registers that a hypercall pushes.
pub(super) const TOP: usize = PUSHED * 8;
/// Bits of a selector that index its table; a register holds the selector at bit 8, so the index is its second byte.
const TABLE_BITS: u32 = CapSlot::PER_PAGE.trailing_zeros();
const _: () = assert!(TABLE_BITS == 8 && SEL_SHIFT == 8);
/// How far to shift a selector at bit 8 for the number of its table, of which there are so many.
pub(super) const TABLE_SHIFT: u32 = SEL_SHIFT + TABLE_BITS;
/// See [`TABLE_SHIFT`].
pub(super) const TABLES: u64 = Sel::COUNT >> TABLE_BITS;
// An index beyond them is refused, and masked, so that nothing behind them is read ahead (decision 0010).
const _: () = assert!(TABLES.is_power_of_two());
/// The same for the offset of its slot in the table, and a mask for that.
pub(super) const SLOT_SHIFT: u32 = SEL_SHIFT - CAP_SLOT_BITS;
/// See [`SLOT_SHIFT`].
pub(super) const SLOT_OFFSETS: usize = (CapSlot::PER_PAGE - 1) << CAP_SLOT_BITS;
/// Bits of the first word of a slot that are the object's address.
pub(super) const OBJECT_MASK: i64 = -(SLOT as i64);
/// A permission in that word.
pub(super) const SM_UP: u8 = Perms::SM_UP.bits();
/// State that is selected.
pub(super) const MTD_RIP: u32 = Mtd::RIP.bits();
/// See [`MTD_RIP`].
pub(super) const MTD_RFLAGS: u32 = Mtd::RFLAGS.bits();
/// Offsets in the UTCB.
pub(super) const UTCB_RIP: usize = word::RIP * 8;
/// See [`UTCB_RIP`].
pub(super) const UTCB_RFLAGS: usize = word::RFLAGS * 8;

/// [`global_asm`](core::arch::global_asm) of these lines, in which the symbols below are known. Operands follow a semicolon.
macro_rules! kernel_asm {
    ($($line:expr),+ ; $($operand:tt)*) => {
        $crate::arch::layout::with_symbols! {
            ($($line),+) ($($operand)*)
            fields {
                Cpu { scratch current frame_top stack host_control id root fs_base pio ports helping resched }
                Ec { obj utcb state cpu frame root pio sp caller callee event_base }
                Pt { ec id ip mtd }
                Sm { lock count first receiver ready_first queued interrupt }
                ObjSpace { root }
                Header { kind }
            }
            words {
                Reg {
                    R15 R14 R13 R12 Rbp Rbx Rsp Rip Rflags Rax Rdi Rsi Rdx R8 R9 R10 Rcx R11 Kind FsBase Control Recall
                    EventReason EventInfo1 EventInfo2
                }
            }
            values {
                State { Idle Waiting Runnable }
                Kind { Sysret Iret Guest Raise }
                ObjectType { Pt Sm }
                Number { Reply SmUp }
                Status { BadCapability }
                Msr { FsBase }
            }
            constants {
                TOP TABLE_SHIFT TABLES SLOT_SHIFT SLOT_OFFSETS OBJECT_MASK SEL_SHIFT SM_UP MTD_RIP
                MTD_RFLAGS UTCB_RIP UTCB_RFLAGS MAX_WORDS USER_FLAGS FLAGS_WRITABLE USER_TOP EXTENDED IO_MAP PORTS_DENIED
                PORTS_MAPPED GENERAL_PROTECTION EXCEPTIONS USER_CS USER_SS ENTRY_LAUNCH STATUSES NUMBER_MASK
            }
        }
    };
}

/// See [`kernel_asm`].
macro_rules! with_symbols {
    (
        ($($line:expr),+) ($($operand:tt)*)
        fields { $($type:ident { $($field:ident)* })* }
        words { $($registers:ident { $($register:ident)* })* }
        values { $($enum:ident { $($variant:ident)* })* }
        constants { $($name:ident)* }
    ) => {
        core::arch::global_asm!(
            $($(concat!(".set ", stringify!($type), ".", stringify!($field), ", {}"),)*)*
            $($(concat!(".set ", stringify!($registers), ".", stringify!($register), ", {}"),)*)*
            $($(concat!(".set ", stringify!($enum), ".", stringify!($variant), ", {}"),)*)*
            $(concat!(".set ", stringify!($name), ", {}"),)*
            $($line),+,
            $($(const core::mem::offset_of!($crate::arch::layout::$type, $field),)*)*
            $($(const $crate::arch::layout::$registers::$register as usize * 8,)*)*
            $($(const $crate::arch::layout::$enum::$variant as u64,)*)*
            $(const $crate::arch::layout::$name as i64,)*
            $($operand)*
        );
    };
}
pub(super) use {kernel_asm, with_symbols};
