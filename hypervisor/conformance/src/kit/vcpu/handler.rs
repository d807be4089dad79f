//! The handler of a machine's exits: it notes what it is told, and replies what the check says.

use super::CODE_AT;
use crate::kit::object;
use crate::kit::time::down_until;
use crate::sys::hypercall::{Message, now};
use crate::sys::memory::cell;
use crate::sys::utcb;
use abi::cap::Sel;
use abi::event::guest;
use abi::message::Tag;
use abi::state::{ArchState, Controls, Mtd, gpr, seg, word};
use core::sync::atomic::Ordering::Relaxed;

/// Cells of a machine.
pub mod at {
    /// Semaphore upped at each exit, and the one that lets the handler reply.
    pub const EXITED: u64 = 0;
    pub const GO: u64 = 1;
    /// What is known of the exit.
    pub const EVENT: u64 = 2;
    pub const REASON: u64 = 3;
    pub const INFO1: u64 = 4;
    pub const INFO2: u64 = 5;
    pub const RIP: u64 = 6;
    pub const RAX: u64 = 7;
    pub const XMM0: u64 = 8;
    pub const INST_LEN: u64 = 9;
    pub const LEFTOVERS: u64 = 10;
    /// What the reply changes.
    pub const MTD: u64 = 11;
    pub const NEW_RIP: u64 = 12;
    pub const NEW_RAX: u64 = 13;
    pub const INJECTION: u64 = 14;
    pub const CR0: u64 = 15;
    pub const NEW_XMM0: u64 = 16;
    pub const NEW_EFER: u64 = 17;
    /// The event whose delivery the exit interrupted.
    pub const INTERRUPTED: u64 = 18;
    pub const DEADLINE: u64 = 19;
    pub const RFLAGS: u64 = 20;
    /// Time of the exit.
    pub const TIME: u64 = 21;
    pub const CONTROLS: u64 = 22;
    /// DR0 and DR7 at the start.
    pub const DR0: u64 = 23;
    pub const DR7: u64 = 24;
    /// First page-directory pointer at the exit.
    pub const PDPTE0: u64 = 25;
    /// What the reply changes.
    pub const NEW_CR3: u64 = 26;
    pub const NEW_PDPTE0: u64 = 27;
    pub const TOTAL: u64 = 28;
}

/// The handler. The id of each portal is the machine's first cell, and in the lowest byte the event.
pub extern "sysv64" fn handle(message: &mut Message) {
    let (cells, event) = (message.id >> 8, message.id & 0xff);
    let put = |index, value| cell(cells + index).store(value, Relaxed);
    let get = |index| cell(cells + index).load(Relaxed);
    put(at::TIME, now());
    put(at::LEFTOVERS, crate::sys::extended::leftovers());
    put(at::EVENT, event);
    let fields = [at::REASON, at::INFO1, at::INFO2, at::RIP];
    fields.into_iter().zip(message.words).for_each(|(index, value)| put(index, value));
    put(at::RAX, utcb::read(word::GPR + gpr::RAX));
    put(at::XMM0, utcb::read(word::XMM));
    put(at::INST_LEN, utcb::read(word::INST_LEN_INTERRUPTIBILITY));
    put(at::INTERRUPTED, utcb::read(word::INTERRUPTED));
    put(at::RFLAGS, utcb::read(word::RFLAGS));
    put(at::PDPTE0, utcb::read(word::PDPTE));
    object::up(Sel(get(at::EXITED)));
    // Until the check has decided, however long that takes.
    let _decided = down_until(Sel(get(at::GO)), 0);
    let mut mtd = get(at::MTD) as u32;
    if event == guest::STARTUP {
        real_mode(get(at::CR0), get(at::NEW_XMM0));
        utcb::write(word::DR, get(at::DR0));
        utcb::write(word::DR7, get(at::DR7));
        mtd = INITIAL.bits();
    } else {
        utcb::write(word::RIP, get(at::NEW_RIP));
        utcb::write(word::GPR + gpr::RAX, get(at::NEW_RAX));
        utcb::write(word::INJECTION, get(at::INJECTION));
        utcb::write(word::EFER, get(at::NEW_EFER));
        utcb::write(word::DEADLINE, get(at::DEADLINE));
        utcb::write(word::ACTIVITY_CONTROLS, get(at::CONTROLS));
        if mtd & Mtd::PDPTE.bits() != 0 {
            utcb::write(word::CR3, get(at::NEW_CR3));
            utcb::write(word::PDPTE, get(at::NEW_PDPTE0));
        }
    }
    message.tag = Tag(mtd.into());
}

/// All state that the startup event takes.
const INITIAL: Mtd = Mtd::GPR
    .union(Mtd::RIP)
    .union(Mtd::RFLAGS)
    .union(Mtd::SEG)
    .union(Mtd::GDTR)
    .union(Mtd::IDTR)
    .union(Mtd::CR)
    .union(Mtd::DR)
    .union(Mtd::EFER)
    .union(Mtd::PAT)
    .union(Mtd::STA)
    .union(Mtd::INJ)
    .union(Mtd::CTRL)
    .union(Mtd::XMM);

/// Registers of a CPU in real mode (SDM vol. 3, table 10-1), but for CR4: OSFXSR, so that there is SSE.
fn real_mode(cr0: u64, xmm0: u64) {
    const CODE: u64 = 0x9b;
    const DATA: u64 = 0x93;
    const LDT: u64 = 0x82;
    const TSS: u64 = 0x8b;
    const LIMIT: u64 = 0xffff << 32;
    const OSFXSR: u64 = 1 << 9;
    (0..size_of::<ArchState>() / 8).for_each(|i| utcb::write(i, 0));
    utcb::write(word::RIP, CODE_AT);
    utcb::write(word::RFLAGS, 2);
    utcb::write(word::GPR + gpr::RSP, CODE_AT);
    let segments = [(seg::CS, CODE), (seg::LDTR, LDT), (seg::TR, TSS), (seg::GDTR, 0), (seg::IDTR, 0)];
    for index in [seg::ES, seg::SS, seg::DS, seg::FS, seg::GS] {
        utcb::write(word::SEG + index * 2, DATA << 16 | LIMIT);
    }
    for (index, attributes) in segments {
        utcb::write(word::SEG + index * 2, attributes << 16 | LIMIT);
    }
    utcb::write(word::CR0, cr0);
    utcb::write(word::CR4, OSFXSR);
    utcb::write(word::DR6, 0xffff_0ff0);
    utcb::write(word::PAT, 0x0007_0406_0007_0406);
    utcb::write(word::ACTIVITY_CONTROLS, u64::from(Controls::HLT.bits()) << 32);
    utcb::write(word::XMM, xmm0);
}
