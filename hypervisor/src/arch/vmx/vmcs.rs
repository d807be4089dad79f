//! The virtual-machine control structure: its fields, and the instructions that reach them (SDM vol. 3, chapter 25 and
//! appendix B).
//!
//! Fields can be accessed while the structure is *current* on the CPU. An *active* one may have parts in that CPU, which must
//! clear it before another CPU makes it current, and before its memory is used for something else. Each CPU remembers
//! which one is current.

use crate::cpu::Cpu;
use crate::mem::Phys;
use core::arch::asm;

/// Encodings of fields (SDM vol. 3, appendix B). Of an array it is that of the first; the others follow in steps of 2: segments in the
/// order of [`abi::state::seg`], and page-directory pointers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are the manual's")]
#[repr(u64)]
pub enum Code {
    Vpid = 0x0000,
    GuestSelector = 0x0800,
    HostEs = 0x0c00,
    HostCs = 0x0c02,
    HostSs = 0x0c04,
    HostDs = 0x0c06,
    HostFs = 0x0c08,
    HostGs = 0x0c0a,
    HostTr = 0x0c0c,
    IoBitmapA = 0x2000,
    IoBitmapB = 0x2002,
    MsrBitmap = 0x2004,
    ExitMsrStore = 0x2006,
    ExitMsrLoad = 0x2008,
    EntryMsrLoad = 0x200a,
    TscOffset = 0x2010,
    EptPointer = 0x201a,
    GuestPhysical = 0x2400,
    LinkPointer = 0x2800,
    GuestDebugctl = 0x2802,
    GuestPat = 0x2804,
    GuestEfer = 0x2806,
    GuestPdpte = 0x280a,
    HostPat = 0x2c00,
    HostEfer = 0x2c02,
    PinControls = 0x4000,
    PrimaryControls = 0x4002,
    Exceptions = 0x4004,
    PageFaultMask = 0x4006,
    PageFaultMatch = 0x4008,
    Cr3Targets = 0x400a,
    ExitControls = 0x400c,
    ExitMsrStoreCount = 0x400e,
    ExitMsrLoadCount = 0x4010,
    EntryControls = 0x4012,
    EntryMsrLoadCount = 0x4014,
    EntryEvent = 0x4016,
    EntryError = 0x4018,
    EntryInstructionLength = 0x401a,
    SecondaryControls = 0x401e,
    InstructionError = 0x4400,
    ExitReason = 0x4402,
    ExitEvent = 0x4404,
    ExitError = 0x4406,
    VectoringEvent = 0x4408,
    VectoringError = 0x440a,
    ExitInstructionLength = 0x440c,
    GuestLimit = 0x4800,
    GuestAccessRights = 0x4814,
    Interruptibility = 0x4824,
    Activity = 0x4826,
    Smbase = 0x4828,
    GuestSysenterCs = 0x482a,
    PreemptionTimer = 0x482e,
    HostSysenterCs = 0x4c00,
    Cr0Mask = 0x6000,
    Cr4Mask = 0x6002,
    Cr0Shadow = 0x6004,
    Cr4Shadow = 0x6006,
    Qualification = 0x6400,
    GuestCr0 = 0x6800,
    GuestCr3 = 0x6802,
    GuestCr4 = 0x6804,
    GuestBase = 0x6806,
    GuestDr7 = 0x681a,
    GuestRsp = 0x681c,
    GuestRip = 0x681e,
    GuestRflags = 0x6820,
    PendingDebug = 0x6822,
    GuestSysenterEsp = 0x6824,
    GuestSysenterEip = 0x6826,
    HostCr0 = 0x6c00,
    HostCr3 = 0x6c02,
    HostCr4 = 0x6c04,
    HostFsBase = 0x6c06,
    HostGsBase = 0x6c08,
    HostTrBase = 0x6c0a,
    HostGdtrBase = 0x6c0c,
    HostIdtrBase = 0x6c0e,
    HostSysenterEsp = 0x6c10,
    HostSysenterEip = 0x6c12,
    HostRsp = 0x6c14,
    HostRip = 0x6c16,
}

/// Reads a field of the current structure.
#[inline(always)]
pub fn read(code: Code) -> u64 {
    read_at(code as u64)
}

/// Reads a field of an array.
#[inline(always)]
pub fn read_array(code: Code, index: usize) -> u64 {
    read_at(code as u64 + index as u64 * 2)
}

/// Reads a segment's or descriptor table's base.
#[inline(always)]
pub fn read_segment_base(segment: usize) -> u64 {
    read_array(Code::GuestBase, segment)
}

#[inline(always)]
fn read_at(code: u64) -> u64 {
    let value: u64;
    // SAFETY: VMREAD changes nothing but the flags. A structure is current (callers in `vmx` hold a `Vmcs`), and it has the
    // fields that the adjusted controls imply.
    unsafe { asm!("vmread {}, {}", out(reg) value, in(reg) code, options(nomem, nostack)) };
    value
}

/// Sets a field of the current structure.
#[inline(always)]
pub fn write(code: Code, value: u64) {
    write_at(code as u64, value);
}

/// Sets a field of an array.
#[inline(always)]
pub fn write_array(code: Code, index: usize, value: u64) {
    write_at(code as u64 + index as u64 * 2, value);
}

/// Sets a segment's or descriptor table's base.
#[inline(always)]
pub fn write_segment_base(segment: usize, value: u64) {
    write_array(Code::GuestBase, segment, value);
}

#[inline(always)]
fn write_at(code: u64, value: u64) {
    // SAFETY: as for `read_at`. Host fields are written by `setup::host` and `world` only, with the kernel's own state; guest fields and
    // controls are checked by the processor at entry.
    unsafe { asm!("vmwrite {}, {}", in(reg) code, in(reg) value, options(nostack)) };
}

/// Makes the structure at `at` current, unless it is.
#[inline(always)]
pub fn make_current(cpu: &'static Cpu, at: Phys) {
    if cpu.vmcs.get() == at.0 {
        return;
    }
    // SAFETY: `at` is the control page of a vCPU, which begins with the revision identifier (`setup`), and no other CPU has it
    // active (`release`).
    unsafe { asm!("vmptrld [{}]", in(reg) &at.0, options(nostack)) };
    cpu.vmcs.set(at.0);
}

/// Writes the structure at `at` back to its memory: it is no longer active, nor launched.
pub fn clear(cpu: &'static Cpu, at: Phys) {
    // SAFETY: `at` is the control page of a vCPU.
    unsafe { asm!("vmclear [{}]", in(reg) &at.0, options(nostack)) };
    if cpu.vmcs.get() == at.0 {
        cpu.vmcs.set(NONE);
    }
}

/// No structure is current.
pub const NONE: u64 = 0;
