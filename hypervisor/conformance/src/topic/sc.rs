//! Scheduling contexts: arguments, priorities, budgets, time.

use crate::kit::context::{Handler, PRIORITY, Setup, Thread};
use crate::kit::memory::fresh_cells;
use crate::kit::object::{self, fresh, must, try_call, try_destroy};
use crate::kit::time::{self, eventually, pause, ticks};
use crate::report::{check, holds};
use crate::sys::context::NEVER;
use crate::sys::hypercall::{Message, invoke, now, simple};
use crate::sys::memory::cell;
use abi::cap::{Sel, root};
use abi::hypercall::{CreateSc, Number};
use abi::status::Status;
use core::sync::atomic::Ordering::Relaxed;
use runtime::sys::physical::information_page;

extern "sysv64" fn nothing(_: u64) {}
extern "sysv64" fn answer(_: &mut Message) {}

extern "sysv64" fn count(index: u64) {
    loop {
        cell(index).fetch_add(1, Relaxed);
    }
}

fn value(index: u64) -> u64 {
    cell(index).load(Relaxed)
}

fn create(dst: Sel, ec: Sel) -> Result<(), Status> {
    let call = CreateSc { dst, pd: root::PD, ec, priority: 1, budget_us: 1000 };
    try_call(call.encode())
}

/// The topic.
pub fn run() {
    arguments();
    priorities();
    round_robin();
    consumed();
    deadlines();
    stopped();
    while_asleep();
}

fn arguments() {
    let thread = Thread::prepare(Setup::default(), nothing, 0);
    let local = Handler::create(0, answer);
    for r8 in [u64::from(CreateSc::PRIORITIES) << 32 | 1000, 1 << 63 | 1000, 5 << 32] {
        let mut args = CreateSc { dst: fresh(), pd: root::PD, ec: thread.ec, priority: 0, budget_us: 1 }.encode();
        args.r8 = r8;
        check("priority or budget out of range", try_call(args), Err(Status::BadParameter));
    }
    check("a local EC has none", create(fresh(), local.ec), Err(Status::BadParameter));
    check("selector in use", create(root::PD, thread.ec), Err(Status::Busy));
    check("selector too high", create(Sel(Sel::COUNT), thread.ec), Err(Status::BadParameter));
    let sc = fresh();
    check("a thread has one", create(sc, thread.ec), Ok(()));
    check("and not another", create(fresh(), thread.ec), Err(Status::Busy));
    object::destroy(sc);
    check("until it is destroyed", create(fresh(), thread.ec), Ok(()));
    holds("the thread runs", thread.join());
}

/// A spinner of higher priority keeps a lower one from running at all.
fn priorities() {
    let cells = fresh_cells(3);
    let high = Thread::start(Setup::default().priority(90), count, cells);
    let low = Thread::start(Setup::default().priority(89), count, cells + 1);
    holds("the higher priority runs", eventually(|| value(cells) > 1000));
    pause(50);
    check("the lower one does not", value(cells + 1), 0);
    let top = Thread::start(Setup::default().priority(91), nothing, 0);
    holds("one that is higher still does", top.join());
    drop(high);
    holds("the lower one does in the end", eventually(|| value(cells + 1) > 0));
    drop(low);
}

fn round_robin() {
    let cells = fresh_cells(3);
    let setup = Setup { budget_us: 1000, ..Setup::default() };
    let threads = [0, 1, 2].map(|i| Thread::start(setup, count, cells + i));
    holds("all of a priority run", eventually(|| (0..3).all(|i| value(cells + i) > 100)));
    // Work, not time: an emulator that is itself preempted charges that to whoever runs.
    let work = || [0, 1, 2].map(|i| value(cells + i));
    let before = work();
    pause(150);
    let after = work();
    let share = [0, 1, 2].map(|i| after[i].saturating_sub(before[i]));
    let (least, most) = (share.iter().min().copied(), share.iter().max().copied());
    holds("with similar shares", least.zip(most).is_some_and(|(least, most)| most < 4 * least.max(1)));
    drop(threads);
}

fn consumed() {
    let cells = fresh_cells(1);
    let start = now();
    let thread = Thread::start(Setup::default(), count, cells);
    pause(30);
    let time = must(simple(Number::CtrlSc, thread.sc))[0];
    holds("time is counted", time >= ticks(5_000) && time <= now() - start);
    let own = must(simple(Number::CtrlSc, root::SC))[0];
    let more = must(simple(Number::CtrlSc, root::SC))[0];
    holds("one's own, too", own > 0 && more > own);
    drop(thread);
    let idle = Thread::start(Setup::default(), nothing, 0);
    holds("a thread ends", idle.join());
    // Runs when the other one waits for ever.
    let last = Thread::start(Setup::default().priority(PRIORITY - 1), nothing, 0);
    holds("and one of lower priority after it", last.join());
    let ended = must(simple(Number::CtrlSc, idle.sc))[0];
    pause(20);
    check("waiting costs nothing", must(simple(Number::CtrlSc, idle.sc))[0], ended);
}

/// Spinners below do not delay a timeout for long, on any CPU.
fn deadlines() {
    extern "sysv64" fn wait(result: u64) {
        let mut late = 0;
        for _ in 0..20 {
            let deadline = time::after(2_000);
            let _timeout = time::down_until(NEVER, deadline);
            late = now().saturating_sub(deadline).max(late);
        }
        cell(result).store(late, Relaxed);
    }
    for cpu in 0..information_page().cpu_count as u16 {
        let cells = fresh_cells(3);
        let setup = Setup { budget_us: 1_000_000, ..Setup::on(cpu) };
        let spinners = [1, 2].map(|i| Thread::start(setup, count, cells + i));
        let waiter = Thread::start(Setup::on(cpu).priority(100), wait, cells);
        holds("timeouts come while others spin", waiter.join());
        // Generous: an emulator may itself be preempted. A budget is a second.
        holds("and not a budget later", value(cells) < ticks(500_000));
        drop(spinners);
    }
}

/// A destroyed scheduling context runs nothing, wherever it was.
fn stopped() {
    for cpu in 0..information_page().cpu_count as u16 {
        let cells = fresh_cells(1);
        let thread = Thread::start(Setup::on(cpu), count, cells);
        holds("a spinner runs", eventually(|| value(cells) > 0));
        check("its SC is destroyed", try_destroy(thread.sc), Ok(1));
        let at_once = value(cells);
        pause(3);
        check("and it stops", value(cells), at_once);
        let again = fresh();
        check("a new one", create(again, thread.ec), Ok(()));
        holds("continues it", eventually(|| value(cells) > at_once));
        check("the EC goes first", try_destroy(thread.ec), Ok(1));
        check("then the SC", invoke(simple(Number::Destroy, again)).map(|_| ()), Ok(()));
    }
}

/// Waits for the time in its cell; says by 0 that it is about to.
extern "sysv64" fn wait(index: u64) {
    let until = cell(index).swap(0, Relaxed);
    let _timeout = time::down_until(NEVER, until);
}

/// Threads that wait on a CPU which is idle for so long that it need not be told of most things leave nothing behind there.
fn while_asleep() {
    for cpu in 1..information_page().cpu_count as u16 {
        let cells = fresh_cells(4);
        let then = time::after(100_000);
        (0..4).for_each(|i| cell(cells + i).store(then, Relaxed));
        let threads = [0, 1, 2, 3].map(|i| Thread::start(Setup::on(cpu), wait, cells + i));
        holds("threads wait", eventually(|| (0..4).all(|i| value(cells + i) == 0)));
        // Their CPU is asked for something until it has been woken for nothing.
        for _ in 0..5 {
            pause(1);
            object::destroy(object::semaphore(0));
        }
        drop(threads);
        // These take their memory.
        let others = [(); 32].map(|()| object::semaphore(0));
        holds("their time comes", eventually(|| now() > then + ticks(5_000)));
        holds("others run there", Thread::start(Setup::on(cpu), nothing, 0).join());
        others.into_iter().for_each(object::destroy);
    }
}
