//! Exceptions and interrupts: what has been taken, and where to go on.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::instruction;
use super::lapic::{self, Register};

/// Vectors that have a handler.
const VECTORS: usize = 0x80;
/// Vectors of exceptions.
const EXCEPTIONS: u64 = 32;
/// #DB and NMI.
const DEBUG: u64 = 1;
const NMI: u64 = 2;
const RFLAGS_TF: u64 = 1 << 8;
const RFLAGS_RF: u64 = 1 << 16;

global_asm!(
    ".pushsection .text",
    ".balign 16",
    ".global exception_stubs",
    "exception_stubs:",
    ".set vector, 0",
    ".rept {vectors}",
    ".balign 16",
    // Vectors 8, 10 to 14, 17, 21 have an error code (SDM vol. 3, table 6-1).
    ".if (((0x227d00 >> vector) & 1) == 0) || (vector >= 32)",
    "push 0",
    ".endif",
    "push vector",
    "jmp exception_common",
    ".set vector, vector + 1",
    ".endr",
    "exception_common:",
    ".irp register, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15",
    "push \\register",
    ".endr",
    "mov rdi, rsp",
    "mov rbx, rsp",
    "and rsp, -16",
    "call {handle}",
    "mov rsp, rbx",
    ".irp register, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax",
    "pop \\register",
    ".endr",
    "add rsp, 16",
    "iretq",
    ".popsection",
    vectors = const VECTORS,
    handle = sym handle,
);

unsafe extern "C" {
    #[link_name = "exception_stubs"]
    static STUBS: [[u8; 16]; VECTORS];
}

/// What the stubs push.
#[repr(C)]
struct Frame {
    registers: [u64; 15],
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// A gate of the interrupt descriptor table.
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate([u64; 2]);

#[repr(C, align(16))]
struct Table([Gate; VECTORS]);

static mut TABLE: Table = Table([Gate([0; 2]); VECTORS]);

/// Where to go on behind an exception; 0 if none is expected.
pub static RESUME: AtomicU64 = AtomicU64::new(0);
static VECTOR: AtomicU64 = AtomicU64::new(NOTHING);
static ERROR: AtomicU64 = AtomicU64::new(0);
static RIP: AtomicU64 = AtomicU64::new(0);
static TAKEN: AtomicU32 = AtomicU32::new(0);
/// Vectors of the last interrupts, the last one lowest.
static ORDER: AtomicU64 = AtomicU64::new(0);
/// NMIs to be sent from the handler of one; NMIs being handled, and the most of them at once.
static NMIS_TO_SEND: AtomicU32 = AtomicU32::new(0);
static NMI_DEPTH: AtomicU32 = AtomicU32::new(0);
static NMI_DEPTH_MOST: AtomicU32 = AtomicU32::new(0);

/// No vector.
pub const NOTHING: u64 = u64::MAX;

/// An exception that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Its vector, or [`NOTHING`].
    pub vector: u64,
    /// Its error code; 0 if it has none.
    pub error: u64,
}

impl Taken {
    /// An exception without error code.
    pub const fn plain(vector: u64) -> Self {
        Self { vector, error: 0 }
    }
}

/// Loads the table.
pub fn init() {
    /// Present 64-bit interrupt gate (SDM vol. 3, 6.14.1), and the code segment that the boot protocol has.
    const GATE: u64 = 0x8e << 40;
    const CODE: u64 = 0x10 << 16;
    const STUB_BYTES: u64 = 16;
    let table = (&raw mut TABLE).cast::<Gate>();
    for vector in 0..VECTORS {
        let at = (&raw const STUBS) as u64 + vector as u64 * STUB_BYTES;
        let low = at & 0xffff | CODE | GATE | (at >> 16 & 0xffff) << 48;
        // SAFETY: inside the table, which nothing else refers to.
        unsafe { table.add(vector).write(Gate([low, at >> 32])) };
    }
    let register = TableRegister { limit: (size_of::<Table>() - 1) as u16, base: table as u64 };
    // SAFETY: the table is complete and stays where it is.
    unsafe { asm!("lidt [{}]", in(reg) &register, options(readonly, nostack, preserves_flags)) };
}

/// Operand of LIDT.
#[repr(C, packed)]
struct TableRegister {
    limit: u16,
    base: u64,
}

extern "sysv64" fn handle(frame: &mut Frame) {
    match frame.vector {
        NMI => handle_nmi(),
        DEBUG => {
            // Not every CPU has RF set where it broke at an instruction (SDM vol. 3, 18.3.1.1).
            frame.rflags = frame.rflags & !RFLAGS_TF | RFLAGS_RF;
            note(frame);
        }
        EXCEPTIONS.. => {
            note(frame);
            TAKEN.fetch_add(1, Relaxed);
            ORDER.store(ORDER.load(Relaxed) << 8 | frame.vector, Relaxed);
            lapic::write(Register::EndOfInterrupt, 0);
        }
        vector => {
            note(frame);
            let resume = RESUME.swap(0, Relaxed);
            assert_ne!(resume, 0, "vector {vector}, error {:#x}, rip {:#x}", frame.error, frame.rip);
            frame.rip = resume;
        }
    }
}

fn note(frame: &Frame) {
    VECTOR.store(frame.vector, Relaxed);
    ERROR.store(frame.error, Relaxed);
    RIP.store(frame.rip, Relaxed);
}

fn handle_nmi() {
    let depth = NMI_DEPTH.fetch_add(1, Relaxed) + 1;
    NMI_DEPTH_MOST.fetch_max(depth, Relaxed);
    ORDER.store(ORDER.load(Relaxed) << 8 | NMI, Relaxed);
    if NMIS_TO_SEND.load(Relaxed) > 0 {
        NMIS_TO_SEND.fetch_sub(1, Relaxed);
        send_nmi();
        // An exit in the handler must not end it.
        instruction::cpuid(0, 0);
        instruction::cpuid(0, 0);
    }
    NMI_DEPTH.fetch_sub(1, Relaxed);
}

/// Sends an NMI to this CPU (SDM vol. 3, 11.6.1).
pub fn send_nmi() {
    const NMI_TO_SELF: u32 = 4 << 8 | 1 << 14 | 1 << 18;
    lapic::write(Register::CommandLow, NMI_TO_SELF);
}

/// Has that many NMIs sent by the handlers of those before.
pub fn send_nmis_from_handlers(count: u32) {
    NMIS_TO_SEND.store(count, Relaxed);
}

/// The most NMIs that were handled at once.
pub fn nmi_depth() -> u32 {
    NMI_DEPTH_MOST.load(Relaxed)
}

/// Forgets what was taken.
pub fn clear() {
    VECTOR.store(NOTHING, Relaxed);
    ERROR.store(0, Relaxed);
    RIP.store(0, Relaxed);
    TAKEN.store(0, Relaxed);
    ORDER.store(0, Relaxed);
}

/// The last exception since [`clear`].
pub fn taken() -> Taken {
    Taken { vector: VECTOR.load(Relaxed), error: ERROR.load(Relaxed) }
}

/// Where the last exception or interrupt came.
pub fn rip() -> u64 {
    RIP.load(Relaxed)
}

/// Interrupts since [`clear`].
pub fn interrupts() -> u32 {
    TAKEN.load(Relaxed)
}

/// Vectors of interrupts and NMIs since [`clear`], a byte each, the last one lowest.
pub fn order() -> u64 {
    ORDER.load(Relaxed)
}
