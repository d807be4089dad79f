//! One UART with its interrupt and queues.

use alloc::format;
use alloc::rc::Rc;
use core::cell::RefCell;

use abi::session::irq::Irq;
use abi::session::wire::Signal;
use runtime::capability::Cap;
use runtime::entrypoint::{SignalHandler, submit};
use runtime::env::Connection;
use runtime::io_ports::IoPorts;
use runtime::{Env, Error, warning};

use crate::fifo::Fifo;
use crate::ns16550::{Ns16550, PORTS, Register, Registers};
use crate::settings::Uart;

/// Bytes that wait to be sent, and received bytes that wait to be read.
const QUEUE_SIZE: usize = 4096;

impl Registers for IoPorts {
    fn read(&mut self, register: Register) -> u8 {
        // All registers have their ports.
        self.in8(register as u16).unwrap_or_default()
    }

    fn write(&mut self, register: Register, value: u8) {
        // As for reads.
        let _written = self.out8(register as u16, value);
    }
}

/// A UART of the machine.
#[derive(Debug)]
pub struct Device {
    uart: Ns16550<IoPorts>,
    irq: Connection<Irq>,
    /// Never acknowledged: that would take an interrupt which came when the UART was quiet already, and of an edge there is no
    /// second one.
    interrupt: Option<SignalHandler>,
    output: Fifo,
    input: Fifo,
    /// Set when received bytes were dropped, until the next read.
    overflow: bool,
    read_avail: Option<Cap<Signal>>,
    /// Whether a session has it.
    pub in_use: bool,
}

impl Device {
    /// Opens the sessions for a UART and sets it up.
    ///
    /// # Errors
    /// Its ports or its interrupt are not to be had.
    pub fn open(env: &'static Env, uart: &Uart) -> Result<Self, Error> {
        let ports = IoPorts::open(env, uart.io_port_base, PORTS)?;
        let irq = env.connect::<Irq>(&format!("irq_number={}, irq_trigger=edge, irq_polarity=high", uart.irq))?;
        Ok(Self {
            uart: Ns16550::new(ports, uart.divisor),
            irq,
            interrupt: None,
            output: Fifo::new(QUEUE_SIZE),
            input: Fifo::new(QUEUE_SIZE),
            overflow: false,
            read_avail: None,
            in_use: false,
        })
    }

    /// Lets the interrupt be handled on the entrypoint.
    ///
    /// # Errors
    /// The account cannot pay, or somebody else has the interrupt.
    pub fn handle_interrupts(device: &Rc<RefCell<Self>>, env: &Env) -> Result<(), Error> {
        let weak = Rc::downgrade(device);
        let handler = env.entrypoint().signal_handler(move |_| {
            if let Some(device) = weak.upgrade() {
                device.borrow_mut().interrupted();
            }
        })?;
        let mut device = device.borrow_mut();
        device.irq.bind(&handler.interrupt_cap())?;
        device.interrupt = Some(handler);
        device.uart.enable_interrupts();
        Ok(())
    }

    fn interrupted(&mut self) {
        let was_empty = self.input.is_empty();
        let Self { uart, input, output, overflow, .. } = self;
        let mut lost = false;
        uart.interrupt(|byte| lost |= input.push(&[byte]) == 0, |bytes| output.pop(bytes));
        if lost && !core::mem::replace(overflow, true) {
            warning!("UART input lost: the client does not read");
        }
        if was_empty && !self.input.is_empty() {
            self.announce_input();
        }
    }

    fn announce_input(&self) {
        if let Some(sigh) = &self.read_avail {
            submit(sigh);
        }
    }

    /// Whether received bytes wait.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Takes received bytes.
    pub fn read(&mut self, to: &mut [u8]) -> usize {
        self.overflow = false;
        self.input.pop(to)
    }

    /// Queues the bytes that fit and says how many.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = self.output.push(bytes);
        let Self { uart, output, .. } = self;
        uart.transmit(|bytes| output.pop(bytes));
        taken
    }

    /// Bytes that can be queued.
    pub fn room(&self) -> usize {
        self.output.room()
    }

    /// Whether all bytes that were queued are on the line.
    pub fn is_sent(&mut self) -> bool {
        self.output.is_empty() && self.uart.is_idle()
    }

    /// Sets the signal for received bytes; submitted at once if there are some.
    pub fn set_read_avail(&mut self, sigh: Cap<Signal>) {
        self.read_avail = Some(sigh);
        if self.has_input() {
            self.announce_input();
        }
    }

    /// The session is gone: what it did not read is not for the next one.
    pub fn release(&mut self) {
        self.in_use = false;
        self.read_avail = None;
        self.input.clear();
    }
}
