//! Semaphores: counting, waiting with deadlines, receivers and members, several CPUs, destruction.

use crate::kit::context::{Setup, Thread};
use crate::kit::memory::fresh_cells;
use crate::kit::object::{self, copy, fresh, member, remove, semaphore, try_call, up};
use crate::kit::time::{after, down, down_until, eventually, pause, poll};
use crate::report::{check, holds};
use crate::sys::hypercall::{enter, invoke, now, simple};
use crate::sys::memory::cell;
use abi::cap::{Perms, Sel, root};
use abi::hypercall::{CreateSm, Number, SmDown};
use abi::status::Status;
use core::sync::atomic::Ordering::Relaxed;
use runtime::sys::physical::information_page;

/// The topic.
pub fn run() {
    counting();
    timeouts();
    overflow();
    members();
    waiting_receiver();
    ping_pong();
    many_cpus();
    destruction();
    arguments();
}

fn all(sm: Sel) -> Result<[u64; 2], Status> {
    invoke(SmDown { sm, zero: true, deadline: 1 }.encode())
}

fn counting() {
    let sm = semaphore(2);
    (0..3).for_each(|_| up(sm));
    check("takes one", poll(sm), Ok([0, 1]));
    check("takes all", all(sm), Ok([0, 4]));
    check("nothing is left", poll(sm), Err(Status::Timeout));
    check("not for all either", all(sm), Err(Status::Timeout));
    object::destroy(sm);
}

fn timeouts() {
    let sm = semaphore(0);
    check("a deadline in the past", down_until(sm, now() - 1), Err(Status::Timeout));
    let deadline = after(3000);
    check("one in the future", down_until(sm, deadline), Err(Status::Timeout));
    holds("is waited for", now() >= deadline);
    up(sm);
    check("a timed-out wait takes nothing", poll(sm), Ok([0, 1]));
    for deadline in [u64::MAX, u64::MAX / 2, i64::MAX as u64] {
        up(sm);
        check("a deadline far away", down_until(sm, deadline), Ok([0, 1]));
    }
    object::destroy(sm);
    ordered();
}

extern "sysv64" fn wait_and_note(argument: u64) {
    let (cells, ms) = (argument >> 8, argument & 0xff);
    let _timeout = down_until(crate::sys::context::NEVER, after(ms * 1000));
    let place = cell(cells).fetch_add(1, Relaxed);
    cell(cells + 1 + place).store(ms, Relaxed);
}

/// Many timeouts at once end in the order of their deadlines.
fn ordered() {
    let cells = fresh_cells(9);
    let waits = [40, 160, 10, 220, 130, 70, 100, 190];
    let threads = waits.map(|ms| Thread::start(Setup::default(), wait_and_note, cells << 8 | ms));
    holds("waits of different lengths end", threads.iter().all(Thread::join));
    let order = [1, 2, 3, 4, 5, 6, 7, 8].map(|i| cell(cells + i).load(Relaxed));
    holds("in order", order.is_sorted());
}

fn overflow() {
    let sm = semaphore(u64::MAX);
    let args = simple(Number::SmUp, sm);
    check("the highest count stays", try_call(args), Err(Status::Overflow));
    check("and can be taken", all(sm), Ok([0, u64::MAX]));
    check("then it counts again", try_call(args), Ok(()));
    object::destroy(sm);
}

fn members() {
    let receiver = semaphore(0);
    let sms = [11, 12, 13].map(|id| member(0, receiver, id));
    for i in [1, 0, 1, 2, 1] {
        up(sms[i]);
    }
    check("the first that was ready, whole", poll(receiver), Ok([12, 3]));
    check("then the next", poll(receiver), Ok([11, 1]));
    up(sms[1]);
    check("a member can be downed itself", poll(sms[2]), Ok([0, 1]));
    check("and is not ready then", poll(receiver), Ok([12, 1]));
    check("nothing is left", poll(receiver), Err(Status::Timeout));
    up(sms[0]);
    up(sms[0]);
    check("down by one", poll(sms[0]), Ok([0, 1]));
    check("leaves it ready", poll(receiver), Ok([11, 1]));
    up(receiver);
    check("the receiver counts, too", poll(receiver), Ok([0, 1]));
    up(sms[1]);
    object::destroy(sms[1]);
    check("a destroyed member is not ready", poll(receiver), Err(Status::Timeout));
    up(sms[2]);
    object::destroy(receiver);
    check("a member outlives its receiver", poll(sms[2]), Ok([0, 1]));
    up(sms[2]);
    check("and goes on", poll(sms[2]), Ok([0, 1]));
    object::destroy(sms[2]);
    object::destroy(sms[0]);
}

extern "sysv64" fn up_later(argument: u64) {
    pause(2);
    up(Sel(argument));
}

fn waiting_receiver() {
    let receiver = semaphore(0);
    let sm = member(0, receiver, 99);
    for cpu in 0..information_page().cpu_count as u16 {
        let thread = Thread::start(Setup::on(cpu), up_later, sm.0);
        check("a member wakes who waits at the receiver", down(receiver), Ok([99, 1]));
        holds("the upper ends", thread.join());
    }
    object::destroy(sm);
    object::destroy(receiver);
}

/// Rounds of a ping-pong.
const ROUNDS: u64 = 2000;

extern "sysv64" fn pong(argument: u64) {
    let (ping, pong) = (Sel(argument), Sel(argument + 1));
    for _ in 0..ROUNDS {
        if down(ping).is_err() {
            return;
        }
        up(pong);
    }
}

fn ping_pong() {
    for cpu in 0..information_page().cpu_count as u16 {
        let first = object::fresh_range(2);
        for sel in [first, first.offset(1)] {
            object::must(CreateSm { dst: sel, pd: root::PD, count: 0, receiver: Sel::NONE, id: 0 }.encode());
        }
        let thread = Thread::start(Setup::on(cpu), pong, first.0);
        let rounds = (0..ROUNDS).take_while(|_| {
            up(first);
            down(first.offset(1)).is_ok()
        });
        check("ping-pong", rounds.count() as u64, ROUNDS);
        holds("the partner ends", thread.join());
        object::destroy(first);
        object::destroy(first.offset(1));
    }
}

const UPS: u64 = 5000;

extern "sysv64" fn many_ups(argument: u64) {
    (0..UPS).for_each(|_| up(Sel(argument)));
}

extern "sysv64" fn many_downs(argument: u64) {
    let (sm, index) = (Sel(argument >> 16), argument & 0xffff);
    while down_until(sm, after(100_000)).is_ok() {
        cell(index).fetch_add(1, Relaxed);
    }
}

/// Ups and downs of all CPUs at once: nothing is lost or found.
fn many_cpus() {
    let cpus = information_page().cpu_count as u16;
    let sm = semaphore(0);
    let index = fresh_cells(1);
    let downs: alloc::vec::Vec<_> =
        (0..cpus * 2).map(|i| Thread::start(Setup::on(i % cpus), many_downs, sm.0 << 16 | index)).collect();
    let ups: alloc::vec::Vec<_> = (0..cpus * 2).map(|i| Thread::start(Setup::on(i % cpus), many_ups, sm.0)).collect();
    holds("all ups are done", ups.iter().all(Thread::join));
    let expected = UPS * u64::from(cpus) * 2;
    holds("all are taken", eventually(|| cell(index).load(Relaxed) == expected));
    holds("the takers time out", downs.iter().all(Thread::join));
    check("none was taken twice", cell(index).load(Relaxed), expected);
    object::destroy(sm);
    shared_receiver(cpus);
}

/// Members upped by all CPUs, one receiver.
fn shared_receiver(cpus: u16) {
    let receiver = semaphore(0);
    let members: alloc::vec::Vec<_> = (0..u64::from(cpus) * 2).map(|id| member(0, receiver, id + 1)).collect();
    let ups: alloc::vec::Vec<_> =
        members.iter().zip((0..cpus).cycle()).map(|(sm, cpu)| Thread::start(Setup::on(cpu), many_ups, sm.0)).collect();
    let expected = UPS * u64::from(cpus) * 2;
    let mut sum = 0;
    while sum < expected {
        match down_until(receiver, after(2_000_000)) {
            Ok([_, count]) => sum += count,
            Err(_) => break,
        }
    }
    check("a receiver gets every up of its members", sum, expected);
    holds("the uppers end", ups.iter().all(Thread::join));
    check("and no more", poll(receiver), Err(Status::Timeout));
    members.into_iter().for_each(object::destroy);
    object::destroy(receiver);
}

extern "sysv64" fn wait_for_ever(argument: u64) {
    let (sm, index) = (Sel(argument >> 16), argument & 0xffff);
    let result = enter(SmDown { sm, zero: false, deadline: SmDown::FOREVER }.encode());
    cell(index).store(result.rax + 1, Relaxed);
}

fn destruction() {
    for cpu in 0..information_page().cpu_count as u16 {
        let sm = semaphore(0);
        let cells = fresh_cells(3);
        let threads = [0, 1, 2].map(|i| Thread::start(Setup::on(cpu), wait_for_ever, sm.0 << 16 | (cells + i)));
        pause(3);
        // One that waits is destroyed before the semaphore, one waits no more.
        object::destroy(threads[1].ec);
        up(sm);
        // Which of the others waits first is not certain if they are on another CPU.
        let done = |i: u64| cell(cells + i).load(Relaxed) != 0;
        holds("one that waits gets the up", eventually(|| done(0) || done(2)));
        object::destroy(sm);
        holds("the other one ends, too", threads[0].join() && threads[2].join());
        let mut results = [0, 1, 2].map(|i| cell(cells + i).load(Relaxed));
        results.sort_unstable();
        // Nothing, success, and abortion, each plus one but for the destroyed thread's, which never came to note one.
        check("by abortion", results, [0, Status::Success as u64 + 1, Status::Aborted as u64 + 1]);
    }
}

fn arguments() {
    let call = |dst, receiver| CreateSm { dst, pd: root::PD, count: 0, receiver, id: 0 };
    check("selector in use", try_call(call(root::PD, Sel::NONE).encode()), Err(Status::Busy));
    check("selector too high", try_call(call(Sel(Sel::COUNT), Sel::NONE).encode()), Err(Status::BadParameter));
    let receiver = semaphore(0);
    let weak = copy(receiver, Perms::SM_UP);
    check("a receiver that may not be downed", try_call(call(fresh(), weak).encode()), Err(Status::BadCapability));
    remove(weak);
    object::destroy(receiver);
}
