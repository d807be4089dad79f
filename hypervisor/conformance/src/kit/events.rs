//! Event portals that record what happened and let the context go on behind the instruction that caused it.

use crate::kit::context::Handler;
use crate::kit::{memory, object};
use crate::sys::hypercall::Message;
use crate::sys::memory::cell;
use crate::sys::utcb;
use abi::cap::Sel;
use abi::event::host;
use abi::message::Tag;
use abi::state::{Mtd, gpr, word};
use core::sync::atomic::Ordering::Relaxed;

/// Portals of all events of threads on one CPU.
#[derive(Debug)]
pub struct Events {
    /// Event base for [`Setup::events`](crate::kit::context::Setup::events).
    pub base: Sel,
    portals: Sel,
    cells: u64,
    _handler: Handler,
}

impl Drop for Events {
    fn drop(&mut self) {
        object::destroy(self.portals);
    }
}

/// What the last event was, as delivered in registers, and how many there were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Number of events.
    pub count: u64,
    /// Event number, by the portal.
    pub event: u64,
    /// Exception vector.
    pub reason: u64,
    /// Error code.
    pub info1: u64,
    /// CR2 for page faults.
    pub info2: u64,
    /// Instruction pointer.
    pub rip: u64,
}

impl Events {
    /// For threads of the root task on `cpu`. State delivered: all registers.
    pub fn create(cpu: u16) -> Self {
        let cells = memory::fresh_cells(6);
        let handler = Handler::create(cpu, record);
        let base = object::fresh_range(host::COUNT);
        let portals = object::portals(base, host::COUNT, handler.ec, cells << 8, Mtd::GPR | Mtd::RIP | Mtd::RFLAGS);
        Self { base, portals, cells, _handler: handler }
    }

    /// What happened last.
    pub fn seen(&self) -> Seen {
        let read = |i| cell(self.cells + i).load(Relaxed);
        Seen { count: read(0), event: read(1), reason: read(2), info1: read(3), info2: read(4), rip: read(5) }
    }

    /// Forgets what happened.
    pub fn reset(&self) {
        (0..6).for_each(|i| cell(self.cells + i).store(0, Relaxed));
    }
}

/// Single stepping (SDM vol. 1, 3.4.3).
const TRAP_FLAG: u64 = 1 << 8;

/// Probes keep the address behind the instruction in R12. RAX tells them that there was an event.
extern "sysv64" fn record(message: &mut Message) {
    let cells = message.id >> 8;
    let words = [message.id & 0xff, message.words[0], message.words[1], message.words[2], message.words[3]];
    for (i, word) in (1..).zip(words) {
        cell(cells + i).store(word, Relaxed);
    }
    cell(cells).fetch_add(1, Relaxed);
    let mut taken = Mtd::empty();
    if words[0] != host::RECALL {
        utcb::write(word::RIP, utcb::read(word::GPR + gpr::R12));
        utcb::write(word::GPR + gpr::RAX, crate::sys::probe::EVENT);
        utcb::write(word::RFLAGS, utcb::read(word::RFLAGS) & !TRAP_FLAG);
        taken = Mtd::RIP | Mtd::RFLAGS | Mtd::ACDB;
    }
    message.tag = Tag(u64::from(taken.bits()));
}
