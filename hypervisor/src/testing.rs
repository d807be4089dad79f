//! Host-side stand-ins: a pool in ordinary memory, PDs and CPUs. "Physical" addresses are virtual ones there.

use crate::cpu::Cpu;
use crate::mem::{Object, Phys, object, pool};
use crate::pd::Pd;
use std::sync::Once;

const POOL: usize = 256 << 20;

fn init_pool() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let memory = vec![0u64; POOL / 8 + 512].leak();
        let base = (memory.as_ptr() as u64).next_multiple_of(4096);
        crate::mem::testing_pool(Phys(base), POOL as u64);
    });
}

/// A fresh PD with `quota` pages.
pub fn pd(quota: u64) -> &'static Pd {
    init_pool();
    let pd: &'static Pd = object::alloc(None).unwrap();
    pd.init(quota);
    object::publish(pd);
    pd
}

/// A live object that `pd` pays for, zero but for that.
pub fn object<T: Object>(pd: &'static Pd) -> &'static T {
    let object = pd.new_object().unwrap();
    pd.adopt(object);
    object
}

/// A CPU block that is not registered; its index is 0.
pub fn cpu() -> &'static Cpu {
    init_pool();
    let page = pool::alloc(crate::arch::percpu::ORDER, 0).unwrap();
    let cpu = &crate::arch::percpu::Area::at(page).cpu;
    cpu.init(0);
    cpu
}
