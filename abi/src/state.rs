//! Architectural state of threads and vCPUs as it travels in the UTCB, and the selection of its parts.

mod injection;

pub use injection::{EventKind, Injection};

use core::mem::{offset_of, size_of};

bitflags::bitflags! {
    /// Message transfer descriptor: which parts of [`ArchState`] are transferred. A portal's selection says
    /// what is delivered with an event, RSI of the reply what is taken back.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Mtd: u32 {
        /// RAX, RCX, RDX, RBX.
        const ACDB = 1 << 0;
        /// RSP, RBP, RSI, RDI.
        const BSD = 1 << 1;
        /// R8 to R15.
        const R8_R15 = 1 << 2;
        /// RIP and instruction length.
        const RIP = 1 << 3;
        /// RFLAGS.
        const RFLAGS = 1 << 4;
        /// Injection request (written), event in delivery when the exit happened (read).
        const INJ = 1 << 5;
        /// Interruptibility and activity.
        const STA = 1 << 6;
        /// CS and SS.
        const CS_SS = 1 << 7;
        /// DS and ES.
        const DS_ES = 1 << 8;
        /// FS and GS.
        const FS_GS = 1 << 9;
        /// TR.
        const TR = 1 << 10;
        /// LDTR.
        const LDTR = 1 << 11;
        /// GDTR.
        const GDTR = 1 << 12;
        /// IDTR.
        const IDTR = 1 << 13;
        /// CR0, CR2, CR3, CR4, CR8.
        const CR = 1 << 14;
        /// DR0 to DR3, DR6 and DR7.
        const DR = 1 << 15;
        /// EFER.
        const EFER = 1 << 16;
        /// STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE.
        const SYSCALL = 1 << 17;
        /// SYSENTER_CS, _ESP, _EIP.
        const SYSENTER = 1 << 18;
        /// PAT.
        const PAT = 1 << 19;
        /// TSC offset (written); guest TSC at the exit (read, in `tsc_value`).
        const TSC = 1 << 20;
        /// XCR0 (read: 0 while CR4.OSXSAVE is clear).
        const XCR0 = 1 << 21;
        /// Instruction bytes fetched by the hardware, where it does so.
        const INST_BYTES = 1 << 22;
        /// Execution controls (written): optional intercepts.
        const CTRL = 1 << 23;
        /// The sixteen XMM registers.
        const XMM = 1 << 24;
        /// Flush the vCPU's tagged TLB entries before the next entry (written).
        const TLB_FLUSH = 1 << 25;
        /// When the vCPU is recalled (written).
        const DEADLINE = 1 << 26;
        /// Page-directory pointers of a guest with PAE paging.
        const PDPTE = 1 << 27;
        /// Stop the EC for good (written).
        const KILL = 1 << 31;
        /// All general-purpose registers.
        const GPR = Self::ACDB.bits() | Self::BSD.bits() | Self::R8_R15.bits();
        /// All segment registers.
        const SEG = Self::CS_SS.bits() | Self::DS_ES.bits() | Self::FS_GS.bits()
            | Self::TR.bits() | Self::LDTR.bits();
        /// What an instruction emulator reads.
        const EMULATE = Self::GPR.bits() | Self::RIP.bits() | Self::RFLAGS.bits() | Self::CS_SS.bits()
            | Self::DS_ES.bits() | Self::FS_GS.bits() | Self::CR.bits() | Self::EFER.bits()
            | Self::INJ.bits() | Self::STA.bits() | Self::INST_BYTES.bits();
    }
}

/// Indices into [`ArchState::gpr`]: the encoding of registers in instructions (SDM vol. 2, 3.1.1.1).
#[allow(missing_docs, reason = "the names are the registers'")]
pub mod gpr {
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
    pub const R8: usize = 8;
    pub const R9: usize = 9;
    pub const R10: usize = 10;
    pub const R11: usize = 11;
    pub const R12: usize = 12;
    pub const R13: usize = 13;
    pub const R14: usize = 14;
    pub const R15: usize = 15;
}

/// A segment register with its hidden part, in the layout of the VMCB (APM vol. 2, 15.5.1 and appendix B).
///
/// `attributes` is: type 3:0, S 4, DPL 6:5, P 7, AVL 8, L 9, D/B 10, G 11. A segment that is not present
/// (P clear) is unusable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Packed attributes.
    pub attributes: u16,
    /// Limit in bytes.
    pub limit: u32,
    /// Base address.
    pub base: u64,
}

/// Indices into [`ArchState::seg`].
#[allow(missing_docs, reason = "the names are the registers'")]
pub mod seg {
    pub const ES: usize = 0;
    pub const CS: usize = 1;
    pub const SS: usize = 2;
    pub const DS: usize = 3;
    pub const FS: usize = 4;
    pub const GS: usize = 5;
    pub const LDTR: usize = 6;
    pub const TR: usize = 7;
    pub const GDTR: usize = 8;
    pub const IDTR: usize = 9;
}

bitflags::bitflags! {
    /// Interruptibility of a vCPU ([`ArchState::interruptibility`]).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Interruptibility: u32 {
        /// The instruction after STI or a load of SS is being executed: interrupts wait for one instruction.
        const SHADOW = 1 << 0;
        /// NMIs are blocked until the next IRET.
        const NMI_BLOCKED = 1 << 3;
    }
}

bitflags::bitflags! {
    /// Optional intercepts of a vCPU ([`ArchState::controls`]). What must be intercepted to keep the
    /// hypervisor in control always is.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Controls: u32 {
        /// Exit on HLT.
        const HLT = 1 << 0;
        /// Exit on PAUSE.
        const PAUSE = 1 << 1;
        /// Exit on INVLPG.
        const INVLPG = 1 << 2;
        /// Exit on RDTSC and RDTSCP.
        const RDTSC = 1 << 3;
        /// Exit on loads of CR3.
        const CR3_WRITE = 1 << 4;
        /// Exit on loads of CR0 and CR4 (SVM: any write; VMX: of bits that differ from the shadow).
        const CR0_CR4_WRITE = 1 << 5;
    }
}

/// Entries of a page-directory-pointer table with PAE paging (SDM vol. 3, 4.4.1).
pub const PDPTES: usize = 4;

/// Architectural state. Offsets are part of the ABI; parts are valid as selected by an [`Mtd`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct ArchState {
    /// General-purpose registers by their [encoding](gpr).
    pub gpr: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// Length in bytes of the instruction that caused the exit; 0 if the hardware does not tell.
    pub inst_len: u32,
    /// [`Interruptibility`].
    pub interruptibility: u32,
    /// 0 active, 1 halted.
    pub activity: u32,
    /// [`Controls`], written.
    pub controls: u32,
    /// Event to inject at the next entry, with window requests (written).
    pub injection: Injection,
    /// Event whose delivery the exit interrupted (read). It must be injected again by the handler.
    pub interrupted: Injection,
    /// Segments by [`seg`] index.
    pub seg: [Segment; 10],
    /// Control registers.
    pub cr0: u64,
    /// Page-fault address.
    pub cr2: u64,
    /// Page-table root.
    pub cr3: u64,
    /// Control register 4.
    pub cr4: u64,
    /// Task priority.
    pub cr8: u64,
    /// Breakpoint addresses, DR0 to DR3.
    pub dr: [u64; 4],
    /// Debug status.
    pub dr6: u64,
    /// Debug control. Bits that there are not (APM vol. 2, 13.1.1.4) are not taken.
    pub dr7: u64,
    /// Extended features.
    pub efer: u64,
    /// System-call target selectors.
    pub star: u64,
    /// System-call target, 64-bit.
    pub lstar: u64,
    /// System-call target, compatibility mode.
    pub cstar: u64,
    /// System-call flag mask.
    pub sfmask: u64,
    /// Base swapped in by SWAPGS.
    pub kernel_gs_base: u64,
    /// SYSENTER selector.
    pub sysenter_cs: u64,
    /// SYSENTER stack.
    pub sysenter_esp: u64,
    /// SYSENTER target.
    pub sysenter_eip: u64,
    /// Page attributes.
    pub pat: u64,
    /// Guest TSC minus host TSC.
    pub tsc_offset: u64,
    /// Guest TSC at the exit.
    pub tsc_value: u64,
    /// Value of the host's TSC at which the vCPU is recalled, once; 0: never (written). It replaces the one before, and outlasts exits
    /// until then.
    pub deadline: u64,
    /// Extended control register 0.
    pub xcr0: u64,
    /// Number of valid bytes in `inst_bytes`; 0 if the hardware has fetched none for this exit.
    pub inst_bytes_len: u64,
    /// Bytes at the instruction pointer.
    pub inst_bytes: [u8; 16],
    /// XMM0 to XMM15, low and high halves.
    pub xmm: [[u64; 2]; 16],
    /// With PAE paging, the entries of the page-directory-pointer table. VMX has them in registers (SDM vol. 3, 25.4.1): whoever changes
    /// CR0, CR3 or CR4 of such a guest loads them, as the instruction would. SVM reads them from memory (APM vol. 2, 15.25.10): they
    /// read as 0, and are not taken.
    pub pdpte: [u64; PDPTES],
}

impl Default for ArchState {
    fn default() -> Self {
        Self {
            gpr: [0; 16],
            rip: 0,
            rflags: 0,
            inst_len: 0,
            interruptibility: 0,
            activity: 0,
            controls: 0,
            injection: Injection::NONE,
            interrupted: Injection::NONE,
            seg: [Segment::default(); 10],
            cr0: 0,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            cr8: 0,
            dr: [0; 4],
            dr6: 0,
            dr7: 0,
            efer: 0,
            star: 0,
            lstar: 0,
            cstar: 0,
            sfmask: 0,
            kernel_gs_base: 0,
            sysenter_cs: 0,
            sysenter_esp: 0,
            sysenter_eip: 0,
            pat: 0,
            tsc_offset: 0,
            tsc_value: 0,
            deadline: 0,
            xcr0: 0,
            inst_bytes_len: 0,
            inst_bytes: [0; 16],
            xmm: [[0; 2]; 16],
            pdpte: [0; PDPTES],
        }
    }
}

/// Word indices of the fields of [`ArchState`] inside the UTCB, for the hypervisor's transfer table.
pub mod word {
    use super::{ArchState, offset_of};

    macro_rules! words {
        ($($name:ident = $($field:tt).+),* $(,)?) => {
            $(
                #[doc = concat!("Of `", stringify!($($field).+), "`.")]
                pub const $name: usize = offset_of!(ArchState, $($field).+) / 8;
                const _: () = assert!(offset_of!(ArchState, $($field).+) % 8 == 0);
            )*
        };
    }

    words! {
        GPR = gpr, RIP = rip, RFLAGS = rflags, INST_LEN_INTERRUPTIBILITY = inst_len,
        ACTIVITY_CONTROLS = activity, INJECTION = injection, INTERRUPTED = interrupted, SEG = seg,
        CR0 = cr0, CR2 = cr2, CR3 = cr3, CR4 = cr4, CR8 = cr8, DR = dr, DR6 = dr6, DR7 = dr7, EFER = efer,
        STAR = star, LSTAR = lstar, CSTAR = cstar, SFMASK = sfmask, KERNEL_GS_BASE = kernel_gs_base,
        SYSENTER_CS = sysenter_cs, SYSENTER_ESP = sysenter_esp, SYSENTER_EIP = sysenter_eip,
        PAT = pat, TSC_OFFSET = tsc_offset, TSC_VALUE = tsc_value, DEADLINE = deadline, XCR0 = xcr0,
        INST_BYTES_LEN = inst_bytes_len, INST_BYTES = inst_bytes, XMM = xmm, PDPTE = pdpte,
    }
}

const _: () = assert!(size_of::<Segment>() == 16);
const _: () = assert!(offset_of!(ArchState, rip) == 0x80);
const _: () = assert!(offset_of!(ArchState, injection) == 0xa0);
const _: () = assert!(offset_of!(ArchState, seg) == 0xb0);
const _: () = assert!(offset_of!(ArchState, cr0) == 0x150);
const _: () = assert!(size_of::<ArchState>() == 0x350);
