//! The thread that looks after deadlines of models while virtual CPUs run.

use runtime::thread::ThreadOptions;
use runtime::{Env, Error};

use super::Machine;

const STACK: u64 = 64 * 1024;

/// Starts it.
pub fn start(env: &Env, vm: &'static Machine) -> Result<(), Error> {
    let options = ThreadOptions { name: "timer", cpu: 0, below: 0, stack_size: STACK };
    env.spawn(options, move || {
        loop {
            let deadline = vm.serve_timers();
            vm.kernel().wait_for_timer(deadline);
        }
    })?;
    Ok(())
}
