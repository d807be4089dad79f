//! The thread that waits for the earliest time.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::cap::Sel;
use abi::hypercall::SmDown;
use abi::session::wire::Signal;
use abi::status::Status;
use runtime::capability::Cap;
use runtime::entrypoint::submit;
use runtime::sys::{syscall, tsc};
use runtime::thread::ThreadOptions;
use runtime::{Env, Error, semaphore};

const STACK_SIZE: u64 = 16 * 1024;

/// Wakes the entrypoint at a time.
#[derive(Debug)]
pub struct Alarm {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// TSC value, or [`SmDown::FOREVER`].
    deadline: AtomicU64,
    /// Ups when the deadline has changed.
    changed: Sel,
}

impl Alarm {
    /// Starts the thread, which submits `expired` at each alarm.
    pub fn start(env: &Env, expired: Cap<Signal>) -> Result<Self, Error> {
        let changed = semaphore::create(0)?;
        let shared = Arc::new(Shared { deadline: AtomicU64::new(SmDown::FOREVER), changed });
        let options = ThreadOptions { name: "alarm", cpu: 0, below: 0, stack_size: STACK_SIZE };
        // The thread runs as long as the driver.
        let _detached = env.spawn(options, {
            let shared = Arc::clone(&shared);
            move || shared.wait_and_submit(&expired)
        })?;
        Ok(Self { shared })
    }

    /// Sets the time of the alarm in microseconds of the TSC; an earlier setting no longer counts.
    pub fn set(&self, at_us: Option<u64>) {
        // One microsecond later, so that rounding to ticks and back does not make it early.
        let deadline = at_us.map_or(SmDown::FOREVER, |us| tsc::from_us(us.saturating_add(1)).max(1));
        if self.shared.deadline.swap(deadline, Ordering::AcqRel) != deadline {
            // It is this component's own semaphore.
            let _upped = semaphore::up(self.shared.changed);
        }
    }
}

impl Shared {
    fn wait_and_submit(&self, expired: &Cap<Signal>) {
        loop {
            let deadline = self.deadline.load(Ordering::Acquire);
            let wait = SmDown { sm: self.changed, zero: true, deadline };
            if syscall::sm_down(wait) != Err(Status::Timeout) {
                continue;
            }
            // An alarm is given once; if another time was set meanwhile, that one counts.
            let taken = self.deadline.compare_exchange(deadline, SmDown::FOREVER, Ordering::AcqRel, Ordering::Relaxed);
            if taken.is_ok() {
                submit(expired);
            }
        }
    }
}
