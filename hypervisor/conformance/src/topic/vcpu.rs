//! Virtual CPUs: exits, state, injection, memory, recall, extended state, address-space ids.

use super::running::{count, recall};
use crate::kit::context::Setup;
use crate::kit::exits::{self as code, CALL_BYTES};
use crate::kit::memory::{map, pages, unmap, window};
use crate::kit::object::{self, copy, figures, fresh, must, pd, space, try_call, try_destroy};
use crate::kit::time::eventually;
use crate::kit::vcpu::{CODE_AT, CR0_REAL, Exit, IRQ_VECTOR, Machine, Maps, guest_space, has_guests_for, is_vmx, vcpu};
use crate::report::{check, holds, is_known_to_fail, section};
use crate::sys::guest_code::Code;
use crate::sys::memory::{load, store};
use abi::cap::{MemRights, Perms, Sel, root};
use abi::event::guest;
use abi::hypercall::{Delegate, SpaceKind};
use abi::state::{EventKind, Injection};
use abi::status::Status;
use alloc::vec::Vec;
use runtime::sys::physical::information_page;

/// First information word of a byte moved through a port: EXITINFO1 (APM vol. 2, 15.10.2) or the qualification (SDM vol. 3,
/// table 28-5).
fn port_info(port: u64, is_in: bool) -> u64 {
    let low = match (is_vmx(), is_in) {
        (false, false) => 1 << 4,
        (false, true) => 1 << 4 | 1 << 0,
        (true, false) => 0,
        (true, true) => 1 << 3,
    };
    port << 16 | low
}

/// What these words say besides: on SVM also address size and segment.
const PORT_INFO: u64 = 0xffff_003f;

/// Port of the programs.
const PORT: u64 = 0x80;
/// MSR of the programs: the GS base.
const GS_BASE: u64 = 0xc000_0101;
/// A page that guests access without having it.
const MISSING: u64 = 0x90000;

fn rwx() -> MemRights {
    MemRights::READ | MemRights::WRITE | MemRights::EXEC
}

/// The topic.
pub fn run() {
    if !has_guests_for("vCPUs") {
        return;
    }
    creation();
    let cpus = information_page().cpu_count as u16;
    for cpu in 0..cpus {
        tour(cpu, cpu);
        injection(cpu);
        modes(cpu);
        extended(cpu, cpu);
        maps(cpu);
        invalid(cpu);
        memory_removed(cpu);
        unhandled(cpu);
    }
    for cpu in 1..cpus {
        tour(cpu, 0);
        extended(cpu, 0);
    }
    address_space_ids();
    destruction();
}

/// Number and reason of an exit.
pub(super) fn event(exit: Result<Exit, Status>) -> Result<(u64, u64), Status> {
    exit.map(|exit| (exit.event, exit.reason))
}

fn creation() {
    section("creation");
    let child = pd(100);
    let foreign = fresh();
    must(guest_space(foreign, child).encode());
    let own = space(root::PD, SpaceKind::Guest);
    let none = Maps::default();
    let create = |guest, maps| try_call(vcpu(fresh(), root::PD, 0, Sel(0), guest, maps).encode());
    check("memory of another domain", create(foreign, none), Err(Status::BadParameter));
    let weak = copy(own, Perms::SPACE_TAKE | Perms::SPACE_GRANT);
    check("without permission", create(weak, none), Err(Status::BadCapability));
    check("no memory", create(Sel::NONE, none), Err(Status::BadCapability));
    let pio = fresh();
    let port_space = abi::hypercall::CreateSpace { dst: pio, pd: child, kind: SpaceKind::Pio };
    must(port_space.encode());
    check("ports of another domain", create(own, Maps { pio, ..none }), Err(Status::BadParameter));
    check("memory as ports", create(own, Maps { pio: own, ..none }), Err(Status::BadCapability));
    check("ports as MSRs", create(own, Maps { msr: root::PIO, ..none }), Err(Status::BadCapability));
    check(
        "no object space",
        try_call(vcpu(fresh(), child, 0, Sel(0), foreign, none).encode()),
        Err(Status::BadParameter),
    );
    check("no such CPU", try_call(vcpu(fresh(), root::PD, 4096, Sel(0), own, none).encode()), Err(Status::BadCpu));
    let ec = fresh();
    check("a vCPU", try_call(vcpu(ec, root::PD, 0, Sel(0), own, none).encode()), Ok(()));
    check("its memory is in use", try_destroy(own), Err(Status::Busy));
    object::destroy(ec);
    check("and no more", try_destroy(own), Ok(1));
    object::destroy(child);
}

fn tour(cpu: u16, handler_cpu: u16) {
    section("exits");
    let machine = Machine::with_handler_on(cpu, handler_cpu, Code::Tour, Maps::default());
    machine.start();
    check("startup", event(machine.exit()), Ok((guest::STARTUP, guest::STARTUP)));
    machine.boot(0, CR0_REAL);
    check("CPUID", event(machine.exit()), Ok((code::cpuid(), code::cpuid())));
    check("its address", machine.last().rip, CODE_AT);
    // SVM tells it only with NRIPS.
    holds("its length", machine.inst_len() == 2 || !is_vmx() && machine.inst_len() == 0);
    machine.skip(2);
    // MOV AL before OUT is not intercepted.
    check("OUT", event(machine.exit()), Ok((code::port(), code::port())));
    check("which port", machine.last().info1 & PORT_INFO, port_info(PORT, false));
    check("what", machine.rax() & 0xff, 0x5a);
    machine.skip(2);
    check("IN", event(machine.exit()), Ok((code::port(), code::port())));
    check("which port", machine.last().info1 & PORT_INFO, port_info(PORT + 1, true));
    machine.go_with(2, Some(0x77), None);
    check("missing memory", event(machine.exit()).map(|e| e.0), Ok(guest::NESTED_FAULT));
    let fault = machine.last();
    check("where", fault.info2, MISSING + 0x10);
    check("a write to a missing page", fault.info1 & 3, 2);
    let phys = pages(1);
    let seen = window(phys, 1);
    map(machine.guest, phys, MISSING, 1, MemRights::READ);
    machine.go();
    check("memory that is not writeable", event(machine.exit()).map(|e| e.0), Ok(guest::NESTED_FAULT));
    check("a write to a present page", machine.last().info1 & 3, 3);
    map(machine.guest, phys, MISSING, 1, rwx());
    machine.go();
    check("VMMCALL", event(machine.exit()), Ok((code::call(), code::call())));
    check("the write is done", load(seen + 0x10), 0x1234);
    check("the register of the reply was taken", machine.rax() & 0xff, 0x77);
    machine.skip(CALL_BYTES);
    check("HLT", event(machine.exit()), Ok((code::hlt(), code::hlt())));
    machine.skip(1);
    check("another one", event(machine.exit()), Ok((code::hlt(), code::hlt())));
    check("recall of one that waits", recall(machine.ec), Ok(()));
    machine.skip(1);
    check("comes before it goes on", event(machine.exit()), Ok((guest::RECALL, guest::RECALL)));
    machine.go();
    check("then it does", event(machine.exit()), Ok((code::hlt(), code::hlt())));
}

fn injection(cpu: u16) {
    const OPEN: &str = "a window that is open";
    section("interrupts");
    let machine = Machine::create(cpu, Code::Sti, Maps::default());
    holds("it starts", machine.start_and_boot().is_ok());
    check("interrupts are off", (event(machine.exit()), machine.rax() & 0xff), (Ok((code::port(), code::port())), 1));
    let window = Injection::NONE.with_interrupt_window();
    machine.go_with(2, None, Some(window.0));
    check("the window opens", event(machine.exit()), Ok((code::window(), code::window())));
    // Behind STI and one instruction, before the next CLI: the first one, unless an interrupt of the host came just then and the
    // window that is open is known to be overlooked.
    let offset = machine.last().rip.wrapping_sub(CODE_AT);
    let is_second = is_known_to_fail(OPEN) && (12..=14).contains(&offset);
    holds("when interrupts are on", (8..=10).contains(&offset) || is_second);
    let interrupt = Injection::event(EventKind::Interrupt, IRQ_VECTOR);
    machine.go_with(0, None, Some(interrupt.0));
    check(
        "the handler of the guest runs",
        (event(machine.exit()), machine.rax() & 0xff),
        (Ok((code::port(), code::port())), 3),
    );
    machine.skip(2);
    check("and returns", (event(machine.exit()), machine.rax() & 0xff), (Ok((code::port(), code::port())), 2));
    // With interrupts on, a window opens at once; and not twice.
    machine.go_with(2, None, Some(window.0));
    check(OPEN, event(machine.exit_of(OPEN)), Ok((code::window(), code::window())));
    machine.go();
    holds("is reported once", machine.runs_for(3000));
}

/// Protected and long mode, exceptions and NMIs there.
fn modes(cpu: u16) {
    section("modes, exceptions, NMIs");
    const CODE_32: u64 = 0x00cf_9b00_0000_ffff;
    const DATA: u64 = 0x00cf_9300_0000_ffff;
    const CODE_64: u64 = 0x00af_9b00_0000_ffff;
    /// PE, ET, NE.
    const CR0_PROTECTED: u64 = 0x31;
    const EFER_LME: u64 = 1 << 8;
    const TABLES: u64 = 0x2000;
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    let machine = Machine::create(cpu, Code::Modes, Maps::default());
    let phys = pages(2);
    let tables = window(phys, 2);
    store(tables, (TABLES + 0x1000) | PRESENT_WRITABLE);
    store(tables + 0x1000, LARGE | PRESENT_WRITABLE);
    map(machine.guest, phys, TABLES, 2, rwx());
    let gate = |offset: u64| (CODE_AT + offset) | 0x18 << 16 | 0x8e << 40;
    let words = [
        (0x700, 0x1f | 0x710 << 16),
        (0x718, CODE_32),
        (0x720, DATA),
        (0x728, CODE_64),
        (0x738, 0xff | 0x800 << 16),
        (0x810, gate(0xa0)),
        (0x820, gate(0xc0)),
        (0x8d0, gate(0xe0)),
    ];
    words.into_iter().for_each(|(at, word)| store(machine.data + at, word));
    holds("it starts", machine.start_and_boot().is_ok());
    let call = |rax| (Ok((code::call(), code::call())), rax);
    let seen = || (event(machine.exit()), machine.rax());
    check("protected mode", seen(), call(CR0_PROTECTED));
    machine.skip(CALL_BYTES);
    let exit = event(machine.exit());
    check("EFER", exit, Ok((code::write_msr(), code::write_msr())));
    machine.go_with_efer(2, EFER_LME);
    check("long mode", seen(), call(0x1122_3344_5566_7788));
    let fault = Injection::exception(13, Some(0x1234));
    machine.go_with(3, None, Some(fault.0));
    check("an exception with error code", seen(), call(0x1234));
    let nmi = Injection::event(EventKind::Nmi, 2);
    machine.go_with(3, None, Some(nmi.0));
    check("an NMI", seen(), call(2));
    // Blocked until the IRET of the handler, in which no interrupt can be taken.
    let window = Injection(Injection::NMI_WINDOW).with_interrupt_window();
    machine.go_with(3, None, Some(window.0));
    let opened = event(machine.exit());
    check("an NMI window", opened, Ok((code::nmi_window(), code::nmi_window())));
    machine.go();
    check("back from all handlers", seen(), call(4));
    machine.skip(CALL_BYTES);
    check("a single step", seen(), call(1));
    machine.skip(CALL_BYTES);
    check("is taken once", seen(), call(5));
}

fn extended(cpu: u16, handler_cpu: u16) {
    section("vector registers");
    const FIRST: u64 = 0x1111_2222_3333_4444;
    const SECOND: u64 = 0x5555_6666_7777_8888;
    let machine = Machine::with_handler_on(cpu, handler_cpu, Code::Xmm, Maps::default());
    store(machine.data + 0x610, SECOND);
    machine.start();
    holds("startup", machine.exit().is_ok());
    machine.boot(FIRST, CR0_REAL);
    check("a guest with vector registers", event(machine.exit()), Ok((code::call(), code::call())));
    check("begins with those of the reply", load(machine.data + 0x600), FIRST);
    check("its own are delivered", machine.xmm0(), SECOND);
    // On another CPU the handler finds what a thread of its own domain has left.
    let clean = || cpu != handler_cpu || machine.leftovers() == 0;
    holds("and are nowhere else", clean());
    // Other vector registers are used in between, here and on the guest's CPU.
    for _ in 0..50 {
        let thread = crate::kit::context::on_thread(Setup::on(cpu), use_vectors, 0);
        store(machine.data + 0x600, 0);
        machine.skip(CALL_BYTES);
        let same = thread && machine.exit().is_ok() && load(machine.data + 0x600) == SECOND && clean();
        if !same {
            check("they stay", load(machine.data + 0x600), SECOND);
            return;
        }
    }
    holds("they stay", true);
}

extern "sysv64" fn use_vectors(_: u64) {
    let cell = crate::kit::memory::fresh_cells(1);
    crate::sys::memory::cell(cell).store(1, core::sync::atomic::Ordering::Relaxed);
    let address = crate::sys::memory::CELLS_AT + cell * 8;
    crate::sys::extended::hold(0x7e7e_7e7e_7e7e_7e7e, address, false, false);
}

/// Ports and MSRs with and without exit.
fn maps(cpu: u16) {
    section("ports and MSRs without exit");
    let give = |from: Sel, to: Sel, unit: u64, rights: u32| {
        let call = Delegate { from, to, src: unit, dst: unit, count: 1, rights };
        try_call(call.encode())
    };
    let (pio, msr) = (space(root::PD, SpaceKind::Pio), space(root::PD, SpaceKind::Msr));
    let machine = Machine::create(cpu, Code::Msr, Maps { pio, msr });
    holds("it starts", machine.start_and_boot().is_ok());
    check("an MSR exits", event(machine.exit()), Ok((code::read_msr(), code::read_msr())));
    check("an MSR that may be given", give(root::ALL_MSR, msr, GS_BASE, 1), Ok(()));
    check(
        "to its own number only",
        try_call(
            Delegate { from: root::ALL_MSR, to: msr, src: GS_BASE, dst: GS_BASE + 1, count: 1, rights: 1 }.encode(),
        ),
        Err(Status::BadParameter),
    );
    machine.go();
    check("does not exit", event(machine.exit()), Ok((code::call(), code::call())));
    drop(machine);
    check("one that the map does not have", give(root::ALL_MSR, msr, 0x4000_0000, 1), Err(Status::BadParameter));
    check("one beyond the last", give(root::ALL_MSR, msr, 1 << 32, 1), Err(Status::BadParameter));
    check("one that must not be given", give(root::ALL_MSR, msr, 0xc000_0080, 3), Ok(()));
    let machine = Machine::create(cpu, Code::Sti, Maps { pio, msr });
    holds("it starts", machine.start_and_boot().is_ok());
    check("a port exits", event(machine.exit()), Ok((code::port(), code::port())));
    check("a port is given", give(root::ALL_PIO, pio, PORT, 1), Ok(()));
    machine.go();
    holds("and exits no more", machine.runs_for(3000));
    check(
        "it can be recalled",
        (recall(machine.ec), event(machine.exit())),
        (Ok(()), Ok((guest::RECALL, guest::RECALL))),
    );
    drop(machine);
    object::destroy(pio);
    object::destroy(msr);
}

/// A state that the CPU refuses: an upper bit of CR0 (APM vol. 2, 15.5.1; SDM vol. 3, 27.3.1.1).
fn invalid(cpu: u16) {
    section("invalid state");
    const RESERVED: u64 = 1 << 32;
    let machine = Machine::create(cpu, Code::Count, Maps::default());
    machine.start();
    holds("startup", machine.exit().is_ok());
    machine.boot(0, CR0_REAL | RESERVED);
    check("an invalid state", event(machine.exit()), Ok((guest::INVALID_STATE, code::refused())));
}

/// A page that is removed under a running guest, and given back.
fn memory_removed(cpu: u16) {
    section("memory");
    let machine = Machine::create(cpu, Code::Peek, Maps::default());
    let phys = pages(2);
    let seen = window(phys, 2);
    store(seen, 7);
    store(seen + 4096, 8);
    map(machine.guest, phys, MISSING, 1, MemRights::READ);
    holds("it starts", machine.start_and_boot().is_ok());
    check("a guest reads", (event(machine.exit()), machine.rax()), (Ok((code::call(), code::call())), 7));
    map(machine.guest, phys + 4096, MISSING, 1, MemRights::READ);
    machine.skip(CALL_BYTES);
    check("another page", (event(machine.exit()), machine.rax()), (Ok((code::call(), code::call())), 8));
    unmap(machine.guest, MISSING, 1);
    machine.skip(CALL_BYTES);
    check("none", (event(machine.exit()).map(|e| e.0), machine.last().info2), (Ok(guest::NESTED_FAULT), MISSING));
    // While it runs: all of its memory.
    let machine = Machine::create(cpu, Code::Count, Maps::default());
    holds("it starts", machine.start_and_boot().is_ok());
    holds("and counts", eventually(|| count(&machine) > 1000));
    unmap(machine.guest, 0, 1);
    let at_removal = count(&machine);
    check("a running guest loses its memory", event(machine.exit()).map(|e| e.0), Ok(guest::NESTED_FAULT));
    check("at once", count(&machine), at_removal);
}

/// A vCPU whose events nobody handles stops, and others go on.
fn unhandled(cpu: u16) {
    section("unhandled events");
    let guest = space(root::PD, SpaceKind::Guest);
    let (ec, sc) = (fresh(), fresh());
    must(vcpu(ec, root::PD, cpu, Sel(Sel::COUNT), guest, Maps::default()).encode());
    let call = abi::hypercall::CreateSc { dst: sc, pd: root::PD, ec, priority: 100, budget_us: 1000 };
    must(call.encode());
    extern "sysv64" fn nothing(_: u64) {}
    holds("others run", crate::kit::context::on_thread(Setup::on(cpu), nothing, 0));
    [sc, ec, guest].into_iter().for_each(object::destroy);
}

/// More vCPUs than address-space ids, each with its own page at the same address.
fn address_space_ids() {
    section("address-space ids");
    const MACHINES: u64 = 40;
    const ROUNDS: u64 = 5;
    let machines: Vec<_> = (0..MACHINES)
        .map(|i| {
            let machine = Machine::create(0, Code::Peek, Maps::default());
            let phys = pages(1);
            store(window(phys, 1), i + 100);
            map(machine.guest, phys, MISSING, 1, MemRights::READ);
            machine
        })
        .collect();
    holds("40 vCPUs start", machines.iter().all(|machine| machine.start_and_boot().is_ok()));
    let mut good = 0;
    for _ in 0..ROUNDS {
        for (i, machine) in (0..).zip(&machines) {
            let right = event(machine.exit()) == Ok((code::call(), code::call())) && machine.rax() == i + 100;
            good += u64::from(right);
            machine.skip(CALL_BYTES);
        }
    }
    check("each sees its own memory", good, MACHINES * ROUNDS);
}

/// Machines that run while they are destroyed, on all CPUs, return everything.
fn destruction() {
    section("destruction");
    let cpus = information_page().cpu_count as u16;
    let before = figures(root::PD);
    for round in 0..3 {
        let machines: Vec<_> = (0..cpus * 2).map(|i| Machine::create(i % cpus, Code::Count, Maps::default())).collect();
        holds("machines start", machines.iter().all(|machine| machine.start_and_boot().is_ok()));
        holds("and run", machines.iter().all(|machine| eventually(|| count(machine) > 100)));
        if round == 1 {
            // The EC goes under a scheduling context that stays.
            machines.iter().for_each(|machine| object::destroy(machine.ec));
        }
    }
    check("all their memory is returned", figures(root::PD), before);
}
