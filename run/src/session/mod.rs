//! One run of a machine: its emulator, its terminal, its log, and how it ends.

pub mod end;
pub mod escape;
pub mod lines;
pub mod screen;
pub mod serial;
pub mod terminals;
pub mod tty;

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::host::command::not_started;
use crate::machine::terminal::Terminal;
use crate::machine::{Endpoint, Machine, Medium, SerialLines, bochs, qemu};
use end::End;
use lines::LineSplitter;
use serial::{Channel, Line, connect_lines};
use terminals::Terminals;

/// File of the log in a run's folder.
pub const LOG: &str = "log.txt";

/// Something that happened to a running machine, or that its user did.
pub enum Event {
    /// The emulator has opened a serial line; what is written here is its input.
    Connected(Channel, Box<dyn Write + Send>),
    /// Output of a serial line.
    Output(Channel, Vec<u8>),
    /// The emulator itself said something.
    Diagnostic(Vec<u8>),
    /// The emulator's own output has ended, and so has the emulator.
    EmulatorEnded,
    /// A serial line has ended.
    Closed,
    /// The user typed something.
    Input(Vec<u8>),
    /// This process was told to end.
    Signal(i32),
}

/// What an observer of a run wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    /// Type these texts at these terminals.
    Send(Vec<(Terminal, Vec<u8>)>),
    /// End the run.
    Stop,
}

impl Wish {
    /// Go on.
    pub const NOTHING: Self = Self::Send(Vec::new());
}

/// Whoever follows a run.
pub trait Observer {
    /// Output of a terminal.
    fn terminal(&mut self, terminal: Terminal, output: &[u8]) -> Wish;
    /// A line of the log, without its line end.
    fn log_line(&mut self, line: &str) -> Wish;
    /// The user's input.
    fn input(&mut self, input: &[u8]) -> Wish {
        Wish::Send(vec![(Terminal::First, input.to_vec())])
    }
}

/// How many events may wait; a machine that talks faster than it is heard is slowed down.
const WAITING_EVENTS: usize = 64;
/// How long the remaining output of a killed emulator may take to arrive.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How much of what the emulator itself said is kept.
const DIAGNOSTIC_LIMIT: usize = 4096;
const CHUNK: usize = 4096;

/// A machine that runs.
pub struct Session {
    emulator: Child,
    events: Receiver<Event>,
    event_source: SyncSender<Event>,
    endpoints: Vec<Endpoint>,
    // The folder of the sockets; deleted with the session.
    _sockets: tempfile::TempDir,
    terminals: Terminals,
    lines: LineSplitter,
    log_file: File,
    diagnostics: Vec<u8>,
    open_streams: usize,
}

impl Session {
    /// Starts a machine in `folder`, where its output files are written too.
    pub fn start(machine: &Machine, medium: &Medium, folder: &Path) -> Result<Self> {
        let sockets =
            tempfile::tempdir().map_err(|cause| Error::new(format!("cannot create a temporary folder: {cause}")))?;
        let is_bochs = machine.platform.is_bochs();
        // Bochs connects serial lines by TCP only.
        let listen = |channel| Line::listen(channel, sockets.path(), is_bochs);
        let log = listen(Channel::Log)?;
        let mut waiting = Terminal::first(machine.terminals)
            .map(|terminal| listen(Channel::Terminal(terminal)))
            .collect::<Result<Vec<_>>>()?;
        let lines = SerialLines {
            terminals: waiting.iter().map(|line| line.endpoint.clone()).collect(),
            log: log.endpoint.clone(),
        };
        waiting.push(log);
        let endpoints: Vec<_> = waiting.iter().map(|line| line.endpoint.clone()).collect();
        let mut command = if is_bochs {
            bochs::command(machine, medium, &lines, folder)?
        } else {
            qemu::command(machine, medium, &lines, folder)?
        };
        let path = folder.join(LOG);
        let log_file = File::create(&path).map_err(|cause| Error::io("create", &path, &cause))?;
        let terminals = Terminals::create(machine.terminals, folder)?;
        let (event_source, events) = sync_channel(WAITING_EVENTS);
        let emulator = spawn(&mut command, event_source.clone())?;
        // Those of the serial lines, and the emulator's own.
        let open_streams = waiting.len() + 1;
        connect_lines(waiting, &event_source);
        Ok(Self {
            emulator,
            events,
            event_source,
            endpoints,
            _sockets: sockets,
            terminals,
            lines: LineSplitter::default(),
            log_file,
            diagnostics: Vec::new(),
            open_streams,
        })
    }

    /// Where other sources of events (the user, signals) send theirs.
    pub fn event_source(&self) -> SyncSender<Event> {
        self.event_source.clone()
    }

    /// Follows the run until it ends or `limit` has passed, then kills the emulator and hands the
    /// output that is still on its way to the observer.
    pub fn run(mut self, observer: &mut dyn Observer, limit: Option<Duration>) -> Result<End> {
        let deadline = limit.and_then(after);
        let end = loop {
            let event = match deadline {
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(deadline) => self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            };
            match event {
                Err(_) => break End::Timeout,
                Ok(event) => {
                    if let Some(end) = self.handle(event, observer)? {
                        break end;
                    }
                }
            }
        };
        self.finish(end, observer)
    }

    fn finish(mut self, end: End, observer: &mut dyn Observer) -> Result<End> {
        // Killing fails only if it has ended already.
        let _ = self.emulator.kill();
        let status =
            self.emulator.wait().map_err(|cause| Error::new(format!("cannot wait for the emulator: {cause}")))?;
        // An emulator that never opened its lines leaves their threads waiting for it.
        self.endpoints.iter().for_each(serial::poke);
        let deadline = Instant::now() + DRAIN_LIMIT;
        let mut late_end = None;
        while self.open_streams > 0 {
            let Ok(event) = self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) else {
                break;
            };
            late_end = self.handle(event, observer)?.filter(End::is_reported).or(late_end);
        }
        if let Some(line) = self.lines.rest() {
            self.log_line(&line, observer)?;
        }
        Ok(match end {
            // The emulator may be gone before the log's last line is read.
            End::EmulatorEnded { .. } => late_end.unwrap_or_else(|| End::EmulatorEnded {
                success: status.success(),
                message: String::from_utf8_lossy(&self.diagnostics).trim().to_owned(),
            }),
            end => end,
        })
    }

    /// Takes one event; tells the end of the run if that was it.
    fn handle(&mut self, event: Event, observer: &mut dyn Observer) -> Result<Option<End>> {
        let wish = match event {
            Event::Connected(Channel::Terminal(terminal), input) => {
                self.terminals.connect(terminal, input);
                return Ok(None);
            }
            Event::Connected(Channel::Log, _) => return Ok(None),
            Event::Output(Channel::Terminal(terminal), output) => {
                self.terminals.record(terminal, &output)?;
                observer.terminal(terminal, &output)
            }
            Event::Output(Channel::Log, output) => {
                self.log_file.write_all(&output).map_err(|cause| Error::new(format!("cannot write {LOG}: {cause}")))?;
                for line in self.lines.push(&output) {
                    if let Some(end) = self.log_line(&line, observer)? {
                        return Ok(Some(end));
                    }
                }
                return Ok(None);
            }
            Event::Diagnostic(text) => {
                self.diagnostics.extend_from_slice(&text);
                let excess = self.diagnostics.len().saturating_sub(DIAGNOSTIC_LIMIT);
                self.diagnostics.drain(..excess);
                return Ok(None);
            }
            Event::EmulatorEnded => {
                self.open_streams -= 1;
                return Ok(Some(End::EmulatorEnded { success: true, message: String::new() }));
            }
            Event::Closed => {
                self.open_streams -= 1;
                return Ok(None);
            }
            Event::Input(input) => observer.input(&input),
            Event::Signal(number) => return Ok(Some(End::Signal(number))),
        };
        Ok(self.fulfil(wish))
    }

    fn log_line(&mut self, line: &str, observer: &mut dyn Observer) -> Result<Option<End>> {
        let wish = observer.log_line(line);
        let stopped = self.fulfil(wish);
        Ok(End::reported_by(line).or(stopped))
    }

    fn fulfil(&mut self, wish: Wish) -> Option<End> {
        match wish {
            Wish::Stop => Some(End::Stopped),
            Wish::Send(texts) => {
                for (terminal, text) in texts {
                    self.terminals.send(terminal, &text);
                }
                None
            }
        }
    }
}

/// The end of a limit that begins now; one beyond what the clock can show never comes.
fn after(limit: Duration) -> Option<Instant> {
    Instant::now().checked_add(limit)
}

/// Starts an emulator without input, and a thread that hears what it has to say.
fn spawn(command: &mut Command, events: SyncSender<Event>) -> Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut emulator = command.spawn().map_err(|cause| not_started(command, &cause))?;
    let diagnostics = emulator.stderr.take();
    std::thread::spawn(move || {
        if let Some(stream) = diagnostics {
            forward(stream, &events, Event::Diagnostic);
        }
        // Whoever is not listening any more does not need to know.
        let _ = events.send(Event::EmulatorEnded);
    });
    Ok(emulator)
}

/// Sends what a stream has to say until it ends or nobody listens.
pub fn forward(mut stream: impl Read, events: &SyncSender<Event>, event: impl Fn(Vec<u8>) -> Event) {
    let mut chunk = [0; CHUNK];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                let data = chunk.get(..count).unwrap_or_default().to_vec();
                if events.send(event(data)).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_may_be_longer_than_any_clock_runs() {
        assert_eq!(after(Duration::from_secs(u64::MAX)), None);
        assert!(after(Duration::from_secs(60)).is_some());
    }
}
