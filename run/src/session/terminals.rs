//! The tool's ends of a machine's terminals.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};
use crate::machine::terminal::Terminal;

/// One end: what the machine writes goes to a file, what is typed goes to the machine.
struct TerminalEnd {
    file: File,
    // Absent until the emulator has opened the line.
    input: Option<Box<dyn Write + Send>>,
    unsent: Vec<u8>,
}

/// The ends of all terminals of a machine.
pub struct Terminals(Vec<TerminalEnd>);

impl Terminals {
    /// Creates the output files of `count` terminals in `folder`.
    pub fn create(count: usize, folder: &Path) -> Result<Self> {
        let end = |terminal: Terminal| {
            let path = folder.join(terminal.file());
            let file = File::create(&path).map_err(|cause| Error::io("create", &path, &cause))?;
            Ok(TerminalEnd { file, input: None, unsent: Vec::new() })
        };
        Terminal::first(count).map(end).collect::<Result<_>>().map(Self)
    }

    /// The emulator has opened a terminal's line: types what has been waiting for that.
    pub fn connect(&mut self, terminal: Terminal, input: Box<dyn Write + Send>) {
        if let Some(end) = self.0.get_mut(terminal.index()) {
            end.input = Some(input);
            end.flush();
        }
    }

    /// Keeps output in the terminal's file.
    pub fn record(&mut self, terminal: Terminal, output: &[u8]) -> Result<()> {
        let Some(end) = self.0.get_mut(terminal.index()) else {
            return Ok(());
        };
        end.file.write_all(output).map_err(|cause| Error::new(format!("cannot write {}: {cause}", terminal.file())))
    }

    /// Types at a terminal; at one that the machine does not have, nothing happens.
    pub fn send(&mut self, terminal: Terminal, input: &[u8]) {
        if let Some(end) = self.0.get_mut(terminal.index()) {
            end.unsent.extend_from_slice(input);
            end.flush();
        }
    }
}

impl TerminalEnd {
    fn flush(&mut self) {
        if let Some(input) = &mut self.input {
            // A terminal that does not take input any more belongs to a machine that is ending.
            let _ = input.write_all(&self.unsent).and_then(|()| input.flush());
            self.unsent.clear();
        }
    }
}
