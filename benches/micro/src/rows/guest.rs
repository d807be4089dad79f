//! Exits of a virtual CPU.

use crate::asm::{self, events, hypercall, pages};
use crate::domain::{EVENTS, Entry, LocalEc};
use crate::memory;
use crate::report::{Report, Row};
use crate::selectors::{GUEST, GUEST_EVENTS, VCPU, VCPU_SC};
use crate::thread::{self, destroy};
use abi::PAGE_SIZE;
use abi::cap::{MemRights, Sel, root};
use abi::event::guest;
use abi::hip::Features;
use abi::hypercall::{CpuId, CreateEc, CreateSc, CreateSpace, EcBody, SpaceKind};
use abi::state::Mtd;
use abi::status::Status;

/// Exit numbers of CPUID (APM vol. 2, appendix C; SDM vol. 3, appendix C).
const SVM_CPUID: u64 = 0x72;
const VMX_CPUID: u64 = 10;
/// Guest-physical address of the guest's code.
const GUEST_IP: u64 = 0x1000;
/// Page of the window that holds it.
const CODE: u64 = 64;
const PRIORITY: u8 = 100;
const BUDGET_US: u32 = 10_000_000;

/// An entry of a handler, what it is told, and instructions of the guest and of the handler.
type Case = (&'static str, Entry, Mtd, u64);

const CASES: [Case; 3] = [
    ("exit-cpuid", events::again, Mtd::empty(), 1 + 3),
    ("exit-cpuid-gpr", events::skip_eight, events::EIGHT, events::GUEST_LOOP + 4),
    ("exit-cpuid-gpr-16", events::skip_sixteen, events::SIXTEEN, events::GUEST_LOOP + 4),
];

pub fn measure(report: &Report) -> Result<(), Status> {
    let cpuid = if report.features.contains(Features::SVM) {
        SVM_CPUID
    } else if report.features.contains(Features::VMX) {
        VMX_CPUID
    } else {
        CASES.iter().for_each(|(name, ..)| report.skip(name, "no hardware virtualisation"));
        return Ok(());
    };
    for (name, entry, mtd, user) in CASES {
        let events = GUEST_EVENTS;
        EVENTS.portal(events.offset(guest::STARTUP), events::startup, Mtd::empty())?;
        EVENTS.portal(events.offset(cpuid), entry, mtd)?;
        run(EVENTS)?;
        for portal in [guest::STARTUP, cpuid] {
            destroy(events.offset(portal))?;
        }
        if asm::is_complete() {
            let overhead = report.handler_stamp;
            report.row(Row { name, user, overhead }, asm::intervals());
        } else {
            report.skip(name, "the virtual CPU stopped");
        }
    }
    Ok(())
}

/// Runs a vCPU whose handler is set up until its measurement is complete, or it stops.
fn run(handler: LocalEc) -> Result<(), Status> {
    asm::rewind();
    events::prepare(GUEST_IP);
    let (pd, cpu) = (root::PD, CpuId(handler.cpu));
    hypercall(CreateSpace { dst: GUEST, pd, kind: SpaceKind::Guest }.encode())?;
    let rights = MemRights::READ | MemRights::WRITE | MemRights::EXEC;
    let code = pages::copy(events::guest_page(), CODE);
    memory::map(root::MEM, code, GUEST, GUEST_IP / PAGE_SIZE, 1, rights)?;
    let body = EcBody::Vcpu { guest: GUEST, pio: Sel::NONE, msr: Sel::NONE };
    hypercall(CreateEc { dst: VCPU, pd, cpu, event_base: GUEST_EVENTS, body }.encode())?;
    hypercall(CreateSc { dst: VCPU_SC, pd, ec: VCPU, priority: PRIORITY, budget_us: BUDGET_US }.encode())?;
    thread::wait()?;
    destroy(VCPU_SC)?;
    destroy(VCPU)?;
    destroy(GUEST)
}
