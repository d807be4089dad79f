//! Terminal sessions.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::RefCell;

use abi::session::dataspace::Dataspace;
use abi::session::log::OneLine;
use abi::session::parent::Quota;
use abi::session::terminal::{self, BUFFER_SIZE, Terminal, TerminalSize};
use abi::session::wire::Signal;
use runtime::capability::{Cap, Capability};
use runtime::dataspace::AttachedRam;
use runtime::entrypoint::submit;
use runtime::quota::Exceeded;
use runtime::rom::AttachedRom;
use runtime::root::{NewSession, Refused, Service};
use runtime::{Env, warning};

use crate::device::Device;
use crate::settings::uart_for;

type SharedDevice = Rc<RefCell<Device>>;

/// The buffer: its pages, and the capabilities of the dataspace and its attachment.
const BUFFER_COST: Quota = Quota { ram: BUFFER_SIZE, caps: 2 };

/// A session: the client of one UART.
#[derive(Debug)]
pub struct Session {
    device: SharedDevice,
    buffer: AttachedRam,
}

impl terminal::Server<Capability> for Session {
    fn size(&mut self) -> TerminalSize {
        // Nobody knows what is at the other end of the line.
        TerminalSize::default()
    }

    fn avail(&mut self) -> bool {
        self.device.borrow().has_input()
    }

    fn read(&mut self, max: u64) -> u64 {
        let mut bytes = [0; BUFFER_SIZE as usize];
        let Some(bytes) = bytes.get_mut(..max.min(BUFFER_SIZE) as usize) else {
            return 0;
        };
        let count = self.device.borrow_mut().read(bytes);
        match bytes.get(..count).map(|bytes| self.buffer.memory().write(0, bytes)) {
            Some(Ok(())) => count as u64,
            _ => 0,
        }
    }

    fn write(&mut self, count: u64) -> u64 {
        let mut device = self.device.borrow_mut();
        let mut bytes = [0; BUFFER_SIZE as usize];
        let length = count.min(BUFFER_SIZE).min(device.room() as u64) as usize;
        // The client may be writing to the buffer: what counts is the copy.
        match bytes.get_mut(..length).map(|bytes| self.buffer.memory().read(0, bytes).map(|()| device.write(bytes))) {
            Some(Ok(taken)) => taken as u64,
            _ => 0,
        }
    }

    fn is_sent(&mut self) -> bool {
        self.device.borrow_mut().is_sent()
    }

    fn dataspace(&mut self) -> Cap<Dataspace> {
        self.buffer.cap().clone()
    }

    fn connected_sigh(&mut self, sigh: Cap<Signal>) {
        // A line without handshake is always connected.
        submit(&sigh);
    }

    fn read_avail_sigh(&mut self, sigh: Cap<Signal>) {
        self.device.borrow_mut().set_read_avail(sigh);
    }

    fn size_changed_sigh(&mut self, _sigh: Cap<Signal>) {
        // The size never changes.
    }
}

/// The Terminal service.
#[derive(Debug)]
pub struct TerminalService {
    env: &'static Env,
    config: AttachedRom,
    devices: BTreeMap<String, SharedDevice>,
}

impl TerminalService {
    /// Serves the devices by the policies of the configuration.
    pub fn new(env: &'static Env, config: AttachedRom, devices: BTreeMap<String, SharedDevice>) -> Self {
        Self { env, config, devices }
    }

    fn device_for(&mut self, label: &str) -> Option<SharedDevice> {
        if let Err(error) = self.config.update() {
            warning!("configuration: {error}");
        }
        let text = self.config.text().inspect_err(|error| warning!("configuration: {error}")).ok()?;
        let name = uart_for(&text, label)?;
        let device = self.devices.get(&name)?;
        Some(Rc::clone(device)).filter(|device| !device.borrow().in_use)
    }
}

impl Service<Terminal> for TerminalService {
    type Session = Session;

    fn create(&mut self, request: &NewSession<'_>) -> Result<Rc<RefCell<Session>>, Refused> {
        let mut guard = request.guard;
        guard.withdraw(BUFFER_COST).map_err(|exceeded| match exceeded {
            Exceeded::Ram => Refused::InsufficientRam,
            Exceeded::Caps => Refused::InsufficientCaps,
        })?;
        let label = request.args.label();
        let Some(device) = self.device_for(label) else {
            warning!("no free UART for {}", OneLine(label));
            return Err(Refused::Denied);
        };
        let buffer = self.env.alloc_ram(BUFFER_SIZE).map_err(|_| Refused::InsufficientRam)?;
        device.borrow_mut().in_use = true;
        Ok(Rc::new(RefCell::new(Session { device, buffer })))
    }

    fn close(&mut self, session: Rc<RefCell<Session>>) {
        session.borrow().device.borrow_mut().release();
    }
}
