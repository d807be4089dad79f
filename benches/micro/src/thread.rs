//! Threads that do not end by themselves but say when they are done.

use crate::asm::stack::{self, Body};
use crate::asm::{SUCCESS, check, hypercall};
use crate::selectors::{DONE, NEVER, THREAD_SCS, THREADS};
use abi::PAGE_SIZE;
use abi::cap::{Sel, root};
use abi::hypercall::{Args, CpuId, CreateEc, CreateSc, EcBody, Number, SmDown, rdi};
use abi::status::Status;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Most threads at a time.
const THREADS_MAX: u64 = 2;
/// UTCBs of threads, one page each.
const UTCB_BASE: u64 = 0x3100_0000;
/// Long enough that no measurement is interrupted by its end.
const BUDGET_US: u32 = 10_000_000;

/// Status of the thread that ended last.
static OUTCOME: AtomicU64 = AtomicU64::new(SUCCESS);

/// A thread.
#[derive(Debug)]
pub struct Thread {
    index: u64,
}

/// Properties of a thread.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// 0 or 1: which thread it is.
    pub index: u64,
    /// Priority.
    pub priority: u8,
    /// First selector of its event portals.
    pub events: Sel,
}

impl Default for Place {
    fn default() -> Self {
        Self { index: 0, priority: 100, events: crate::selectors::NOTHING }
    }
}

/// Address of the UTCB of thread `index`.
pub const fn utcb(index: u64) -> u64 {
    UTCB_BASE + index * PAGE_SIZE
}

impl Thread {
    /// Starts `body` on CPU 0.
    pub fn start(place: Place, body: Body) -> Result<Self, Status> {
        let Place { index, priority, events: event_base } = place;
        let (sp, ip) = stack::prepare(index % THREADS_MAX, body);
        let body = EcBody::Thread { utcb: utcb(index), sp, ip };
        let dst = THREADS.offset(index);
        hypercall(CreateEc { dst, pd: root::PD, cpu: CpuId(0), event_base, body }.encode())?;
        let (ec, dst) = (dst, THREAD_SCS.offset(index));
        hypercall(CreateSc { dst, pd: root::PD, ec, priority, budget_us: BUDGET_US }.encode())?;
        Ok(Self { index })
    }

    /// Runs `body` to its end.
    pub fn run(place: Place, body: Body) -> Result<(), Status> {
        Self::start(place, body)?.finish()
    }

    /// Waits until a thread is done, then ends this one. Its status decides.
    pub fn finish(self) -> Result<(), Status> {
        wait()?;
        self.stop()?;
        check(OUTCOME.swap(SUCCESS, Relaxed))
    }

    /// Ends the thread.
    pub fn stop(self) -> Result<(), Status> {
        destroy(THREAD_SCS.offset(self.index))?;
        destroy(THREADS.offset(self.index))
    }
}

/// Waits until somebody is done.
pub fn wait() -> Result<(), Status> {
    down(DONE)
}

/// Says that the running thread is done with a status, and never returns.
pub fn done(status: u64) -> ! {
    // Ordering: by the semaphore.
    OUTCOME.store(status, Relaxed);
    let up = Args { rdi: rdi(Number::SmUp, 0, DONE), ..Args::default() };
    // It fails only if there is no such semaphore, and then nobody waits.
    let _nobody = hypercall(up);
    loop {
        let _never = down(NEVER);
    }
}

fn down(sm: Sel) -> Result<(), Status> {
    let down = SmDown { sm, zero: false, deadline: SmDown::FOREVER };
    hypercall(down.encode()).map(|_| ())
}

/// Destroys an object, in as many steps as the hypervisor takes.
pub fn destroy(object: Sel) -> Result<(), Status> {
    let args = Args { rdi: rdi(Number::Destroy, 0, object), ..Args::default() };
    while hypercall(args)? != 0 {}
    Ok(())
}
