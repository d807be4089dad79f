//! The virtual-machine monitor with a bug: when somebody types at its Terminal session "fault", it overflows its stack. For scenarios
//! that show that this hurts its own guest only, and that everything it had comes back.
#![cfg_attr(kilonova, no_main)]
#![forbid(unsafe_code)]

mod component;

use core::hint::black_box;

use abi::session::terminal::Terminal;
use runtime::{Env, Error};

runtime_libc::component!(construct);

fn construct(env: &'static Env) -> Result<(), Error> {
    component::construct(env)?;
    let terminal = env.connect_label::<Terminal>("fault", "")?;
    let input = (*terminal).clone();
    let handler = env.entrypoint().signal_handler(move |_| {
        if input.avail() == Ok(true) {
            black_box(descend(0));
        }
    })?;
    terminal.read_avail_sigh(handler.cap())?;
    // They last as long as the component.
    core::mem::forget((terminal, handler));
    Ok(())
}

/// The bug. What is behind the stack is not mapped.
#[expect(unconditional_recursion, reason = "this program exists to fault")]
fn descend(depth: u64) -> u64 {
    black_box(descend(black_box(depth + 1))) + 1
}
