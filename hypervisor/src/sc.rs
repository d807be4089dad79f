//! Scheduling context: the right to run, with a priority and a budget.

use crate::ec::Ec;
use crate::mem::object::{Header, Word};
use crate::mem::{Link, Weak};

/// Where a scheduling context is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Place {
    /// Nowhere: new, or its thread is dead.
    Nowhere = 0,
    /// Current on its CPU.
    Current = 1,
    /// In the ready queue of its CPU.
    Ready = 2,
    /// Parked at a blocked EC.
    Parked = 3,
    /// In the inbox of its CPU.
    Inbox = 4,
    /// Set aside on its CPU: its chain leads nowhere for now.
    Aside = 5,
}

/// A scheduling context.
#[derive(Default)]
#[repr(C, align(256))]
pub struct Sc {
    header: Header,
    /// Where its call chain begins.
    pub ec: Weak<Ec>,
    /// CPU on which it is now; a call to another CPU takes it there.
    pub cpu: Word,
    /// Priority.
    pub priority: Word,
    /// Budget in TSC ticks.
    pub budget: Word,
    /// What is left of it.
    pub left: Word,
    /// Consumed in all.
    pub consumed: Word,
    place: Word,
    /// Neighbours in the list that it is in.
    pub next: Link<Sc>,
    pub(crate) prev: Link<Sc>,
    /// EC where it is parked.
    pub parked_at: Link<Ec>,
}

impl Sc {
    /// Sets up a fresh scheduling context. `budget` in TSC ticks.
    pub fn init(&self, ec: &'static Ec, priority: u8, budget: u64) {
        self.ec.set(Some(ec));
        self.cpu.set(ec.cpu.get());
        self.priority.set(u64::from(priority));
        self.budget.set(budget);
        self.left.set(budget);
    }

    /// Whether it is at `place`.
    pub fn is_at(&self, place: Place) -> bool {
        self.place.observe() == place as u64
    }

    /// Records where it is.
    pub fn put(&self, place: Place) {
        self.place.publish(place as u64);
    }
}
