//! The first process of a Linux that is booted to be measured: says when it came to life, and switches the machine off.

use std::arch::x86_64::_rdtsc;
use std::time::Duration;

use rustix::system::{RebootCommand, reboot};

/// How long output may take to get out.
const DRAIN: Duration = Duration::from_millis(200);

fn main() {
    // SAFETY: the kernel does not keep user programs from reading the counter unless it is asked to.
    #[allow(unsafe_code, reason = "an instruction that reads a counter")]
    let tsc = unsafe { _rdtsc() };
    println!("bench-boot tsc={tsc}");
    // A machine that is off prints nothing more, and the line passes a driver on its way out.
    std::thread::sleep(DRAIN);
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        println!("error: cannot switch off: {error}");
    }
    // The kernel panics when its first process ends.
    loop {
        std::thread::park();
    }
}
