//! Which state each exit delivers: as much as its handler reads, since every word is copied.

use abi::event::{EventWords, guest};
use abi::hip::Features;
use abi::state::Mtd;

use super::exit::{Exit, Vendor};

/// What the emulator of instructions needs. The bytes of one help where the CPU has fetched them.
pub(super) const EMULATE: Mtd = Mtd::EMULATE.difference(Mtd::INST_BYTES);
/// Everything that is read to put a rarely used register into an MSR access, or to report a guest that
/// cannot continue.
pub(super) const FULL: Mtd = EMULATE.union(Mtd::SYSCALL).union(Mtd::SYSENTER).union(Mtd::DR).union(Mtd::PAT);
/// What a task switch reads and writes.
pub(super) const TASK_SWITCH: Mtd = EMULATE.union(Mtd::SEG).union(Mtd::GDTR).union(Mtd::DR);
/// What a decision about interrupts needs where no instruction has ended.
pub(super) const RECALL: Mtd = Mtd::RFLAGS.union(Mtd::STA).union(Mtd::INJ);
/// All that a virtual CPU has: what starts it.
pub(super) const EVERYTHING: Mtd = FULL
    .union(Mtd::SEG)
    .union(Mtd::GDTR)
    .union(Mtd::IDTR)
    .union(Mtd::TSC)
    .union(Mtd::CTRL)
    .union(Mtd::TLB_FLUSH)
    .union(Mtd::XCR0);

/// The selection for event `number` of a virtual CPU, on a machine with these features.
#[must_use]
pub fn selection(number: u64, features: Features) -> Mtd {
    let vendor = Vendor::of(features);
    // The flags say whether the guest takes interrupts once the instruction is done. Its length comes with RIP from CPUs
    // that save it with SVM; with others it is known (`length`).
    let instruction = if features.contains(Features::NRIP) { Mtd::RFLAGS.union(Mtd::RIP) } else { Mtd::RFLAGS };
    if number == vendor.port_io() {
        return Mtd::ACDB | Mtd::RFLAGS;
    }
    match Exit::of(vendor, number, &EventWords::default()) {
        Exit::Cpuid => Mtd::ACDB | Mtd::XCR0 | instruction,
        Exit::MsrRead | Exit::MsrWrite => Mtd::ACDB | instruction,
        Exit::Xsetbv => Mtd::ACDB | Mtd::CS_SS | instruction,
        Exit::Halt | Exit::Pause | Exit::CacheControl => instruction,
        Exit::Recall | Exit::InterruptWindow | Exit::NmiHandlerEnds | Exit::NmiWindow => RECALL,
        Exit::NestedFault(_) if features.contains(Features::DECODE_ASSISTS) => EMULATE | Mtd::INST_BYTES,
        Exit::NestedFault(_) | Exit::ControlRegister => EMULATE,
        Exit::DebugRegister => EMULATE | Mtd::DR,
        Exit::TaskSwitch => TASK_SWITCH,
        Exit::Startup => Mtd::empty(),
        _ => FULL,
    }
}

/// The events of a virtual CPU that can occur. There need be no portals for the others.
pub fn events(features: Features) -> impl Iterator<Item = u64> {
    let vendor = Vendor::of(features);
    let occurs = move |number: &u64| {
        let exit = Exit::of(vendor, *number, &EventWords::default());
        exit != Exit::Unexpected || *number == vendor.port_io()
    };
    (0..guest::COUNT).filter(occurs)
}
