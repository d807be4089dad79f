//! A signal at a time. A parent has no Timer session: its timer driver is one of its children.

use abi::cap::Sel;
use abi::session::wire::Signal;
use abi::status::Status;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use runtime::capability::Cap;
use runtime::sys::tsc;
use runtime::thread::ThreadOptions;
use runtime::{Env, Error, entrypoint, semaphore};

const STACK: u64 = 16 << 10;
/// No time is set.
const UNSET: u64 = 0;

/// The alarm.
#[derive(Debug)]
pub struct Alarm {
    /// When, in TSC ticks. Written before `changed` is upped, which the thread that reads it waits for.
    time: Arc<AtomicU64>,
    changed: Sel,
}

impl Alarm {
    /// An alarm that submits `signal`, with a thread that waits.
    ///
    /// # Errors
    /// The account cannot pay for it.
    pub fn new(env: &Env, signal: Cap<Signal>) -> Result<Self, Error> {
        let (time, changed) = (Arc::new(AtomicU64::new(UNSET)), semaphore::create(0)?);
        let shared = Arc::clone(&time);
        let options = ThreadOptions { name: "alarm", cpu: 0, below: 0, stack_size: STACK };
        env.spawn(options, move || {
            loop {
                let result = match shared.load(Ordering::Relaxed) {
                    UNSET => semaphore::down(changed),
                    time => semaphore::down_until(changed, time),
                };
                if result == Err(Status::Timeout) {
                    shared.store(UNSET, Ordering::Relaxed);
                    entrypoint::submit(&signal);
                }
            }
        })?;
        Ok(Self { time, changed })
    }

    /// Sets it to a time in microseconds of the TSC; an earlier one is forgotten.
    ///
    /// A time that is set while the signal of the one before is submitted may get lost with it: whoever handles the
    /// signal sets what is next.
    pub fn set(&self, time: u64) {
        self.time.store(tsc::from_us(time).max(UNSET + 1), Ordering::Relaxed);
        // Its counter cannot overflow.
        let _changed = semaphore::up(self.changed);
    }
}
