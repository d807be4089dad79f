//! The CPU's own block, and what comes with it: stack, GDT, TSS.

use super::descriptor::Tables;
use super::x86::{self, Msr};
use crate::cpu::Cpu;
use crate::mem::Page;
use core::arch::asm;

/// Bytes of a kernel stack.
const STACK_BYTES: usize = 16 * 1024;
/// Bytes of the stack for double faults and machine checks.
const FAULT_STACK_BYTES: usize = 4096;

/// Everything that a CPU has, in one block of the pool.
#[repr(C, align(4096))]
pub struct Area {
    /// The block that GS points to.
    pub cpu: Cpu,
    /// GDT, TSS with I/O bitmap.
    pub tables: Tables,
    fault_stack: [u8; FAULT_STACK_BYTES],
    stack: [u8; STACK_BYTES],
}

/// Offset from the CPU block of the word that says whether the I/O bitmap is in force.
pub const IO_MAP: usize = core::mem::offset_of!(Area, tables) + super::descriptor::IO_MAP;

/// Order of the pool block that holds an [`Area`].
pub const ORDER: usize = 4;
const _: () = assert!(size_of::<Area>() <= 4096 << ORDER);

impl Area {
    /// The area in a zeroed block of order [`ORDER`] that is the caller's for good.
    pub fn at(block: Page) -> &'static Self {
        // SAFETY: zero is valid for all fields: words, links, and plain bytes that only the CPU itself uses as stack.
        unsafe { &*(block.virt() as *const Self) }
    }

    /// Top of the kernel stack.
    pub fn stack_top(&self) -> u64 {
        (&raw const self.stack).addr() as u64 + STACK_BYTES as u64
    }

    /// Top of the stack for double faults and machine checks.
    pub fn fault_stack_top(&self) -> u64 {
        (&raw const self.fault_stack).addr() as u64 + FAULT_STACK_BYTES as u64
    }

    /// The area around a CPU block.
    pub fn of(cpu: &'static Cpu) -> &'static Self {
        // SAFETY: CPU blocks exist as the first field of an Area only.
        unsafe { &*(cpu as *const Cpu).cast() }
    }

    /// Makes GS point to the block of this CPU.
    pub fn load(&'static self) {
        x86::wrmsr(Msr::GsBase, self.cpu.this.get());
        x86::wrmsr(Msr::KernelGsBase, 0);
    }
}

/// Block of the CPU that executes this.
#[inline(always)]
pub fn current() -> &'static Cpu {
    let this: u64;
    // SAFETY: in the kernel GS points to the block of this CPU (`Area::load`, SWAPGS at entry and exit), whose first word
    // is its own address.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) this, options(nostack, preserves_flags, readonly, pure));
        &*(this as *const Cpu)
    }
}

/// Block at an address stored by `cpu::register`.
pub fn at(addr: u64) -> Option<&'static Cpu> {
    // SAFETY: zero or the address of a registered block, which lives for good.
    unsafe { (addr as *const Cpu).as_ref() }
}
