//! Buddy allocator over frame numbers: the bookkeeping of the data part of the pool, without touching the memory.
//!
//! Blocks of `2^order` pages, aligned to their size. State is a [`Record`] per page, in memory that the caller
//! provides; through those of free blocks of an order goes a list. All operations are O(orders).

/// Largest order: 64 KiB blocks. (The largest structure is what a [CPU](crate::arch::percpu) has.)
pub const MAX_ORDER: usize = 4;

const NIL: u32 = u32::MAX;
/// State of a page that starts no free block.
const USED: u32 = u32::MAX;

/// Per-page record.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    next: u32,
    prev: u32,
    /// Order of the free block that starts here, or [`USED`].
    order: u32,
}

impl Record {
    /// A page that is in use.
    pub const USED: Self = Self { next: NIL, prev: NIL, order: USED };
}

/// The allocator.
#[derive(Debug)]
pub struct Buddy<'a> {
    records: &'a mut [Record],
    head: [u32; MAX_ORDER + 1],
}

impl<'a> Buddy<'a> {
    /// Manages the pages `0..records.len()`, all free.
    pub fn new(records: &'a mut [Record]) -> Self {
        records.fill(Record::USED);
        let count = records.len();
        let mut this = Self { records, head: [NIL; MAX_ORDER + 1] };
        for page in 0..count {
            this.free(page, 0);
        }
        this
    }

    /// Takes a block of `2^order` pages; its first page.
    pub fn alloc(&mut self, order: usize) -> Option<usize> {
        let from = (order..=MAX_ORDER).find(|&o| self.head[o] != NIL)?;
        let page = self.head[from] as usize;
        self.unlink(page);
        for half in (order..from).rev() {
            self.link(page + (1 << half), half);
        }
        Some(page)
    }

    /// Returns a block; merges it with its free buddies.
    pub fn free(&mut self, page: usize, order: usize) {
        let (mut page, mut order) = (page, order);
        while order < MAX_ORDER {
            let buddy = page ^ (1 << order);
            if self.records.get(buddy).is_none_or(|r| r.order != order as u32) {
                break;
            }
            self.unlink(buddy);
            page &= !(1 << order);
            order += 1;
        }
        self.link(page, order);
    }

    fn link(&mut self, page: usize, order: usize) {
        let next = self.head[order];
        self.records[page] = Record { next, prev: NIL, order: order as u32 };
        if next != NIL {
            self.records[next as usize].prev = page as u32;
        }
        self.head[order] = page as u32;
    }

    fn unlink(&mut self, page: usize) {
        let Record { next, prev, order } = self.records[page];
        if prev == NIL {
            self.head[order as usize] = next;
        } else {
            self.records[prev as usize].next = next;
        }
        if next != NIL {
            self.records[next as usize].prev = prev;
        }
        self.records[page] = Record::USED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_are_aligned_disjoint_and_all_come_back(
            pages in 1usize..200,
            ops in proptest::collection::vec((any::<bool>(), 0usize..=MAX_ORDER, any::<prop::sample::Index>()), 0..200),
        ) {
            let mut records = vec![Record::USED; pages];
            let mut buddy = Buddy::new(&mut records);
            let mut owner = vec![false; pages];
            let mut held: Vec<(usize, usize)> = Vec::new();
            for (alloc, order, pick) in ops {
                if alloc {
                    if let Some(page) = buddy.alloc(order) {
                        prop_assert_eq!(page % (1 << order), 0);
                        for p in &mut owner[page..page + (1 << order)] {
                            prop_assert!(!*p);
                            *p = true;
                        }
                        held.push((page, order));
                    }
                } else if !held.is_empty() {
                    let (page, order) = held.swap_remove(pick.index(held.len()));
                    owner[page..page + (1 << order)].fill(false);
                    buddy.free(page, order);
                }
            }
            for (page, order) in held {
                buddy.free(page, order);
            }
            // Everything merged: as many of the largest blocks as fit can be had.
            for _ in 0..pages >> MAX_ORDER {
                prop_assert!(buddy.alloc(MAX_ORDER).is_some());
            }
        }
    }
}
