use proptest::prelude::*;

use super::*;

const POLICY: CpuidPolicy = CpuidPolicy {
    apic_id: 3,
    cpu_count: 4,
    tsc_khz: 2_600_000,
    lapic_khz: 1_000_000,
    xsave: false,
    pcid: false,
    x2apic: true,
    tsc_deadline: true,
    tsc_aux: false,
};

const INPUT: CpuidInput = CpuidInput { cr4: Cr4::empty(), xcr0: 1 };

/// A host that has every feature bit set everywhere.
fn everything() -> Vec<HostLeaf> {
    let leaves = (0..0x24).chain(0x4000_0000..0x4000_0012).chain(0x8000_0000..0x8000_0024);
    leaves
        .flat_map(|leaf| (0..4).map(move |subleaf| (leaf, subleaf)))
        .map(|(leaf, subleaf)| {
            let all = u32::MAX;
            let registers = CpuidRegisters { eax: all, ebx: all, ecx: all, edx: all };
            HostLeaf { leaf, subleaf, registers }
        })
        .collect()
}

fn guest(policy: CpuidPolicy) -> GuestCpuid {
    GuestCpuid::new(&everything(), &policy)
}

fn bit(value: u32, number: u32) -> bool {
    value >> number & 1 == 1
}

#[test]
fn what_is_not_virtualised_is_hidden() {
    let cpuid = guest(POLICY);
    let features = cpuid.lookup(1, 0, &INPUT);
    for (name, number) in [("MONITOR", 3), ("VMX", 5), ("SMX", 6), ("PCID", 17), ("XSAVE", 26)] {
        assert!(!bit(features.ecx, number), "{name}");
    }
    for (name, number) in [("OSXSAVE", 27), ("AVX", 28), ("F16C", 29), ("FMA", 12)] {
        assert!(!bit(features.ecx, number), "{name}");
    }
    for (name, number) in [("x2APIC", 21), ("TSC deadline", 24), ("hypervisor", 31)] {
        assert!(bit(features.ecx, number), "{name}");
    }
    assert!(bit(features.edx, 9), "APIC");
    let extended = cpuid.lookup(7, 0, &INPUT);
    assert!(bit(extended.ebx, 7) && bit(extended.ebx, 20), "SMEP, SMAP");
    for (name, number) in [("TSC_ADJUST", 1), ("SGX", 2), ("AVX2", 5), ("INVPCID", 10), ("MPX", 14)] {
        assert!(!bit(extended.ebx, number), "{name}");
    }
    for (name, number) in [("PKU", 3), ("CET_SS", 7), ("LA57", 16), ("PKS", 31)] {
        assert!(!bit(extended.ecx, number), "{name}");
    }
    assert_eq!(extended.edx & bits_of(26..32), 0, "speculation controls");
    let amd = cpuid.lookup(0x8000_0001, 0, &INPUT);
    for (name, number) in [("SVM", 2), ("IBS", 10), ("SKINIT", 12), ("LWP", 15), ("MWAITX", 29)] {
        assert!(!bit(amd.ecx, number), "{name}");
    }
    assert!(bit(amd.edx, 20) && bit(amd.edx, 29), "NX, LM");
    for leaf in [3, 5, 9, 0xa, 0xd, 0xf, 0x12, 0x14, 0x17, 0x8000_000a, 0x8000_001f] {
        assert_eq!(cpuid.lookup(leaf, 0, &INPUT), CpuidRegisters::default(), "{leaf:#x}");
    }
}

fn bits_of(range: std::ops::Range<u32>) -> u32 {
    range.map(|number| 1 << number).sum()
}

#[test]
fn a_host_without_a_feature_gives_none() {
    let cpuid = GuestCpuid::new(
        &[HostLeaf { leaf: 1, subleaf: 0, registers: CpuidRegisters::default() }],
        &CpuidPolicy { xsave: true, pcid: true, ..POLICY },
    );
    let features = cpuid.lookup(1, 0, &INPUT);
    assert_eq!(features.ecx, 1 << 31 | 1 << 21 | 1 << 24, "only what the models provide");
    assert_eq!(features.edx, 1 << 9 | 1 << 28);
}

#[test]
fn xsave_is_a_policy() {
    let cpuid = guest(CpuidPolicy { xsave: true, pcid: true, ..POLICY });
    let off = cpuid.lookup(1, 0, &INPUT).ecx;
    assert!(bit(off, 26) && bit(off, 28) && bit(off, 17) && !bit(off, 27));
    let enabled = CpuidInput { cr4: Cr4::OSXSAVE, xcr0: 7 };
    assert!(bit(cpuid.lookup(1, 0, &enabled).ecx, 27), "OSXSAVE follows CR4");
    assert_eq!(cpuid.lookup(0xd, 0, &INPUT).eax, 7);
    assert_eq!(cpuid.lookup(0xd, 1, &INPUT).eax, 7, "no XSAVES");
    assert_eq!(cpuid.lookup(0xd, 3, &INPUT), CpuidRegisters::default());
    assert!(!bit(guest(POLICY).lookup(1, 0, &enabled).ecx, 27));
}

#[test]
fn the_xsave_area_follows_xcr0() {
    let leaf = |subleaf, eax, ebx| HostLeaf {
        leaf: 0xd,
        subleaf,
        registers: CpuidRegisters { eax, ebx, ..CpuidRegisters::default() },
    };
    let cpuid = GuestCpuid::new(&[leaf(0, 7, 999), leaf(2, 256, 576)], &CpuidPolicy { xsave: true, ..POLICY });
    let size = |xcr0| cpuid.lookup(0xd, 0, &CpuidInput { xcr0, ..INPUT }).ebx;
    assert_eq!((size(1), size(3), size(7)), (576, 576, 832));
    assert_eq!(cpuid.lookup(0xd, 0, &INPUT).ecx, 832);
}

#[test]
fn topology_is_one_package() {
    let cpuid = guest(POLICY);
    let features = cpuid.lookup(1, 0, &INPUT);
    assert_eq!((features.ebx >> 24, features.ebx >> 16 & 0xff), (3, 4));
    assert!(bit(features.edx, 28), "HTT");
    let [smt, core, end] = [0, 1, 2].map(|level| cpuid.lookup(0xb, level, &INPUT));
    assert_eq!(smt, CpuidRegisters { eax: 0, ebx: 1, ecx: 0x100, edx: 3 });
    assert_eq!(core, CpuidRegisters { eax: 2, ebx: 4, ecx: 0x201, edx: 3 });
    assert_eq!(end, CpuidRegisters { eax: 0, ebx: 0, ecx: 2, edx: 3 });
    assert_eq!(cpuid.lookup(0x8000_0008, 0, &INPUT).ecx, 2 << 12 | 3);
    let amd = cpuid.lookup(0x8000_001e, 0, &INPUT);
    assert_eq!(amd, CpuidRegisters { eax: 3, ebx: 3, ecx: 0, edx: 0 });
    let single = guest(CpuidPolicy { cpu_count: 1, apic_id: 0, ..POLICY });
    assert!(!bit(single.lookup(1, 0, &INPUT).edx, 28));
    assert!(!bit(single.lookup(0x8000_0001, 0, &INPUT).ecx, 1), "CMP_LEGACY");
    assert_eq!(single.lookup(0xb, 1, &INPUT).eax, 0);
}

#[test]
fn only_the_last_cache_is_shared() {
    let cache = |leaf, subleaf, level: u32| HostLeaf {
        leaf,
        subleaf,
        registers: CpuidRegisters { eax: 1 | level << 5 | 0xfff << 14, ..CpuidRegisters::default() },
    };
    let host: Vec<_> = [4, 0x8000_001d]
        .into_iter()
        .flat_map(|leaf| [cache(leaf, 0, 1), cache(leaf, 1, 2), cache(leaf, 2, 3)])
        .collect();
    let cpuid = GuestCpuid::new(&host, &POLICY);
    for leaf in [4, 0x8000_001d] {
        let sharing = [0, 1, 2].map(|subleaf| cpuid.lookup(leaf, subleaf, &INPUT).eax >> 14 & 0xfff);
        assert_eq!(sharing, [0, 0, 3], "{leaf:#x}");
    }
    assert_eq!(cpuid.lookup(4, 0, &INPUT).eax >> 26, 3, "cores per package - 1");
}

#[test]
fn the_hypervisor_announces_itself_and_its_clocks() {
    let cpuid = guest(POLICY);
    let head = cpuid.lookup(0x4000_0000, 0, &INPUT);
    let signature = [head.ebx, head.ecx, head.edx].map(u32::to_le_bytes).concat();
    assert_eq!((head.eax, &signature[..]), (0x4000_0010, &b"KilonovaVMM\0"[..]));
    let timing = cpuid.lookup(0x4000_0010, 0, &INPUT);
    assert_eq!((timing.eax, timing.ebx), (2_600_000, 1_000_000));
    let tsc = cpuid.lookup(0x15, 0, &INPUT);
    let hz = u64::from(tsc.ecx) * u64::from(tsc.ebx) / u64::from(tsc.eax);
    assert_eq!(hz, 2_600_000_000);
    assert_eq!(cpuid.lookup(0x16, 0, &INPUT).eax, 2600);
    assert_eq!(cpuid.lookup(0x4000_0001, 0, &INPUT), CpuidRegisters::default());
}

#[test]
fn maxima_cover_the_leaves() {
    let cpuid = guest(POLICY);
    assert_eq!(cpuid.lookup(0, 0, &INPUT).eax, 0x16);
    assert_eq!(cpuid.lookup(0x8000_0000, 0, &INPUT).eax, 0x8000_0021);
}

#[test]
fn ecx_is_ignored_where_there_are_no_subleaves() {
    let cpuid = guest(POLICY);
    assert_eq!(cpuid.lookup(1, 77, &INPUT), cpuid.lookup(1, 0, &INPUT));
    assert_eq!(cpuid.lookup(7, 1, &INPUT), CpuidRegisters::default());
}

proptest! {
    #[test]
    fn no_host_and_no_guest_input_panics(
        host in prop::collection::vec((0u32..0x30, 0u32..4, any::<[u32; 4]>(), any::<bool>()), 0..40),
        leaf: u32, subleaf: u32, cpu_count: u32, apic_id: u32, xsave: bool, xcr0: u64, cr4: u64,
        tsc_khz: u32, lapic_khz: u32,
    ) {
        let host: Vec<_> = host.into_iter().map(|(leaf, subleaf, [eax, ebx, ecx, edx], extended)| {
            let leaf = if extended { leaf | 0x8000_0000 } else { leaf };
            HostLeaf { leaf, subleaf, registers: CpuidRegisters { eax, ebx, ecx, edx } }
        }).collect();
        let cpu_count = cpu_count % 4096;
        let policy = CpuidPolicy { cpu_count, apic_id, xsave, tsc_khz, lapic_khz, ..POLICY };
        let cpuid = GuestCpuid::new(&host, &policy);
        let input = CpuidInput { cr4: Cr4::from_bits_retain(cr4), xcr0 };
        let _ = cpuid.lookup(leaf, subleaf, &input);
        for leaf in (0..0x30).chain(0x8000_0000..0x8000_0030) {
            let _ = cpuid.lookup(leaf, subleaf % 4, &input);
        }
    }
}

#[test]
fn tsc_aux_needs_its_instructions() {
    let host =
        [HostLeaf { leaf: 7, subleaf: 0, registers: ALL }, HostLeaf { leaf: 0x8000_0001, subleaf: 0, registers: ALL }];
    for tsc_aux in [false, true] {
        let cpuid = GuestCpuid::new(&host, &CpuidPolicy { tsc_aux, ..POLICY });
        let rdpid = cpuid.lookup(7, 0, &INPUT).ecx >> 22 & 1 == 1;
        let rdtscp = cpuid.lookup(0x8000_0001, 0, &INPUT).edx >> 27 & 1 == 1;
        assert_eq!((rdpid, rdtscp), (tsc_aux, tsc_aux));
    }
}

const ALL: CpuidRegisters = CpuidRegisters { eax: !0, ebx: !0, ecx: !0, edx: !0 };
