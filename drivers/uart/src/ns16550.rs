//! The 16550 UART (National Semiconductor PC16550D data sheet, section 8): registers, and what an interrupt asks for.

/// Offsets of the registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Register {
    /// Received byte (read), byte to send (written), low byte of the divisor if the latch is open.
    Data = 0,
    /// Interrupt enable; high byte of the divisor if the latch is open.
    InterruptEnable = 1,
    /// Interrupt identification (read), FIFO control (written).
    InterruptIdFifoControl = 2,
    /// Line control.
    LineControl = 3,
    /// Modem control.
    ModemControl = 4,
    /// Line status.
    LineStatus = 5,
    /// Modem status.
    ModemStatus = 6,
}

/// Number of I/O ports.
pub const PORTS: u16 = 8;

/// Access to the registers of one UART.
pub trait Registers {
    /// Reads a register.
    fn read(&mut self, register: Register) -> u8;
    /// Writes a register.
    fn write(&mut self, register: Register, value: u8);
}

/// What the baud-rate clock is divided by; not 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Divisor(u16);

impl Divisor {
    /// Baud rate of a divisor of 1: 1.8432 MHz by 16.
    const FASTEST: u64 = 115_200;

    /// The divisor for a baud rate; `None` if there is none.
    pub fn for_baud(baud: u64) -> Option<Self> {
        if baud == 0 || baud > Self::FASTEST {
            return None;
        }
        u16::try_from(Self::FASTEST / baud).ok().map(Self)
    }

    /// The number.
    #[cfg(test)]
    pub const fn value(self) -> u16 {
        self.0
    }
}

/// Bytes that the transmitter's FIFO takes when it is empty.
const FIFO_SIZE: usize = 16;

mod interrupt_enable {
    pub const RECEIVED: u8 = 1 << 0;
    pub const TRANSMITTER_EMPTY: u8 = 1 << 1;
    pub const NONE: u8 = 0;
}

mod interrupt_id {
    pub const NONE_PENDING: u8 = 1 << 0;
    pub const MASK: u8 = 0xf;
    pub const LINE_STATUS: u8 = 0b0110;
    pub const RECEIVED: u8 = 0b0100;
    pub const RECEIVE_TIMEOUT: u8 = 0b1100;
    pub const TRANSMITTER_EMPTY: u8 = 0b0010;
}

mod fifo_control {
    pub const ENABLE: u8 = 1 << 0;
    pub const RESET_RECEIVER: u8 = 1 << 1;
    pub const RESET_TRANSMITTER: u8 = 1 << 2;
    /// Interrupt at 8 received bytes, or after a pause of 4 characters.
    pub const TRIGGER_8: u8 = 0b10 << 6;
}

mod line_control {
    pub const EIGHT_BITS_NO_PARITY: u8 = 0b011;
    pub const DIVISOR_LATCH: u8 = 1 << 7;
}

mod modem_control {
    pub const DATA_TERMINAL_READY: u8 = 1 << 0;
    pub const REQUEST_TO_SEND: u8 = 1 << 1;
    /// On PCs it connects the interrupt to the line.
    pub const OUT2: u8 = 1 << 3;
}

mod line_status {
    pub const DATA_READY: u8 = 1 << 0;
    pub const TRANSMITTER_HOLDING_EMPTY: u8 = 1 << 5;
    /// Nothing is left in the FIFO, nor in the shift register.
    pub const TRANSMITTER_EMPTY: u8 = 1 << 6;
}

/// Most register accesses for one interrupt. A device that has more to say is cut short and interrupts again.
const MAX_ROUNDS: usize = 512;

/// One UART.
#[derive(Debug)]
pub struct Ns16550<R> {
    registers: R,
}

impl<R: Registers> Ns16550<R> {
    /// Sets up a UART: 8 data bits, no parity, FIFOs, no interrupts yet.
    pub fn new(mut registers: R, divisor: Divisor) -> Self {
        let [low, high] = divisor.0.to_le_bytes();
        registers.write(Register::InterruptEnable, interrupt_enable::NONE);
        registers.write(Register::LineControl, line_control::DIVISOR_LATCH | line_control::EIGHT_BITS_NO_PARITY);
        registers.write(Register::Data, low);
        registers.write(Register::InterruptEnable, high);
        registers.write(Register::LineControl, line_control::EIGHT_BITS_NO_PARITY);
        let fifo = fifo_control::ENABLE
            | fifo_control::RESET_RECEIVER
            | fifo_control::RESET_TRANSMITTER
            | fifo_control::TRIGGER_8;
        registers.write(Register::InterruptIdFifoControl, fifo);
        let modem = modem_control::DATA_TERMINAL_READY | modem_control::REQUEST_TO_SEND | modem_control::OUT2;
        registers.write(Register::ModemControl, modem);
        Self { registers }
    }

    /// Lets the UART interrupt for received bytes, now that somebody listens: an edge that nobody saw would have been the last, as
    /// the line stays high until the bytes are read.
    pub fn enable_interrupts(&mut self) {
        self.registers.write(Register::InterruptEnable, interrupt_enable::RECEIVED);
    }

    /// Sends from `next` as long as the transmitter takes bytes, and lets it interrupt if there may be more. `next` fills a
    /// buffer and says with how many bytes.
    pub fn transmit(&mut self, mut next: impl FnMut(&mut [u8]) -> usize) {
        let status = self.registers.read(Register::LineStatus);
        if status & line_status::TRANSMITTER_HOLDING_EMPTY != 0 {
            let mut bytes = [0; FIFO_SIZE];
            let count = next(&mut bytes);
            for byte in bytes.iter().take(count) {
                self.registers.write(Register::Data, *byte);
            }
            if count == 0 {
                self.registers.write(Register::InterruptEnable, interrupt_enable::RECEIVED);
                return;
            }
        }
        let both = interrupt_enable::RECEIVED | interrupt_enable::TRANSMITTER_EMPTY;
        self.registers.write(Register::InterruptEnable, both);
    }

    /// Whether the last bit of all that was sent has left.
    pub fn is_idle(&mut self) -> bool {
        self.registers.read(Register::LineStatus) & line_status::TRANSMITTER_EMPTY != 0
    }

    /// Handles everything that the UART interrupts for: received bytes go to `received`, bytes to send come from
    /// `next`. The line is edge-triggered, so it must be quiet afterwards, or make a new edge.
    pub fn interrupt(&mut self, mut received: impl FnMut(u8), mut next: impl FnMut(&mut [u8]) -> usize) {
        for _ in 0..MAX_ROUNDS {
            let id = self.registers.read(Register::InterruptIdFifoControl);
            if id & interrupt_id::NONE_PENDING != 0 {
                return;
            }
            match id & interrupt_id::MASK {
                interrupt_id::RECEIVED | interrupt_id::RECEIVE_TIMEOUT => self.receive(&mut received),
                interrupt_id::TRANSMITTER_EMPTY => self.transmit(&mut next),
                // Reading the status ends these.
                interrupt_id::LINE_STATUS => drop(self.registers.read(Register::LineStatus)),
                _ => drop(self.registers.read(Register::ModemStatus)),
            }
        }
        self.registers.write(Register::InterruptEnable, interrupt_enable::NONE);
        let both = interrupt_enable::RECEIVED | interrupt_enable::TRANSMITTER_EMPTY;
        self.registers.write(Register::InterruptEnable, both);
    }

    fn receive(&mut self, received: &mut impl FnMut(u8)) {
        for _ in 0..FIFO_SIZE {
            if self.registers.read(Register::LineStatus) & line_status::DATA_READY == 0 {
                return;
            }
            received(self.registers.read(Register::Data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fifo::Fifo;
    use alloc::collections::VecDeque;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// A 16550 as its data sheet describes it, as far as the driver uses it.
    #[derive(Debug, Default)]
    struct Model {
        enabled: u8,
        line_control: u8,
        divisor: [u8; 2],
        input: VecDeque<u8>,
        transmitter: Vec<u8>,
        line: Vec<u8>,
        empty_pending: bool,
        babbling: bool,
    }

    impl Model {
        fn latch(&self) -> bool {
            self.line_control & line_control::DIVISOR_LATCH != 0
        }

        /// The line takes everything that is in the transmitter.
        fn send(&mut self) {
            self.line.append(&mut self.transmitter);
            self.empty_pending = true;
        }

        fn interrupts(&self) -> bool {
            self.id() & interrupt_id::NONE_PENDING == 0
        }

        fn id(&self) -> u8 {
            if self.babbling {
                0
            } else if self.enabled & interrupt_enable::RECEIVED != 0 && !self.input.is_empty() {
                interrupt_id::RECEIVED
            } else if self.enabled & interrupt_enable::TRANSMITTER_EMPTY != 0 && self.empty_pending {
                interrupt_id::TRANSMITTER_EMPTY
            } else {
                interrupt_id::NONE_PENDING
            }
        }
    }

    impl Registers for &mut Model {
        fn read(&mut self, register: Register) -> u8 {
            match register {
                Register::Data => self.input.pop_front().unwrap(),
                Register::InterruptIdFifoControl => {
                    let id = self.id();
                    if id == interrupt_id::TRANSMITTER_EMPTY {
                        self.empty_pending = false;
                    }
                    id
                }
                Register::LineStatus => {
                    let ready = if self.input.is_empty() { 0 } else { line_status::DATA_READY };
                    let empty = self.transmitter.is_empty();
                    let idle = line_status::TRANSMITTER_HOLDING_EMPTY | line_status::TRANSMITTER_EMPTY;
                    ready | if empty { idle } else { 0 }
                }
                _ => 0,
            }
        }

        fn write(&mut self, register: Register, value: u8) {
            match register {
                Register::Data if self.latch() => self.divisor[0] = value,
                Register::InterruptEnable if self.latch() => self.divisor[1] = value,
                Register::Data => {
                    self.transmitter.push(value);
                    assert!(self.transmitter.len() <= FIFO_SIZE, "overrun");
                    self.empty_pending = false;
                }
                Register::InterruptEnable => {
                    // Enabling while the transmitter is empty interrupts at once.
                    let newly = value & !self.enabled & interrupt_enable::TRANSMITTER_EMPTY != 0;
                    self.empty_pending |= newly && self.transmitter.is_empty();
                    self.enabled = value;
                }
                Register::LineControl => self.line_control = value,
                _ => {}
            }
        }
    }

    #[test]
    fn setting_up_sets_the_baud_rate_and_closes_the_latch() {
        let mut model = Model::default();
        Ns16550::new(&mut model, Divisor::for_baud(300).unwrap());
        assert_eq!(u16::from_le_bytes(model.divisor), 384);
        assert!(!model.latch());
    }

    #[test]
    fn what_arrives_before_anybody_listens_interrupts_then() {
        let mut model = Model::default();
        Ns16550::new(&mut model, Divisor::for_baud(115_200).unwrap());
        model.input.push_back(b'x');
        assert!(!model.interrupts(), "the edge would be lost");
        Ns16550 { registers: &mut model }.enable_interrupts();
        assert!(model.interrupts());
    }

    #[test]
    fn impossible_baud_rates_have_no_divisor() {
        assert_eq!(Divisor::for_baud(0), None);
        assert_eq!(Divisor::for_baud(1), None);
        assert_eq!(Divisor::for_baud(230_400), None);
    }

    #[test]
    fn a_babbling_device_does_not_hang_the_driver() {
        let mut model = Model { babbling: true, ..Model::default() };
        let mut uart = Ns16550 { registers: &mut model };
        uart.interrupt(|_| {}, |_| 0);
    }

    proptest! {
        #[test]
        fn everything_arrives_in_both_directions(output in prop::collection::vec(any::<u8>(), 0..200),
                                                 input in prop::collection::vec(any::<u8>(), 0..200),
                                                 burst in 1_usize..16) {
            let mut model = Model::default();
            Ns16550::new(&mut model, Divisor::for_baud(115_200).unwrap()).enable_interrupts();
            let mut queue = Fifo::new(256);
            queue.push(&output);
            let mut uart = Ns16550 { registers: &mut model };
            uart.transmit(|bytes| queue.pop(bytes));
            prop_assert_eq!(uart.is_idle(), output.is_empty());
            let mut received = Vec::new();
            let mut incoming = input.iter().copied();
            for _ in 0..1000 {
                model.input.extend(incoming.by_ref().take(burst));
                model.send();
                if !model.interrupts() {
                    break;
                }
                let mut uart = Ns16550 { registers: &mut model };
                uart.interrupt(|byte| received.push(byte), |bytes| queue.pop(bytes));
                prop_assert!(!model.interrupts(), "the line must be quiet");
            }
            model.send();
            prop_assert_eq!(Ns16550 { registers: &mut model }.is_idle(), true);
            prop_assert_eq!(&model.line, &output);
            prop_assert_eq!(&received, &input);
            prop_assert_eq!(model.enabled & interrupt_enable::TRANSMITTER_EMPTY, 0, "idle UARTs are quiet");
        }
    }
}
