//! The hypervisor image. The code is in the library; this gives it an entry point and a panic handler.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    hypervisor::arch::log::fatal(format_args!("{info}"))
}

/// On the host there is nothing to run: `./x build` builds the image.
#[cfg(not(target_os = "none"))]
fn main() {}
