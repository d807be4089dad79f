//! The user's terminal while a machine has it.

use std::io::{IsTerminal, stdin};
use std::sync::mpsc::SyncSender;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::{Error, Result};
use crate::session::{Event, forward};

/// A terminal in raw mode: every key goes to the machine. Dropping it restores the old mode.
pub struct RawTerminal {
    old: Termios,
}

impl RawTerminal {
    /// Puts standard input into raw mode, if it is a terminal.
    pub fn enter() -> Result<Option<Self>> {
        if !stdin().is_terminal() {
            return Ok(None);
        }
        let failed = |cause| Error::new(format!("cannot use the terminal: {cause}"));
        let old = tcgetattr(stdin()).map_err(failed)?;
        let mut raw = old.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Flush, &raw).map_err(failed)?;
        Ok(Some(Self { old }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // If the terminal is gone there is nothing to restore.
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &self.old);
    }
}

/// Sends the user's input and the signals that end this process to a session, so that both the
/// terminal and the emulator are tidied up.
pub fn listen(events: SyncSender<Event>) -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])
        .map_err(|cause| Error::new(format!("cannot handle signals: {cause}")))?;
    let signal_events = events.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            // A session that is over is about to end the process anyway.
            let _ = signal_events.send(Event::Signal(signal));
        }
    });
    // This thread ends with the process: a blocked read cannot be interrupted.
    std::thread::spawn(move || forward(stdin(), &events, Event::Input));
    Ok(())
}
