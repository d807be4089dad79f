//! The journal: what the root task is told while it runs ([`abi::journal`]). Components are the reason for it, as often as they
//! like, so it costs no more than a few writes to memory: what is printed of it, and when, is the root task's business.

use crate::arch::log;
use crate::cpu::Cpu;
use crate::ec::Ec;
use crate::mem::lock::Lock;
use crate::mem::{Link, Object, Page};
use crate::sm::Sm;
use abi::journal::{COUNT, Stopped, place};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release, fence};

/// Serialises writers.
static LOCK: Lock = Lock::new();
/// Virtual address of the page; 0 before there is one.
static PAGE: AtomicU64 = AtomicU64::new(0);
/// What is upped for each record.
static BELL: Link<Sm> = Link::new();

/// Sets where records go. Called once, for the root task.
pub fn open(page: Page, bell: &'static Sm) {
    PAGE.store(page.virt(), Relaxed);
    BELL.set(Some(bell));
}

/// Tells that `ec` was stopped. Of the root task itself there is nobody to be told but who looks at the serial line.
#[cold]
pub fn tell(cpu: &'static Cpu, ec: &'static Ec, stopped: Stopped) {
    match BELL.get() {
        Some(bell) if bell.owner().map(Object::addr) != ec.owner().map(Object::addr) => {
            write(Page::at_virt(PAGE.load(Relaxed)), stopped);
            // A counter at its limit says enough.
            let _ = bell.up(cpu);
        }
        _ => log::line(format_args!("{stopped}")),
    }
}

fn write(page: Page, stopped: Stopped) {
    let _guard = LOCK.lock();
    let count = page.read(COUNT);
    // Ordering: Release fences pair with the Acquire loads of the reader: who sees a word of this record sees the count of those
    // before it, and who sees the new count sees all of its words.
    fence(Release);
    for (i, word) in stopped.words().into_iter().enumerate() {
        page.write(place(count) + i, word);
    }
    fence(Release);
    page.write(COUNT, count + 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use abi::journal::{RECORDS, Reader};

    #[test]
    fn the_reader_gets_what_was_written() {
        let page = testing::pd(64).alloc(0).unwrap();
        let mut reader = Reader::default();
        let stopped = |n| Stopped { ec: n, event: 1, reason: 2, info: [3, 4], ip: 5 };
        for n in 0..RECORDS * 2 {
            write(page, stopped(n));
            assert_eq!(reader.next(|i| page.read(i)), Some((0, stopped(n))));
            assert_eq!(reader.next(|i| page.read(i)), None);
        }
    }
}
