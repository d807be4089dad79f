//! Exits of a virtual CPU.

use crate::asm::events::{GUEST_CODE_PAGE, Guest};
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
/// Page of the window that holds it.
const CODE: u64 = 64;
const PRIORITY: u8 = 100;
const BUDGET_US: u32 = 10_000_000;

struct Case {
    name: &'static str,
    guest: Guest,
    entry: Entry,
    mtd: Mtd,
    /// Instructions of the guest and of the handler.
    user: u64,
}

const CASES: [Case; 4] = [
    Case { name: "exit-cpuid", guest: Guest::Cpuid, entry: events::again, mtd: Mtd::empty(), user: 1 + 3 },
    Case {
        name: "exit-cpuid-gpr",
        guest: Guest::Cpuid,

        entry: events::skip_eight,
        mtd: events::EIGHT,
        user: Guest::ITERATION + 4,
    },
    Case {
        name: "exit-cpuid-gpr-16",
        guest: Guest::Cpuid,

        entry: events::skip_sixteen,
        mtd: events::SIXTEEN,
        user: Guest::ITERATION + 4,
    },
    Case {
        name: "exit-fresh-page",
        guest: Guest::Touch,
        entry: events::supply,
        mtd: Mtd::empty(),
        user: Guest::ITERATION + 10,
    },
];

pub fn measure(report: &Report) -> Result<(), Status> {
    let cpuid = if report.features.contains(Features::SVM) {
        SVM_CPUID
    } else if report.features.contains(Features::VMX) {
        VMX_CPUID
    } else {
        CASES.iter().for_each(|case| report.skip(case.name, "no hardware virtualisation"));
        return Ok(());
    };
    for Case { name, guest, entry, mtd, user } in CASES {
        let exit = match guest {
            Guest::Cpuid => cpuid,
            Guest::Touch => guest::NESTED_FAULT,
        };
        let (startup, exit) = (GUEST_EVENTS.offset(guest::STARTUP), GUEST_EVENTS.offset(exit));
        EVENTS.portal(startup, events::startup, Mtd::empty())?;
        EVENTS.portal(exit, entry, mtd)?;
        run(EVENTS, guest)?;
        destroy(startup)?;
        destroy(exit)?;
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
fn run(handler: LocalEc, guest: Guest) -> Result<(), Status> {
    asm::rewind();
    events::prepare(guest);
    let (pd, cpu) = (root::PD, CpuId(handler.cpu));
    hypercall(CreateSpace { dst: GUEST, pd, kind: SpaceKind::Guest }.encode())?;
    let rights = MemRights::READ | MemRights::WRITE | MemRights::EXEC;
    let code = pages::copy(events::guest_page(), CODE);
    memory::map(root::MEM, code, GUEST, GUEST_CODE_PAGE / PAGE_SIZE, 1, rights)?;
    let body = EcBody::Vcpu { guest: GUEST, pio: Sel::NONE, msr: Sel::NONE };
    hypercall(CreateEc { dst: VCPU, pd, cpu, event_base: GUEST_EVENTS, body }.encode())?;
    hypercall(CreateSc { dst: VCPU_SC, pd, ec: VCPU, priority: PRIORITY, budget_us: BUDGET_US }.encode())?;
    thread::wait()?;
    destroy(VCPU_SC)?;
    destroy(VCPU)?;
    destroy(GUEST)
}
