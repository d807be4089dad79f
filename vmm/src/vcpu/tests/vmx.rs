//! What is different on a CPU with VMX, and what must not be.

use abi::event::guest;
use abi::hip::Features;
use abi::state::{EventKind, Injection, Interruptibility, Mtd, gpr, seg};
use vm_memory::{Bytes, GuestAddress};

use super::{COM1, GENERAL_PROTECTION, ICR_LOW};
use crate::testing::{Asked, CODE, Guest};

/// Basic exit reasons (SDM3 appendix C).
mod exits {
    pub(super) const NMI_WINDOW: u64 = 8;
    pub(super) const TASK_SWITCH: u64 = 9;
    pub(super) const CPUID: u64 = 10;
    pub(super) const CONTROL_REGISTER: u64 = 28;
    pub(super) const IO: u64 = 30;
}

fn started() -> Guest {
    Guest::started_on(Features::VMX, "")
}

/// `out dx, al`.
fn outb(guest: &mut Guest) -> Mtd {
    let next = guest.state.rip + 1;
    guest.exit(exits::IO, u64::from(COM1) << 16, next)
}

#[test]
fn the_exit_says_where_the_next_instruction_is() {
    let mut guest = started();
    assert_eq!(outb(&mut guest) - Mtd::DEADLINE, Mtd::RIP);
    assert_eq!(guest.state.rip, CODE + 1);
    guest.state.gpr[gpr::RAX] = 0x4000_0000;
    // CPUID with a prefix.
    guest.exit(exits::CPUID, 0, CODE + 4);
    assert_eq!(guest.state.rip, CODE + 4);
    assert_eq!(guest.state.gpr[gpr::RBX], u64::from(u32::from_le_bytes(*b"Kilo")));
}

#[test]
fn an_nmi_window_opens_behind_the_iret() {
    /// To the local APIC with id 0.
    const NMI_SELF: u32 = 4 << 8;
    let mut guest = started();
    guest.mmio_write(ICR_LOW, NMI_SELF);
    let nmi = Injection(Injection::event(EventKind::Nmi, 2).0 | Injection::NMI_WINDOW);
    assert_eq!(guest.state.injection, nmi);
    guest.mmio_write(ICR_LOW, NMI_SELF);
    assert!(!guest.state.injection.is_valid());
    guest.exit(exits::NMI_WINDOW, 0, 0);
    assert_eq!(guest.state.injection, nmi, "at once");
}

#[test]
fn the_end_of_a_shadow_unblocks_no_nmis() {
    let mut guest = started();
    guest.mmio_write(ICR_LOW, 4 << 8);
    // In the handler, an exit that leads to an injection: an interrupt comes, and asks for a window.
    guest.state.interruptibility = Interruptibility::NMI_BLOCKED.bits() | Interruptibility::SHADOW.bits();
    guest.mmio_write(ICR_LOW, 1 << 18 | 0xf0);
    assert_ne!(guest.state.injection.0 & Injection::INTERRUPT_WINDOW, 0);
    assert_ne!(guest.state.injection.0 & Injection::NMI_WINDOW, 0);
    assert_eq!(guest.state.interruptibility, Interruptibility::NMI_BLOCKED.bits());
    assert_eq!(guest.state.activity, 0, "what was not delivered is not taken back");
}

#[test]
fn bits_that_the_guest_cannot_have_fault() {
    let mut guest = started();
    // mov cr4, rax, with VMXE.
    guest.code(&[0x0f, 0x22, 0xe0]);
    guest.state.gpr[gpr::RAX] = 1 << 13;
    guest.exit(exits::CONTROL_REGISTER, 4, CODE + 3);
    assert_eq!((guest.state.injection, guest.state.rip), (GENERAL_PROTECTION, CODE));
}

#[test]
fn events_of_instructions_are_raised_again_by_them() {
    let mut guest = started();
    guest.set_interrupts(true);
    for event in [Injection::event(EventKind::Software, 0x80), Injection::event(EventKind::Exception, 3)] {
        guest.state.injection = event;
        assert_eq!(guest.exit(guest::RECALL, 0, 0), Mtd::empty(), "the kernel knows what to do");
    }
    guest.state.injection = Injection::event(EventKind::Interrupt, 0x30);
    assert_eq!(guest.exit(guest::RECALL, 0, 0), Mtd::INJ);
}

#[test]
fn the_reason_of_a_refused_entry_is_logged() {
    let mut guest = started();
    assert_eq!(guest.exit(guest::INVALID_STATE, 0, 0), Mtd::KILL);
    let asked = guest.kernel().asked();
    let told = |asked: &Asked| matches!(asked, Asked::Log(line) if line.contains("VM-instruction error 253"));
    assert!(asked.iter().any(told), "{asked:?}");
}

/// Source of a task switch, in its qualification.
const IRET: u64 = 1 << 30;
const GATE: u64 = 3 << 30;

#[test]
fn an_exception_takes_the_place_of_an_event_whose_task_cannot_begin() {
    let interrupt = Injection::event(EventKind::Interrupt, 0x30);
    let instruction = Injection::event(EventKind::Software, 0x80);
    for (event, code) in [(interrupt, 0x29), (instruction, 0x28), (Injection::exception(14, Some(0)), 0)] {
        let mut guest = started();
        guest.state.seg[seg::GDTR].limit = 0x27;
        guest.state.interrupted = event;
        guest.exit(exits::TASK_SWITCH, GATE | 0x28, CODE + 2);
        let expected = if code == 0 { Injection::exception(8, Some(0)) } else { Injection::exception(13, Some(code)) };
        assert_eq!((guest.state.injection, guest.state.rip), (expected, CODE), "{event:?}");
    }
}

#[test]
fn a_double_fault_whose_task_cannot_begin_is_a_triple_fault() {
    let without_task = |options| {
        let mut guest = Guest::started_on(Features::VMX, options);
        guest.state.seg[seg::GDTR].limit = 0x27;
        guest.state.interrupted = Injection::exception(8, Some(0));
        guest.exit(exits::TASK_SWITCH, GATE | 0x28, CODE)
    };
    assert_eq!(without_task(""), Mtd::KILL);
    assert!(without_task("on_triple_fault=\"reset\"").contains(Mtd::CR));
}

/// A guest in a task of 32 bits, at selector 0x18, with another one at 0x20.
fn with_tasks(mut guest: Guest) -> Guest {
    let (table, own, other) = (0x2000u64, 0x3000u64, 0x4000u64);
    let entries =
        [0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x67 | own << 16 | 0x8b << 40, 0x67 | other << 16 | 0x8b << 40];
    let write = |at: u64, value: u64| guest.vm.memory.write_obj(value, GuestAddress(at)).unwrap();
    for (index, entry) in (1..).zip(entries) {
        write(table + index * 8, entry);
    }
    for (at, word) in
        [(0x20, 0x5000 | 2 << 32), (0x38, 0x7000), (0x48, 0x10 | 0x08 << 32), (0x50, 0x10 | 0x10 << 32), (0x64, 1)]
    {
        write(other + at, word);
    }
    let state = &mut guest.state;
    (state.cr0, state.efer) = (1, 0);
    state.seg[seg::GDTR] = abi::state::Segment { base: table, limit: 0x27, ..Default::default() };
    state.seg[seg::TR] = abi::state::Segment { selector: 0x18, attributes: 0x8b, limit: 0x67, base: own };
    guest
}

#[test]
fn a_task_begins_with_all_of_its_state() {
    let mut guest = with_tasks(started());
    guest.vm.memory.write_obj(0x0089_u16, GuestAddress(0x2025)).unwrap();
    guest.state.interrupted = Injection::event(EventKind::Nmi, 2);
    (guest.state.dr6, guest.state.dr7) = (0xffff_0ff0, 0x403);
    let changed = guest.exit(exits::TASK_SWITCH, GATE | 0x20, 0);
    let all = Mtd::GPR | Mtd::RIP | Mtd::RFLAGS | Mtd::SEG | Mtd::CR | Mtd::DR | Mtd::PDPTE | Mtd::TLB_FLUSH;
    assert!(changed.contains(all), "{changed:?}");
    assert_eq!((guest.state.rip, guest.state.gpr[gpr::RSP], guest.state.seg[seg::TR].selector), (0x5000, 0x7000, 0x20));
    // Its trap bit is set: a debug exception, and the event is not delivered again.
    assert_eq!(guest.state.injection, Injection::event(EventKind::Exception, 1));
    assert_eq!((guest.state.dr6, guest.state.dr7), (0xffff_8ff0, 0x402), "the caller's own breakpoints are off");
    let saved: u32 = guest.vm.memory.read_obj(GuestAddress(0x3020)).unwrap();
    assert_eq!(u64::from(saved), CODE);
}

#[test]
fn an_iret_to_a_task_ends_the_handler_of_an_nmi() {
    let mut guest = started();
    guest.mmio_write(ICR_LOW, 4 << 8);
    guest.mmio_write(ICR_LOW, 4 << 8);
    let mut guest = with_tasks(guest);
    guest.vm.memory.write_obj(0u8, GuestAddress(0x4064)).unwrap();
    guest.state.rip = CODE;
    guest.state.interruptibility = Interruptibility::NMI_BLOCKED.bits();
    guest.exit(exits::TASK_SWITCH, IRET | 0x20, CODE + 1);
    assert_eq!(
        guest.state.injection.0 & !Injection::NMI_WINDOW,
        Injection::event(EventKind::Nmi, 2).0,
        "the second one"
    );
    let saved: u32 = guest.vm.memory.read_obj(GuestAddress(0x3020)).unwrap();
    assert_eq!(u64::from(saved), CODE + 1);
}
