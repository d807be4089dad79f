//! Recalls of virtual CPUs that run: by somebody, and at a deadline.

use super::vcpu::event;
use crate::kit::object::{self, try_call};
use crate::kit::time::{self, eventually, pause};
use crate::kit::vcpu::{Machine, Maps};
use crate::report::{check, holds, section, skip};
use crate::sys::guest_code::Code;
use crate::sys::hypercall::now;
use crate::sys::memory::load;
use abi::cap::Sel;
use abi::event::guest;
use abi::hypercall::CtrlEc;
use abi::status::Status;
use runtime::sys::physical::information_page;

/// The topic.
pub fn run() {
    if !super::space::has_guests() {
        skip("vCPUs", "the machine has neither SVM nor VMX");
        return;
    }
    for cpu in 0..information_page().cpu_count as u16 {
        counting(cpu);
        deadline(cpu);
    }
}

pub(super) fn recall(ec: Sel) -> Result<(), Status> {
    try_call(CtrlEc::Recall { ec }.encode())
}

/// The counter of the counting program.
pub(super) fn count(machine: &Machine) -> u64 {
    load(machine.data + 0x500) & 0xffff_ffff
}

fn counting(cpu: u16) {
    section("recall of a running vCPU");
    let machine = Machine::create(cpu, Code::Count, Maps::default());
    holds("it starts", machine.start_and_boot().is_ok());
    holds("a guest without exits runs", eventually(|| count(&machine) > 1000));
    let mut recalled = 0;
    for _ in 0..20 {
        recalled +=
            u64::from(recall(machine.ec).is_ok() && event(machine.exit()) == Ok((guest::RECALL, guest::RECALL)));
        let at_exit = count(&machine);
        pause(1);
        recalled += u64::from(count(&machine) == at_exit);
        machine.go();
        recalled += u64::from(eventually(|| count(&machine) > at_exit));
    }
    check("recalls stop it, and it goes on", (recalled, machine.unexpected()), (60, None));
    let other = Machine::create(cpu, Code::Count, Maps::default());
    holds("another one starts", other.start_and_boot().is_ok());
    let before = (count(&machine), count(&other));
    holds("both run", eventually(|| count(&machine) > before.0 && count(&other) > before.1));
    check("without exits", (machine.unexpected(), other.unexpected()), (None, None));
    object::destroy(machine.ec);
    let at_end = count(&machine);
    pause(2);
    check("a destroyed one has stopped", count(&machine), at_end);
    let before = count(&other);
    holds("the other one has not", eventually(|| count(&other) > before));
}

fn deadline(cpu: u16) {
    section("recall at a deadline");
    let machine = Machine::create(cpu, Code::Count, Maps::default());
    holds("it starts", machine.start_and_boot().is_ok());
    holds("it runs", eventually(|| count(&machine) > 0));
    let stop = || recall(machine.ec).and_then(|()| event(machine.exit()));
    check("and stops", stop(), Ok((guest::RECALL, guest::RECALL)));
    for us in [0, 300, 3000] {
        let then = time::after(us);
        machine.go_until(then);
        check("it is recalled", event(machine.exit()), Ok((guest::RECALL, guest::RECALL)));
        holds("not before the deadline", now() >= then);
    }
    machine.go();
    holds("once", machine.runs_for(3000));
    check("another exit", stop(), Ok((guest::RECALL, guest::RECALL)));
    let then = time::after(20_000);
    machine.go_until(then);
    check("an exit before it", stop(), Ok((guest::RECALL, guest::RECALL)));
    machine.go();
    check("does not end it", event(machine.exit()), Ok((guest::RECALL, guest::RECALL)));
    holds("and it is as late", now() >= then);
    let then = time::after(3000);
    machine.go_until(then);
    check("an exit before one", stop(), Ok((guest::RECALL, guest::RECALL)));
    holds("that passes meanwhile", eventually(|| now() > then));
    machine.go_until(0);
    holds("and is withdrawn", machine.runs_for(3000));
    check("so an exit is for itself", stop(), Ok((guest::RECALL, guest::RECALL)));
    machine.go_until(time::after(20_000));
    check("an exit before one", stop(), Ok((guest::RECALL, guest::RECALL)));
    machine.go_until(0);
    holds("that is withdrawn", machine.runs_for(40_000));
    check("which leaves it running", machine.unexpected(), None);
    stop().ok();
    machine.go_until(time::after(5000));
    object::destroy(machine.ec);
    pause(10);
}
