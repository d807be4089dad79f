//! Device interrupts: edges of the PIT, levels of the HPET, messages; and what destruction ends.

use crate::kit::memory::{RW, area, map};
use crate::kit::object::{self, copy, member, semaphore, try_call};
use crate::kit::time::{after, down, down_until, pause, poll};
use crate::report::{check, holds, skip};
use crate::sys::hypercall::invoke;
use crate::sys::memory::{load, store};
use crate::sys::port::output;
use abi::cap::{MemRights, Perms, Sel, root};
use abi::hypercall::{AssignInt, CpuId, IntSource};
use abi::status::Status;
use runtime::sys::physical::information_page;

/// The 8254 (data sheet; channel 0 is the PC's timer) and its global system interrupt on PCs with ACPI (MADT override of IRQ 0).
mod pit {
    pub const CHANNEL_0: u16 = 0x40;
    pub const COMMAND: u16 = 0x43;
    pub const PORTS: u64 = 4;
    pub const GSI: u32 = 2;
    /// Channel 0, both bytes, interrupt on terminal count; rate generator.
    pub const ONE_SHOT: u8 = 0x30;
    pub const PERIODIC: u8 = 0x34;
    /// About a millisecond.
    pub const COUNT: u16 = 1193;
}

/// IA-PC HPET specification 1.0a, 2.3.
mod hpet {
    pub const AT: u64 = 0xfed0_0000;
    pub const CONFIGURATION: u64 = 0x10;
    pub const ENABLE: u64 = 1;
    pub const STATUS: u64 = 0x20;
    pub const COUNTER: u64 = 0xf0;
    pub const TIMER: u64 = 0x100;
    pub const COMPARATOR: u64 = 0x108;
    /// Data and address of the message, 32 bits each (2.3.9.3).
    pub const MESSAGE: u64 = 0x110;
    pub const LEVEL: u64 = 1 << 1;
    pub const INTERRUPT: u64 = 1 << 2;
    pub const ROUTE_SHIFT: u64 = 9;
    /// Signals messages; whether it can.
    pub const MESSAGES: u64 = 1 << 14;
    pub const HAS_MESSAGES: u64 = 1 << 15;
    /// IRQ 8: the real-time clock's, which is quiet.
    pub const GSI: u32 = 8;
    /// Counter ticks until the interrupt, well below a millisecond.
    pub const SOON: u64 = 10_000;
}

/// How long something may take that should happen, and how long to wait for what should not.
const PATIENCE_US: u64 = 10_000_000;
const WHILE_US: u64 = 3000;

fn assign(sm: Sel, cpu: u16, source: IntSource) -> Result<[u64; 2], Status> {
    let call = AssignInt { hw: root::HW, sm, cpu: CpuId(cpu), source };
    invoke(call.encode())
}

const fn edge(gsi: u32) -> IntSource {
    IntSource::Gsi { gsi, level: false, low: false }
}

const fn level(gsi: u32) -> IntSource {
    IntSource::Gsi { gsi, level: true, low: false }
}

/// The topic.
pub fn run() {
    arguments();
    holds("ports of the PIT", crate::give_ports(pit::CHANNEL_0.into(), pit::PORTS));
    for cpu in 0..information_page().cpu_count as u16 {
        edges(cpu);
        unbound(cpu);
        levels(cpu);
        messages(cpu);
    }
}

fn start_pit(mode: u8) {
    output(pit::COMMAND, mode);
    for byte in pit::COUNT.to_le_bytes() {
        output(pit::CHANNEL_0, byte);
    }
}

/// A command without count: the channel waits for ever.
fn stop_pit() {
    output(pit::COMMAND, pit::ONE_SHOT);
}

fn arguments() {
    let sm = semaphore(0);
    check("no such interrupt", assign(sm, 0, edge(information_page().gsi_count)), Err(Status::BadParameter));
    check("no such interrupt", assign(sm, 0, edge(u32::MAX)), Err(Status::BadParameter));
    check("no such CPU", assign(sm, information_page().cpu_count as u16, edge(2)), Err(Status::BadCpu));
    let message = assign(sm, 0, IntSource::Msi);
    holds(
        "a message has an address and data",
        message.is_ok_and(|[address, data]| address >> 20 == 0xfee && (0x20..0xf0).contains(&(data & 0xff))),
    );
    check("a semaphore has one interrupt", assign(sm, 0, IntSource::Msi), Err(Status::Busy));
    let other = semaphore(0);
    let different = assign(other, 0, IntSource::Msi);
    holds("each semaphore has its own", different.is_ok() && different != message);
    object::destroy(other);
    object::destroy(sm);
    vectors();
    let weak = copy(root::HW, Perms::HW_POWER);
    let call = AssignInt { hw: weak, sm: root::PD, cpu: CpuId(0), source: IntSource::Msi };
    check("without permission", try_call(call.encode()), Err(Status::BadCapability));
}

/// Semaphores for messages with all vectors of a CPU that are free, and one for which there was none.
fn every_vector(cpu: u16) -> alloc::vec::Vec<Sel> {
    let mut made = alloc::vec::Vec::new();
    loop {
        let sm = semaphore(0);
        made.push(sm);
        if assign(sm, cpu, IntSource::Msi).is_err() || made.len() > 1000 {
            return made;
        }
    }
}

/// Vectors run out, and come back.
fn vectors() {
    for _ in 0..2 {
        let made = every_vector(0);
        let none = semaphore(0);
        check("vectors run out", assign(none, 0, IntSource::Msi), Err(Status::Busy));
        check("after as many as there are", made.len(), 0xf0 - 0x20 + 1);
        object::destroy(none);
        made.into_iter().for_each(object::destroy);
    }
}

fn edges(cpu: u16) {
    let sm = semaphore(0);
    holds("an edge", assign(sm, cpu, edge(pit::GSI)).is_ok());
    for _ in 0..5 {
        start_pit(pit::ONE_SHOT);
        check("a shot", down(sm).map(|v| v[1]), Ok(1));
    }
    pause(3);
    check("and no more", poll(sm), Err(Status::Timeout));
    start_pit(pit::PERIODIC);
    let ticks = (0..20).filter(|_| down(sm).is_ok());
    check("ticks without acknowledgement", ticks.count(), 20);
    object::destroy(sm);
    stop_pit();
}

/// The interrupt of a destroyed semaphore is not another one's, which may have the same vector.
fn unbound(cpu: u16) {
    let sm = semaphore(0);
    holds("an edge", assign(sm, cpu, edge(pit::GSI)).is_ok());
    start_pit(pit::PERIODIC);
    holds("ticks", down(sm).is_ok());
    object::destroy(sm);
    let other = semaphore(0);
    holds("another interrupt", assign(other, cpu, edge(hpet::GSI)).is_ok());
    pause(5);
    check("does not tick", poll(other), Err(Status::Timeout));
    object::destroy(other);
    let all = every_vector(cpu);
    pause(5);
    let ticked = all.iter().filter(|&&sm| poll(sm).is_ok()).count();
    check("and nobody who got the vector does", ticked, 0);
    all.into_iter().for_each(object::destroy);
    let again = semaphore(0);
    holds("the same one again", assign(again, cpu, edge(pit::GSI)).is_ok());
    holds("ticks again", down(again).is_ok());
    let taken = semaphore(0);
    holds("it can be taken over", assign(taken, cpu, edge(pit::GSI)).is_ok());
    object::destroy(again);
    holds("and is not masked by its former owner", down(taken).is_ok());
    object::destroy(taken);
    stop_pit();
}

/// The registers of the HPET.
fn hpet_registers() -> u64 {
    let at = area();
    map(root::MEM, hpet::AT, at, 1, RW | MemRights::UNCACHED);
    at
}

/// Sets the HPET's first timer off, soon, once.
fn shoot(at: u64, timer: u64) {
    store(at + hpet::CONFIGURATION, 0);
    store(at + hpet::COUNTER, 0);
    store(at + hpet::TIMER, timer);
    store(at + hpet::COMPARATOR, hpet::SOON);
    store(at + hpet::CONFIGURATION, hpet::ENABLE);
}

/// A device that signals messages: each is counted once, on the semaphore whose message it is, and none needs acknowledgement.
fn messages(cpu: u16) {
    let at = hpet_registers();
    let timer = load(at + hpet::TIMER);
    if timer == u64::MAX || timer & hpet::HAS_MESSAGES == 0 {
        skip("messages", "the machine has no HPET that signals them");
        return;
    }
    let sms = [semaphore(0), semaphore(0)];
    for sm in sms {
        let [address, data] = assign(sm, cpu, IntSource::Msi).unwrap_or_default();
        holds("a message", address != 0);
        store(at + hpet::CONFIGURATION, 0);
        store(at + hpet::MESSAGE, address << 32 | data & u64::from(u32::MAX));
        for _ in 0..5 {
            shoot(at, hpet::MESSAGES | hpet::INTERRUPT);
            check("arrives", down_until(sm, after(PATIENCE_US)).map(|v| v[1]), Ok(1));
        }
        check("once each", down_until(sm, after(WHILE_US)), Err(Status::Timeout));
    }
    check("and nowhere else", poll(sms[0]), Err(Status::Timeout));
    store(at + hpet::CONFIGURATION, 0);
    store(at + hpet::TIMER, 0);
    sms.into_iter().for_each(object::destroy);
}

fn levels(cpu: u16) {
    let at = hpet_registers();
    let routes = load(at + hpet::TIMER) >> 32;
    if routes == u64::from(u32::MAX) || routes & 1 << hpet::GSI == 0 {
        skip("levels", "the machine has no HPET that would raise them");
        return;
    }
    // Waited for at a receiver, because only a down on the semaphore itself acknowledges.
    let receiver = semaphore(0);
    let sm = member(0, receiver, 1);
    let signalled = |deadline| down_until(receiver, deadline).map(|v| v[1]);
    let acknowledge = |deadline| poll(sm).map(|v| v[1]).or_else(|_| signalled(deadline));
    holds("a level", assign(sm, cpu, level(hpet::GSI)).is_ok());
    let timer = hpet::LEVEL | hpet::INTERRUPT | u64::from(hpet::GSI) << hpet::ROUTE_SHIFT;
    let shoot = || shoot(at, timer);
    shoot();
    check("is signalled", signalled(after(PATIENCE_US)), Ok(1));
    check("once", signalled(after(WHILE_US)), Err(Status::Timeout));
    check("again, when acknowledged while it is still asserted", acknowledge(after(PATIENCE_US)), Ok(1));
    store(at + hpet::STATUS, 1);
    check("not when the device has been served", acknowledge(after(WHILE_US)), Err(Status::Timeout));
    shoot();
    check("the next one", signalled(after(PATIENCE_US)), Ok(1));
    store(at + hpet::STATUS, 1);
    shoot();
    check("waits until the one before is acknowledged", signalled(after(WHILE_US)), Err(Status::Timeout));
    check("comes then", acknowledge(after(PATIENCE_US)), Ok(1));
    check("once", signalled(after(WHILE_US)), Err(Status::Timeout));
    // In this order: the status belongs to the line of the present route.
    store(at + hpet::CONFIGURATION, 0);
    store(at + hpet::STATUS, 1);
    store(at + hpet::TIMER, 0);
    object::destroy(sm);
    object::destroy(receiver);
}
