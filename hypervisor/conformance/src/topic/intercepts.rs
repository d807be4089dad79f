//! Instructions that exit only if the handler wishes it, and WBINVD and XSETBV, which always do.

use super::vcpu::event;
use crate::kit::exits::{self as code, CALL_BYTES};
use crate::kit::memory::{RW, map, pages, window};
use crate::kit::vcpu::{Machine, Maps, has_guests_for, is_vmx};
use crate::report::{check, holds, section, skip};
use crate::sys::guest_code::Code;
use crate::sys::memory::store;
use abi::PAGE_SIZE;
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
    page_directory_pointers();
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

/// A handler executes MOV to CR3 for a guest with PAE paging.
fn page_directory_pointers() {
    const CODE_32: u64 = 0x00cf_9b00_0000_ffff;
    const DATA: u64 = 0x00cf_9300_0000_ffff;
    /// Pages of each: pointers, directory, table, data.
    const EACH: u64 = 4;
    const TABLES: u64 = 0x2000;
    const DATA_AT: u64 = 0x9_0000;
    const PRESENT: u64 = 1;
    const PRESENT_WRITABLE: u64 = 3;
    const MOV_BYTES: u64 = 3;
    section("page-directory pointers");
    let machine = Machine::create(0, Code::Pae, Maps::default());
    let phys = pages(2 * EACH);
    let tables = window(phys, 2 * EACH);
    map(machine.guest, phys, TABLES, 2 * EACH, RW);
    for (at, word) in [(0x700, 0x17 | 0x710 << 16), (0x718, CODE_32), (0x720, DATA)] {
        store(machine.data + at, word);
    }
    let pointers = |i: u64| TABLES + i * EACH * PAGE_SIZE;
    let first_pointer = |i: u64| (pointers(i) + PAGE_SIZE) | PRESENT;
    for i in 0..2 {
        let (here, at) = (tables + i * EACH * PAGE_SIZE, pointers(i));
        store(here, first_pointer(i));
        store(here + PAGE_SIZE, (at + 2 * PAGE_SIZE) | PRESENT_WRITABLE);
        let table = here + 2 * PAGE_SIZE;
        // The first two pages as they are.
        store(table, PRESENT_WRITABLE);
        store(table + 8, PAGE_SIZE | PRESENT_WRITABLE);
        store(table + DATA_AT / PAGE_SIZE * 8, (at + 3 * PAGE_SIZE) | PRESENT_WRITABLE);
        store(here + 3 * PAGE_SIZE, 200 + i);
    }
    holds("it starts", machine.start_and_boot().is_ok());
    check("VMMCALL", number(&machine), Ok(code::call()));
    machine.go_with(CALL_BYTES, Some(pointers(0)), None);
    check("reads by the first ones", (number(&machine), machine.rax()), (Ok(code::call()), 200));
    check(
        "which the handler sees where there are registers",
        machine.pdpte0(),
        if is_vmx() { first_pointer(0) } else { 0 },
    );
    machine.go_with_controls(CALL_BYTES, Controls::CR3_WRITE);
    check("MOV to CR3", number(&machine), Ok(code::write_cr(3)));
    machine.go_with_tables(MOV_BYTES, pointers(1), first_pointer(1));
    check("reads by the handler's", (number(&machine), machine.rax()), (Ok(code::call()), 201));
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
