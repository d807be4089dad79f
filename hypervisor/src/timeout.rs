//! Timeouts of a CPU: a leftist heap threaded through ECs that wait and vCPUs to be recalled, keyed by their deadline. Insertion and removal
//! of any EC are O(log n) in the worst case, and need no memory.

use crate::ec::Ec;
use crate::mem::Link;
use crate::mem::object::Word;

/// The heap.
#[derive(Default)]
#[repr(C)]
pub struct Timeouts {
    root: Link<Ec>,
    /// Deadline of the first; `u64::MAX` without timeouts. Read by the timer code of the same CPU.
    first: Word,
}

impl Timeouts {
    /// An empty heap needs this once, as zeroed memory would mean a deadline of 0.
    pub fn init(&self) {
        self.first.set(u64::MAX);
    }

    /// Earliest deadline; `u64::MAX` if there is none.
    #[inline(always)]
    pub fn first(&self) -> u64 {
        self.first.get()
    }

    /// Adds an EC that is not in the heap.
    pub fn insert(&self, ec: &'static Ec, deadline: u64) {
        ec.deadline.set(deadline);
        ec.heap_left.set(None);
        ec.heap_right.set(None);
        ec.heap_rank.set(1);
        let merged = merge(self.root.get(), Some(ec));
        self.set_root(merged);
    }

    /// Removes an EC, if it is in the heap: its deadline is not 0.
    #[inline(always)]
    pub fn remove(&self, ec: &'static Ec) {
        if ec.deadline.get() != 0 {
            self.unlink(ec);
        }
    }

    fn unlink(&self, ec: &'static Ec) {
        ec.deadline.set(0);
        let up = ec.heap_up.get();
        let merged = merge(ec.heap_left.get(), ec.heap_right.get());
        let Some(mut up) = up else {
            self.set_root(merged);
            return;
        };
        if up.heap_left.is(ec) {
            up.heap_left.set(merged);
        } else {
            up.heap_right.set(merged);
        }
        if let Some(merged) = merged {
            merged.heap_up.set(Some(up));
        }
        // A changed rank moves at most as far up as ranks are out of order, which is O(log n).
        while settle(up) {
            match up.heap_up.get() {
                Some(next) => up = next,
                None => break,
            }
        }
    }

    /// Removes and returns the first EC whose deadline is not after `now`.
    pub fn pop(&self, now: u64) -> Option<&'static Ec> {
        if self.first.get() > now {
            return None;
        }
        let ec = self.root.get()?;
        self.remove(ec);
        Some(ec)
    }

    fn set_root(&self, root: Option<&'static Ec>) {
        if let Some(ec) = root {
            ec.heap_up.set(None);
        }
        self.first.set(root.map_or(u64::MAX, |ec| ec.deadline.get()));
        self.root.set(root);
    }
}

fn rank(ec: Option<&'static Ec>) -> u64 {
    ec.map_or(0, |ec| ec.heap_rank.get())
}

/// Restores the leftist property of one node; whether its rank changed.
fn settle(ec: &'static Ec) -> bool {
    let (left, right) = (ec.heap_left.get(), ec.heap_right.get());
    if rank(left) < rank(right) {
        ec.heap_left.set(right);
        ec.heap_right.set(left);
    }
    let new = rank(ec.heap_right.get()) + 1;
    let changed = ec.heap_rank.get() != new;
    ec.heap_rank.set(new);
    changed
}

/// Merges two heaps, of which most often one is empty.
#[inline(always)]
fn merge(a: Option<&'static Ec>, b: Option<&'static Ec>) -> Option<&'static Ec> {
    match (a, b) {
        (Some(a), Some(b)) => Some(merge_some(a, b)),
        _ => a.or(b),
    }
}

/// Merges two heaps along their right spines, each O(log n) long; that also bounds the recursion.
fn merge_some(a: &'static Ec, b: &'static Ec) -> &'static Ec {
    let (top, other) = if a.deadline.get() <= b.deadline.get() { (a, b) } else { (b, a) };
    let merged = merge(top.heap_right.get(), Some(other));
    top.heap_right.set(merged);
    if let Some(merged) = merged {
        merged.heap_up.set(Some(top));
    }
    settle(top);
    top
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pops_in_order_whatever_was_removed(
            ops in proptest::collection::vec((1u64..1000, any::<bool>(), any::<prop::sample::Index>()), 1..80)
        ) {
            let pd = testing::pd(4096);
            let heap = Timeouts::default();
            heap.init();
            let mut model: Vec<(u64, &'static Ec)> = Vec::new();
            for (deadline, remove, pick) in ops {
                if remove && !model.is_empty() {
                    let (_, ec) = model.swap_remove(pick.index(model.len()));
                    heap.remove(ec);
                    heap.remove(ec);
                } else {
                    let ec: &'static Ec = pd.new_object().unwrap();
                    heap.insert(ec, deadline);
                    model.push((deadline, ec));
                }
                let first = model.iter().map(|m| m.0).min().unwrap_or(u64::MAX);
                prop_assert_eq!(heap.first(), first);
            }
            let mut last = 0;
            prop_assert!(heap.pop(0).is_none());
            for _ in 0..model.len() {
                let first = heap.first();
                prop_assert!(first >= last);
                prop_assert!(heap.pop(first).is_some());
                last = first;
            }
            prop_assert!(heap.pop(u64::MAX - 1).is_none());
        }
    }
}
