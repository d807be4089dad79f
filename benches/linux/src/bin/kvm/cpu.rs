//! State of the CPU at the 64-bit entry point: long mode, 4 GiB mapped one to one, flat segments.

use std::error::Error;

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_dtable, kvm_regs, kvm_segment};
use kvm_ioctls::{Kvm, VcpuFd};

use crate::memory::GuestMemory;

/// Where tables lie.
const GDT: u64 = 0x1000;
const PML4: u64 = 0x3000;
const PDPT: u64 = 0x4000;
const DIRECTORIES: u64 = 0x5000;
const STACK: u64 = 0xf000;

const PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;
/// Present, writable; and large.
const TABLE: u64 = 3;
const LARGE: u64 = 0x83;

/// Segments of the boot protocol: selector, descriptor.
const CODE: (u16, u64) = (0x10, 0x00af_9b00_0000_ffff);
const DATA: (u16, u64) = (0x18, 0x00cf_9300_0000_ffff);

/// CR0: PE, ET, NE, WP, PG. CR4: PAE. EFER: LME, LMA.
const CR0: u64 = 0x8001_0031;
const CR4: u64 = 1 << 5;
const EFER: u64 = 1 << 10 | 1 << 8;
/// RFLAGS bit that is always set.
const RFLAGS: u64 = 2;

/// Feature leaf of CPUID, ECX: what KVM has but does not list.
const FEATURES: u32 = 1;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;

/// Puts the CPU at `entry`.
pub fn prepare(kvm: &Kvm, vcpu: &VcpuFd, memory: &mut GuestMemory, entry: u64) -> Result<(), Box<dyn Error>> {
    let mut cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
    for leaf in cpuid.as_mut_slice().iter_mut().filter(|leaf| leaf.function == FEATURES) {
        leaf.ecx |= TSC_DEADLINE | HYPERVISOR;
    }
    vcpu.set_cpuid2(&cpuid)?;
    if !write_tables(memory) {
        return Err("no room for tables".into());
    }
    let mut registers = vcpu.get_sregs()?;
    registers.cs = segment(CODE, true);
    let data = segment(DATA, false);
    (registers.ds, registers.es, registers.fs) = (data, data, data);
    (registers.gs, registers.ss) = (data, data);
    registers.gdt = kvm_dtable { base: GDT, limit: 0x1f, ..Default::default() };
    (registers.cr0, registers.cr3, registers.cr4, registers.efer) = (CR0, PML4, CR4, EFER);
    vcpu.set_sregs(&registers)?;
    vcpu.set_regs(&kvm_regs { rip: entry, rsp: STACK, rflags: RFLAGS, ..Default::default() })?;
    Ok(())
}

fn segment((selector, descriptor): (u16, u64), code: bool) -> kvm_segment {
    let bits = |shift: u32, mask: u64| (descriptor >> shift & mask) as u8;
    kvm_segment {
        selector,
        limit: u32::MAX,
        type_: bits(40, 0xf),
        s: 1,
        present: 1,
        g: 1,
        l: code.into(),
        db: (!code).into(),
        ..Default::default()
    }
}

fn write_tables(memory: &mut GuestMemory) -> bool {
    let mut write = |address: u64, value: u64| memory.write(address, &value.to_le_bytes());
    let segments = write(GDT + u64::from(CODE.0), CODE.1) && write(GDT + u64::from(DATA.0), DATA.1);
    let upper =
        write(PML4, PDPT | TABLE) && (0..4).all(|index| write(PDPT + index * 8, (DIRECTORIES + index * PAGE) | TABLE));
    segments && upper && (0..4 * 512).all(|index| write(DIRECTORIES + index * 8, (index * LARGE_PAGE) | LARGE))
}
