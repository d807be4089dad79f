//! Exits of a machine under a kernel that is not there.

mod assists;
mod deadlines;
mod interrupts;
mod life;
mod user;
mod vmx;

use abi::event::{EventWords, guest};
use abi::hip::Features;
use abi::state::{Injection, Mtd, gpr, seg};
use device_models::bus::serial::HostSerial;
use proptest::prelude::*;

use super::selection::{FULL, RECALL};
use crate::exit_stats::ExitKind;
use crate::state::Rflags;
use crate::testing::{Asked, CODE, Guest, ORIGIN, exits, machine};

const SERIAL: HostSerial = HostSerial(0x4711);
const COM1: u16 = 0x3f8;
const LAPIC: u64 = 0xfee0_0000;
const ICR_LOW: u64 = LAPIC + 0x300;
const MSR_EFER: u32 = 0xc000_0080;
const MSR_TSC: u32 = 0x10;
const MSR_TSC_DEADLINE: u32 = 0x6e0;
const GENERAL_PROTECTION: Injection = Injection::exception(13, Some(0));

/// A machine with two CPUs that run.
fn pair() -> (Guest, Guest) {
    const SOFTWARE_ENABLE: u32 = 0x1ff;
    let vm = machine(2, "");
    let mut boot = Guest::new(vm, 0, Features::SVM);
    boot.exit(guest::STARTUP, 0, 0);
    start_second(&mut boot);
    let mut second = Guest::new(vm, 1, Features::SVM);
    second.exit(guest::STARTUP, 0, 0);
    second.state = boot.state;
    second.mmio_write(LAPIC + 0xf0, SOFTWARE_ENABLE);
    vm.kernel().asked();
    (boot, second)
}

/// INIT and the start-up message to the CPU with APIC id 1.
fn start_second(boot: &mut Guest) {
    const INIT: u32 = 5 << 8 | 1 << 14;
    const STARTUP: u32 = 6 << 8 | 0x9a;
    for (register, value) in [(LAPIC + 0x310, 1 << 24), (ICR_LOW, INIT), (ICR_LOW, STARTUP)] {
        boot.mmio_write(register, value);
    }
}

#[test]
fn output_reaches_the_serial_line_and_costs_one_word() {
    let mut guest = Guest::started("");
    // It may wait for more, so this CPU comes back for it.
    assert_eq!(guest.outb(COM1, b'k'), Mtd::RIP | Mtd::DEADLINE);
    assert_eq!(guest.outb(COM1, b'n'), Mtd::RIP);
    assert_eq!(guest.state.rip, CODE + 2);
    assert_eq!(guest.kernel().asked(), []);
    guest.kernel().now.set(guest.state.deadline);
    assert_eq!(guest.exit(guest::RECALL, 0, 0), Mtd::empty());
    assert_eq!(guest.kernel().asked(), [Asked::Attend]);
    let mut output = Vec::new();
    guest.vm.take_output(SERIAL, &mut output);
    assert_eq!(output, b"kn");
}

#[test]
fn much_output_is_handed_over_at_once() {
    let mut guest = Guest::started("");
    while !guest.kernel().asked().contains(&Asked::Attend) {
        guest.outb(COM1, b'x');
    }
    let mut output = Vec::new();
    guest.vm.take_output(SERIAL, &mut output);
    assert_eq!(output.len(), 4096);
}

#[test]
fn a_guest_writes_no_faster_than_its_terminal() {
    let mut guest = Guest::started("");
    let vm = guest.vm;
    vm.kernel().when_waiting(move || {
        let mut output = Vec::new();
        vm.take_output(SERIAL, &mut output);
        assert_eq!(output.len(), 8192);
    });
    for _ in 0..8192 {
        guest.outb(COM1, b'x');
    }
    let asked = vm.kernel().asked();
    let waits = |asked: &&Asked| matches!(asked, Asked::Wait(0, _));
    assert_eq!(asked.iter().filter(waits).count(), 1);
    assert!(asked.contains(&Asked::Wake(0)));
    assert_eq!(guest.state.rip, CODE + 8192, "the last one has completed");
}

#[test]
fn input_keeps_the_upper_part_of_the_register() {
    let mut guest = Guest::started("");
    guest.state.gpr[gpr::RAX] = 0x1122_3344_5566_7788;
    const LINE_STATUS: u16 = COM1 + 5;
    assert_eq!(guest.inb(LINE_STATUS), 0x60, "transmitter empty");
    assert_eq!(guest.state.gpr[gpr::RAX], 0x1122_3344_5566_7760);
    // Nobody at 0x1234; 32-bit results clear the upper half.
    guest.exit(exits::IOIO, 0x1234 << 16 | 1 << 6 | 1, CODE);
    assert_eq!(guest.state.gpr[gpr::RAX], 0xffff_ffff);
}

#[test]
fn cpuid_is_two_bytes_long_unless_the_cpu_knows_better() {
    for (features, told, length) in [(Features::SVM, 7, 2), (Features::SVM | Features::NRIP, 3, 3)] {
        let mut guest = Guest::new(machine(1, ""), 0, features);
        guest.exit(guest::STARTUP, 0, 0);
        guest.state.inst_len = told;
        guest.state.gpr[gpr::RAX] = 0x4000_0000;
        assert_eq!(guest.exit(exits::CPUID, 0, 0), Mtd::ACDB | Mtd::RIP);
        assert_eq!(guest.state.rip, CODE + length);
        assert_eq!(guest.state.gpr[gpr::RBX], u64::from(u32::from_le_bytes(*b"Kilo")));
    }
}

#[test]
fn input_that_has_no_room_is_asked_for_again() {
    let mut guest = Guest::started("");
    assert_eq!(guest.vm.offer_input(SERIAL, b"ab"), 1);
    guest.kernel().asked();
    assert_eq!(guest.inb(COM1), b'a');
    assert_eq!(guest.kernel().asked(), [Asked::Attend]);
    assert_eq!(guest.vm.offer_input(SERIAL, b"b"), 1);
    assert_eq!(guest.inb(COM1), b'b');
    assert_eq!(guest.kernel().asked(), []);
}

#[test]
fn registers_outside_the_selection_come_with_a_recall() {
    let mut guest = Guest::started("");
    let before = guest.state;
    assert_eq!(guest.rdmsr(MSR_EFER), Mtd::empty());
    assert_eq!(guest.state.rip, before.rip);
    assert_eq!(guest.kernel().asked(), [Asked::SelectRecall(0, FULL), Asked::Recall(0)]);
    guest.exit(guest::RECALL, 0, 0);
    assert_eq!(guest.state.gpr[gpr::RAX], before.efer);
    assert_eq!(guest.state.rip, CODE + 2);
    assert_eq!(guest.kernel().asked(), [Asked::SelectRecall(0, RECALL)]);
}

#[test]
fn an_exit_that_needs_more_state_is_counted_once_and_so_is_the_recall() {
    let mut guest = Guest::started("exit_stats=\"yes\"");
    guest.rdmsr(MSR_EFER);
    guest.exit(guest::RECALL, 0, 0);
    let stats = guest.vm.stats().unwrap();
    let count = |kind| stats.counter(kind).count;
    assert_eq!((count(ExitKind::MsrRead), count(ExitKind::Recall)), (1, 1));
}

#[test]
fn cpuid_tells_whether_xsave_is_enabled() {
    for xcr0 in [0, 7] {
        let mut guest = Guest::started("");
        guest.state.xcr0 = xcr0;
        guest.state.gpr[gpr::RAX] = 1;
        guest.exit(exits::CPUID, 0, 0);
        assert_eq!(guest.state.gpr[gpr::RCX] >> 27 & 1 == 1, xcr0 != 0, "OSXSAVE");
    }
}

#[test]
fn xcr0_is_set_where_its_state_is_kept_and_by_the_supervisor_only() {
    /// DPL 3 of the stack segment.
    const USER: u16 = 3 << 5;
    // The register, the value, the privilege of the stack, and whether it is taken.
    let cases = [
        (0, 7, 0, true),
        (0, 1, 0, true),
        (1, 7, 0, false),
        (0, 6, 0, false),
        (0, 0xe7, 0, false),
        (0, 7, USER, false),
    ];
    for (register, value, privilege, taken) in cases {
        let mut guest = Guest::started("");
        assert_eq!(guest.state.xcr0, 7, "what the hypervisor has, too");
        guest.state.xcr0 = 3;
        guest.state.gpr[gpr::RCX] = register;
        guest.state.gpr[gpr::RAX] = value;
        guest.state.seg[seg::SS].attributes |= privilege;
        if guest.exit(exits::XSETBV, 0, 0).is_empty() {
            // A fault needs more state.
            guest.exit(guest::RECALL, 0, 0);
        }
        let after = if taken { (value, CODE + 3) } else { (3, CODE) };
        assert_eq!((guest.state.xcr0, guest.state.rip), after, "{register} {value:#x} {privilege:#x}");
        assert_eq!(guest.state.injection, if taken { Injection::NONE } else { GENERAL_PROTECTION });
    }
}

#[test]
fn unknown_registers_and_reserved_bits_fault() {
    let accesses: [fn(&mut Guest) -> Mtd; 3] = [
        |guest| guest.rdmsr(0x1234),
        // SVME, and an address that is not canonical.
        |guest| guest.wrmsr(MSR_EFER, 1 << 12),
        |guest| guest.wrmsr(0xc000_0082, 1 << 47),
    ];
    for access in accesses {
        let mut guest = Guest::started("");
        access(&mut guest);
        guest.exit(guest::RECALL, 0, 0);
        assert_eq!(guest.state.injection, GENERAL_PROTECTION);
        assert_eq!(guest.state.rip, CODE);
    }
}

#[test]
fn efer_has_the_bits_that_cpuid_offers() {
    // Bit of the feature, and bits of EFER that need it, beside long mode, which the guest is in.
    for (feature, bits) in [(11, 1 << 0), (20, 1 << 11), (25, 1 << 14)] {
        for missing in [0, 1 << feature] {
            let mut guest = Guest::without(missing, machine(1, ""), 0, Features::SVM);
            guest.exit(guest::STARTUP, 0, 0);
            guest.wrmsr(MSR_EFER, 0x500 | bits);
            guest.exit(guest::RECALL, 0, 0);
            let taken = (guest.state.rip, guest.state.injection);
            let expected = if missing == 0 { (CODE + 2, Injection::NONE) } else { (CODE, GENERAL_PROTECTION) };
            assert_eq!(taken, expected, "{feature} {missing:#x}");
        }
    }
}

#[test]
fn the_tsc_can_be_set() {
    let mut guest = Guest::started("");
    assert!(guest.wrmsr(MSR_TSC, 1000).contains(Mtd::TSC));
    assert_eq!(guest.state.tsc_offset, 1000_u64.wrapping_sub(ORIGIN));
    guest.kernel().now.set(ORIGIN + 5);
    guest.rdmsr(MSR_TSC);
    assert_eq!(guest.state.gpr[gpr::RAX], 1005);
    // The deadline of the timer is a value of this TSC.
    interrupts::set_timer(&mut guest, 3000);
    guest.rdmsr(MSR_TSC_DEADLINE);
    assert_eq!(guest.state.gpr[gpr::RAX], 3000);
    assert_eq!(guest.state.deadline, ORIGIN + 2000);
}

#[test]
fn the_caches_of_the_host_stay_as_they_are() {
    // INVD and WBINVD.
    for (features, codes) in [(Features::SVM, [0x76, 0x89]), (Features::VMX, [13, 54])] {
        let mut guest = Guest::started_on(features, "");
        for (code, next) in codes.into_iter().zip([CODE + 2, CODE + 4]) {
            let behind = if features == Features::VMX { next } else { 0 };
            assert_eq!(guest.exit(code, 0, behind), Mtd::RIP);
            assert_eq!(guest.state.rip, next, "{code}");
        }
    }
}

#[test]
fn instructions_that_are_not_there_are_undefined() {
    let mut guest = Guest::started("");
    guest.exit(exits::VMMCALL, 0, 0);
    assert_eq!(guest.state.injection, Injection::exception(6, None));
}

#[test]
fn debug_registers_are_the_cpus() {
    let mut guest = Guest::started("");
    // mov dr2, rax; mov dr7, rax; mov dr6, rax; mov rbx, dr7.
    guest.code(&[0x0f, 0x23, 0xd0, 0x0f, 0x23, 0xf8, 0x0f, 0x23, 0xf0, 0x0f, 0x21, 0xfb]);
    (guest.state.gpr[gpr::RAX], guest.state.dr6) = (0xffff_5401, 0xffff_0ff1);
    assert!(guest.exit(exits::DR0_WRITE + 2, 0, 0).contains(Mtd::DR));
    guest.exit(exits::DR0_WRITE + 7, 0, 0);
    let state = &guest.state;
    assert_eq!(
        (state.rip, state.dr, state.dr6, state.dr7),
        (CODE + 6, [0, 0, 0xffff_5401, 0], 0xffff_0ff1, 0xffff_0401)
    );
    guest.exit(exits::DR0_WRITE + 6, 0, 0);
    assert_eq!((guest.state.dr6, guest.state.dr7), (0xffff_4ff1, 0xffff_0401));
    guest.exit(exits::DR0_WRITE - 0x10 + 7, 0, 0);
    assert_eq!(guest.state.gpr[gpr::RBX], 0xffff_0401);
}

#[test]
fn debug_registers_are_the_supervisors() {
    let mut guest = Guest::started("");
    // mov dr7, rax, in user mode.
    guest.code(&[0x0f, 0x23, 0xf8]);
    guest.state.gpr[gpr::RAX] = 0x401;
    guest.state.seg[seg::SS].attributes = 3 << 5;
    guest.exit(exits::DR0_WRITE + 7, 0, 0);
    assert_eq!((guest.state.rip, guest.state.dr7, guest.state.injection), (CODE, 0x400, GENERAL_PROTECTION));
}

#[test]
fn accesses_of_debug_registers_can_be_detected() {
    /// DR7: general detect. DR6: such an access.
    const DETECT: u64 = 1 << 13;
    let mut guest = Guest::started("");
    // mov rbx, dr7.
    guest.code(&[0x0f, 0x21, 0xfb]);
    guest.state.dr7 |= DETECT;
    guest.exit(exits::DR0_WRITE - 0x10 + 7, 0, 0);
    assert_eq!((guest.state.rip, guest.state.injection), (CODE, Injection::exception(1, None)));
    assert_eq!((guest.state.dr6, guest.state.dr7), (0xffff_0ff0 | DETECT, 0x400));
    guest.exit(exits::DR0_WRITE - 0x10 + 7, 0, 0);
    assert_eq!((guest.state.rip, guest.state.gpr[gpr::RBX]), (CODE + 3, 0x400));
}

#[test]
fn a_single_step_over_an_exit_is_reported() {
    let mut guest = Guest::started("");
    guest.state.rflags |= (Rflags::TF | Rflags::RF).bits();
    // A breakpoint that its handler has not cleared.
    guest.state.dr6 |= 1;
    let taken = guest.outb(COM1, b'x');
    assert!(taken.contains(Mtd::RIP | Mtd::RFLAGS) && !guest.state.injection.is_valid(), "not before DR6 is known");
    assert_eq!(guest.kernel().asked(), [Asked::SelectRecall(0, RECALL | Mtd::DR), Asked::Recall(0)]);
    assert!(guest.exit(guest::RECALL, 0, 0).contains(Mtd::DR | Mtd::INJ));
    assert_eq!(guest.state.rip, CODE + 1);
    assert_eq!(guest.state.injection, Injection::exception(1, None));
    assert_eq!(guest.state.rflags & Rflags::RF.bits(), 0);
    assert_eq!(guest.state.dr6, 0xffff_4ff1);
}

#[test]
fn vector_operands_come_with_a_recall() {
    let mut guest = Guest::started("");
    // movups [rdi], xmm0 to the I/O APIC's page.
    guest.code(&[0x0f, 0x11, 0x07]);
    guest.state.gpr[gpr::RDI] = 0xfec0_0000;
    guest.exit(guest::NESTED_FAULT, 1 << 32 | 2, 0xfec0_0000);
    assert_eq!(guest.state.rip, CODE);
    guest.exit(guest::RECALL, 0, 0);
    assert_eq!(guest.state.rip, CODE + 3);
}

fn any_state() -> impl Strategy<Value = Box<abi::state::ArchState>> {
    let words = prop::collection::vec(prop_oneof![any::<u64>(), 0..0x1_0000_u64], 32);
    words.prop_map(|words| {
        let mut state = Box::new(abi::state::ArchState::default());
        state.gpr.copy_from_slice(&words[..16]);
        (state.rip, state.rflags, state.cr0, state.cr4) = (words[16], words[17], words[18], words[19]);
        (state.efer, state.cr3, state.inst_len) = (words[20], words[21], words[22] as u32);
        (state.injection, state.interrupted) = (Injection(words[23]), Injection(words[24]));
        state.interruptibility = words[25] as u32;
        state.inst_bytes_len = words[26] & 0x1f;
        state.inst_bytes[..8].copy_from_slice(&words[27].to_le_bytes());
        for (segment, word) in state.seg.iter_mut().zip(&words[26..]) {
            (segment.attributes, segment.base) = (*word as u16, *word);
        }
        state
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_exit_panics(
        exits in prop::collection::vec((0..guest::COUNT, any::<u64>(), any::<u64>(), any_state(), any::<u32>()), 1..40),
        is_vmx: bool,
    ) {
        let vm = machine(1, "on_triple_fault=\"reset\"");
        let features = if is_vmx { Features::VMX } else { Features::SVM | Features::NRIP | Features::DECODE_ASSISTS };
        let mut vcpu = Guest::new(vm, 0, features).vcpu;
        for (number, info1, info2, state, delivered) in exits {
            let words = EventWords { reason: number, info1, info2, rip: state.rip };
            *vm.kernel().state.borrow_mut() = *state;
            vm.kernel().when_waiting(move || vm.enter().machine.end(0));
            let taken = vcpu.handle(number, Mtd::from_bits_truncate(delivered), words);
            if taken == Mtd::KILL {
                prop_assert!(vm.ended().is_some());
                break;
            }
        }
    }
}
