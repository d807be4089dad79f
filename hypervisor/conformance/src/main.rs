//! Root task that checks the hypervisor's interface from user level, one topic per kernel object or mechanism.
//!
//! The first ROM that begins with `topics:` names the topics to run; without one, all are run. One that begins with `deviations:`
//! says, in lines `check = why`, what this machine is known to do against its manual. Whatever of these ROMs has no effect fails.
#![cfg_attr(kilonova, no_std, no_main)]
#![deny(unsafe_code)]

extern crate alloc;

mod kit;
mod report;
mod rom;
mod sys;
mod topic;

use abi::cap::{Sel, root};
use abi::hypercall::{CreateSm, Delegate};
use kit::{memory, object};
use runtime::sys::physical::information_page;

runtime::root_task!(begin);

/// Ports of a 16550.
const UART_PORTS: u64 = 8;
fn begin(_information_page: u64) -> ! {
    let port = information_page().log_port;
    if give_ports(u64::from(port), UART_PORTS) {
        report::open(port as u16);
    }
    let never = CreateSm { dst: sys::context::NEVER, pd: root::PD, count: 0, receiver: Sel::NONE, id: 0 };
    object::must(never.encode());
    if memory::init() {
        kit::tables::fill();
        run();
    } else {
        report::holds("there is memory for the checks", false);
    }
    report::finish();
    loop {
        kit::time::pause(1000);
    }
}

/// Start of the ROM that names topics.
const TOPICS: &str = "topics:";

fn run() {
    let mut list = rom::BUFFER;
    let wanted = rom::read(TOPICS, &mut list).unwrap_or_else(|why| {
        report::mistake(format_args!("`{TOPICS}` {why}"));
        Some("")
    });
    for word in wanted.unwrap_or_default().split_whitespace() {
        if topic::ALL.iter().all(|(name, _)| word != *name) {
            report::mistake(format_args!("there is no topic `{word}`"));
        }
    }
    for (name, topic) in topic::ALL {
        if wanted.is_none_or(|list| list.split_whitespace().any(|word| word == *name)) {
            report::line(format_args!("# {name}"));
            topic();
        }
    }
}

/// Gives ports to this program's threads.
pub(crate) fn give_ports(first: u64, count: u64) -> bool {
    let call = Delegate { from: root::ALL_PIO, to: root::PIO, src: first, dst: first, count, rights: 1 };
    object::try_call(call.encode()).is_ok()
}
