//! Serial lines of a machine: sockets that the tool listens on and the emulator connects to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::SyncSender;

use crate::error::{Error, Result};
use crate::machine::Endpoint;
use crate::machine::terminal::Terminal;
use crate::session::{Event, forward};

/// Which serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// A terminal.
    Terminal(Terminal),
    /// COM2.
    Log,
}

/// A serial line that waits for its emulator.
#[derive(Debug)]
pub struct Line {
    channel: Channel,
    listener: Listener,
    /// Where the emulator finds it.
    pub endpoint: Endpoint,
}

#[derive(Debug)]
enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

type Halves = (Box<dyn Read>, Box<dyn Write + Send>);

impl Line {
    /// Listens on a socket in a folder that only this user can enter, or, for emulators that
    /// cannot do that, on a TCP port of this machine.
    pub fn listen(channel: Channel, folder: &Path, tcp: bool) -> Result<Self> {
        let failed = |cause: std::io::Error| Error::new(format!("cannot listen for the emulator: {cause}"));
        if tcp {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
            let endpoint = Endpoint::Tcp(listener.local_addr().map_err(failed)?.port());
            return Ok(Self { channel, listener: Listener::Tcp(listener), endpoint });
        }
        let path = folder.join(match channel {
            Channel::Terminal(terminal) => terminal.name(),
            Channel::Log => "log",
        });
        let listener = UnixListener::bind(&path).map_err(failed)?;
        Ok(Self { channel, listener: Listener::Unix(listener), endpoint: Endpoint::Unix(path) })
    }

    fn accept(&self) -> std::io::Result<Halves> {
        Ok(match &self.listener {
            Listener::Unix(listener) => {
                let stream = listener.accept()?.0;
                (Box::new(stream.try_clone()?), Box::new(stream))
            }
            Listener::Tcp(listener) => {
                let stream = listener.accept()?.0;
                stream.set_nodelay(true)?;
                (Box::new(stream.try_clone()?), Box::new(stream))
            }
        })
    }
}

/// Starts a thread for each line that waits for the emulator and then forwards its output.
pub fn connect_lines(lines: Vec<Line>, events: &SyncSender<Event>) {
    for line in lines {
        let events = events.clone();
        std::thread::spawn(move || {
            if let Ok((output, input)) = line.accept() {
                // Sending fails when the session is over, and then nobody needs it.
                let _ = events.send(Event::Connected(line.channel, input));
                forward(output, &events, |data| Event::Output(line.channel, data));
            }
            let _ = events.send(Event::Closed);
        });
    }
}

/// Connects to a line and hangs up, which ends the wait for an emulator that will never come.
pub fn poke(endpoint: &Endpoint) {
    // If nobody waits any more, there is nothing to end.
    match endpoint {
        Endpoint::Unix(path) => drop(UnixStream::connect(path)),
        Endpoint::Tcp(port) => drop(TcpStream::connect((Ipv4Addr::LOCALHOST, *port))),
    }
}
