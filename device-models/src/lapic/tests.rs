mod timer;

use super::*;
use crate::bus::mmio::{MmioAccess, MmioSize};
use crate::recorder::Recorder;
use proptest::prelude::*;
use std::vec::Vec;

const T0: Tsc = Tsc(0);
const ID: u64 = 0x20;
const TPR: u64 = 0x80;
const PPR: u64 = 0xa0;
const EOI: u64 = 0xb0;
const LDR: u64 = 0xd0;
const DFR: u64 = 0xe0;
const SVR: u64 = 0xf0;
const ESR: u64 = 0x280;
const ICR_LOW: u64 = 0x300;
const ICR_HIGH: u64 = 0x310;
const LVT_TIMER: u64 = 0x320;
const LVT_LINT0: u64 = 0x350;
const LVT_LINT1: u64 = 0x360;
const LVT_ERROR: u64 = 0x370;
const INITIAL: u64 = 0x380;
const CURRENT: u64 = 0x390;
const DIVIDE: u64 = 0x3e0;
const X2APIC_ON: u64 = 0xfee0_0d00;

struct Bench {
    lapic: Lapic,
    fx: Recorder,
}

impl Bench {
    /// Local APIC 2, software-enabled.
    fn new() -> Self {
        let mut bench = Self { lapic: Lapic::new(LapicId(2), true), fx: Recorder::default() };
        bench.set(SVR, 0x1ff);
        bench
    }
    fn x2apic() -> Self {
        let mut bench = Self::new();
        bench.set_base(X2APIC_ON).unwrap();
        bench
    }
    fn set_at(&mut self, now: Tsc, offset: u64, value: u32) {
        self.lapic.mmio_write(now, dword(offset), value.into(), &mut self.fx);
    }
    fn set(&mut self, offset: u64, value: u32) {
        self.set_at(T0, offset, value);
    }
    fn get_at(&mut self, now: Tsc, offset: u64) -> u32 {
        self.lapic.mmio_read(now, dword(offset), &mut self.fx) as u32
    }
    fn get(&mut self, offset: u64) -> u32 {
        self.get_at(T0, offset)
    }
    fn wrmsr(&mut self, now: Tsc, msr: u32, value: u64) -> Result<(), GeneralProtection> {
        self.lapic.msr_write(now, msr, value, &mut self.fx)
    }
    fn rdmsr(&mut self, msr: u32) -> Result<u64, GeneralProtection> {
        self.lapic.msr_read(T0, msr, &mut self.fx)
    }
    fn set_base(&mut self, value: u64) -> Result<(), GeneralProtection> {
        self.lapic.set_base(value, &mut self.fx)
    }
    fn interrupt(&mut self, vector: u8, trigger: Trigger) {
        let message = ApicMessage { destination: Destination::All, delivery: Delivery::Fixed, vector, trigger };
        self.lapic.deliver(&message, &mut self.fx);
    }
}

const fn dword(offset: u64) -> MmioAccess {
    MmioAccess { offset, size: MmioSize::Dword }
}

#[test]
fn reset_state() {
    let mut bench = Bench { lapic: Lapic::new(LapicId(2), true), fx: Recorder::default() };
    assert_eq!(bench.get(ID), 2 << 24);
    assert_eq!(bench.get(0x30), 0x0105_0014);
    assert_eq!((bench.get(SVR), bench.get(DFR)), (0xff, u32::MAX));
    assert_eq!(bench.get(LVT_LINT0), 0x1_0000);
    assert_eq!(bench.lapic.base().bits(), 0xfee0_0900);
    bench.interrupt(0x40, Trigger::Edge);
    assert_eq!(bench.lapic.pending(), None, "software-disabled");
}

#[test]
fn interrupts_nest_by_priority_class() {
    let mut bench = Bench::new();
    bench.interrupt(0x41, Trigger::Edge);
    assert_eq!(bench.fx.vcpu, [(LapicId(2), VcpuEvent::Interrupt)]);
    assert_eq!(bench.get(0x220), 1 << 1, "IRR of 0x40..0x5f");
    assert_eq!(bench.lapic.acknowledge(), Some(0x41));
    assert_eq!(bench.get(PPR), 0x40);
    bench.interrupt(0x4f, Trigger::Edge);
    assert_eq!(bench.lapic.pending(), None, "same class");
    bench.interrupt(0x50, Trigger::Edge);
    assert_eq!(bench.lapic.acknowledge(), Some(0x50));
    bench.set(EOI, 0);
    assert_eq!(bench.lapic.pending(), None);
    bench.set(EOI, 0);
    assert_eq!(bench.lapic.acknowledge(), Some(0x4f));
    assert_eq!(bench.fx.eois, [0; 0], "edges are not broadcast");
}

#[test]
fn task_priority_holds_back_and_is_cr8() {
    let mut bench = Bench::new();
    bench.set(TPR, 0x45);
    assert_eq!((bench.lapic.cr8(), bench.get(PPR)), (4, 0x45));
    bench.interrupt(0x4f, Trigger::Edge);
    assert_eq!(bench.lapic.pending(), None);
    assert_eq!(bench.lapic.blocked_by_tpr(), Some(0x4f));
    bench.lapic.set_cr8(3);
    assert_eq!(bench.lapic.pending(), Some(0x4f));
    assert_eq!(bench.lapic.blocked_by_tpr(), None);
}

#[test]
fn level_eoi_is_broadcast_unless_suppressed() {
    let mut bench = Bench::new();
    bench.interrupt(0x41, Trigger::Level);
    bench.lapic.acknowledge();
    bench.set(EOI, 0);
    assert_eq!(bench.fx.eois, [0x41]);
    bench.set(SVR, 0x11ff);
    bench.interrupt(0x41, Trigger::Level);
    bench.lapic.acknowledge();
    bench.set(EOI, 0);
    assert_eq!(bench.fx.eois, [0x41]);
}

#[test]
fn an_edge_after_a_level_needs_no_broadcast() {
    let mut bench = Bench::new();
    bench.interrupt(0x41, Trigger::Level);
    bench.interrupt(0x41, Trigger::Edge);
    bench.lapic.acknowledge();
    bench.set(EOI, 0);
    assert_eq!(bench.fx.eois, [0; 0]);
}

#[test]
fn eoi_wakes_for_what_it_uncovers() {
    let mut bench = Bench::new();
    bench.interrupt(0x51, Trigger::Edge);
    bench.lapic.acknowledge();
    bench.interrupt(0x41, Trigger::Edge);
    bench.fx.vcpu.clear();
    bench.set(EOI, 0);
    assert_eq!(bench.fx.vcpu, [(LapicId(2), VcpuEvent::Interrupt)]);
}

#[test]
fn lowering_the_task_priority_or_enabling_wakes() {
    let mut bench = Bench::new();
    bench.set(TPR, 0xf0);
    bench.interrupt(0x41, Trigger::Edge);
    bench.fx.vcpu.clear();
    bench.set(TPR, 0);
    assert_eq!(bench.fx.vcpu.len(), 1);
    bench.set(SVR, 0xff);
    assert_eq!(bench.fx.vcpu.len(), 1);
    bench.set(SVR, 0x1ff);
    assert_eq!(bench.fx.vcpu.len(), 2, "what was pending stayed");
}

#[test]
fn entries_stay_masked_while_software_disabled() {
    let mut bench = Bench::new();
    bench.set(SVR, 0xff);
    bench.set(LVT_LINT0, 0x700);
    assert_eq!(bench.get(LVT_LINT0), 0x1_0700);
    bench.set(SVR, 0x1ff);
    assert_eq!(bench.get(LVT_LINT0), 0x1_0700, "enabling does not unmask");
}

#[test]
fn logical_destinations() {
    let mut bench = Bench::new();
    bench.set(LDR, 0x0400_0000);
    let accepts = |bench: &Bench, mda| bench.lapic.accepts(Destination::from_8bit(mda, true));
    assert!(accepts(&bench, 0x06) && accepts(&bench, 0xff) && !accepts(&bench, 0x03));
    bench.set(DFR, 0x0fff_ffff);
    bench.set(LDR, 0x3400_0000);
    assert!(accepts(&bench, 0x3c) && accepts(&bench, 0xff));
    assert!(!accepts(&bench, 0x24) && !accepts(&bench, 0x33));
    assert!(bench.lapic.accepts(Destination::from_8bit(2, false)));
    assert!(bench.lapic.accepts(Destination::from_8bit(0xff, false)));
    assert!(!bench.lapic.accepts(Destination::from_8bit(3, false)));

    let mut bench = Bench::x2apic();
    assert_eq!(bench.rdmsr(0x80d), Ok(4));
    let accepts = |mda| bench.lapic.accepts(Destination::from_32bit(mda, true));
    assert!(accepts(0x0000_0004) && accepts(u32::MAX));
    assert!(!accepts(0x0001_0004) && !accepts(3));
}

#[test]
fn what_may_make_it_a_destination_is_announced() {
    let announces = |act: fn(&mut Bench)| {
        let mut bench = Bench::new();
        bench.fx.receptive = 0;
        act(&mut bench);
        bench.fx.receptive == 1
    };
    assert!(announces(|bench| bench.set(SVR, 0x1ff)));
    assert!(announces(|bench| bench.set(LDR, 1 << 24)));
    assert!(announces(|bench| bench.set(DFR, 0xf << 28)));
    assert!(announces(|bench| bench.set_base(X2APIC_ON).unwrap()));
    assert!(!announces(|bench| bench.set(SVR, 0xff)));
    assert!(!announces(|bench| bench.set(TPR, 0x20)));
}

#[test]
fn icr_shorthands_and_modes() {
    let mut bench = Bench::new();
    bench.set(ICR_LOW, 0x0004_0041);
    assert_eq!(bench.lapic.acknowledge(), Some(0x41), "self");
    assert!(bench.fx.messages.is_empty());
    bench.set(ICR_LOW, 0x000c_0042);
    assert_eq!(bench.fx.messages[0].destination, Destination::AllBut(LapicId(2)));
    bench.set(ICR_LOW, 0x0008_0053);
    assert_eq!(bench.lapic.acknowledge(), Some(0x53), "all including self");
    assert_eq!(bench.fx.messages[1].destination, Destination::AllBut(LapicId(2)));
    bench.set(ICR_HIGH, 0x0300_0000);
    bench.set(ICR_LOW, 0x0000_4500);
    bench.set(ICR_LOW, 0x0000_8500);
    bench.set(ICR_LOW, 0x0000_0699);
    let sent: Vec<_> = bench.fx.messages[2..].iter().map(|m| (m.destination, m.delivery, m.vector)).collect();
    let to = Destination::Physical(LapicId(3));
    assert_eq!(sent, [(to, Delivery::Init, 0), (to, Delivery::StartUp, 0x99)], "no de-assert");
    assert_eq!(bench.get(ICR_LOW) & 0x1000, 0, "delivery is complete");
    bench.set(ICR_LOW, 0x0000_0305);
    bench.set(ICR_LOW, 0x0000_0741);
    assert_eq!(bench.fx.messages.len(), 4, "reserved modes");
}

#[test]
fn init_resets_registers_but_not_identity() {
    let mut bench = Bench::new();
    bench.interrupt(0x41, Trigger::Edge);
    bench.set(INITIAL, 1000);
    let message =
        ApicMessage { destination: Destination::All, delivery: Delivery::Init, vector: 0, trigger: Trigger::Edge };
    bench.lapic.deliver(&message, &mut bench.fx);
    assert_eq!(bench.fx.vcpu.last(), Some(&(LapicId(2), VcpuEvent::Init)));
    assert_eq!((bench.lapic.pending(), bench.lapic.deadline()), (None, None));
    assert_eq!((bench.get(ID), bench.get(SVR)), (2 << 24, 0xff));
    assert_eq!(bench.lapic.base().bits() & 0x100, 0x100, "still the bootstrap processor");
}

#[test]
fn lint0_passes_the_8259_and_obeys_its_entry() {
    let mut bench = Bench::new();
    bench.lapic.set_lint0(true, &mut bench.fx);
    assert!(!bench.lapic.extint(), "masked");
    bench.set(LVT_LINT0, 0x700);
    assert!(bench.lapic.extint());
    bench.set(SVR, 0xff);
    assert!(!bench.lapic.extint(), "software-disabled");
    bench.set_base(0xfee0_0100).unwrap();
    assert!(bench.lapic.extint(), "disabled: LINT0 is INTR");

    let mut bench = Bench::new();
    bench.set(LVT_LINT0, 0x31);
    bench.lapic.set_lint0(true, &mut bench.fx);
    assert_eq!(bench.lapic.acknowledge(), Some(0x31));
    bench.lapic.set_lint0(true, &mut bench.fx);
    bench.set(EOI, 0);
    assert_eq!(bench.lapic.pending(), None, "no new edge");
}

#[test]
fn level_lint_waits_for_eoi() {
    let mut bench = Bench::new();
    bench.set(LVT_LINT1, 0x8031);
    bench.lapic.set_lint1(true, &mut bench.fx);
    assert_eq!(bench.get(LVT_LINT1), 0xc031);
    assert_eq!(bench.lapic.acknowledge(), Some(0x31));
    bench.set(EOI, 0);
    assert_eq!(bench.lapic.acknowledge(), Some(0x31), "still active");
    bench.lapic.set_lint1(false, &mut bench.fx);
    bench.set(EOI, 0);
    assert_eq!((bench.lapic.pending(), bench.get(LVT_LINT1)), (None, 0x8031));
}

#[test]
fn an_extint_message_asks_for_one_acknowledge_cycle() {
    let mut bench = Bench::new();
    let message =
        ApicMessage { destination: Destination::All, delivery: Delivery::ExtInt, vector: 0, trigger: Trigger::Edge };
    bench.lapic.deliver(&message, &mut bench.fx);
    assert!(bench.lapic.extint());
    bench.lapic.acknowledge_extint();
    assert!(!bench.lapic.extint());
}

#[test]
fn lowest_priority_arbitration_needs_an_enabled_apic() {
    let mut bench = Bench::new();
    bench.set(TPR, 0x30);
    assert_eq!(bench.lapic.arbitration_priority(), Some(0x30));
    bench.set(SVR, 0xff);
    assert_eq!(bench.lapic.arbitration_priority(), None);
}

#[test]
fn virtual_wire_mode() {
    let mut lapic = Lapic::new(LapicId(0), true);
    let mut fx = Recorder::default();
    lapic.set_virtual_wire();
    lapic.set_lint0(true, &mut fx);
    assert!(lapic.extint());
    lapic.set_lint1(true, &mut fx);
    assert_eq!(fx.vcpu.last(), Some(&(LapicId(0), VcpuEvent::Nmi)));
}

#[test]
fn errors_are_latched_and_raise_the_error_interrupt() {
    let mut bench = Bench::new();
    bench.set(LVT_ERROR, 0xfe);
    bench.set(ICR_LOW, 0x0004_0005);
    assert_eq!(bench.lapic.acknowledge(), Some(0xfe));
    assert_eq!(bench.get(ESR), 0, "until written");
    bench.set(ESR, 0);
    assert_eq!(bench.get(ESR), 0x20);
    bench.interrupt(0x0f, Trigger::Edge);
    bench.get(0x400);
    bench.set(ESR, 0);
    assert_eq!(bench.get(ESR), 0xc0);
    // An error entry with an illegal vector must not report itself for ever.
    bench.set(LVT_ERROR, 0x05);
    bench.interrupt(0x0f, Trigger::Edge);
}

#[test]
fn base_transitions() {
    let mut bench = Bench::new();
    for bad in [0xfee0_0500, 0xfee0_0901, 1 << 52 | 0xfee0_0900] {
        assert_eq!(bench.set_base(bad), Err(GeneralProtection));
    }
    bench.set_base(X2APIC_ON).unwrap();
    assert_eq!(bench.set_base(0xfee0_0900), Err(GeneralProtection));
    bench.set_base(0xfee0_0100).unwrap();
    assert_eq!(bench.set_base(X2APIC_ON), Err(GeneralProtection));
    assert!(!bench.lapic.accepts(Destination::All));
    assert_eq!(bench.get(ID), u32::MAX);
    bench.set_base(0xfee0_0900).unwrap();
    assert_eq!(bench.get(SVR), 0xff, "registers were reset");
}

#[test]
fn x2apic_registers() {
    let mut bench = Bench::new();
    assert_eq!(bench.rdmsr(0x802), Err(GeneralProtection), "xAPIC mode");
    let mut bench = Bench::x2apic();
    assert_eq!(bench.get(ID), u32::MAX);
    assert_eq!(bench.rdmsr(0x802), Ok(2));
    for msr in [0x80e, 0x831, 0x80b, 0x83f, 0x800, 0x8ff] {
        assert_eq!(bench.rdmsr(msr), Err(GeneralProtection), "{msr:#x}");
    }
    for (msr, value) in [
        (0x802, 0),
        (0x80b, 1),
        (0x808, 0x100),
        (0x828, 1),
        (0x80f, 0x2000),
        (0x832, 1 << 8),
        (0x839, 0),
        (0x830, 1 << 20),
    ] {
        assert_eq!(bench.wrmsr(T0, msr, value), Err(GeneralProtection), "{msr:#x}");
    }
    bench.wrmsr(T0, 0x830, 0x0001_0003_0000_0841).unwrap();
    assert_eq!(bench.fx.messages[0].destination, Destination::Logical(0x0001_0003));
    assert_eq!(bench.rdmsr(0x830), Ok(0x0001_0003_0000_0841));
    bench.wrmsr(T0, 0x83f, 0x77).unwrap();
    assert_eq!(bench.lapic.acknowledge(), Some(0x77));
    bench.wrmsr(T0, 0x80b, 0).unwrap();
}

proptest! {
    #[test]
    fn random_accesses_never_panic(start in any::<bool>(), ops in proptest::collection::vec((0u8..8, any::<u32>(), any::<u64>(), 0u64..1 << 48), 0..200)) {
        let mut bench = if start { Bench::new() } else { Bench::x2apic() };
        let mut now = T0;
        for (op, small, value, delta) in ops {
            now = now.after(delta);
            let offset = u64::from(small % 0x41) << 4;
            match op {
                0 => bench.set_at(now, offset, value as u32),
                1 => { bench.get_at(now, offset); }
                2 => { let _ = bench.wrmsr(now, 0x800 + small % 0x100, value & 0xffff_ffff_0007_ffff); }
                3 => { let _ = bench.rdmsr(0x800 + small % 0x100); }
                4 => { let _ = bench.set_base(0xfee0_0000 | u64::from(small) & 0xd00); }
                5 => bench.interrupt(small as u8, if value & 1 == 0 { Trigger::Edge } else { Trigger::Level }),
                6 => bench.lapic.set_lint0(value & 1 != 0, &mut bench.fx),
                _ => { bench.lapic.acknowledge(); }
            }
            if let Some(vector) = bench.lapic.pending() {
                prop_assert!(vector >= 16 && vector >> 4 > bench.lapic.cr8());
            }
            bench.lapic.expire(now, &mut bench.fx);
            if let Some(due) = bench.lapic.deadline() {
                prop_assert!(due > now);
            }
        }
    }
}
