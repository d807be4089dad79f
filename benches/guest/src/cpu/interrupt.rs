//! The interrupt of the local APIC's timer.

use core::arch::{asm, naked_asm};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Its vector.
pub const VECTOR: u8 = 0x40;
/// Gates up to it.
const GATES: usize = VECTOR as usize + 1;

/// Time stamp at the handler's first instruction; 0 before it.
pub static HANDLED: AtomicU64 = AtomicU64::new(0);

/// Interrupt gates (SDM vol. 3, 6.14.1), two words each.
static TABLE: [[AtomicU64; 2]; GATES] = [const { [AtomicU64::new(0), AtomicU64::new(0)] }; GATES];

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// Instructions of the handler.
pub const HANDLER: u64 = 14;

/// Stamps, ends the interrupt (x2APIC register 80Bh), and goes back.
#[unsafe(naked)]
extern "sysv64" fn handler() {
    naked_asm!(
        "push rax", "push rcx", "push rdx",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "mov [rip + {handled}], rax",
        "mov ecx, 0x80b",
        "xor eax, eax",
        "xor edx, edx",
        "wrmsr",
        "pop rdx", "pop rcx", "pop rax",
        "iretq",
        handled = sym HANDLED,
    )
}

/// Makes the handler known to the CPU, whose interrupts stay off.
pub fn install() {
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e00;
    const LOW: u64 = 0xffff;
    let selector: u16;
    // SAFETY: reads a selector.
    unsafe { asm!("mov {0:x}, cs", out(reg) selector, options(nomem, nostack)) };
    let address = handler as *const () as u64;
    let low = address & LOW | u64::from(selector) << 16 | PRESENT_INTERRUPT_GATE << 32 | (address & (LOW << 16)) << 32;
    if let Some([first, second]) = TABLE.get(usize::from(VECTOR)) {
        first.store(low, Relaxed);
        second.store(address >> u32::BITS, Relaxed);
    }
    let pointer = Pointer { limit: (size_of_val(&TABLE) - 1) as u16, base: TABLE.as_ptr() as u64 };
    // SAFETY: the table is complete for the one interrupt that is enabled, and lives forever.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(readonly, nostack)) };
}
