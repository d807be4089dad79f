use proptest::prelude::*;

use super::*;

const BITS: u8 = 40;

fn file() -> MsrFile {
    MsrFile::new(BITS)
}

#[test]
fn owners() {
    let cases = [
        (Msr::TSC, Forwarded::Tsc),
        (Msr::EFER, Forwarded::Efer),
        (Msr::APIC_BASE, Forwarded::LocalApic),
        (Msr::TSC_DEADLINE, Forwarded::LocalApic),
        (Msr(0x80b), Forwarded::LocalApic),
        (Msr(0x175), Forwarded::VcpuState),
        (Msr(0xc000_0082), Forwarded::VcpuState),
        (Msr(0xc000_0101), Forwarded::VcpuState),
    ];
    for (msr, owner) in cases {
        assert_eq!(file().read(msr), MsrOutcome::Forward(owner), "{msr:?}");
        assert_eq!(file().write(msr, 0), MsrOutcome::Forward(owner), "{msr:?}");
    }
}

#[test]
fn reset_values() {
    let cases = [
        (Msr::PAT, 0x0007_0406_0007_0406),
        (Msr::MTRR_CAP, 0x508),
        (Msr::MTRR_DEF_TYPE, 0xc06),
        (Msr::MTRR_PHYS_BASE_0, 0xc000_0000),
        (Msr::MTRR_PHYS_MASK_0, 0xff_c000_0800),
        (Msr(0x202), 0),
        (Msr::MTRR_FIX_64K, 0x0606_0606_0606_0606),
        (Msr::MTRR_FIX_16K_A0000, 0),
        (Msr::MCG_CAP, 0),
        (Msr::HWCR, 1 << 24),
        (Msr::VM_CR, 0x18),
        (Msr::PATCH_LEVEL, 0x0100_0065),
        (Msr(0x401), 0),
    ];
    for (msr, value) in cases {
        assert_eq!(file().read(msr), MsrOutcome::Value(value), "{msr:?}");
    }
}

#[test]
fn stored_values_are_checked() {
    let accepted = [
        (Msr::PAT, 0x0001_0506_0007_0406),
        (Msr::MTRR_DEF_TYPE, 0x806),
        (Msr::MTRR_PHYS_BASE_0, 0x8000_0001),
        (Msr::MTRR_PHYS_MASK_7, 0xff_8000_0800),
        (Msr::MTRR_FIX_4K_F8000, 0x0505_0505_0505_0505),
        (Msr::MISC_ENABLE, 0x1801),
        (Msr::SYSCFG, 1 << 18),
    ];
    for (msr, value) in accepted {
        let mut file = file();
        assert_eq!(file.write(msr, value), MsrOutcome::Value(value), "{msr:?}");
        assert_eq!(file.read(msr), MsrOutcome::Value(value), "{msr:?}");
    }
    let refused = [
        (Msr::PAT, 2),
        (Msr::PAT, 8 << 56),
        (Msr::MTRR_DEF_TYPE, 7),
        (Msr::MTRR_DEF_TYPE, 1 << 12),
        (Msr::MTRR_PHYS_BASE_0, 1 << BITS),
        (Msr::MTRR_PHYS_BASE_0, 0x102),
        (Msr::MTRR_PHYS_MASK_0, 1),
        (Msr::MTRR_FIX_64K, 7),
        (Msr::MTRR_CAP, 0),
        (Msr::MCG_CAP, 1),
    ];
    for (msr, value) in refused {
        let mut file = file();
        assert_eq!(file.write(msr, value), MsrOutcome::Fault, "{msr:?} {value:#x}");
        assert_eq!(file, self::file(), "a refused write changes nothing");
    }
}

#[test]
fn unknown_registers_fault_and_ignored_ones_do_not_change() {
    for msr in [Msr(0x3b), Msr(0x48), Msr(0x49), Msr(0xda0), Msr(0xc000_0104), Msr(0xc001_0117)] {
        assert_eq!(file().read(msr), MsrOutcome::Fault, "{msr:?}");
        assert_eq!(file().write(msr, 0), MsrOutcome::Fault, "{msr:?}");
    }
    for msr in [Msr::PERF_CTL_0, Msr::PSTATE_7, Msr::DEBUG_CTL, Msr::MC0_CTL] {
        let mut file = file();
        assert_eq!(file.write(msr, u64::MAX), MsrOutcome::Value(u64::MAX), "{msr:?}");
        assert_eq!(file.read(msr), MsrOutcome::Value(0), "{msr:?}");
    }
    assert_eq!(file().read(Msr::PATCH_LOADER_AMD), MsrOutcome::Fault);
    assert_eq!(file().write(Msr::PATCH_LOADER_AMD, 1), MsrOutcome::Value(1));
}

proptest! {
    #[test]
    fn what_was_accepted_is_read_back_or_ignored(msr: u32, low in 0u32..0x900, value: u64) {
        for msr in [Msr(msr), Msr(low), Msr(0xc001_0000 | low)] {
            let mut file = file();
            let before = file.read(msr);
            if let MsrOutcome::Value(_) = file.write(msr, value) {
                let after = file.read(msr);
                prop_assert!(after == MsrOutcome::Value(value) || after == before);
            } else {
                prop_assert_eq!(file.read(msr), before);
            }
        }
    }
}
