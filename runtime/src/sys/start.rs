//! The first instructions of a program.

/// Bytes of the first thread's stack. It does little: everything else has a stack of the stack area.
#[cfg(kilonova)]
const STACK_SIZE: usize = 16 * 1024;

#[cfg(kilonova)]
#[repr(C, align(4096))]
struct Stack(core::cell::UnsafeCell<[u8; STACK_SIZE]>);

// SAFETY: only the first thread uses it, as its stack.
#[cfg(kilonova)]
unsafe impl Sync for Stack {}

/// The first section of the writeable segment, so that an overflow hits the read-only segment below and faults.
#[cfg(kilonova)]
#[unsafe(link_section = ".data.first_stack")]
static STACK: Stack = Stack(core::cell::UnsafeCell::new([0; STACK_SIZE]));

/// Defines where the first thread of an image goes: a `fn(u64) -> !`, which gets the kernel's argument.
#[doc(hidden)]
#[macro_export]
macro_rules! entry {
    ($main:expr) => {
        #[cfg(kilonova)]
        const _: () = {
            // The runtime expects a function of this type. A second one of the name would not link.
            #[unsafe(no_mangle)]
            extern "Rust" fn kilonova_main(argument: u64) -> ! {
                let main: fn(u64) -> ! = $main;
                main(argument)
            }
        };
    };
}

/// Entry of the image: sets up the stack and goes to the program's `kilonova_main`, which `entry!` defines. RDI stays the
/// kernel's argument.
#[cfg(kilonova)]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "sysv64" fn _start() -> ! {
    core::arch::naked_asm!(
        "lea rsp, [rip + {stack} + {size}]",
        "xor ebp, ebp",
        "call {main}",
        "ud2",
        stack = sym STACK,
        size = const STACK_SIZE,
        main = sym first_thread,
    )
}

#[cfg(kilonova)]
extern "sysv64" fn first_thread(argument: u64) -> ! {
    unsafe extern "Rust" {
        safe fn kilonova_main(argument: u64) -> !;
    }
    super::portal::initialise_context();
    if crate::semaphore::initialise().is_err() {
        fault()
    }
    kilonova_main(argument)
}

/// Ends the running context by an invalid instruction, which core reports.
pub fn fault() -> ! {
    // SAFETY: it does not return.
    unsafe { core::arch::asm!("ud2", options(noreturn, nostack, nomem)) }
}
