//! A Terminal session with its buffer.

use abi::cap::MemRights;
use abi::session::parent::SessionError;
use abi::session::terminal::Terminal;
use abi::session::wire::Signal;
use runtime::capability::Cap;
use runtime::dataspace::Attached;
use runtime::env::Connection;
use runtime::{Env, Error, log};

/// The component's end of a terminal.
pub struct TerminalEnd {
    session: Connection<Terminal>,
    buffer: Attached,
    /// Output that the server has not taken yet.
    output: Vec<u8>,
    /// Input that nobody has taken yet.
    input: Vec<u8>,
}

impl TerminalEnd {
    /// Opens the session `label`, if there is to be one: a parent that denies it has said so itself.
    pub fn open(env: &'static Env, label: &str) -> Option<Self> {
        let report = |error: &Error| {
            if !matches!(error, Error::Session { reason: SessionError::Denied, .. }) {
                log!("terminal {label}: {error}");
            }
        };
        Self::connect(env, label).inspect_err(report).ok()
    }

    fn connect(env: &'static Env, label: &str) -> Result<Self, Error> {
        let session: Connection<Terminal> = env.connect_label(label, "")?;
        let dataspace = session.dataspace()?;
        let buffer = env.attach(&dataspace, MemRights::READ | MemRights::WRITE)?;
        Ok(Self { session, buffer, output: Vec::new(), input: Vec::new() })
    }

    /// Has `signal` submitted when there is input.
    pub fn on_input(&self, signal: &Cap<Signal>) -> Result<(), Error> {
        Ok(self.session.read_avail_sigh(signal)?)
    }

    /// Writes `bytes` after what is left of earlier output. False if some is left.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.output.extend_from_slice(bytes);
        self.flush()
    }

    /// Writes output as far as the server takes it. False if some is left.
    pub fn flush(&mut self) -> bool {
        let room = self.buffer.memory().size();
        let mut done = 0;
        while let Some(rest) = self.output.get(done..).filter(|rest| !rest.is_empty()) {
            let chunk = rest.get(..room).unwrap_or(rest);
            // It fits into the buffer, and what the server claims to have taken is not more than it was given.
            let _copied = self.buffer.memory().write(0, chunk);
            let taken = self.session.write(chunk.len() as u64).unwrap_or(0);
            match usize::try_from(taken).unwrap_or(0).min(chunk.len()) {
                0 => break,
                taken => done += taken,
            }
        }
        self.output.drain(..done);
        self.output.is_empty()
    }

    /// Whether all output has left. Of a server that does not answer nothing more is to be expected.
    pub fn is_sent(&self) -> bool {
        self.output.is_empty() && self.session.is_sent().unwrap_or(true)
    }

    /// Input, fetched if the last was consumed.
    pub fn input(&mut self) -> &[u8] {
        if self.input.is_empty() {
            let size = self.buffer.memory().size();
            let count = self.session.read(size as u64).unwrap_or(0);
            let count = usize::try_from(count).unwrap_or(0).min(size);
            self.input = self.buffer.copy(0, count).unwrap_or_default();
        }
        &self.input
    }

    /// Somebody has taken the first `count` bytes of the input.
    pub fn consume(&mut self, count: usize) {
        self.input.drain(..count.min(self.input.len()));
    }
}
