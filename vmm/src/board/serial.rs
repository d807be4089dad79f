//! The host's ends of the serial lines: output collected for whoever writes it out.

use device_models::bus::serial::HostSerial;

/// Bytes of one line after which they should be written out at once.
const CROWDED: usize = 4096;
/// Bytes of one line after which the guest has to wait for that.
const FULL: usize = 2 * CROWDED;
/// What one exit can add to a line: a string instruction's share of one.
const MOST_PER_EXIT: usize = 4096;

/// One line.
#[derive(Debug)]
struct SerialLine {
    host: HostSerial,
    output: Vec<u8>,
    /// Input was offered that the UART had no room for.
    input_waits: bool,
}

/// All lines of a machine.
#[derive(Debug, Default)]
pub struct SerialLines {
    lines: Vec<SerialLine>,
    /// Bytes in all of them.
    bytes: usize,
    /// Lines on which input waits.
    waiting: usize,
}

impl SerialLines {
    /// Adds a line.
    pub(super) fn add(&mut self, host: HostSerial) {
        // It never has to grow: the guest waits when the line is full.
        let output = Vec::with_capacity(FULL + MOST_PER_EXIT);
        self.lines.push(SerialLine { host, output, input_waits: false });
    }

    /// Takes over what an earlier set of lines still holds: a reset does not stop what is on the wire.
    pub(super) fn inherit(&mut self, earlier: &mut SerialLines) {
        for (line, old) in self.lines.iter_mut().zip(&mut earlier.lines) {
            line.output.append(&mut old.output);
            line.input_waits = old.input_waits;
        }
        self.bytes = std::mem::take(&mut earlier.bytes);
        self.waiting = earlier.waiting;
    }

    #[inline]
    pub(super) fn transmit(&mut self, host: HostSerial, byte: u8) {
        if let Some(line) = self.line(host) {
            line.output.push(byte);
            self.bytes += 1;
        }
    }

    /// Whether nothing waits to be written out.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether so much waits that it should be written out at once.
    #[inline]
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.has_line_with(CROWDED)
    }

    /// Whether so much waits that the guest has to wait too.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.has_line_with(FULL)
    }

    #[inline]
    fn has_line_with(&self, bytes: usize) -> bool {
        self.bytes >= bytes && self.lines.iter().any(|line| line.output.len() >= bytes)
    }

    /// Moves the output of a line into `to`, which is emptied first.
    pub fn take(&mut self, host: HostSerial, to: &mut Vec<u8>) {
        to.clear();
        if let Some(line) = self.line(host) {
            std::mem::swap(&mut line.output, to);
            let taken = to.len();
            self.bytes -= taken;
        }
    }

    /// The host's names of the lines.
    pub fn hosts(&self) -> impl Iterator<Item = HostSerial> {
        self.lines.iter().map(|line| line.host)
    }

    /// Whether input waits for room in any UART.
    #[inline]
    pub(super) fn any_input_waits(&self) -> bool {
        self.waiting != 0
    }

    /// Notes whether input waits for room in the UART.
    pub(super) fn set_input_waits(&mut self, host: HostSerial, waits: bool) {
        if let Some(line) = self.line(host) {
            line.input_waits = waits;
        }
        self.waiting = self.lines.iter().filter(|line| line.input_waits).count();
    }

    /// Whether input waits for room in the UART.
    pub(super) fn input_waits(&self, host: HostSerial) -> bool {
        self.lines.iter().any(|line| line.host == host && line.input_waits)
    }

    #[inline]
    fn line(&mut self, host: HostSerial) -> Option<&mut SerialLine> {
        self.lines.iter_mut().find(|line| line.host == host)
    }
}
