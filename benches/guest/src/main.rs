//! A guest that measures what its own exits cost, end to end: from one of its instructions to the next, by the time stamp
//! counter. It runs under any VMM that boots a bzImage with a local APIC, an I/O APIC and a UART at the PC's places, and on
//! the bare machine. Figures go to COM1 as lines of `bench_stats`, all at the end, so that output disturbs no measurement.
//!
//! `./x bench guest` runs it under this project's VMM, `./x bench kvm` under KVM.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
#[allow(unsafe_code, reason = "a bare machine is driven by instructions, and exact counts need exact ones")]
mod cpu;
#[cfg(target_os = "none")]
mod report;
#[cfg(target_os = "none")]
mod rows;

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    console::print(format_args!("error: {info}\n"));
    cpu::stop()
}

/// On the host there is nothing to run: it is built for a bare machine.
#[cfg(not(target_os = "none"))]
fn main() {}
