//! Journal: what the hypervisor has to tell the root task while both run.
//!
//! A page that is mapped read-only in the root task at [`ADDRESS`]: a ring of [`Stopped`] records, and how many were ever
//! written. For each one, the semaphore [`root::JOURNAL`](crate::cap::root::JOURNAL) is upped. The hypervisor waits for nobody:
//! a reader that is too slow misses the oldest records, and is told how many ([`Reader::next`]).

use core::fmt;

/// Where the page is mapped: below the root task's UTCB.
pub const ADDRESS: u64 = crate::hip::ROOT_UTCB - crate::PAGE_SIZE;
/// Word of the page that counts the records ever written.
pub const COUNT: usize = 0;
/// Words from one record to the next, and before the first one.
const STEP: usize = 8;
/// Words of a record.
const WORDS: usize = 6;
const _: () = assert!(COUNT < STEP && WORDS <= STEP);
/// Records in the page.
pub const RECORDS: u64 = crate::PAGE_SIZE / 8 / STEP as u64 - 1;

/// First word of record `number`, counted from 0 and for ever.
#[must_use]
pub const fn place(number: u64) -> usize {
    STEP + (number % RECORDS) as usize * STEP
}

/// An execution context was stopped, because it has no portal for its event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stopped {
    /// Identity of the execution context.
    pub ec: u64,
    /// Number of the event, relative to its event base.
    pub event: u64,
    /// Reason and information, as its handler would have got them.
    pub reason: u64,
    /// See `reason`.
    pub info: [u64; 2],
    /// Instruction pointer.
    pub ip: u64,
}

impl Stopped {
    /// To words of the page.
    #[must_use]
    pub const fn words(self) -> [u64; WORDS] {
        [self.ec, self.event, self.reason, self.info[0], self.info[1], self.ip]
    }

    /// From words of the page.
    #[must_use]
    pub const fn from_words([ec, event, reason, info1, info2, ip]: [u64; WORDS]) -> Self {
        Self { ec, event, reason, info: [info1, info2], ip }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ec, event, reason, info: [info1, info2], ip } = self;
        write!(f, "EC {ec} stopped: no portal for event {event:#x} (")?;
        write!(f, "reason {reason:#x}, info {info1:#x} {info2:#x}, ip {ip:#x})")
    }
}

/// Reads records in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reader {
    next: u64,
}

impl Reader {
    /// The next record, if there is one, and how many before it were missed. `read` gives a word of the page, and sees what
    /// was written before what it has seen last time.
    pub fn next(&mut self, read: impl Fn(usize) -> u64) -> Option<(u64, Stopped)> {
        let mut missed = 0;
        loop {
            // The one in the place of the record after the last may be half overwritten.
            let oldest = |count: u64| (count + 1).saturating_sub(RECORDS);
            let count = read(COUNT);
            missed += oldest(count).saturating_sub(self.next);
            self.next = self.next.max(oldest(count));
            if self.next >= count {
                return None;
            }
            let at = place(self.next);
            let record = Stopped::from_words(core::array::from_fn(|i| read(at + i)));
            if oldest(read(COUNT)) <= self.next {
                self.next += 1;
                return Some((missed, record));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::cell::{Cell, RefCell};
    use std::string::ToString;

    fn stopped(n: u64) -> Stopped {
        Stopped { ec: n, event: 14, reason: n ^ 1, info: [n + 2, n + 3], ip: n << 12 }
    }

    struct Page(RefCell<[u64; 512]>);

    impl Page {
        fn new() -> Self {
            Self(RefCell::new([0; 512]))
        }
        /// As the hypervisor does it.
        fn tell(&self, record: Stopped) {
            let mut page = self.0.borrow_mut();
            let at = place(page[COUNT]);
            page[at..at + WORDS].copy_from_slice(&record.words());
            page[COUNT] += 1;
        }
        fn read(&self, index: usize) -> u64 {
            self.0.borrow()[index]
        }
    }

    #[test]
    fn records_come_whole_and_in_order() {
        let (page, mut reader) = (Page::new(), Reader::default());
        for n in 0..1000 {
            assert_eq!(reader.next(|i| page.read(i)), None);
            page.tell(stopped(2 * n));
            page.tell(stopped(2 * n + 1));
            assert_eq!(reader.next(|i| page.read(i)), Some((0, stopped(2 * n))));
            assert_eq!(reader.next(|i| page.read(i)), Some((0, stopped(2 * n + 1))));
        }
    }

    #[test]
    fn a_slow_reader_is_told_how_many_it_has_missed() {
        let (page, mut reader) = (Page::new(), Reader::default());
        (0..RECORDS + 100).for_each(|n| page.tell(stopped(n)));
        assert_eq!(reader.next(|i| page.read(i)), Some((101, stopped(101))));
        for n in 102..RECORDS + 100 {
            assert_eq!(reader.next(|i| page.read(i)), Some((0, stopped(n))));
        }
        assert_eq!(reader.next(|i| page.read(i)), None);
    }

    #[test]
    fn a_record_that_is_overwritten_while_it_is_read_is_missed() {
        let (page, mut reader) = (Page::new(), Reader::default());
        page.tell(stopped(0));
        let reads = Cell::new(0);
        let read = |index| {
            reads.set(reads.get() + 1);
            if reads.get() == 4 {
                (1..=RECORDS).for_each(|n| page.tell(stopped(n)));
            }
            page.read(index)
        };
        assert_eq!(reader.next(read), Some((2, stopped(2))));
    }

    #[test]
    fn a_record_is_one_line_that_names_everything() {
        let line = "EC 7 stopped: no portal for event 0xe (reason 0x6, info 0x9 0xa, ip 0x7000)";
        assert_eq!(stopped(7).to_string(), line);
        assert_eq!(Stopped::from_words(stopped(7).words()), stopped(7));
    }
}
