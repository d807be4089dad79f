//! Delegation to the other domain.

use super::timed;
use crate::asm::{LOOP, loops};
use crate::memory;
use crate::report::{self, Report};
use crate::selectors::CREATED;
use crate::thread::destroy;
use abi::PAGE_SIZE;
use abi::status::Status;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Capabilities of one delegation.
const MANY: u64 = 256;
/// Where pages go in the other domain.
const PAGES: u64 = 0x1_0000_0000 / PAGE_SIZE;
/// Where large pages go.
const LARGE_PAGES: u64 = 0x10_0000_0000 / PAGE_SIZE;

/// Number of a physical large page that is free.
static FREE: AtomicU64 = AtomicU64::new(0);

pub fn measure(report: &Report) -> Result<(), Status> {
    for index in 0..MANY {
        report::semaphore(CREATED.offset(index))?;
    }
    timed(report, "delegate-cap", 6 + LOOP, loops::delegate_caps::<1>)?;
    timed(report, "delegate-256-caps", 6 + LOOP, loops::delegate_caps::<MANY>)?;
    for index in 0..MANY {
        destroy(CREATED.offset(index))?;
    }
    timed(report, "delegate-page", 7 + LOOP, || loops::delegate_page(memory::WINDOW, PAGES))?;
    let Some(page) = memory::large_page() else {
        report.skip("delegate-2m", "no free large page");
        return Ok(());
    };
    FREE.store(page, Relaxed);
    timed(report, "delegate-2m", 7 + LOOP, || loops::delegate_large(FREE.load(Relaxed), LARGE_PAGES))
}
