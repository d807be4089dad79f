//! Handlers of a virtual CPU, which take the stamps: the guest has no memory for them.

use super::handlers::EVENT_UTCB;
use super::{CURSOR, END};
use crate::{memory, selectors};
use abi::PAGE_SIZE;
use abi::cap::{MemRights, root};
use abi::hypercall::{Args, Delegate, Number, rdi};
use abi::state::{ArchState, Injection, Mtd, Segment, gpr, seg, word};
use core::arch::naked_asm;
use core::sync::atomic::AtomicU32;

/// State that the first reply sets.
const STARTUP: Mtd = Mtd::GPR
    .union(Mtd::RIP)
    .union(Mtd::RFLAGS)
    .union(Mtd::INJ)
    .union(Mtd::STA)
    .union(Mtd::SEG)
    .union(Mtd::GDTR)
    .union(Mtd::IDTR)
    .union(Mtd::CR)
    .union(Mtd::DR)
    .union(Mtd::EFER)
    .union(Mtd::CTRL)
    .union(Mtd::TSC);

/// Takes a stamp and ends the measurement when that was the last. The seven instructions are those of
/// `loops::handler_stamp`.
macro_rules! stamped {
    ([$($body:literal),* $(,)?], $mtd:expr $(, $($operands:tt)*)?) => {
        naked_asm!(
            "rdtsc",
            "mov rcx, [rip + {cursor}]",
            "mov [rcx], eax",
            "add rcx, 4",
            "mov [rip + {cursor}], rcx",
            "cmp rcx, [rip + {end}]",
            "je 3f",
            $($body,)*
            "mov edi, {reply}",
            "mov esi, {mtd}",
            "syscall",
            "3:",
            "mov edi, {done}",
            "syscall",
            "mov edi, {reply}",
            "mov esi, {kill}",
            "syscall",
            cursor = sym CURSOR,
            end = sym END,
            reply = const Number::Reply as u64,
            mtd = const $mtd.bits(),
            done = const rdi(Number::SmUp, 0, selectors::DONE),
            kill = const Mtd::KILL.bits() as u64,
            $($($operands)*)?
        )
    };
}

/// Supplies the state that [`prepare`] put into the UTCB.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn startup() -> ! {
    naked_asm!("mov edi, {reply}", "mov esi, {mtd}", "syscall", reply = const Number::Reply as u64, mtd = const STARTUP.bits())
}

/// Lets the guest repeat the instruction: 3 instructions.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn again() -> ! {
    stamped!([], Mtd::empty())
}

/// What a VMM needs for CPUID: the instruction pointer and the eight registers without a REX prefix, as in NOVA's figure.
pub const EIGHT: Mtd = Mtd::RIP.union(Mtd::ACDB).union(Mtd::BSD);
/// The instruction pointer and all registers.
pub const SIXTEEN: Mtd = Mtd::RIP.union(Mtd::GPR);

/// Skips the instruction and gives eight registers back: 4 instructions.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn skip_eight() -> ! {
    // The address and the length are those of `handlers::skip`.
    stamped!(["add qword ptr [0x30000080], 2"], EIGHT)
}

/// Skips the instruction and gives all registers back: 4 instructions.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn skip_sixteen() -> ! {
    stamped!(["add qword ptr [0x30000080], 2"], SIXTEEN)
}

/// Maps a page of the window in the guest.
const SUPPLY: Args = {
    let rights = MemRights::READ.union(MemRights::WRITE).bits();
    Delegate { from: root::MEM, to: selectors::GUEST, src: memory::WINDOW, dst: 0, count: 1, rights }.encode()
};

/// Gives the guest a page where it misses one, which is at the address in the second information word, and lets it try
/// again: 10 instructions.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn supply() -> ! {
    stamped!(
        ["mov r8, r9", "shr r8, {page}", "mov edi, {to}", "mov rsi, {from}", "mov edx, {src}", "mov r9d, {count}", "syscall"],
        Mtd::empty(),
        page = const PAGE_SIZE.trailing_zeros(),
        to = const SUPPLY.rdi,
        from = const SUPPLY.rsi,
        src = const SUPPLY.rdx,
        count = const SUPPLY.r9,
    )
}

const _: () = assert!(EVENT_UTCB + word::RIP as u64 * 8 == 0x3000_0080);

/// A page of guest memory.
#[repr(C, align(4096))]
pub struct GuestPage([AtomicU32; PAGE_SIZE as usize / 4]);

/// What the guest does, in 16-bit code.
#[derive(Clone, Copy, Debug)]
pub enum Guest {
    /// `cpuid; dec si; jnz` to the beginning, and `jmp` there.
    Cpuid,
    /// `mov [ebx], al; add ebx, edi; jmp` to the beginning.
    Touch,
}

/// Guest-physical address of the page of guest code.
pub const GUEST_CODE_PAGE: u64 = 0x1000;
/// Guest-physical address of the first page that [`Guest::Touch`] writes to.
const FRESH: u64 = 0x20_0000;

impl Guest {
    /// Words from the beginning of one to that of the next.
    const LENGTH: usize = 2;
    /// Instructions of an iteration, of which CPUID is executed once only if it is skipped.
    pub const ITERATION: u64 = 3;

    /// Guest-physical address of its first instruction.
    const fn ip(self) -> u64 {
        GUEST_CODE_PAGE + (self as usize * Self::LENGTH * size_of::<u32>()) as u64
    }
}

static GUEST_CODE: GuestPage = {
    let mut page = [const { AtomicU32::new(0) }; PAGE_SIZE as usize / 4];
    let cpuid = Guest::Cpuid as usize * Guest::LENGTH;
    page[cpuid] = AtomicU32::new(u32::from_le_bytes([0x0f, 0xa2, 0x4e, 0x75]));
    page[cpuid + 1] = AtomicU32::new(u32::from_le_bytes([0xfb, 0xeb, 0xf9, 0x90]));
    let touch = Guest::Touch as usize * Guest::LENGTH;
    page[touch] = AtomicU32::new(u32::from_le_bytes([0x67, 0x88, 0x03, 0x66]));
    page[touch + 1] = AtomicU32::new(u32::from_le_bytes([0x01, 0xfb, 0xeb, 0xf8]));
    GuestPage(page)
};

/// Page number, in this task, of the guest's code.
pub fn guest_page() -> u64 {
    (&raw const GUEST_CODE) as u64 / PAGE_SIZE
}

/// Puts the initial state of a vCPU in real mode, with data segments that reach all of its memory, into the event handler's UTCB.
pub fn prepare(guest: Guest) {
    /// Present, readable and writable, accessed, its limit in pages.
    const DATA: u16 = 0x893;
    /// Present code, accessed, of the width of real mode.
    const CODE: u16 = 0x9b;
    const LDT: u16 = 0x82;
    const TSS: u16 = 0x8b;
    const CR0_ET: u64 = 1 << 4;
    const LIMIT: u32 = 0xffff;
    let segment = |attributes| Segment { selector: 0, attributes, limit: LIMIT, base: 0 };
    let data = Segment { limit: u32::MAX, ..segment(DATA) };
    let mut state = ArchState {
        rip: guest.ip(),
        rflags: 2,
        cr0: CR0_ET,
        dr6: 0xffff_0ff0,
        dr7: 0x400,
        seg: [data; 10],
        injection: Injection::NONE,
        ..ArchState::default()
    };
    state.gpr[gpr::RSI] = 1;
    state.gpr[gpr::RBX] = FRESH;
    state.gpr[gpr::RDI] = PAGE_SIZE;
    state.seg[seg::CS] = segment(CODE);
    state.seg[seg::LDTR] = segment(LDT);
    state.seg[seg::TR] = segment(TSS);
    // SAFETY: the kernel has mapped the handler's UTCB there, and the handler does not run yet.
    unsafe { (EVENT_UTCB as *mut ArchState).write(state) };
}
