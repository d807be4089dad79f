//! One-instruction wrappers. They are safe to call, but what makes them so is often an obligation of the caller, who is in `arch` for that
//! reason.

use core::arch::asm;
pub use core::arch::x86_64::CpuidResult as Cpuid;
use core::arch::x86_64::{__cpuid, __cpuid_count};

/// Model-specific registers (SDM vol. 4; APM vol. 2, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are the registers'")]
#[repr(u32)]
pub enum Msr {
    ApicBase = 0x1b,
    FeatureControl = 0x3a,
    ArchCapabilities = 0x10a,
    SysenterCs = 0x174,
    SysenterEsp = 0x175,
    SysenterEip = 0x176,
    McgCap = 0x179,
    McgStatus = 0x17a,
    Pat = 0x277,
    Mc0Status = 0x401,
    VmxBasic = 0x480,
    VmxPin = 0x481,
    VmxPrimary = 0x482,
    VmxExit = 0x483,
    VmxEntry = 0x484,
    VmxMisc = 0x485,
    VmxCr0Fixed0 = 0x486,
    VmxCr4Fixed0 = 0x488,
    VmxSecondary = 0x48b,
    VmxEptVpid = 0x48c,
    VmxTruePin = 0x48d,
    VmxTruePrimary = 0x48e,
    VmxTrueExit = 0x48f,
    VmxTrueEntry = 0x490,
    TscDeadline = 0x6e0,
    X2Apic = 0x800,
    Efer = 0xc000_0080,
    Star = 0xc000_0081,
    Lstar = 0xc000_0082,
    Cstar = 0xc000_0083,
    Sfmask = 0xc000_0084,
    FsBase = 0xc000_0100,
    GsBase = 0xc000_0101,
    KernelGsBase = 0xc000_0102,
    VmCr = 0xc001_0114,
    VmHsavePa = 0xc001_0117,
}

/// Reads an MSR that the CPU has.
#[inline(always)]
pub fn rdmsr(msr: Msr) -> u64 {
    rdmsr_at(msr as u32)
}

/// Reads an MSR by number; the CPU has it.
#[inline(always)]
pub fn rdmsr_at(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading an MSR that exists has no effect on memory. Callers name registers that the checked features imply.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes an MSR.
#[inline(always)]
pub fn wrmsr(msr: Msr, value: u64) {
    wrmsr_at(msr as u32, value);
}

/// Writes an MSR by number.
#[inline(always)]
pub fn wrmsr_at(msr: u32, value: u64) {
    // SAFETY: callers in `arch` write values that keep the kernel's own state valid (the register is named at each call).
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags));
    }
}

/// Has everything that was stored before be visible to other CPUs before an MSR is written that does not wait for it by itself, as
/// those of an x2APIC (SDM vol. 3, 11.12.3).
pub fn fence_before_wrmsr() {
    // SAFETY: no effect but on order.
    unsafe { asm!("mfence", "lfence", options(nostack, preserves_flags)) };
}

/// CPUID; zeroes beyond the highest leaf.
pub fn cpuid(leaf: u32, subleaf: u32) -> Cpuid {
    let top = __cpuid(leaf & 0xffff_0000).eax;
    if leaf > top { Cpuid { eax: 0, ebx: 0, ecx: 0, edx: 0 } } else { __cpuid_count(leaf, subleaf) }
}

/// Reads a port.
pub fn inb(port: u16) -> u8 {
    let value: u8;
    // SAFETY: the kernel accesses ports of its serial line, the PIC, the timer and the ACPI PM timer only; none affects memory.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads a 32-bit port.
pub fn inl(port: u16) -> u32 {
    let value: u32;
    // SAFETY: as `inb`.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a port.
pub fn outb(port: u16, value: u8) {
    // SAFETY: as `inb`.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}

/// Writes a 16-bit port.
pub fn outw(port: u16, value: u16) {
    // SAFETY: as `inb`.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags)) };
}

/// Reads a 16-bit port.
pub fn inw(port: u16) -> u16 {
    let value: u16;
    // SAFETY: as `inb`.
    unsafe { asm!("in ax, dx", in("dx") port, out("ax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Loads a page-table root, which flushes all translations that are not global.
#[inline(always)]
pub fn write_cr3(root: u64) {
    // SAFETY: every root that the kernel loads maps the kernel in its upper half (`MemSpace::init`).
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) };
}

/// CR0.
pub fn read_cr0() -> u64 {
    let value: u64;
    // SAFETY: no effect.
    unsafe { asm!("mov {}, cr0", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Page-fault address.
#[inline(always)]
pub fn read_cr2() -> u64 {
    let value: u64;
    // SAFETY: no effect.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Sets the page-fault address.
#[inline(always)]
pub fn write_cr2(value: u64) {
    // SAFETY: the kernel reads it right after page faults of user mode only.
    unsafe { asm!("mov cr2, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

/// CR4.
pub fn read_cr4() -> u64 {
    let value: u64;
    // SAFETY: no effect.
    unsafe { asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Sets CR4.
pub fn write_cr4(value: u64) {
    // SAFETY: callers keep PAE set and set bits only that CPUID reports.
    unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// Sets DR0 to DR3.
pub fn write_breakpoints([first, second, third, fourth]: [u64; 4]) {
    if cfg!(target_os = "none") {
        // SAFETY: the kernel never enables a breakpoint in DR7, nor does any exit.
        unsafe {
            asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}", in(reg) first, in(reg) second,
                in(reg) third, in(reg) fourth, options(nomem, nostack, preserves_flags));
        }
    }
}

/// Lets pending interrupts in, once.
pub fn interrupt_window() {
    // SAFETY: the handlers run on this stack and return; the kernel holds no lock here.
    unsafe { asm!("sti", "nop", "cli", options()) };
}

/// Stops the CPU for good.
pub fn halt() -> ! {
    loop {
        // SAFETY: interrupts are off and stay off.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
