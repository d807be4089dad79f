//! Lines of text for humans, from any thread.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use abi::cap::Sel;
use abi::session::log::{Client, LINE_MAX};
use abi::session::wire::Text;

use crate::rpc::Unnamed;
use crate::sync::Mutex;

/// Where lines go. It must not log itself.
pub type Sink = fn(&str);

static SINK: Mutex<Sink> = Mutex::new(discard);
static SESSION: AtomicU64 = AtomicU64::new(Sel::NONE.0);

fn discard(_: &str) {}

/// Sets where lines go, of at most [`LINE_MAX`] bytes each.
pub fn set_sink(sink: Sink) {
    *SINK.lock() = sink;
}

/// Lets lines go to a LOG session whose name is kept elsewhere for good.
pub(crate) fn use_session(log: Sel) {
    SESSION.store(log.0, Ordering::Relaxed);
    set_sink(|line| {
        let log = Client::from(Unnamed(Sel(SESSION.load(Ordering::Relaxed))));
        // There is nobody to tell.
        let _lost = log.write(line);
    });
}

/// Logs a line: what [`log!`](crate::log!) does.
pub fn print(arguments: fmt::Arguments<'_>) {
    let sink = *SINK.lock();
    let mut line = Lines { sink, line: Text::new() };
    // A `Display` implementation that fails leaves an incomplete line.
    let _incomplete = line.write_fmt(arguments);
    line.flush();
}

/// What continues a line that was too long begins with this, so that no part of a line looks like a whole one.
const CONTINUED: char = ' ';

/// Cuts text into lines.
struct Lines<S: Fn(&str)> {
    sink: S,
    line: Text<LINE_MAX>,
}

impl<S: Fn(&str)> Lines<S> {
    fn flush(&mut self) {
        (self.sink)(&self.line);
        self.line.clear();
    }
}

impl<S: Fn(&str)> Write for Lines<S> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if character == '\n' {
                self.flush();
            } else if self.line.try_push(character).is_err() {
                self.flush();
                // Two characters fit into an empty line.
                self.line.try_push(CONTINUED).and_then(|()| self.line.try_push(character)).map_err(|_| fmt::Error)?;
            }
        }
        Ok(())
    }
}

/// Logs a formatted line. Longer ones are broken, with a blank at the beginning of what continues them. Newlines begin new ones: names
/// that others gave go through [`OneLine`](abi::session::log::OneLine).
#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => {
        $crate::log::print(format_args!($($argument)*))
    };
}

/// Logs a formatted line that begins with "Warning: ".
#[macro_export]
macro_rules! warning {
    ($($argument:tt)*) => {
        $crate::log!("Warning: {}", format_args!($($argument)*))
    };
}

/// Logs a formatted line that begins with "Error: ".
#[macro_export]
macro_rules! error {
    ($($argument:tt)*) => {
        $crate::log!("Error: {}", format_args!($($argument)*))
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::string::String;
    use std::vec::Vec;

    fn lines(text: &str) -> Vec<String> {
        let lines = RefCell::new(Vec::new());
        let mut writer = Lines { sink: |line: &str| lines.borrow_mut().push(String::from(line)), line: Text::new() };
        writer.write_str(text).unwrap();
        writer.flush();
        lines.into_inner()
    }

    #[test]
    fn newlines_begin_lines() {
        assert_eq!(lines("a\n\nb"), ["a", "", "b"]);
    }

    #[test]
    fn long_lines_are_broken_and_nothing_is_lost() {
        let text = "\u{e4}".repeat(LINE_MAX * 3 / 4);
        let lines = lines(&text);
        let [first, second] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(first.clone() + second.strip_prefix(CONTINUED).unwrap(), text);
    }
}
