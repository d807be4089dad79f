//! Threads and portal handlers.

use crate::kit::domain::{Domain, ROOT};
use crate::kit::object::{self, must};
use crate::kit::{memory, time};
use crate::sys::context::{self, SLOTS, STACK_PAGES};
use crate::sys::hypercall::Message;
use abi::cap::{Perms, Sel, root};
use abi::hypercall::{CpuId, CreateEc, CreateSc, EcBody};
use abi::state::Mtd;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

static FREE: [AtomicU64; (SLOTS / 64) as usize] = [const { AtomicU64::new(u64::MAX) }; 4];
static MAPPED: [AtomicU64; (SLOTS / 64) as usize] = [const { AtomicU64::new(0) }; 4];

/// A slot, for as long as this lives.
#[derive(Debug)]
pub struct Slot(pub u64);

impl Slot {
    /// A free slot with its stack mapped. Running out of them would be a bug of the checks.
    pub fn allocate() -> Self {
        let index = (0..SLOTS).find(|i| FREE[(i / 64) as usize].load(Relaxed) & 1 << (i % 64) != 0);
        let index = index.unwrap_or(0);
        let (word, bit) = ((index / 64) as usize, 1 << (index % 64));
        FREE[word].fetch_and(!bit, Relaxed);
        if MAPPED[word].fetch_or(bit, Relaxed) & bit == 0 {
            let phys = memory::pages(STACK_PAGES);
            memory::map(root::MEM, phys, context::stack_at(index), STACK_PAGES, memory::RW);
        }
        Self(index)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        FREE[(self.0 / 64) as usize].fetch_or(1 << (self.0 % 64), Relaxed);
    }
}

/// Priority of threads that no check cares about; the first thread's is higher.
pub const PRIORITY: u8 = 64;
/// Budget of threads that no check cares about.
pub const BUDGET_US: u32 = 10_000;

/// How to run a thread.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Where.
    pub domain: Domain,
    /// CPU.
    pub cpu: u16,
    /// Priority.
    pub priority: u8,
    /// Budget.
    pub budget_us: u32,
    /// First selector of its event portals.
    pub events: Sel,
}

impl Default for Setup {
    fn default() -> Self {
        Self { domain: ROOT, cpu: 0, priority: PRIORITY, budget_us: BUDGET_US, events: Sel(Sel::COUNT) }
    }
}

impl Setup {
    /// On CPU `cpu`.
    pub fn on(cpu: u16) -> Self {
        Self { cpu, ..Self::default() }
    }

    /// With this priority.
    pub fn priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    /// In this domain.
    pub fn inside(self, domain: Domain) -> Self {
        Self { domain, ..self }
    }

    /// With these event portals.
    pub fn events(self, events: Sel) -> Self {
        Self { events, ..self }
    }

    /// A new EC.
    fn create_ec(self, body: EcBody) -> Sel {
        let (dst, cpu) = (object::fresh(), CpuId(self.cpu));
        must(CreateEc { dst, pd: self.domain.pd, cpu, event_base: self.events, body }.encode());
        dst
    }
}

/// A thread, destroyed when this is dropped.
#[derive(Debug)]
pub struct Thread {
    /// Its EC.
    pub ec: Sel,
    /// Its scheduling context.
    pub sc: Sel,
    /// Upped when its body returns. In another domain it is at [`DONE`] there.
    pub done: Sel,
    slot: Slot,
}

/// Selector in other domains of the semaphore that a thread ups at its end.
pub const DONE: Sel = Sel(61);

impl Thread {
    /// Starts a thread.
    pub fn start(setup: Setup, body: extern "sysv64" fn(u64), argument: u64) -> Self {
        let this = Self::prepare(setup, body, argument);
        this.run(setup);
        this
    }

    /// A thread without scheduling context.
    pub fn prepare(setup: Setup, body: extern "sysv64" fn(u64), argument: u64) -> Self {
        let slot = Slot::allocate();
        let done = object::semaphore(0);
        let foreign = setup.domain != ROOT;
        context::prepare_thread(slot.0, body, argument, if foreign { DONE } else { done });
        setup.domain.map_stack(slot.0);
        if foreign {
            setup.domain.grant(done, DONE, Perms::SM_UP);
        }
        let (utcb, sp) = (context::utcb_at(slot.0), context::stack_pointer(slot.0));
        let ec = setup.create_ec(EcBody::Thread { utcb, sp, ip: context::thread_entry() });
        Self { ec, sc: object::fresh(), done, slot }
    }

    /// Gives a prepared thread its scheduling context.
    pub fn run(&self, setup: Setup) {
        must(
            CreateSc {
                dst: self.sc,
                pd: setup.domain.pd,
                ec: self.ec,
                priority: setup.priority,
                budget_us: setup.budget_us,
            }
            .encode(),
        );
    }

    /// Waits for the end of its body. Whether it came.
    pub fn join(&self) -> bool {
        time::down(self.done).is_ok()
    }

    /// Index of its slot.
    pub fn slot(&self) -> u64 {
        self.slot.0
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // Some may be gone already: that is what some checks do.
        for sel in [self.sc, self.ec, self.done] {
            let _gone = object::try_destroy(sel);
        }
    }
}

/// Runs `body` on a thread of its own and waits for it. Whether it returned.
pub fn on_thread(setup: Setup, body: extern "sysv64" fn(u64), argument: u64) -> bool {
    Thread::start(setup, body, argument).join()
}

/// A local EC, destroyed when this is dropped.
#[derive(Debug)]
pub struct Handler {
    /// Its EC.
    pub ec: Sel,
    _slot: Slot,
}

impl Handler {
    /// In the root task.
    pub fn create(cpu: u16, body: extern "sysv64" fn(&mut Message)) -> Self {
        Self::inside(Setup::on(cpu), body)
    }

    /// In a domain; priority and budget do not matter.
    pub fn inside(setup: Setup, body: extern "sysv64" fn(&mut Message)) -> Self {
        let slot = Slot::allocate();
        context::prepare_local(slot.0, body);
        setup.domain.map_stack(slot.0);
        let (utcb, sp) = (context::utcb_at(slot.0), context::stack_pointer(slot.0));
        let ec = setup.create_ec(EcBody::Local { utcb, sp });
        Self { ec, _slot: slot }
    }

    /// A portal of the root task to it.
    pub fn portal(&self, id: u64) -> Sel {
        object::portal(self.ec, id, Mtd::empty())
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let _gone = object::try_destroy(self.ec);
    }
}
