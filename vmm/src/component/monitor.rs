//! The operator's terminal: any key there shows how often the machine has exited so far.

use std::cell::RefCell;
use std::rc::Rc;

use runtime::{Env, Error};

use super::Machine;
use super::terminal::TerminalEnd;

/// Label of its Terminal session.
const LABEL: &str = "monitor";
const GREETING: &str = "Any key shows the VM exits so far.\n";

/// Opens the terminal and serves it, if the machine counts its exits and there is such a terminal.
pub fn serve(env: &'static Env, vm: &'static Machine) -> Result<(), Error> {
    if !vm.config().exit_stats {
        return Ok(());
    }
    let Some(mut terminal) = TerminalEnd::open(env, LABEL) else {
        return Ok(());
    };
    show(&mut terminal, GREETING);
    let terminal = Rc::new(RefCell::new(terminal));
    let shared = Rc::clone(&terminal);
    let handler = env.entrypoint().signal_handler(move |_| answer(&mut shared.borrow_mut(), vm))?;
    terminal.borrow().on_input(handler.cap())?;
    // It lives as long as the component.
    core::mem::forget(handler);
    Ok(())
}

fn answer(terminal: &mut TerminalEnd, vm: &Machine) {
    let mut asked = false;
    loop {
        let count = terminal.input().len();
        if count == 0 {
            break;
        }
        terminal.consume(count);
        asked = true;
    }
    if let Some(stats) = vm.stats().filter(|_| asked) {
        show(terminal, &stats.to_string());
    }
}

/// Writes lines as a terminal wants them. What it does not take now comes with the next.
fn show(terminal: &mut TerminalEnd, text: &str) {
    let _complete = terminal.write(text.replace('\n', "\r\n").as_bytes());
}
