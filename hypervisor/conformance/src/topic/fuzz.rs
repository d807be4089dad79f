//! Random hypercalls from a domain that may do whatever it likes to itself: the kernel survives, and so do all others.

use crate::kit::context::{Handler, Setup, Thread};
use crate::kit::domain::Domain;
use crate::kit::memory::{self, fresh_cells, pages};
use crate::kit::object::{self, figures};
use crate::kit::time::{eventually, pause};
use crate::report::{check, holds};
use crate::sys::hypercall::{Message, call, enter};
use crate::sys::memory::cell;
use crate::sys::utcb;
use abi::cap::{Perms, Sel, root};
use abi::hypercall::{Args, COUNT, Number};
use core::sync::atomic::Ordering::Relaxed;
use runtime::sys::physical::information_page;

/// Hypercalls of all threads together.
const CALLS: u64 = 200_000;
/// Selectors in the domain, all in the range from which the calls mostly choose.
const OWN: [Sel; 4] = [Sel(100), Sel(101), Sel(102), Sel(103)];
const FIRST: u64 = 96;
const RANGE: u64 = 64;

/// xorshift64* (Vigna, 2016): fast, and the same sequence in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn sel(&mut self) -> u64 {
        if self.below(16) == 0 { self.next() } else { FIRST + self.below(RANGE) }
    }

    /// A register: a selector, a packed pair, a small number, an address, an edge, or anything.
    fn word(&mut self) -> u64 {
        match self.below(10) {
            0..3 => self.sel(),
            3 => self.sel() << 16 | self.below(4),
            4 => self.sel() << 32 | self.next() & 0xff_ffff,
            5 => self.below(32),
            6 => 0x2000_0000 + self.below(1 << 16) * 4096,
            7 => 1 << self.below(64),
            8 => u64::MAX << self.below(64),
            _ => self.next(),
        }
    }

    fn args(&mut self) -> Args {
        let number = self.below(COUNT + 1);
        let flags = if self.below(4) == 0 { self.below(8) } else { self.below(2) };
        let mut args = Args {
            rdi: self.sel() << 8 | flags << 5 | number,
            rsi: self.word(),
            rdx: self.word(),
            r8: self.word(),
            r9: self.word(),
            r10: self.word(),
        };
        // A wait without a deadline in the past would end the run.
        if number == Number::SmDown as u64 {
            args.rsi = 1;
        }
        args
    }
}

/// Cells: calls done, calls to do, seed.
extern "sysv64" fn storm(cells: u64) {
    let word = |i| cell(cells + i).load(Relaxed);
    let mut random = Random(word(2));
    for _ in 0..word(1) {
        utcb::write(random.below(512) as usize, random.word());
        let args = random.args();
        // A call of a portal whose handler never replies, or of one that is its own handler, would end the run; so would a
        // memory space without this program.
        let harmless = ![Number::Call as u64, Number::Reply as u64].contains(&(args.rdi & 31));
        if harmless {
            enter(args);
        }
        cell(cells).fetch_add(1, Relaxed);
    }
}

/// The same without a domain of its own to lose: calls and replies, too. It may end at any time.
extern "sysv64" fn reckless(cells: u64) {
    let mut random = Random(cell(cells + 2).load(Relaxed));
    loop {
        utcb::write(random.below(512) as usize, random.word());
        let mut args = random.args();
        if random.below(4) == 0 {
            args.rdi = args.rdi & !31 | random.below(2);
        }
        enter(args);
        cell(cells).fetch_add(1, Relaxed);
    }
}

extern "sysv64" fn plus_one(message: &mut Message) {
    message.words[0] += 1;
}

/// The topic.
pub fn run() {
    let before = figures(root::PD);
    let handler = Handler::create(0, plus_one);
    let portal = handler.portal(0);
    let cpus = information_page().cpu_count as u16;
    let cells = fresh_cells(3 * u64::from(cpus));
    // All threads of a round share one domain, so that they destroy what the others use.
    let rounds = 10;
    for round in 0..rounds {
        let sm = object::semaphore(1);
        let domain = victim(portal, sm);
        let threads: alloc::vec::Vec<_> = (0..cpus)
            .map(|cpu| {
                let own = cells + u64::from(cpu) * 3;
                cell(own + 1).store(CALLS / rounds / u64::from(cpus), Relaxed);
                cell(own + 2).store(0x9e37_79b9_7f4a_7c15 ^ (round << 8 | u64::from(cpu)), Relaxed);
                Thread::start(Setup::on(cpu).inside(domain), storm, own)
            })
            .collect();
        // Its own threads may be among what it destroys; or it loses its memory.
        let done = || (0..u64::from(cpus)).map(|i| cell(cells + i * 3).load(Relaxed)).sum::<u64>();
        holds("it begins", eventually(|| done() > 0));
        let mut last = 0;
        while done() != last {
            last = done();
            pause(100);
        }
        let alive = call(portal, Message::words([round, 0, 0, 0])).map(|reply| reply.words[0]);
        check("others are alive", alive, Ok(round + 1));
        let [quota, used] = figures(domain.pd);
        holds("the account was kept", used <= quota);
        domain.destroy();
        threads.into_iter().for_each(drop);
        let _gone = object::try_destroy(sm);
    }
    with_messages(portal);
    object::destroy(portal);
    drop(handler);
    check("everything is returned", figures(root::PD), before);
}

/// A domain with capabilities to itself and things to play with.
fn victim(portal: Sel, sm: Sel) -> Domain {
    let domain = Domain::create(500);
    for (sel, dst) in [domain.pd, domain.obj, domain.mem, domain.pio].into_iter().zip(OWN) {
        // Without its spaces' destinations: it would lose this program at once. The PD is what it destroys and creates with.
        let spare = if dst == OWN[2] { Perms::SPACE_TAKE } else { Perms::empty() };
        domain.grant(sel, dst, Perms::ALL.difference(spare));
    }
    let extra = object::space(domain.pd, abi::hypercall::SpaceKind::Pio);
    domain.grant(extra, Sel(104), Perms::ALL);
    let child = object::fresh();
    object::must(abi::hypercall::CreatePd { dst: child, parent: domain.pd, quota: 50 }.encode());
    domain.grant(child, Sel(105), Perms::ALL);
    domain.grant(sm, Sel(106), Perms::ALL);
    domain.grant(portal, Sel(107), Perms::PT_CALL);
    memory::map(domain.mem, pages(1), 0x2000_0000, 1, memory::RW);
    domain
}

/// Threads that also call and reply at random, until they have not come back for a while.
fn with_messages(portal: Sel) {
    let cpus = information_page().cpu_count as u16;
    for round in 0..40 {
        let sm = object::semaphore(1);
        let domain = victim(portal, sm);
        let cells = fresh_cells(3 * u64::from(cpus));
        let threads: alloc::vec::Vec<_> = (0..cpus)
            .map(|cpu| {
                let own = cells + u64::from(cpu) * 3;
                cell(own + 2).store(0xd1b5_4a32_d192_ed03 ^ (round << 8 | u64::from(cpu)), Relaxed);
                Thread::start(Setup::on(cpu).inside(domain), reckless, own)
            })
            .collect();
        holds("messages are tried", eventually(|| cell(cells).load(Relaxed) > 0));
        pause(5);
        let alive = call(portal, Message::words([round, 0, 0, 0])).map(|reply| reply.words[0]);
        check("others are alive", alive, Ok(round + 1));
        domain.destroy();
        threads.into_iter().for_each(drop);
        let _gone = object::try_destroy(sm);
    }
}
