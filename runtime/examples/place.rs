//! Says on which CPUs its affinity lets it run, as the CPUs themselves say it.
#![cfg_attr(kilonova, no_std, no_main)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicU32, Ordering};
use runtime::thread::ThreadOptions;
use runtime::{Env, Error, log};

runtime::component!(construct);

const STACK: u64 = 16 << 10;

/// Initial APIC ID of the CPU that executes this (SDM vol. 2A, CPUID, leaf 1: EBX, bits 31 to 24).
fn apic_id() -> u32 {
    const FEATURES: u32 = 1;
    const APIC_ID_SHIFT: u32 = 24;
    __cpuid(FEATURES).ebx >> APIC_ID_SHIFT
}

fn construct(env: &'static Env) -> Result<(), Error> {
    let own = apic_id();
    let mut others = Vec::new();
    for cpu in 0..env.spawner().cpus() {
        let seen = Arc::new(AtomicU32::new(u32::MAX));
        let there = Arc::clone(&seen);
        let options = ThreadOptions { name: "there", cpu, below: 0, stack_size: STACK };
        let thread = env.spawn(options, move || there.store(apic_id(), Ordering::Relaxed))?;
        thread.join()?;
        others.push(seen.load(Ordering::Relaxed));
    }
    log!("entrypoint on CPU {own}, threads on {others:?}");
    env.exit(0);
    Ok(())
}
