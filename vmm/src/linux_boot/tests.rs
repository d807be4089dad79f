use linux_loader::loader::bootparam::boot_params;
use proptest::prelude::*;
use vm_memory::GuestMemoryMmap;

use super::*;
use crate::paging::{Access, AccessKind, translate};
use crate::state::{CpuMode, Gpr};

impl File for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> Result<(), FileTooShort> {
        to.copy_from_slice(self.get(offset as usize..).and_then(|rest| rest.get(..to.len())).ok_or(FileTooShort)?);
        Ok(())
    }
}

/// A file that is not as long as it says.
struct Liar;

impl File for Liar {
    fn size(&self) -> u64 {
        1 << 20
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> Result<(), FileTooShort> {
        to.fill(0);
        if offset == 0 { Ok(()) } else { Err(FileTooShort) }
    }
}

type Memory = GuestMemoryMmap<()>;

const PREFERRED: u64 = 0x100_0000;
const INIT_SIZE: u32 = 0x80_0000;
const KERNEL_BYTES: usize = 0x3000;
const SETUP_BYTES: usize = 5 * 512;

/// A bzImage whose protected-mode part is `KERNEL_BYTES` of 0x5a.
fn kernel() -> Vec<u8> {
    let mut image = vec![0x5a; SETUP_BYTES + KERNEL_BYTES];
    image[..SETUP_BYTES].fill(0);
    let mut put = |offset: usize, bytes: &[u8]| {
        image[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0x1f1, &[4]); // setup_sects
    put(0x1f4, &(KERNEL_BYTES as u32 / 16).to_le_bytes()); // syssize
    put(0x1fe, &0xaa55u16.to_le_bytes()); // boot_flag
    put(0x200, &[0xeb, 0x6a]); // jump over the header
    put(0x202, b"HdrS");
    put(0x206, &0x020fu16.to_le_bytes()); // version
    put(0x211, &[1]); // loadflags: LOADED_HIGH
    put(0x214, &0x10_0000u32.to_le_bytes()); // code32_start
    put(0x22c, &0x7fff_ffffu32.to_le_bytes()); // initrd_addr_max
    put(0x230, &0x20_0000u32.to_le_bytes()); // kernel_alignment
    put(0x234, &[1]); // relocatable_kernel
    put(0x236, &1u16.to_le_bytes()); // xloadflags: XLF_KERNEL_64
    put(0x238, &2047u32.to_le_bytes()); // cmdline_size
    put(0x258, &PREFERRED.to_le_bytes()); // pref_address
    put(0x260, &INIT_SIZE.to_le_bytes()); // init_size
    image
}

fn machine(size: u64) -> (Memory, MemoryLayout) {
    let layout = MemoryLayout::from_size(size).unwrap();
    let ranges: Vec<_> =
        layout.ranges().iter().map(|range| (GuestAddress(range.start), range.size() as usize)).collect();
    (GuestMemoryMmap::from_ranges(&ranges).unwrap(), layout)
}

const ACPI: Reserved = Reserved { range: ACPI_REGION, kind: E820Kind::AcpiNvs };
const RSDP: u64 = ACPI_REGION.start;

fn boot(size: u64, kernel: &[u8], initrd: Option<&[u8]>, cmdline: &str) -> (Memory, Result<VcpuState, BootError>) {
    let (memory, layout) = machine(size);
    let initrd = initrd.as_ref().map(|initrd| initrd as &dyn File);
    let image = LinuxImage { kernel, initrd, cmdline };
    let result = load(&memory, &layout, &[ACPI], Some(RSDP), &image);
    (memory, result)
}

fn params(memory: &Memory) -> boot_params {
    memory.read_obj(GuestAddress(place::BOOT_PARAMS)).unwrap()
}

fn bytes(memory: &Memory, address: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
    bytes
}

#[test]
fn everything_is_in_its_place() {
    let initrd: Vec<u8> = (0..0x2_2345_u32).map(|n| (n / 7) as u8).collect();
    let (memory, state) = boot(64 << 20, &kernel(), Some(&initrd), "console=ttyS0");
    let state = state.unwrap();

    assert_eq!(bytes(&memory, PREFERRED, KERNEL_BYTES), vec![0x5a; KERNEL_BYTES]);
    let params = params(&memory);
    assert_eq!({ params.acpi_rsdp_addr }, RSDP);
    assert_eq!({ params.hdr.type_of_loader }, 0xff);
    assert_eq!({ params.hdr.ramdisk_size }, 0x2_2345);
    let initrd_at = u64::from(params.hdr.ramdisk_image);
    assert_eq!(initrd_at, (64 << 20) - 0x2_3000, "page-aligned at the top");
    assert_eq!(bytes(&memory, initrd_at, initrd.len()), initrd);
    let cmdline_at = u64::from(params.hdr.cmd_line_ptr);
    assert_eq!(bytes(&memory, cmdline_at, 14), b"console=ttyS0\0");

    assert_eq!(state.mode(), CpuMode::Long64);
    assert_eq!((state.rip, state.gpr(Gpr::Rsi)), (PREFERRED + 0x200, place::BOOT_PARAMS));
    assert!(!state.rflags.contains(crate::state::Rflags::IF));
}

#[test]
fn four_gibibytes_are_mapped_one_to_one() {
    let (memory, state) = boot(64 << 20, &kernel(), None, "");
    let mut state = state.unwrap();
    state.physical_address_bits = 40;
    let access = Access { kind: AccessKind::Write, user: false };
    for linear in [0, 0x1234, PREFERRED, 0xfee0_0300, 0xffff_ffff] {
        assert_eq!(translate(&memory, &state, linear, access).unwrap().address.0, linear);
    }
    assert!(translate(&memory, &state, 1 << 32, access).is_err());
}

#[test]
fn a_kernel_without_a_64_bit_entry_point_starts_in_protected_mode() {
    let mut without = kernel();
    without[0x236] = 0; // xloadflags
    let mut older = kernel();
    older[0x206] = 0x0b; // version: there are no xloadflags
    for image in [without, older] {
        let state = boot(64 << 20, &image, None, "").1.unwrap();
        assert_eq!((state.mode(), state.rip), (CpuMode::Protected32, PREFERRED));
        assert!(!state.cr0.contains(crate::state::Cr0::PG));
        assert_eq!((state.gpr(Gpr::Rsi), state.gpr(Gpr::Rbx)), (place::BOOT_PARAMS, 0));
    }
}

#[test]
fn the_memory_map_is_ram_without_what_is_reserved() {
    let (memory, layout) = machine(64 << 20);
    let ecam = Reserved { range: MemoryRange { start: 0xe000_0000, end: 0xe100_0000 }, kind: E820Kind::Reserved };
    let image = LinuxImage { kernel: &kernel(), initrd: None, cmdline: "" };
    load(&memory, &layout, &[ecam, ACPI], None, &image).unwrap();
    let params = params(&memory);
    let table = params.e820_table;
    let map: Vec<_> = table[..params.e820_entries.into()]
        .iter()
        .map(|entry| (entry.addr, entry.addr + entry.size, entry.r#type))
        .collect();
    let expected = [(0, 0x9_0000, 1), (0x9_0000, 0xa_0000, 4), (0x10_0000, 64 << 20, 1), (0xe000_0000, 0xe100_0000, 2)];
    assert_eq!(map, expected);
}

#[test]
fn a_large_initrd_goes_before_the_kernel() {
    // 36 MiB: the kernel takes 16..24, so 12 MiB are free behind it and 15 MiB before it.
    let initrd = vec![1; 13 << 20];
    let (memory, state) = boot(36 << 20, &kernel(), Some(&initrd), "");
    state.unwrap();
    assert_eq!({ params(&memory).hdr.ramdisk_image }, (3 << 20));
}

#[test]
fn bad_images_are_named() {
    let good = kernel();
    let with = |offset: usize, value: u8| {
        let mut image = kernel();
        image[offset] = value;
        image
    };
    let cases: Vec<(u64, Vec<u8>, &str)> = vec![
        (64, vec![], "kernel is not a bzImage"),
        (64, b"\x7fELF".repeat(300), "kernel is not a bzImage"),
        (64, good[..0x250].to_vec(), "kernel is not a bzImage"),
        (64, with(0x202, 0), "kernel is not a bzImage"),
        (64, good[..0x2000].to_vec(), "kernel is truncated: 8192 bytes of 14848"),
        (64, with(0x206, 9), "kernel has boot protocol 2.09, needs 2.10"),
        (16, good.clone(), "kernel needs RAM at 0x1000000..0x1800000, which the machine does not have"),
    ];
    for (megabytes, image, message) in cases {
        let error = boot(megabytes << 20, &image, None, "").1.unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn bad_initrd_and_command_line_are_named() {
    let large = vec![0; 48 << 20];
    let error = boot(64 << 20, &kernel(), Some(&large), "").1.unwrap_err();
    let expected = "initrd of 50331648 bytes does not fit into 41943040 bytes of free RAM";
    assert_eq!(error.to_string(), expected);
    let (memory, layout) = machine(64 << 20);
    let image = LinuxImage { kernel: &kernel(), initrd: Some(&Liar), cmdline: "" };
    assert_eq!(load(&memory, &layout, &[], None, &image).unwrap_err(), BootError::FileTooShort);
    let error = boot(64 << 20, &kernel(), None, &"a".repeat(2048)).1.unwrap_err();
    assert_eq!(error.to_string(), "command line of 2048 bytes exceeds the kernel's limit of 2047");
    assert!(boot(64 << 20, &kernel(), None, &"a".repeat(2047)).1.is_ok());
    assert_eq!(boot(64 << 20, &kernel(), None, "a\0b").1, Err(BootError::CmdlineHasNul));
    let layout = MemoryLayout::from_ranges([MemoryRange { start: 1 << 20, end: 64 << 20 }]).unwrap();
    let memory = machine(64 << 20).0;
    let image = LinuxImage { kernel: &kernel(), initrd: None, cmdline: "" };
    let error = load(&memory, &layout, &[], None, &image).unwrap_err();
    assert!(matches!(error, BootError::NoConventionalMemory(_)));
}

proptest! {
    #[test]
    fn any_header_is_handled(
        changes in prop::collection::vec((0x1f1usize..0x26c, any::<u8>()), 0..12),
        length in 0usize..SETUP_BYTES + KERNEL_BYTES,
        initrd in 0usize..0x2_0000,
    ) {
        let mut image = kernel();
        for (offset, value) in changes {
            image[offset] = value;
        }
        let initrd = vec![0; initrd];
        let _ = boot(24 << 20, &image, Some(&initrd), "x");
        let _ = boot(24 << 20, &image[..length], None, "x");
    }
}
