//! Header of the file and 64-bit entry point (kernel documentation, "The Linux/x86 Boot Protocol", 1.1 and 1.14).

use core::arch::global_asm;

global_asm!(
    ".pushsection .setup,\"a\",@progbits",
    ".org 0x1f1",
    ".byte 1", // sectors of this header beyond the first
    ".org 0x1f4",
    ".long PARAGRAPHS",
    ".org 0x1fe",
    ".short 0xaa55",
    ".byte 0xeb, 0x66", // a jump, whose distance tells where the header ends
    ".ascii \"HdrS\"",
    ".short 0x020f", // version
    ".org 0x211",
    ".byte 1", // loaded high
    ".org 0x214",
    ".long 0x100000",
    ".org 0x22c",
    ".long 0x7fffffff", // end of an initial RAM disk
    ".org 0x230",
    ".long 0x1000", // alignment
    ".org 0x236",
    ".short 1", // there is a 64-bit entry point
    ".long 255", // longest command line
    ".org 0x258",
    ".quad 0x100000", // preferred address
    ".long 0x100000", // memory needed from there
    ".org 0x400",
    ".popsection",
    ".pushsection .entry,\"ax\",@progbits",
    "ud2", // the 32-bit entry point
    ".org 0x200",
    "lea rsp, [rip + {stack} + {size}]",
    "xor ebp, ebp",
    "mov rdi, rsi",
    "call {begin}",
    "ud2",
    ".popsection",
    stack = sym STACK,
    size = const STACK_BYTES,
    begin = sym begin,
);

const STACK_BYTES: usize = 16 * 1024;

#[repr(C, align(16))]
struct Stack([u8; STACK_BYTES]);

static mut STACK: Stack = Stack([0; STACK_BYTES]);

/// `parameters`: address of the boot parameters.
extern "sysv64" fn begin(parameters: u64) -> ! {
    crate::begin(command_line(parameters))
}

fn command_line(parameters: u64) -> &'static str {
    /// Offset of the command line's address, which is below 4 GiB.
    const COMMAND_LINE: u64 = 0x228;
    // SAFETY: the boot protocol says that it is there, ends with a zero byte, and is nobody else's.
    let text = unsafe {
        let at = ((parameters + COMMAND_LINE) as *const u32).read_unaligned();
        core::ffi::CStr::from_ptr(at as usize as *const _)
    };
    text.to_str().unwrap_or_default()
}
