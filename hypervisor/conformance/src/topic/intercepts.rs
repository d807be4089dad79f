//! Instructions that exit only if the handler wishes it, and WBINVD and XSETBV, which always do.

use super::vcpu::event;
use crate::kit::exits::{self as code, CALL_BYTES};
use crate::kit::vcpu::{Machine, Maps, has_guests_for};
use crate::report::{check, holds, section, skip};
use crate::sys::guest_code::Code;
use abi::hip::Features;
use abi::state::Controls;
use abi::status::Status;
use runtime::sys::physical::information_page;

/// The topic.
pub fn run() {
    if !has_guests_for("vCPUs") {
        return;
    }
    optional();
    keys();
    if Features::from_bits_truncate(information_page().features).contains(Features::XSAVE) {
        extended();
    } else {
        skip("XSETBV", "the CPU has no XSAVE");
    }
}

fn number(machine: &Machine) -> Result<u64, Status> {
    event(machine.exit()).map(|(number, _)| number)
}

fn optional() {
    section("intercepts by wish");
    let machine = Machine::create(0, Code::Optional, Maps::default());
    holds("it starts", machine.start_and_boot().is_ok());
    check("VMMCALL", number(&machine), Ok(code::call()));
    let all = [
        ("PAUSE", code::pause(), 2),
        ("RDTSC", code::rdtsc(), 2),
        ("INVLPG", code::invlpg(), 3),
        ("WBINVD", code::wbinvd(), 2),
        ("MOV to CR3", code::write_cr(3), 3),
        ("MOV to CR0", code::write_cr(0), 3),
    ];
    machine.go_with_controls(CALL_BYTES, Controls::all());
    for (name, expected, bytes) in all {
        check(name, number(&machine), Ok(expected));
        machine.skip(bytes);
    }
    check("all of them", number(&machine), Ok(code::call()));
    // WBINVD takes the caches from everybody else.
    let always = |name| {
        check(name, number(&machine), Ok(code::wbinvd()));
        machine.skip(2);
    };
    machine.go_with_controls(CALL_BYTES, Controls::HLT);
    always("none of them but WBINVD");
    check("none of them", number(&machine), Ok(code::call()));
    machine.go_with_controls(CALL_BYTES, Controls::CR3_WRITE);
    always("one of them behind WBINVD");
    check("one of them", number(&machine), Ok(code::write_cr(3)));
}

/// PKRU is a register that a guest can set whether it was offered or not.
fn keys() {
    /// CPUID leaf 7, ECX.
    const PKU: u32 = 1 << 3;
    section("rights of protection keys");
    if core::arch::x86_64::__cpuid_count(7, 0).ecx & PKU == 0 {
        skip("PKRU", "the CPU has none");
        return;
    }
    let machines: [_; 2] = core::array::from_fn(|_| Machine::create(0, Code::Keys, Maps::default()));
    holds("two start", machines.iter().all(|machine| machine.start_and_boot().is_ok()));
    for round in 0..3 {
        for (machine, own) in machines.iter().zip([0x5554, 0x1110]) {
            let expected = if round == 0 { 0 } else { own + round - 1 };
            check("each has its own", (number(machine), machine.rax()), (Ok(code::call()), expected));
            machine.go_with(CALL_BYTES, Some(own + round), None);
        }
        for machine in &machines {
            check("sets another one", number(machine), Ok(code::call()));
        }
        machines.iter().for_each(|machine| machine.skip(CALL_BYTES));
    }
}

fn extended() {
    section("extended control registers");
    let machine = Machine::create(0, Code::Xsetbv, Maps::default());
    holds("it starts", machine.start_and_boot().is_ok());
    check("XSETBV", number(&machine), Ok(code::xsetbv()));
}
