//! Serial output as lines of the host's log.

use crate::bus::log::{HostSink, LogBus};
use alloc::string::String;
use core::fmt::Write;
use core::num::NonZeroUsize;

/// The longest form a byte takes in the log: `\xNN`.
const LONGEST: usize = 4;

/// Collects bytes and logs a line at each line feed, or when the next byte would not fit.
///
/// Carriage returns are dropped; whatever else is not printable ASCII is escaped, so a guest cannot
/// forge log lines or send control sequences to whoever reads the log.
#[derive(Debug)]
pub struct LineSink {
    sink: HostSink,
    line: String,
    capacity: usize,
}

impl LineSink {
    /// A sink that logs to `sink` in lines of at most `buffer` characters (at least four).
    #[must_use]
    pub fn new(sink: HostSink, buffer: NonZeroUsize) -> Self {
        let capacity = buffer.get().max(LONGEST);
        Self { sink, line: String::with_capacity(capacity), capacity }
    }

    /// Takes one byte of output.
    pub fn write(&mut self, byte: u8, fx: &mut impl LogBus) {
        match byte {
            b'\r' => {}
            b'\n' => self.emit(fx),
            b' '..=b'~' => {
                self.make_room(1, fx);
                self.line.push(char::from(byte));
            }
            _ => {
                self.make_room(LONGEST, fx);
                // Writing to a String cannot fail.
                let _ = write!(self.line, "\\x{byte:02x}");
            }
        }
    }

    /// Logs what has been collected, for a guest that ends without a line feed.
    pub fn flush(&mut self, fx: &mut impl LogBus) {
        if !self.line.is_empty() {
            self.emit(fx);
        }
    }

    fn make_room(&mut self, bytes: usize, fx: &mut impl LogBus) {
        if self.line.len() + bytes > self.capacity {
            self.emit(fx);
        }
    }

    fn emit(&mut self, fx: &mut impl LogBus) {
        fx.log(self.sink, &self.line);
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::Recorder;
    use proptest::prelude::*;

    fn lines(buffer: usize, bytes: &[u8]) -> std::vec::Vec<String> {
        let mut sink = LineSink::new(HostSink(0x4712), NonZeroUsize::new(buffer).unwrap());
        let mut fx = Recorder::default();
        bytes.iter().for_each(|byte| sink.write(*byte, &mut fx));
        sink.flush(&mut fx);
        fx.lines
    }

    #[test]
    fn lines_end_at_line_feed_or_when_full() {
        assert_eq!(lines(80, b"one\r\n\ntwo"), ["one", "", "two"]);
        assert_eq!(lines(5, b"abcdefg\n"), ["abcde", "fg"]);
        assert_eq!(lines(5, b"abcde\n"), ["abcde"], "exactly full is one line");
    }

    #[test]
    fn control_bytes_cannot_reach_the_log() {
        assert_eq!(lines(80, b"\x1b[0m\xff\n"), ["\\x1b[0m\\xff"]);
    }

    proptest! {
        #[test]
        fn lines_are_short_and_printable(buffer in 1usize..40, bytes: std::vec::Vec<u8>) {
            for line in lines(buffer, &bytes) {
                prop_assert!(line.len() <= buffer.max(4));
                prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            }
        }
    }
}
