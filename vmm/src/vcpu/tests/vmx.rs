//! What is different on a CPU with VMX, and what must not be.

use abi::event::guest;
use abi::hip::Features;
use abi::state::{EventKind, Injection, Interruptibility, Mtd, gpr};

use super::{COM1, GENERAL_PROTECTION, ICR_LOW};
use crate::testing::{Asked, CODE, Guest};

/// Basic exit reasons (SDM3 appendix C).
mod exits {
    pub(super) const NMI_WINDOW: u64 = 8;
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
