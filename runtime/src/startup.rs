//! From the first thread to `construct` on the entrypoint.

use alloc::format;
use core::fmt::Display;
use core::panic::PanicInfo;

use abi::session::{initial, parent};

use crate::entrypoint::{Entrypoint, SignalReceiver};
use crate::env::{Env, InitialSessions};
use crate::error::Error;
use crate::rpc::Unnamed;
use crate::sys::portal::LocalEc;
use crate::sys::{start, utcb};
use crate::{error, semaphore};

/// Bytes of the entrypoint's stack.
const ENTRYPOINT_STACK: u64 = 256 * 1024;
/// Exit value of a component whose `construct` fails.
const EXIT_CONSTRUCT: i64 = 1;
/// Exit value of a component that panics: that of Rust programs elsewhere.
const EXIT_PANIC: i64 = 101;

/// Runs `construct` on a new entrypoint and forwards signals to it for ever.
pub fn run<E: Display + 'static>(construct: fn(&'static Env) -> Result<(), E>) -> ! {
    match start(construct).and_then(|(ec, signals)| Ok(signals.forward(&ec)?)) {
        Ok(never) => match never {},
        Err(error) => {
            error!("cannot start: {error}");
            exit(EXIT_CONSTRUCT)
        }
    }
}

fn start<E: Display + 'static>(
    construct: fn(&'static Env) -> Result<(), E>,
) -> Result<(LocalEc, SignalReceiver), Error> {
    let sessions = InitialSessions::open()?;
    let cpu = sessions.home_cpu()?;
    let (slot, stack) = sessions.stack(ENTRYPOINT_STACK)?;
    // The entrypoint lives as long as the component, and so does its stack.
    core::mem::forget(stack);
    let receiver = SignalReceiver::create()?;
    let entrypoint_ec = LocalEc::create(cpu, slot, move |ec| {
        let entrypoint = Entrypoint::new(ec, receiver);
        let result = Env::create(sessions, entrypoint.clone())
            .and_then(|env| construct(env).map_err(|error| Error::Input(format!("{error}"))));
        if let Err(error) = result {
            error!("{error}");
            exit(EXIT_CONSTRUCT);
        }
        entrypoint
    })?;
    Ok((entrypoint_ec, receiver))
}

/// Tells the parent that the component has finished, and stops the calling thread.
pub fn exit(value: i64) -> ! {
    // A message may have been in the making.
    utcb::preserved(|| tell_parent(value));
    semaphore::sleep_forever()
}

fn tell_parent(value: i64) {
    let parent = parent::Client::from(Unnamed(initial::PARENT));
    let _gone = parent.exit(value);
}

/// What [`component!`](crate::component!) makes the panic handler do: log where and why, tell the parent, stop.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    // A message may have been in the making.
    utcb::preserved(|| {
        error!("{info}");
        tell_parent(EXIT_PANIC);
    });
    start::fault()
}

/// What [`root_task!`](crate::root_task!) makes the panic handler do: log where and why, stop.
pub fn panic_of_root(info: &PanicInfo<'_>) -> ! {
    utcb::preserved(|| error!("{info}"));
    start::fault()
}

/// Defines a component: its entry, allocator and panic handler. The argument is `fn(&'static Env) -> Result<(), impl Display>`.
/// On a host it makes a program that only says that it cannot run there.
#[macro_export]
macro_rules! component {
    ($construct:path) => {
        $crate::freestanding!($crate::startup::panic, |_| $crate::startup::run($construct));
        $crate::elsewhere!("a component", fn(&'static $crate::env::Env) -> _, $construct);
    };
}

/// Defines the root task: its entry, allocator and panic handler. The argument is `fn(u64) -> !` and gets the address of
/// the hypervisor information page. The heap has only its first arena, and the log nowhere to go, until told otherwise by
/// [`crate::heap::set_source`] and [`crate::log::set_sink`].
#[macro_export]
macro_rules! root_task {
    ($main:path) => {
        $crate::freestanding!($crate::startup::panic_of_root, $main);
        $crate::elsewhere!("the root task", fn(u64) -> !, $main);
    };
}

/// Entry, allocator and panic handler of an image without `std`.
#[doc(hidden)]
#[macro_export]
macro_rules! freestanding {
    ($panic:path, $main:expr) => {
        #[cfg(kilonova)]
        const _: () = {
            #[global_allocator]
            static HEAP: $crate::heap::Heap = $crate::heap::Heap;

            #[panic_handler]
            fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
                $panic(info)
            }

            $crate::entry!($main);
        };
    };
}

/// What an image for Kilonova is on a host, where `main` is only checked to be of its type.
#[doc(hidden)]
#[macro_export]
macro_rules! elsewhere {
    ($what:literal, $type:ty, $main:path) => {
        #[cfg(not(kilonova))]
        fn main() -> std::process::ExitCode {
            let _: $type = $main;
            std::eprintln!("this is {} of Kilonova and runs there only", $what);
            std::process::ExitCode::FAILURE
        }
    };
}
