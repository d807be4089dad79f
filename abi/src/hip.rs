//! Hypervisor information page: what the root task is told at its start.
//!
//! Mapped read-only in the root task at [`ADDRESS`]; RDI holds its address at entry. It fits one page.

use core::fmt;
use core::mem::size_of;

/// Where the page is mapped: the topmost page of user space.
pub const ADDRESS: u64 = crate::USER_TOP - crate::PAGE_SIZE;
/// The root task's UTCB, one page below.
pub const ROOT_UTCB: u64 = ADDRESS - crate::PAGE_SIZE;
/// Magic number: "KILONOVA" in little-endian order.
pub const MAGIC: u64 = u64::from_le_bytes(*b"KILONOVA");
/// Most memory ranges and modules described.
pub const MAX_RANGES: usize = 112;
/// Most CPUs.
pub const MAX_CPUS: usize = 255;

bitflags::bitflags! {
    /// What the CPUs offer ([`Hip::features`]).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u64 {
        /// AMD SVM with nested paging.
        const SVM = 1 << 0;
        /// Intel VMX with EPT and unrestricted guest.
        const VMX = 1 << 1;
        /// SVM saves the next instruction pointer at exits.
        const NRIP = 1 << 2;
        /// Exits carry decoded instruction bytes.
        const DECODE_ASSISTS = 1 << 3;
        /// XSAVE is in use.
        const XSAVE = 1 << 4;
        /// The local APICs are in x2APIC mode.
        const X2APIC = 1 << 5;
    }
}

/// Why there are no vCPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum VcpuAbsence {
    /// The CPUs have no virtualisation, or SVM without nested paging.
    Hardware = 0,
    /// The firmware has switched it off.
    Firmware = 1,
    /// VMX without EPT.
    Ept = 2,
    /// VMX that cannot run guests without paging.
    UnrestrictedGuest = 3,
    /// VMX without a control that is needed.
    Control = 4,
}

impl VcpuAbsence {
    /// The reason with this number; [`Self::Hardware`] for an unknown one.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        let all = [Self::Hardware, Self::Firmware, Self::Ept, Self::UnrestrictedGuest, Self::Control];
        all.into_iter().find(|absence| *absence as u32 == number).unwrap_or(Self::Hardware)
    }
}

impl fmt::Display for VcpuAbsence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hardware => "CPU has no SVM/VMX",
            Self::Firmware => "disabled by firmware",
            Self::Ept => "VMX has no EPT",
            Self::UnrestrictedGuest => "VMX has no unrestricted guest",
            Self::Control => "VMX lacks a control",
        })
    }
}

/// Kind of a memory range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum RangeKind {
    /// RAM, free for use (minus the modules and what the hypervisor keeps, listed as ranges of their own).
    Free = 1,
    /// ACPI tables.
    Acpi = 3,
    /// Reserved by the firmware: device registers and the like.
    Reserved = 2,
    /// The hypervisor: never mappable.
    Hypervisor = 16,
    /// A boot module; `aux` is the physical address of its NUL-terminated command line.
    Module = 17,
    /// What the loader left to be read: the command lines, which may share a page with a module.
    Loader = 18,
}

/// A physical memory range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Range {
    /// First byte.
    pub base: u64,
    /// Bytes.
    pub size: u64,
    /// [`RangeKind`]; other values are as reported by the firmware.
    pub kind: u32,
    /// Reserved.
    pub reserved: u32,
    /// Depends on the kind.
    pub aux: u64,
}

/// The page.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Hip {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`](crate::VERSION).
    pub version: u32,
    /// CPUs running.
    pub cpu_count: u32,
    /// [`Features`].
    pub features: u64,
    /// TSC ticks per second.
    pub tsc_hz: u64,
    /// Physical address of the ACPI root pointer; 0 if there is none.
    pub rsdp: u64,
    /// Physical address of the hypervisor's NUL-terminated command line; 0 if there is none.
    pub command_line: u64,
    /// Number of global system interrupts.
    pub gsi_count: u32,
    /// Base I/O port of the UART that the hypervisor logs to; 0 for none.
    pub log_port: u32,
    /// Linear frame buffer set up by the loader: address, then pitch, width, height, bits per pixel (16 bits each).
    pub framebuffer: [u64; 2],
    /// Valid entries of `ranges`.
    pub range_count: u32,
    /// Why `features` has neither SVM nor VMX: a [`VcpuAbsence`].
    pub vcpu_absence: u32,
    /// Memory ranges, in the loader's order: modules may come before the free memory that they are in.
    pub ranges: [Range; MAX_RANGES],
}

const _: () = assert!(size_of::<Range>() == 32);
const _: () = assert!(size_of::<Hip>() <= 4096);
