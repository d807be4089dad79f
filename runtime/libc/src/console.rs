//! Standard output and error: bytes that become lines of the log.

use alloc::string::String;
use alloc::vec::Vec;

/// Longest line that is kept until it is complete.
const LIMIT: usize = 4096;

/// The line in the making of one stream.
pub(crate) struct Line {
    bytes: Vec<u8>,
}

impl Line {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Appends bytes, and hands over each line that is complete, without its newline. What is not UTF-8 is replaced.
    pub(crate) fn append(&mut self, bytes: &[u8], mut sink: impl FnMut(&str)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            for chunk in part.chunks(LIMIT) {
                if self.bytes.try_reserve(chunk.len()).is_err() {
                    // What is to be said may be that there is no memory.
                    self.emit_at_once(chunk, &mut sink);
                    continue;
                }
                self.bytes.extend_from_slice(chunk);
                if self.bytes.last() == Some(&b'\n') {
                    self.bytes.pop();
                    self.emit(self.bytes.len(), &mut sink);
                } else if self.bytes.len() >= LIMIT {
                    self.emit(self.complete_characters(), &mut sink);
                }
            }
        }
    }

    /// Hands over what there is of a line.
    pub(crate) fn flush(&mut self, mut sink: impl FnMut(&str)) {
        if !self.bytes.is_empty() {
            self.emit(self.bytes.len(), &mut sink);
        }
    }

    fn emit(&mut self, length: usize, sink: &mut impl FnMut(&str)) {
        let rest = self.bytes.split_off(length);
        sink(&String::from_utf8_lossy(&self.bytes));
        self.bytes = rest;
    }

    /// Hands over what there is of a line, and then bytes that it has no memory for.
    fn emit_at_once(&mut self, bytes: &[u8], sink: &mut impl FnMut(&str)) {
        for chunk in self.bytes.utf8_chunks().chain(bytes.utf8_chunks()) {
            sink(chunk.valid().trim_end_matches('\n'));
        }
        self.bytes.clear();
    }

    /// Bytes without the beginning of a character whose end may still come.
    fn complete_characters(&self) -> usize {
        match core::str::from_utf8(&self.bytes) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.bytes.len(),
        }
    }
}

#[cfg(kilonova)]
mod streams {
    use runtime::log;
    use runtime::sync::Mutex;
    use runtime::sys::utcb;

    use super::Line;

    /// Standard output and standard error.
    static LINES: [Mutex<Line>; 2] = [const { Mutex::new(Line::new()) }; 2];

    /// The UTCB is preserved, because a panic may come in the middle of the making of a message.
    fn log_line(line: &str) {
        utcb::preserved(|| log!("{line}"));
    }

    /// Appends to a stream, if the descriptor is that of one.
    pub(crate) fn write(descriptor: usize, bytes: &[u8]) -> bool {
        let stream = descriptor.checked_sub(1).and_then(|index| LINES.get(index));
        stream.is_some_and(|stream| {
            stream.lock().append(bytes, log_line);
            true
        })
    }

    /// Logs what there is of lines, for the end of the program. A stream that is in use stays: its user may have
    /// panicked.
    pub(crate) fn flush() {
        for stream in &LINES {
            if let Some(mut line) = stream.try_lock() {
                line.flush(log_line);
            }
        }
    }
}

#[cfg(kilonova)]
pub(crate) use streams::{flush, write};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(parts: &[&[u8]]) -> Vec<String> {
        let (mut line, mut lines) = (Line::new(), Vec::new());
        parts.iter().for_each(|part| line.append(part, |line| lines.push(line.into())));
        line.flush(|line| lines.push(line.into()));
        lines
    }

    #[test]
    fn parts_become_lines() {
        assert_eq!(lines(&[b"a", b"b\n\nc\nd"]), ["ab", "", "c", "d"]);
        assert_eq!(lines(&[b"a\n"]), ["a"]);
        assert_eq!(lines(&[b"\xc3", b"\xa4\xff\n"]), ["\u{e4}\u{fffd}"]);
    }

    #[test]
    fn a_long_line_is_broken_between_characters() {
        let text = "x".to_owned() + &"\u{e4}".repeat(LIMIT);
        let lines = lines(&[text.as_bytes()]);
        assert_eq!(lines.concat(), text);
        assert!(lines.iter().all(|line| line.len() <= LIMIT));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_however_it_is_cut(text in "(\\PC|\n){0,200}", cut in 0_usize..100) {
            let bytes = text.as_bytes();
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            let whole: Vec<_> = text.strip_suffix('\n').unwrap_or(&text).split('\n').map(String::from).collect();
            let expected = if text.is_empty() { Vec::new() } else { whole };
            prop_assert_eq!(lines(&[head, tail]), expected);
        }
    }
}
