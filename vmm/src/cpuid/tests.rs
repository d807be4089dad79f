use proptest::prelude::*;

use super::*;

const POLICY: CpuidPolicy = CpuidPolicy {
    apic_id: 3,
    cpu_count: 4,
    tsc_khz: 2_600_000,
    lapic_khz: 1_000_000,
    xcr0: Xcr0::empty(),
    pcid: false,
    x2apic: true,
    tsc_deadline: true,
    tsc_aux: false,
};

/// What the guest reads in XCR0: XSAVE is not enabled.
const OFF: Xcr0 = Xcr0::empty();
const AVX: Xcr0 = Xcr0::X87.union(Xcr0::SSE).union(Xcr0::AVX);

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
    let features = cpuid.lookup(1, 0, OFF);
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
    let extended = cpuid.lookup(7, 0, OFF);
    assert!(bit(extended.ebx, 7) && bit(extended.ebx, 20), "SMEP, SMAP");
    for (name, number) in [("TSC_ADJUST", 1), ("SGX", 2), ("AVX2", 5), ("INVPCID", 10), ("MPX", 14)] {
        assert!(!bit(extended.ebx, number), "{name}");
    }
    for (name, number) in [("PKU", 3), ("CET_SS", 7), ("LA57", 16), ("PKS", 31)] {
        assert!(!bit(extended.ecx, number), "{name}");
    }
    assert_eq!(extended.edx & bits_of(26..32), 0, "speculation controls");
    let amd = cpuid.lookup(0x8000_0001, 0, OFF);
    for (name, number) in [("SVM", 2), ("IBS", 10), ("SKINIT", 12), ("LWP", 15), ("MWAITX", 29)] {
        assert!(!bit(amd.ecx, number), "{name}");
    }
    assert!(bit(amd.edx, 20) && bit(amd.edx, 29), "NX, LM");
    for leaf in [3, 5, 9, 0xa, 0xd, 0xf, 0x12, 0x14, 0x17, 0x8000_000a, 0x8000_001f] {
        assert_eq!(cpuid.lookup(leaf, 0, OFF), CpuidRegisters::default(), "{leaf:#x}");
    }
}

fn bits_of(range: std::ops::Range<u32>) -> u32 {
    range.map(|number| 1 << number).sum()
}

#[test]
fn a_host_without_a_feature_gives_none() {
    let cpuid = GuestCpuid::new(
        &[HostLeaf { leaf: 1, subleaf: 0, registers: CpuidRegisters::default() }],
        &CpuidPolicy { xcr0: AVX, pcid: true, ..POLICY },
    );
    let features = cpuid.lookup(1, 0, OFF);
    assert_eq!(features.ecx, 1 << 31 | 1 << 21 | 1 << 24, "only what the models provide");
    assert_eq!(features.edx, 1 << 9 | 1 << 28);
}

#[test]
fn xsave_is_a_policy() {
    let cpuid = guest(CpuidPolicy { xcr0: AVX, pcid: true, ..POLICY });
    let off = cpuid.lookup(1, 0, OFF).ecx;
    assert!(bit(off, 26) && bit(off, 28) && bit(off, 17) && !bit(off, 27));
    assert!(bit(cpuid.lookup(1, 0, AVX).ecx, 27), "OSXSAVE follows CR4");
    assert_eq!(cpuid.lookup(0xd, 0, OFF).eax, 7);
    assert_eq!(cpuid.lookup(0xd, 1, AVX).eax, 5, "neither XSAVEC nor XSAVES");
    assert_eq!(cpuid.lookup(0xd, 1, AVX).ebx, 0, "so no compacted area");
    assert_eq!(cpuid.lookup(0xd, 3, OFF), CpuidRegisters::default());
    assert!(!bit(guest(POLICY).lookup(1, 0, AVX).ecx, 27));
}

/// A subleaf of leaf 0Dh.
fn xsave_leaf(subleaf: u32, eax: u32, ebx: u32, ecx: u32) -> HostLeaf {
    HostLeaf { leaf: 0xd, subleaf, registers: CpuidRegisters { eax, ebx, ecx, edx: 0 } }
}

/// A host with all of AVX-512 and one component that guests do not get; its hypervisor has enabled the first `enabled` bytes.
fn host_with_avx512(enabled: u32) -> Vec<HostLeaf> {
    const ALIGNED: u32 = 2;
    [
        (0, 0x2e7, enabled, 2696),
        (1, 0xf, 0, 0),
        (2, 256, 576, 0),
        (5, 64, 1088, 0),
        (6, 512, 1152, ALIGNED),
        (7, 1024, 1664, ALIGNED),
        (9, 8, 2688, 0),
    ]
    .map(|(subleaf, eax, ebx, ecx)| xsave_leaf(subleaf, eax, ebx, ecx))
    .to_vec()
}

#[test]
fn guests_may_have_what_is_enabled_and_known() {
    assert_eq!(extended_state(&host_with_avx512(2688)), AVX | Xcr0::AVX512);
    assert_eq!(extended_state(&host_with_avx512(2696)), AVX | Xcr0::AVX512 | Xcr0::PKRU);
    assert_eq!(extended_state(&host_with_avx512(832)), AVX);
    assert_eq!(extended_state(&host_with_avx512(576)), Xcr0::X87 | Xcr0::SSE);
    let mut sizeless = host_with_avx512(2696);
    sizeless.retain(|host| host.subleaf != 9);
    sizeless.push(xsave_leaf(9, 0, 0, 0));
    assert_eq!(extended_state(&sizeless), AVX | Xcr0::AVX512, "a component without size or place");
    assert_eq!(extended_state(&[]), Xcr0::empty());
}

#[test]
fn avx512_comes_with_its_state() {
    for (xcr0, has) in [(AVX, false), (AVX | Xcr0::AVX512, true)] {
        let cpuid = guest(CpuidPolicy { xcr0, ..POLICY });
        let features = cpuid.lookup(7, 0, OFF);
        assert_eq!((bit(features.ebx, 16), bit(features.ecx, 1), bit(features.ebx, 5)), (has, has, true));
        assert_eq!(cpuid.lookup(0xd, 0, OFF).eax, xcr0.bits() as u32);
    }
}

#[test]
fn the_area_is_as_large_as_what_is_enabled() {
    let policy = CpuidPolicy { xcr0: AVX | Xcr0::AVX512, ..POLICY };
    let cpuid = GuestCpuid::new(&host_with_avx512(2688), &policy);
    let size = |xcr0| cpuid.lookup(0xd, 0, xcr0).ebx;
    assert_eq!([Xcr0::X87, AVX, AVX | Xcr0::AVX512].map(size), [576, 832, 2688]);
    assert_eq!(cpuid.lookup(0xd, 0, OFF).ecx, 2688);
    assert_eq!(cpuid.lookup(0xd, 9, OFF), CpuidRegisters::default());
}

#[test]
fn protection_keys_come_with_their_state() {
    let keys = |offered: Xcr0, xcr0| guest(CpuidPolicy { xcr0: offered, ..POLICY }).lookup(7, 0, xcr0).ecx >> 3 & 3;
    assert_eq!([keys(AVX, AVX), keys(AVX | Xcr0::PKRU, AVX), keys(AVX | Xcr0::PKRU, AVX | Xcr0::PKRU)], [0, 1, 3]);
}

#[test]
fn the_xsave_area_follows_xcr0() {
    let leaf = |subleaf, eax, ebx| xsave_leaf(subleaf, eax, ebx, 0);
    let cpuid = GuestCpuid::new(&[leaf(0, 7, 999), leaf(2, 256, 576)], &CpuidPolicy { xcr0: AVX, ..POLICY });
    let size = |xcr0| cpuid.lookup(0xd, 0, Xcr0::from_bits_retain(xcr0)).ebx;
    assert_eq!((size(1), size(3), size(7)), (576, 576, 832));
    assert_eq!(cpuid.lookup(0xd, 0, OFF).ecx, 832);
}

#[test]
fn topology_is_one_package() {
    let cpuid = guest(POLICY);
    let features = cpuid.lookup(1, 0, OFF);
    assert_eq!((features.ebx >> 24, features.ebx >> 16 & 0xff), (3, 4));
    assert!(bit(features.edx, 28), "HTT");
    let [smt, core, end] = [0, 1, 2].map(|level| cpuid.lookup(0xb, level, OFF));
    assert_eq!(smt, CpuidRegisters { eax: 0, ebx: 1, ecx: 0x100, edx: 3 });
    assert_eq!(core, CpuidRegisters { eax: 2, ebx: 4, ecx: 0x201, edx: 3 });
    assert_eq!(end, CpuidRegisters { eax: 0, ebx: 0, ecx: 2, edx: 3 });
    let sizes = cpuid.lookup(0x8000_0008, 0, OFF);
    assert_eq!(sizes.ecx, 2 << 12 | 3);
    assert!(!bit(sizes.ebx, 9), "WBNOINVD");
    let amd = cpuid.lookup(0x8000_001e, 0, OFF);
    assert_eq!(amd, CpuidRegisters { eax: 3, ebx: 3, ecx: 0, edx: 0 });
    let single = guest(CpuidPolicy { cpu_count: 1, apic_id: 0, ..POLICY });
    assert!(!bit(single.lookup(1, 0, OFF).edx, 28));
    assert!(!bit(single.lookup(0x8000_0001, 0, OFF).ecx, 1), "CMP_LEGACY");
    assert_eq!(single.lookup(0xb, 1, OFF).eax, 0);
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
        let sharing = [0, 1, 2].map(|subleaf| cpuid.lookup(leaf, subleaf, OFF).eax >> 14 & 0xfff);
        assert_eq!(sharing, [0, 0, 3], "{leaf:#x}");
    }
    assert_eq!(cpuid.lookup(4, 0, OFF).eax >> 26, 3, "cores per package - 1");
}

#[test]
fn the_hypervisor_announces_itself_and_its_clocks() {
    let cpuid = guest(POLICY);
    let head = cpuid.lookup(0x4000_0000, 0, OFF);
    let signature = [head.ebx, head.ecx, head.edx].map(u32::to_le_bytes).concat();
    assert_eq!((head.eax, &signature[..]), (0x4000_0010, &b"KilonovaVMM\0"[..]));
    let timing = cpuid.lookup(0x4000_0010, 0, OFF);
    assert_eq!((timing.eax, timing.ebx), (2_600_000, 1_000_000));
    let tsc = cpuid.lookup(0x15, 0, OFF);
    let hz = u64::from(tsc.ecx) * u64::from(tsc.ebx) / u64::from(tsc.eax);
    assert_eq!(hz, 2_600_000_000);
    assert_eq!(cpuid.lookup(0x16, 0, OFF).eax, 2600);
    assert_eq!(cpuid.lookup(0x4000_0001, 0, OFF), CpuidRegisters::default());
}

#[test]
fn clocks_that_are_told_are_right() {
    // The crystal's frequency has 32 bits: 4.29 GHz.
    for (khz, crystal) in [(4_294_967, 4_294_967_000), (4_294_968, 0), (5_700_000, 0)] {
        let cpuid = guest(CpuidPolicy { tsc_khz: khz, lapic_khz: khz, ..POLICY });
        let tsc = cpuid.lookup(0x15, 0, OFF);
        assert_eq!((tsc.eax, tsc.ebx, tsc.ecx), (khz, khz, crystal));
        assert_eq!(cpuid.lookup(0x16, 0, OFF).eax, khz / 1000, "in place of the crystal's");
    }
}

#[test]
fn maxima_cover_the_leaves() {
    let cpuid = guest(POLICY);
    assert_eq!(cpuid.lookup(0, 0, OFF).eax, 0x16);
    assert_eq!(cpuid.lookup(0x8000_0000, 0, OFF).eax, 0x8000_0021);
}

#[test]
fn ecx_is_ignored_where_there_are_no_subleaves() {
    let cpuid = guest(POLICY);
    assert_eq!(cpuid.lookup(1, 77, OFF), cpuid.lookup(1, 0, OFF));
    assert_eq!(cpuid.lookup(7, 1, OFF), CpuidRegisters::default());
}

proptest! {
    #[test]
    fn no_host_and_no_guest_input_panics(
        host in prop::collection::vec((0u32..0x30, 0u32..4, any::<[u32; 4]>(), any::<bool>()), 0..40),
        leaf: u32, subleaf: u32, cpu_count: u32, apic_id: u32, offered: u64, xcr0: u64,
        tsc_khz: u32, lapic_khz: u32,
    ) {
        let host: Vec<_> = host.into_iter().map(|(leaf, subleaf, [eax, ebx, ecx, edx], extended)| {
            let leaf = if extended { leaf | 0x8000_0000 } else { leaf };
            HostLeaf { leaf, subleaf, registers: CpuidRegisters { eax, ebx, ecx, edx } }
        }).collect();
        let cpu_count = cpu_count % 4096;
        let policy = CpuidPolicy { cpu_count, apic_id, xcr0: Xcr0::from_bits_retain(offered), tsc_khz, lapic_khz, ..POLICY };
        let cpuid = GuestCpuid::new(&host, &policy);
        let xcr0 = Xcr0::from_bits_retain(xcr0);
        let _ = cpuid.lookup(leaf, subleaf, xcr0);
        for leaf in (0..0x30).chain(0x8000_0000..0x8000_0030) {
            let _ = cpuid.lookup(leaf, subleaf % 4, xcr0);
        }
    }
}

#[test]
fn tsc_aux_needs_its_instructions() {
    let host =
        [HostLeaf { leaf: 7, subleaf: 0, registers: ALL }, HostLeaf { leaf: 0x8000_0001, subleaf: 0, registers: ALL }];
    for tsc_aux in [false, true] {
        let cpuid = GuestCpuid::new(&host, &CpuidPolicy { tsc_aux, ..POLICY });
        let rdpid = cpuid.lookup(7, 0, OFF).ecx >> 22 & 1 == 1;
        let rdtscp = cpuid.lookup(0x8000_0001, 0, OFF).edx >> 27 & 1 == 1;
        assert_eq!((rdpid, rdtscp), (tsc_aux, tsc_aux));
    }
}

const ALL: CpuidRegisters = CpuidRegisters { eax: !0, ebx: !0, ecx: !0, edx: !0 };
