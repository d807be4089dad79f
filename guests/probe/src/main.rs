//! A kernel that checks the virtual machine it runs in, and says so on its first serial line: `ok N - name` or `not ok N - name`.
//! Then it switches the machine off. With `triple-fault` on its command line, it ends in that way instead. `takes-reserved-bits`,
//! `never-breaks` and `forgets-reasons` say that the CPU does not follow its manual there.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

#[cfg(target_os = "none")]
mod check;
#[cfg(target_os = "none")]
mod report;
#[cfg(target_os = "none")]
mod sys;

/// Where the entry code leads: 64-bit mode, addresses as in physical memory, interrupts off.
#[cfg(target_os = "none")]
fn begin(command_line: &str) -> ! {
    let has = |option| command_line.split(' ').any(|word| word == option);
    if has("triple-fault") {
        sys::instruction::end();
    }
    sys::exception::init();
    check::all(check::Deviations {
        takes_reserved_bits: has("takes-reserved-bits"),
        never_breaks: has("never-breaks"),
        forgets_reasons: has("forgets-reasons"),
    });
    report::finish();
    sys::power::off()
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    report::holds(format_args!("panic: {info}"), false);
    report::finish();
    sys::power::off()
}

/// On the host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
