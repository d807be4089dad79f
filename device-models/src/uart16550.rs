//! 16550A UART with FIFOs.
//!
//! Follows the PC16550D data sheet (National Semiconductor). A transmitted byte leaves at once, so
//! the transmitter is always empty; received bytes wait in the FIFO until the guest takes them.

mod fifo;
mod registers;

use crate::bus::irq::{IrqBus, IrqLine, IrqPin};
use crate::bus::port::{Lanes, PortClaims};
use crate::bus::serial::{HostSerial, SerialBus};
use crate::time::{Clock, Tsc};
use core::ops::RangeInclusive;
use fifo::Fifo;
use registers::{fcr, ier, iir, lcr, lsr, mcr, msr, offset};

/// Number of its ports.
pub const UART_PORTS: u16 = offset::SCRATCH + 1;

/// The receiver has no room for a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A 16550A at eight ports.
#[derive(Debug)]
pub struct Uart16550 {
    io_base: u16,
    irq: IrqPin,
    host: HostSerial,
    clock: Clock,
    ier: u8,
    lcr: u8,
    mcr: u8,
    scratch: u8,
    divisor: u16,
    fifo_enabled: bool,
    trigger: usize,
    rx: Fifo,
    overrun: bool,
    msr_delta: u8,
    modem_inputs: u8,
    /// THRE became true and was neither read from IIR nor answered with a byte.
    thre_pending: bool,
    /// When bytes below the trigger level have waited long enough.
    rx_timeout: Option<Tsc>,
    rx_timed_out: bool,
    timeout_ticks: u64,
}

impl Uart16550 {
    /// A UART at `io_base` that drives `irq` and transmits to `host`. A terminal is attached: DCD,
    /// DSR and CTS are active.
    #[must_use]
    pub const fn new(io_base: u16, irq: IrqLine, host: HostSerial, clock: Clock) -> Self {
        Self {
            io_base,
            irq: IrqPin::new(irq),
            host,
            clock,
            ier: 0,
            lcr: 0,
            mcr: 0,
            scratch: 0,
            divisor: 0,
            fifo_enabled: false,
            trigger: 1,
            rx: Fifo::new(),
            overrun: false,
            msr_delta: 0,
            modem_inputs: msr::ATTACHED,
            thre_pending: false,
            rx_timeout: None,
            rx_timed_out: false,
            timeout_ticks: 0,
        }
    }

    /// Which host line the UART transmits to.
    #[must_use]
    pub const fn host(&self) -> HostSerial {
        self.host
    }

    /// How many bytes [`Uart16550::receive`] can take now. In loop-back mode the line is cut off.
    #[must_use]
    pub const fn room(&self) -> usize {
        if self.mcr & mcr::LOOP != 0 { 0 } else { self.rx_capacity() - self.rx.len() }
    }

    const fn rx_capacity(&self) -> usize {
        if self.fifo_enabled { Fifo::CAPACITY } else { 1 }
    }

    /// A byte arrives on the line.
    ///
    /// # Errors
    /// [`Full`] where there is no [`room`](Self::room): the sender keeps the byte and tries again
    /// after the guest's next read. Nothing is lost, so the guest sees no overrun.
    pub fn receive(&mut self, now: Tsc, byte: u8, fx: &mut impl IrqBus) -> Result<(), Full> {
        if self.room() == 0 {
            return Err(Full);
        }
        self.push(now, byte, fx);
        Ok(())
    }

    fn push(&mut self, now: Tsc, byte: u8, fx: &mut impl IrqBus) {
        if self.rx.len() < self.rx_capacity() {
            self.rx.push(byte);
        } else {
            self.overrun = true;
        }
        // Once the timeout has occurred, only a read clears it.
        if !self.rx_timed_out {
            self.start_timeout(now);
        }
        self.update(fx);
    }

    /// The character timeout: four character times without a byte in or out (data sheet, 8.4.1).
    fn start_timeout(&mut self, now: Tsc) {
        let waiting = self.fifo_enabled && self.rx.len() != 0;
        self.rx_timeout = waiting.then(|| now.after(self.timeout_ticks));
    }

    /// When the character timeout ends.
    #[inline]
    #[must_use]
    pub const fn deadline(&self) -> Option<Tsc> {
        self.rx_timeout
    }

    /// Raises the character timeout interrupt if it is due.
    pub fn expire(&mut self, now: Tsc, fx: &mut impl IrqBus) {
        if self.rx_timeout.is_some_and(|due| due <= now) {
            self.rx_timeout = None;
            self.rx_timed_out = true;
            self.update(fx);
        }
    }

    /// Reads a register.
    #[inline]
    pub fn read(&mut self, now: Tsc, port: u16, fx: &mut impl IrqBus) -> u8 {
        match port.wrapping_sub(self.io_base) {
            offset::DATA if self.divisor_latch() => self.divisor.to_le_bytes()[0],
            offset::DATA => self.read_data(now, fx),
            offset::IER if self.divisor_latch() => self.divisor.to_le_bytes()[1],
            offset::IER => self.ier,
            offset::IIR_FCR => self.read_iir(fx),
            offset::LCR => self.lcr,
            offset::MCR => self.mcr,
            offset::LSR => self.read_lsr(fx),
            offset::MSR => self.read_msr(fx),
            _ => self.scratch,
        }
    }

    /// Writes a register.
    #[inline]
    pub fn write(&mut self, now: Tsc, port: u16, value: u8, fx: &mut (impl IrqBus + SerialBus)) {
        match port.wrapping_sub(self.io_base) {
            offset::DATA if self.divisor_latch() => {
                self.set_divisor(self.divisor & 0xff00 | u16::from(value));
            }
            offset::DATA => self.transmit(now, value, fx),
            offset::IER if self.divisor_latch() => {
                self.set_divisor(self.divisor & 0x00ff | u16::from(value) << 8);
            }
            offset::IER => self.write_ier(value, fx),
            offset::IIR_FCR => self.write_fcr(now, value, fx),
            offset::LCR => {
                self.lcr = value;
                self.set_divisor(self.divisor);
            }
            offset::MCR => self.write_mcr(value, fx),
            offset::LSR | offset::MSR => {}
            _ => self.scratch = value,
        }
    }

    #[inline]
    const fn divisor_latch(&self) -> bool {
        self.lcr & lcr::DIVISOR_LATCH != 0
    }

    fn set_divisor(&mut self, divisor: u16) {
        self.divisor = divisor;
        self.timeout_ticks = registers::timeout_ticks(self.clock, divisor, self.lcr);
    }

    #[inline]
    fn transmit(&mut self, now: Tsc, byte: u8, fx: &mut (impl IrqBus + SerialBus)) {
        // The byte is gone before the access ends: THRE falls and rises within the write.
        self.thre_pending = true;
        if self.mcr & mcr::LOOP == 0 {
            fx.transmit(self.host, byte);
            self.update(fx);
        } else {
            self.push(now, byte, fx);
        }
    }

    fn read_data(&mut self, now: Tsc, fx: &mut impl IrqBus) -> u8 {
        let byte = self.rx.pop().unwrap_or(0);
        self.rx_timed_out = false;
        self.start_timeout(now);
        self.update(fx);
        byte
    }

    fn write_ier(&mut self, value: u8, fx: &mut impl IrqBus) {
        let enabled = value & !self.ier;
        self.ier = value & ier::IMPLEMENTED;
        // Enabling the interrupt while the transmitter is empty raises it, every time: drivers
        // probe for UARTs that do not.
        if enabled & ier::THRE != 0 {
            self.thre_pending = true;
        }
        self.update(fx);
    }

    fn write_fcr(&mut self, now: Tsc, value: u8, fx: &mut impl IrqBus) {
        let enabled = value & fcr::ENABLE != 0;
        if enabled != self.fifo_enabled || value & fcr::CLEAR_RX != 0 {
            self.rx = Fifo::new();
            self.rx_timed_out = false;
        }
        self.fifo_enabled = enabled;
        self.trigger = if enabled { fcr::trigger(value) } else { 1 };
        if !self.rx_timed_out {
            self.start_timeout(now);
        }
        self.update(fx);
    }

    fn write_mcr(&mut self, value: u8, fx: &mut impl IrqBus) {
        self.mcr = value & mcr::IMPLEMENTED;
        let inputs = if self.mcr & mcr::LOOP != 0 { mcr::looped(self.mcr) } else { msr::ATTACHED };
        self.msr_delta |= msr::delta(self.modem_inputs, inputs);
        self.modem_inputs = inputs;
        self.update(fx);
    }

    fn read_lsr(&mut self, fx: &mut impl IrqBus) -> u8 {
        let mut value = lsr::THRE | lsr::TEMT;
        if self.rx.len() != 0 {
            value |= lsr::DATA_READY;
        }
        if self.overrun {
            value |= lsr::OVERRUN;
            self.overrun = false;
            self.update(fx);
        }
        value
    }

    fn read_msr(&mut self, fx: &mut impl IrqBus) -> u8 {
        let value = self.modem_inputs | self.msr_delta;
        if self.msr_delta != 0 {
            self.msr_delta = 0;
            self.update(fx);
        }
        value
    }

    fn read_iir(&mut self, fx: &mut impl IrqBus) -> u8 {
        let source = self.source();
        if source == iir::THRE {
            // Reading it as the source is what acknowledges this one.
            self.thre_pending = false;
            self.update(fx);
        }
        let fifo = if self.fifo_enabled { iir::FIFO_ENABLED } else { 0 };
        source | fifo
    }

    /// The pending interrupt of the highest priority (data sheet, table IV).
    #[inline]
    const fn source(&self) -> u8 {
        let received = self.ier & ier::RECEIVED != 0;
        if self.ier & ier::LINE_STATUS != 0 && self.overrun {
            iir::LINE_STATUS
        } else if received && self.rx.len() >= self.trigger {
            iir::RECEIVED
        } else if received && self.rx_timed_out {
            iir::TIMEOUT
        } else if self.ier & ier::THRE != 0 && self.thre_pending {
            iir::THRE
        } else if self.ier & ier::MODEM_STATUS != 0 && self.msr_delta != 0 {
            iir::MODEM_STATUS
        } else {
            iir::NONE
        }
    }

    /// OUT2 gates the interrupt onto the line, as every PC wires it; not in loop-back mode.
    #[inline]
    fn update(&mut self, fx: &mut impl IrqBus) {
        let gate = self.mcr & (mcr::OUT2 | mcr::LOOP) == mcr::OUT2;
        let active = gate && self.source() != iir::NONE;
        self.irq.set(active, fx);
    }
}

impl PortClaims for Uart16550 {
    const LANES: Lanes = Lanes::Byte;

    fn ports(&self) -> impl IntoIterator<Item = RangeInclusive<u16>> {
        [self.io_base..=self.io_base.saturating_add(UART_PORTS - 1)]
    }
}

#[cfg(test)]
mod tests;
