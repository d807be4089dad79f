//! Call chains: which EC a scheduling context runs, if its own waits for others.

use super::{charge, park, run, schedule};
use crate::arch::{tsc, virt};
use crate::cpu::Cpu;
use crate::ec::{Ec, State};
use crate::event;
use crate::frame::Reg;
use crate::ipc;
use crate::mem::object::Object;
use crate::sc::{Place, Sc};
use crate::sched::Resume;
use crate::smp;
use core::iter::successors;
use core::ops::ControlFlow::{self, Break, Continue};

/// Longest call chain that is followed. Longer ones, and cycles, try again later.
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
    let mut walk = Walk { cpu, sc, home, helping: false };
    let mut ec = home;
    for _ in 0..CHAIN {
        match walk.step(ec) {
            Continue(next) => ec = next,
            Break(end) => return end,
        }
    }
    None
}

/// A walk along the call chain of `sc`, which begins at `home`.
struct Walk {
    cpu: &'static Cpu,
    sc: &'static Sc,
    home: &'static Ec,
    helping: bool,
}

/// The EC to look at next, or what the walk ends with.
type Step = ControlFlow<Option<Resume>, &'static Ec>;

impl Walk {
    /// A look at `ec`. Those of other CPUs may change meanwhile: then the next look finds something else.
    fn step(&mut self, ec: &'static Ec) -> Step {
        let here = ec.cpu.get() == self.cpu.index();
        match ec.state() {
            State::Runnable if here => self.runnable(ec),
            State::Blocked if here => {
                leave(self.cpu, self.sc, Place::Nowhere);
                park(self.sc, ec);
                Break(None)
            }
            State::Dead if ec.addr() == self.home.addr() => Break(leave(self.cpu, self.sc, Place::Nowhere)),
            State::Dead if here => {
                ipc::abort_caller(ec);
                self.restart()
            }
            State::Runnable | State::Blocked | State::Dead => Break(migrate(self.cpu, self.sc, ec.cpu.get())),
            state @ (State::Calling | State::Raising) => self.wanting(ec, state),
            // If the callee is gone, its CPU is about to end the wait.
            State::Waiting => Continue(ec.callee.get().unwrap_or(ec)),
            State::Claimed => Continue(ec),
            State::Idle => self.restart(),
        }
    }

    /// The chain has changed behind us.
    fn restart(&mut self) -> Step {
        self.helping = false;
        Continue(self.home)
    }

    fn runnable(&self, ec: &'static Ec) -> Step {
        self.cpu.helping.set(u64::from(self.helping));
        if ec.frame().get(Reg::Recall) != 0 && event::recall(self.cpu, ec) {
            return Continue(ec);
        }
        Break(Some(run(self.cpu, ec)))
    }

    fn wanting(&mut self, ec: &'static Ec, state: State) -> Step {
        let Some(handler) = ipc::handler(ec) else {
            ipc::abort_wish(ec, state);
            return Continue(ec);
        };
        if handler.cpu.get() != self.cpu.index() {
            // The handler's CPU is to access the state.
            virt::release(self.cpu, ec);
            return Break(migrate(self.cpu, self.sc, handler.cpu.get()));
        }
        if handler.is(State::Idle) {
            ipc::send(ec, state, handler);
        } else {
            self.helping = true;
        }
        Continue(handler)
    }
}

/// The current `sc` is no longer that.
fn leave(cpu: &'static Cpu, sc: &'static Sc, place: Place) -> Option<Resume> {
    charge(cpu);
    cpu.sc.set(None);
    sc.put(place);
    None
}

fn migrate(cpu: &'static Cpu, sc: &'static Sc, to: u64) -> Option<Resume> {
    leave(cpu, sc, Place::Nowhere);
    sc.cpu.set(to);
    smp::send_sc(sc);
    None
}

/// Where scheduling contexts may be parked because of `ec`: where the chains end that lead on from whom it called last, and from whom
/// it wants.
pub fn ends(ec: &'static Ec) -> impl Iterator<Item = &'static Ec> {
    let next = |ec: &&'static Ec| match ec.state() {
        State::Waiting => ec.callee.get(),
        State::Calling | State::Raising => ipc::handler(ec),
        _ => None,
    };
    [ec.callee.get(), ipc::handler(ec)]
        .into_iter()
        .flatten()
        .filter_map(move |ec| successors(Some(ec), next).take(CHAIN).last())
}
