//! Instructions that exit.

use super::Deviations;
use crate::report::{check, deviates, holds, section};
use crate::sys::exception::{NOTHING, Taken};
use crate::sys::instruction as cpu;
use crate::sys::lapic::{self, Register};

const GENERAL_PROTECTION: Taken = Taken { vector: 13, error: 0 };
const UNDEFINED: Taken = Taken::plain(6);
const NONE: Taken = Taken::plain(NOTHING);

/// Model-specific registers (SDM vol. 4).
mod msr {
    pub const PAT: u32 = 0x277;
    pub const EFER: u32 = 0xc000_0080;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub const SYSENTER_EIP: u32 = 0x176;
    /// One that nobody has.
    pub const MISSING: u32 = 0x1234;
}

/// All of them.
pub fn run(deviations: Deviations) {
    identity();
    exceptions();
    model_specific();
    control(deviations.takes_reserved_bits);
    debug(deviations);
    breakpoints(deviations);
}

fn identity() {
    section("CPUID and TSC");
    let [highest, b, c, d] = cpu::cpuid(0x4000_0000, 0);
    let signature = [b, c, d].map(u32::to_le_bytes);
    check("signature of the hypervisor", signature.as_flattened(), b"KilonovaVMM\0");
    holds("leaf with the frequencies", highest >= 0x4000_0010 && cpu::cpuid(0x4000_0010, 0)[0] > 0);
    let [_, _, features, _] = cpu::cpuid(1, 0);
    check("runs on a hypervisor, without VMX", (features >> 31 & 1, features >> 5 & 1), (1, 0));
    let [_, _, features, _] = cpu::cpuid(0x8000_0001, 0);
    check("without SVM", features >> 2 & 1, 0);
    // Not with each instruction: emulated CPUs that take turns do so at the same time.
    const TURN: u32 = 1_000_000;
    let before = cpu::time();
    holds("time passes", (0..TURN).any(|_| cpu::time() > before));
}

fn exceptions() {
    section("exceptions");
    check("UD2", cpu::undefined(), UNDEFINED);
    check("INT3", cpu::breakpoint(), Taken::plain(3));
    check("INT n", cpu::software_interrupt(), Taken::plain(0x30));
    check("DIV", cpu::divide(), Taken::plain(0));
    check("page fault of a write", cpu::store_unmapped(), Taken { vector: 14, error: 2 });
    check("its address", cpu::cr2(), 1 << 32);
    check("RDPMC", cpu::read_counter(), GENERAL_PROTECTION);
    for (name, taken) in [
        ("VMMCALL", cpu::call_svm()),
        ("VMCALL", cpu::call_vmx()),
        ("VMLAUNCH", cpu::launch()),
        ("INVEPT", cpu::invalidate_nested()),
        ("VMXOFF", cpu::leave_vmx()),
        ("GETSEC", cpu::get_security()),
        ("VMRUN", cpu::run()),
        ("VMSAVE", cpu::save()),
        ("STGI", cpu::set_global()),
        ("CLGI", cpu::clear_global()),
        ("INVLPGA", cpu::invalidate_tagged()),
        ("RSM", cpu::resume()),
        ("MONITOR", cpu::monitor()),
        ("MWAIT", cpu::wait()),
    ] {
        check(name, taken, UNDEFINED);
    }
    check("INVD, WBINVD, PAUSE", cpu::harmless(), NONE);
}

fn model_specific() {
    section("MSRs");
    for (name, register, value) in [
        ("LSTAR", msr::LSTAR, 0xffff_8000_1234_5678),
        ("GS base", msr::GS_BASE, 0x7fff_1234_5678),
        ("base that SWAPGS sets", msr::KERNEL_GS_BASE, 0xffff_ffff_8765_4321),
        ("SYSENTER_EIP", msr::SYSENTER_EIP, 0x1234_5678),
        ("PAT", msr::PAT, 0x0001_0406_0007_0406),
    ] {
        check(name, (cpu::write_msr(register, value), cpu::read_msr(register)), (NONE, Ok(value)));
    }
    const LONG_MODE: u64 = 0x500;
    const SYSCALL: u64 = 1;
    let before = cpu::read_msr(msr::EFER);
    check("EFER: long mode", before.map(|value| value & LONG_MODE), Ok(LONG_MODE));
    let with = before.unwrap_or(LONG_MODE) | SYSCALL;
    check("EFER: SYSCALL", (cpu::write_msr(msr::EFER, with), cpu::read_msr(msr::EFER)), (NONE, Ok(with)));
    check("EFER: long mode cannot end", cpu::write_msr(msr::EFER, with & !LONG_MODE), GENERAL_PROTECTION);
    check("RDMSR of none", cpu::read_msr(msr::MISSING), Err(GENERAL_PROTECTION));
    check("WRMSR of none", cpu::write_msr(msr::MISSING, 0), GENERAL_PROTECTION);
}

fn control(takes_reserved_bits: bool) {
    section("control registers");
    check("CR8", cpu::set_priority(5), 5);
    check("is the task priority", lapic::read(Register::TaskPriority), 0x50);
    check("CR8 above 15", cpu::set_bad_priority(), GENERAL_PROTECTION);
    lapic::write(Register::TaskPriority, 0);
    check("and back", cpu::set_priority(0), 0);
    for (name, bits) in [("CR0.CD", 1 << 30), ("CR0.CD and NW", 3 << 29), ("CR0.NE", 1 << 5), ("CR0.TS", 1 << 3)] {
        check(name, cpu::toggle_cr0(bits), (bits, true));
    }
    for (name, bit) in [("CR4.MCE", 1 << 6), ("CR4.DE", 1 << 3)] {
        check(name, cpu::toggle_cr4(bit), (bit, true));
    }
    let cannot: [(&str, fn() -> Taken); 2] =
        [("CR0: a bit that is none", cpu::set_reserved), ("CR4.VMXE", cpu::enable_vmx)];
    for (name, set) in cannot {
        if takes_reserved_bits {
            deviates(
                name,
                "APM vol. 2, 3.1.1 and 3.1.3: a reserved bit faults; QEMU 7.2 takes it, and refuses to enter the guest.",
            );
        } else {
            check(name, set(), GENERAL_PROTECTION);
        }
    }
}

fn debug(deviations: Deviations) {
    section("debug registers");
    const DR6: u64 = 0xffff_0ff0;
    const DR7: u64 = 0x400;
    check("DR0, DR6 and DR7", cpu::set_debug([0x1234, DR6, DR7 | 0xf << 16]), [0x1234, DR6, DR7 | 0xf << 16]);
    check("DR7 with an upper bit", cpu::set_bad_debug(), GENERAL_PROTECTION);
    let (taken, status, behind) = cpu::step_over_cpuid();
    check("a single step over CPUID", (taken, status >> 14 & 1, behind), (Taken::plain(1), 1, 0));
    const INT1: &str = "INT1 in the shadow of MOV to SS, while stepping";
    if deviations.never_breaks {
        deviates(INT1, "APM vol. 3, INT1: #DB; QEMU 7.2 does not know the instruction.");
    } else {
        check(INT1, cpu::step_into_int1(), (Taken::plain(1), 0));
    }
}

fn breakpoints(deviations: Deviations) {
    section("breakpoints");
    const NAMES: [&str; 2] = ["a write of what is watched", "an instruction"];
    const REASON: &str = "and why";
    if deviations.never_breaks {
        for name in NAMES {
            deviates(name, "APM vol. 2, 15.5.1: VMRUN loads DR7; QEMU 7.2 does, but arms no breakpoint.");
        }
        return;
    }
    let hits: [(fn() -> (Taken, u64, u64), u64); 2] = [(cpu::write_watched, 1), (cpu::run_into_breakpoint, 2)];
    for (name, (hit, reason)) in NAMES.into_iter().zip(hits) {
        let (taken, status, distance) = hit();
        check(name, (taken, distance), (Taken::plain(1), 0));
        if deviations.forgets_reasons {
            deviates(REASON, "APM vol. 2, 15.12.2: DR6 is written before #DB exits; Bochs 2.7 does so with VMX only.");
        } else {
            check(REASON, status, 0xffff_0ff0 | reason);
        }
    }
    check("and none any more", cpu::write_unwatched(), NONE);
}
