//! Interrupts, NMIs, and when they come.

use crate::report::{check, holds, section};
use crate::sys::exception;
use crate::sys::instruction as cpu;
use crate::sys::lapic::{self, Register};

const TIMER: u32 = 0x50;
const LOW: u32 = 0x41;
const HIGH: u32 = 0x71;
/// Command to send an interrupt to this CPU (SDM vol. 3, 11.6.1).
const TO_SELF: u32 = 1 << 14 | 1 << 18;
const TSC_DEADLINE: u32 = 0x6e0;
const NMI: u64 = 2;

pub fn run() {
    section("interrupts");
    const ENABLE: u32 = 1 << 8;
    const SPURIOUS: u32 = 0x7f;
    lapic::write(Register::SpuriousVector, ENABLE | SPURIOUS);
    held_back();
    timer();
    non_maskable();
}

fn send(vector: u32) {
    lapic::write(Register::CommandLow, TO_SELF | vector);
}

fn held_back() {
    exception::clear();
    send(LOW);
    check("with interrupts off", exception::interrupts(), 0);
    let behind = cpu::enable_slowly();
    check("behind STI and one instruction", (exception::order(), exception::rip()), (LOW.into(), behind));
    exception::clear();
    let behind = cpu::write_in_shadow(Register::CommandLow.address(), TO_SELF | LOW);
    check("behind a load of SS and one instruction", (exception::order(), exception::rip()), (LOW.into(), behind));
    exception::clear();
    cpu::set_priority(0xf);
    send(HIGH);
    check("below the task priority", exception::interrupts(), 0);
    cpu::set_priority(0);
    check("and above", exception::order(), HIGH.into());
    cpu::disable_interrupts();
    exception::clear();
    send(LOW);
    send(HIGH);
    cpu::enable_interrupts();
    // An interrupt of the host may come between IRET and the window of the lower one, which Bochs' SVM then forgets until an exit.
    cpu::cpuid(0, 0);
    check("the higher one first", exception::order(), u64::from(HIGH << 8 | LOW));
    cpu::disable_interrupts();
}

fn timer() {
    const BY_1: u32 = 0b1011;
    const DEADLINE_MODE: u32 = 2 << 17;
    const SHORT: u32 = 20_000;
    /// Longer than anything is likely to come between the write and HLT: QEMU 7.2 forgets the shadow of STI when it leaves the guest there
    /// for an interrupt of the host (APM vol. 2, 15.21.5), and takes the guest's before the HLT, which then nothing ends.
    const LONG: u32 = 100_000_000;
    lapic::write(Register::DivideConfiguration, BY_1);
    lapic::write(Register::LvtTimer, TIMER);
    exception::clear();
    lapic::write(Register::InitialCount, LONG);
    cpu::wait_for_interrupt();
    check("the timer ends HLT", exception::order(), TIMER.into());
    exception::clear();
    lapic::write(Register::InitialCount, SHORT);
    cpu::enable_interrupts();
    holds("and comes without an exit of the guest", in_time(comes));
    cpu::disable_interrupts();
    lapic::write(Register::LvtTimer, DEADLINE_MODE | TIMER);
    exception::clear();
    let deadline = cpu::time() + u64::from(SHORT);
    let written = cpu::write_msr(TSC_DEADLINE, deadline);
    check("a deadline is accepted", written.vector, exception::NOTHING);
    exception::clear();
    cpu::enable_interrupts();
    holds("and kept", in_time(comes));
    cpu::disable_interrupts();
    holds("no earlier", cpu::time() >= deadline);
}

/// Whether an interrupt has come.
fn comes() -> bool {
    exception::interrupts() != 0
}

/// Whether something happens in reasonable time. Nothing in here exits.
fn in_time(happened: impl Fn() -> bool) -> bool {
    const PATIENCE: u64 = 10_000_000_000;
    let start = cpu::time();
    while !happened() {
        if cpu::time() - start > PATIENCE {
            return false;
        }
    }
    true
}

fn non_maskable() {
    exception::clear();
    exception::send_nmi();
    check("an NMI with interrupts off", exception::order(), NMI);
    exception::clear();
    // With SVM, Bochs 2.7 holds interrupts of the host back, too, where it has entered a guest with interrupts off.
    cpu::enable_interrupts();
    exception::send_nmis_from_handlers(2);
    exception::send_nmi();
    holds("NMIs in handlers of NMIs", in_time(|| exception::order() == NMI << 16 | NMI << 8 | NMI));
    check("come one after the other", exception::nmi_depth(), 1);
    cpu::disable_interrupts();
    exception::clear();
    exception::send_nmis_from_handlers(1);
    send(LOW);
    exception::send_nmi();
    cpu::enable_interrupts();
    holds("before an interrupt that waits", in_time(|| exception::order() == NMI << 16 | NMI << 8 | u64::from(LOW)));
    cpu::disable_interrupts();
}
