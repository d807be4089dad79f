//! Call chains: which EC a scheduling context runs, if its own waits for others.

use super::{leave, park, run, schedule};
use crate::arch::{tsc, virt};
use crate::cpu::Cpu;
use crate::ec::State;
use crate::frame::Reg;
use crate::ipc;
use crate::mem::object::Object;
use crate::sc::{Place, Sc};
use crate::sched::Resume;
use crate::smp;

/// Longest call chain that is followed. Longer ones, and cycles, try again a tick later.
const CHAIN: usize = 64;
/// Wait of a scheduling context whose chain leads nowhere, in microseconds.
const RETRY_US: u64 = 1000;

/// Starts over with the current scheduling context, after its call chain changed.
pub fn reactivate(cpu: &'static Cpu) -> Resume {
    match cpu.sc.get() {
        Some(sc) => match activate(cpu, sc) {
            Some(resume) => resume,
            None => {
                set_aside(cpu);
                schedule(cpu)
            }
        },
        None => schedule(cpu),
    }
}

/// The chain of the current scheduling context, if that is still here, leads nowhere for now: others have their turn, of lower
/// priority too, until it tries again.
pub(super) fn set_aside(cpu: &'static Cpu) {
    let Some(sc) = cpu.sc.get() else { return };
    leave(cpu, sc, Place::Aside);
    sc.next.set(cpu.aside.get());
    cpu.aside.set(Some(sc));
    if cpu.retry.get() == u64::MAX {
        cpu.retry.set(tsc::read() + tsc::from_us(RETRY_US));
    }
}

/// Follows the call chain of the current `sc` from its beginning to the EC that can run, sends what can be sent on the
/// way, and continues it. `None`: `sc` left this CPU's hands, or (still current) its chain leads nowhere.
pub(super) fn activate(cpu: &'static Cpu, sc: &'static Sc) -> Option<Resume> {
    let Some(home) = sc.ec.get().filter(|_| sc.id() != 0) else {
        return leave(cpu, sc, Place::Nowhere);
    };
    let mut ec = home;
    let mut helping = false;
    for _ in 0..CHAIN {
        match ec.state() {
            s if s == State::Runnable as u64 => {
                if ec.cpu.get() != cpu.index() {
                    return migrate(cpu, sc, ec.cpu.get());
                }
                cpu.helping.set(u64::from(helping));
                if ec.frame().get(Reg::Recall) != 0 && crate::event::recall(cpu, ec) {
                    continue;
                }
                return Some(run(cpu, ec));
            }
            s if s == State::Calling as u64 || s == State::Raising as u64 => {
                let Some(callee) = ec.wanted.get().and_then(|pt| pt.ec.get()) else {
                    if ec.cpu.get() != cpu.index() {
                        return migrate(cpu, sc, ec.cpu.get());
                    }
                    ipc::abort(ec);
                    continue;
                };
                if callee.cpu.get() != cpu.index() {
                    // The handler's CPU is to access the state.
                    virt::release(cpu, ec);
                    return migrate(cpu, sc, callee.cpu.get());
                }
                if callee.is(State::Idle) {
                    ipc::send(ec, callee);
                } else {
                    helping = true;
                }
                ec = callee;
            }
            s if s == State::Waiting as u64 => match ec.callee.get() {
                Some(callee) => ec = callee,
                None if ec.cpu.get() != cpu.index() => return migrate(cpu, sc, ec.cpu.get()),
                None => ipc::abort(ec),
            },
            s if s == State::Blocked as u64 => {
                if ec.cpu.get() != cpu.index() {
                    return migrate(cpu, sc, ec.cpu.get());
                }
                leave(cpu, sc, Place::Nowhere);
                park(sc, ec);
                return None;
            }
            s if s == State::Idle as u64 => {
                ec = home;
                helping = false;
            }
            _ => return leave(cpu, sc, Place::Nowhere),
        }
    }
    None
}

fn migrate(cpu: &'static Cpu, sc: &'static Sc, to: u64) -> Option<Resume> {
    leave(cpu, sc, Place::Nowhere);
    sc.cpu.set(to);
    smp::send_sc(cpu, sc);
    None
}
