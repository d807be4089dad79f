//! Scheduling contexts that are ready.

use crate::mem::Link;
use crate::mem::object::Word;
use crate::sc::{Place, Sc};
use abi::hypercall::CreateSc;

const PRIORITIES: usize = CreateSc::PRIORITIES as usize;

/// Ready scheduling contexts: a list per priority and a bitmap of those that are not empty.
#[repr(C)]
pub struct Queue {
    bitmap: [Word; PRIORITIES / 64],
    head: [Link<Sc>; PRIORITIES],
    tail: [Link<Sc>; PRIORITIES],
}

impl Queue {
    /// Adds `sc` behind (or, with `front`, before) those of its priority.
    #[inline(always)]
    pub fn insert(&self, sc: &'static Sc, front: bool) {
        let p = sc.priority.get() as usize % PRIORITIES;
        let (head, tail) = (self.head[p].get(), self.tail[p].get());
        if front {
            sc.prev.set(None);
            sc.next.set(head);
            match head {
                Some(head) => head.prev.set(Some(sc)),
                None => self.tail[p].set(Some(sc)),
            }
            self.head[p].set(Some(sc));
        } else {
            sc.next.set(None);
            sc.prev.set(tail);
            match tail {
                Some(tail) => tail.next.set(Some(sc)),
                None => self.head[p].set(Some(sc)),
            }
            self.tail[p].set(Some(sc));
        }
        let word = &self.bitmap[p / 64];
        word.set(word.get() | 1 << (p % 64));
        sc.put(Place::Ready);
    }

    /// Removes `sc`, which is in the queue.
    pub fn remove(&self, sc: &'static Sc) {
        let p = sc.priority.get() as usize % PRIORITIES;
        let (prev, next) = (sc.prev.get(), sc.next.get());
        match prev {
            Some(prev) => prev.next.set(next),
            None => self.head[p].set(next),
        }
        match next {
            Some(next) => next.prev.set(prev),
            None => self.tail[p].set(prev),
        }
        if self.head[p].get().is_none() {
            let word = &self.bitmap[p / 64];
            word.set(word.get() & !(1 << (p % 64)));
        }
        sc.put(Place::Nowhere);
    }

    /// Highest priority in the queue.
    #[inline(always)]
    pub fn top(&self) -> Option<u64> {
        for (i, word) in self.bitmap.iter().enumerate().rev() {
            let bits = word.get();
            if bits != 0 {
                return Some(i as u64 * 64 + u64::from(bits.ilog2()));
            }
        }
        None
    }

    /// Removes and returns the first of the highest priority.
    #[inline(always)]
    pub fn pop(&self) -> Option<&'static Sc> {
        let p = self.top()? as usize % PRIORITIES;
        let sc = self.head[p].get()?;
        let next = sc.next.get();
        self.head[p].set(next);
        match next {
            Some(next) => next.prev.set(None),
            None => {
                self.tail[p].set(None);
                let word = &self.bitmap[p / 64];
                word.set(word.get() & !(1 << (p % 64)));
            }
        }
        Some(sc)
    }
}
