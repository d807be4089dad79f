//! Execution context: a thread, the handler of portals, or a virtual CPU.
//!
//! An EC belongs to one CPU for life.

mod state;

pub use state::State;

use crate::frame::{Frame, Kind, Reg};
use crate::mem::object::{Header, Word};
use crate::mem::{Link, Page, Weak};
use crate::pt::Pt;
use crate::sc::Sc;
use crate::sm::Sm;
use crate::space::{guest::GuestSpace, obj::ObjSpace, pio::PioSpace};

/// An execution context. Part of its layout is known to `arch::layout`.
#[derive(Default)]
#[repr(C, align(256))]
pub struct Ec {
    header: Header,
    /// Virtual address of the context page.
    pub(crate) frame: Word,
    pub(crate) state: Word,
    /// CPU.
    pub cpu: Word,
    /// Page-table root of its memory space (host ECs).
    pub root: Word,
    /// Virtual address of the UTCB (host ECs).
    pub(crate) utcb: Word,
    /// Stack pointer at portal entry (local ECs).
    pub sp: Word,
    /// Whom it serves, or has served last (local ECs).
    pub caller: Weak<Ec>,
    /// Who serves it, or has served it last.
    pub callee: Weak<Ec>,
    /// Portal that it wants, to call it or to raise an event there.
    pub wanted: Weak<Pt>,
    /// Where its selectors are looked up.
    pub obj: Link<ObjSpace>,
    /// Ports that it may access.
    pub pio: Link<PioSpace>,
    /// Guest-physical memory (vCPUs).
    pub guest: Link<GuestSpace>,
    /// First selector of its event portals.
    pub event_base: Word,
    /// Semaphore at which it waits, and its neighbours in the queue there or among those to wake on its CPU.
    pub sm: Link<Sm>,
    pub(crate) queue_next: Link<Ec>,
    pub(crate) queue_prev: Link<Ec>,
    /// Scheduling contexts that wait until it is no longer blocked.
    pub(crate) parked: Link<Sc>,
    /// End of its wait, or when it is to be recalled (vCPUs); 0: never. And its place among the timeouts of its CPU.
    pub(crate) deadline: Word,
    pub(crate) heap_up: Link<Ec>,
    pub(crate) heap_left: Link<Ec>,
    pub(crate) heap_right: Link<Ec>,
    pub(crate) heap_rank: Word,
    /// Its scheduling context (threads and vCPUs).
    pub sc: Weak<Sc>,
}

impl Ec {
    /// Sets up a fresh EC. `utcb` is absent for vCPUs.
    pub fn init(&self, frame: Page, utcb: Option<Page>, cpu: u16, state: State, kind: Kind) {
        self.frame.set(frame.virt());
        self.utcb.set(utcb.map_or(0, Page::virt));
        self.cpu.set(u64::from(cpu));
        self.state.set(state as u64);
        self.frame().set(Reg::Kind, kind as u64);
    }

    /// Context page.
    #[inline(always)]
    pub fn frame(&self) -> Frame {
        Frame(Page::at_virt(self.frame.get()))
    }

    /// UTCB of a host EC.
    #[inline(always)]
    pub fn utcb(&self) -> Page {
        Page::at_virt(self.utcb.get())
    }

    /// Whether it is a vCPU.
    pub fn is_vcpu(&self) -> bool {
        self.frame().kind() == Kind::Guest as u64
    }

    /// Whether it is in `state`.
    #[inline(always)]
    pub fn is(&self, state: State) -> bool {
        self.state.observe() == state as u64
    }

    /// State.
    #[inline(always)]
    pub fn state(&self) -> State {
        State::of(self.state.observe())
    }

    /// Changes the state.
    #[inline(always)]
    pub fn become_(&self, state: State) {
        self.state.publish(state as u64);
    }

    /// Claims it while it is `from`, which is [`State::Calling`] or [`State::Raising`]; see [`state::claim`].
    pub fn claim<T>(&self, from: State, look: impl FnOnce() -> Option<T>) -> Option<T> {
        state::claim(self.state.atomic(), from, look)
    }
}
