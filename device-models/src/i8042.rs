//! Keyboard controller 8042 with an auxiliary port.
//!
//! Follows the IBM PS/2 hardware interface technical reference, "Keyboard and auxiliary device
//! controller". The devices are behind [`Ps2Bus`]; the controller pulls their bytes.

mod command;
mod translate;

use crate::bus::a20::A20Bus;
use crate::bus::irq::{IrqBus, IrqLine, IrqPin};
use crate::bus::port::{Lanes, PortClaims};
use crate::bus::power::{PowerBus, PowerEvent, PowerSource};
use crate::bus::ps2::{Ps2Bus, Ps2Port};
use command::Command;
use core::ops::RangeInclusive;
use translate::Translator;

/// The command and status port, from the data port.
pub const COMMAND_OFFSET: u16 = 4;

mod status {
    pub const OUTPUT_FULL: u8 = 1 << 0;
    pub const SYSTEM: u8 = 1 << 2;
    pub const COMMAND: u8 = 1 << 3;
    pub const UNLOCKED: u8 = 1 << 4;
    pub const AUX_OUTPUT: u8 = 1 << 5;
    pub const TIMEOUT: u8 = 1 << 6;
}

/// The controller's command byte.
mod mode {
    pub const KEYBOARD_INTERRUPT: u8 = 1 << 0;
    pub const AUX_INTERRUPT: u8 = 1 << 1;
    pub const SYSTEM: u8 = 1 << 2;
    pub const KEYBOARD_DISABLED: u8 = 1 << 4;
    pub const AUX_DISABLED: u8 = 1 << 5;
    pub const TRANSLATE: u8 = 1 << 6;
    /// As firmware leaves it: self test passed, translating, both interrupts on.
    pub const DEFAULT: u8 = KEYBOARD_INTERRUPT | AUX_INTERRUPT | SYSTEM | TRANSLATE;
}

/// The output port's pins.
mod output_port {
    pub const NO_RESET: u8 = 1 << 0;
    pub const A20: u8 = 1 << 1;
    pub const KEYBOARD_FULL: u8 = 1 << 4;
    pub const AUX_FULL: u8 = 1 << 5;
}

const SELF_TEST_PASSED: u8 = 0x55;
const INTERFACE_TEST_PASSED: u8 = 0x00;
/// Input port: keyboard not locked, manufacturing jumper not installed.
const INPUT_PORT: u8 = 0xa0;
const RAM_BYTES: usize = 32;

/// What the controller hands to the host in place of a device that does not answer.
const NO_ANSWER: u8 = 0xfe;

/// A byte for the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Output {
    source: Ps2Port,
    byte: u8,
    timeout: bool,
}

impl Output {
    const fn new(source: Ps2Port, byte: u8) -> Self {
        Self { source, byte, timeout: false }
    }
}

/// What the next byte at the data port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameter {
    Keyboard,
    Aux,
    Ram(usize),
    OutputPort,
    KeyboardOutput,
    AuxOutput,
}

/// The controller at two ports.
#[derive(Debug)]
pub struct I8042 {
    io_base: u16,
    keyboard_irq: IrqPin,
    aux_irq: IrqPin,
    /// The command byte is byte 0.
    ram: [u8; RAM_BYTES],
    last_was_command: bool,
    parameter: Parameter,
    output: Option<Output>,
    last_output: u8,
    /// A reply of the controller that waits for the output buffer.
    reply: Option<Output>,
    translator: Translator,
}

impl I8042 {
    /// A controller at `io_base` (data) and `io_base + 4` (command, status).
    #[must_use]
    pub const fn new(io_base: u16, irq_kbd: IrqLine, irq_aux: IrqLine) -> Self {
        let mut ram = [0; RAM_BYTES];
        ram[0] = mode::DEFAULT;
        Self {
            io_base,
            keyboard_irq: IrqPin::new(irq_kbd),
            aux_irq: IrqPin::new(irq_aux),
            ram,
            last_was_command: false,
            parameter: Parameter::Keyboard,
            output: None,
            last_output: 0,
            reply: None,
            translator: Translator::new(),
        }
    }

    const fn mode(&self) -> u8 {
        let [mode, ..] = self.ram;
        mode
    }

    /// A device has new data: moves a byte into the output buffer if that is empty.
    pub fn poll(&mut self, fx: &mut (impl IrqBus + Ps2Bus)) {
        while self.output.is_none() {
            if let Some(reply) = self.reply.take() {
                self.load(reply, fx);
            } else if let Some(byte) = self.pull(Ps2Port::Keyboard, mode::KEYBOARD_DISABLED, fx) {
                let translated =
                    if self.mode() & mode::TRANSLATE == 0 { Some(byte) } else { self.translator.translate(byte) };
                if let Some(byte) = translated {
                    self.load(Output::new(Ps2Port::Keyboard, byte), fx);
                }
            } else if let Some(byte) = self.pull(Ps2Port::Aux, mode::AUX_DISABLED, fx) {
                self.load(Output::new(Ps2Port::Aux, byte), fx);
            } else {
                break;
            }
        }
    }

    fn pull(&self, port: Ps2Port, disabled: u8, fx: &mut impl Ps2Bus) -> Option<u8> {
        if self.mode() & disabled == 0 { fx.ps2_take(port) } else { None }
    }

    fn load(&mut self, output: Output, fx: &mut impl IrqBus) {
        self.output = Some(output);
        self.last_output = output.byte;
        self.update(fx);
    }

    /// Drives the interrupts: the output buffer is full and its source enabled.
    fn update(&mut self, fx: &mut impl IrqBus) {
        let source = self.output.map(|output| output.source);
        let keyboard = source == Some(Ps2Port::Keyboard);
        let aux = source == Some(Ps2Port::Aux);
        let enabled = |bit| self.mode() & bit != 0;
        let (keyboard, aux) = (keyboard && enabled(mode::KEYBOARD_INTERRUPT), aux && enabled(mode::AUX_INTERRUPT));
        self.keyboard_irq.set(keyboard, fx);
        self.aux_irq.set(aux, fx);
    }

    /// Reads a port.
    pub fn read(&mut self, port: u16, fx: &mut (impl IrqBus + Ps2Bus)) -> u8 {
        if port != self.io_base {
            return self.status();
        }
        if self.output.take().is_some() {
            self.update(fx);
        }
        let byte = self.last_output;
        self.poll(fx);
        byte
    }

    fn status(&self) -> u8 {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let output = self.output.map_or(0, |output| {
            status::OUTPUT_FULL
                | flag(output.source == Ps2Port::Aux, status::AUX_OUTPUT)
                | flag(output.timeout, status::TIMEOUT)
        });
        let system = flag(self.mode() & mode::SYSTEM != 0, status::SYSTEM);
        let command = flag(self.last_was_command, status::COMMAND);
        status::UNLOCKED | output | system | command
    }

    /// Writes a port.
    pub fn write(&mut self, port: u16, value: u8, fx: &mut (impl IrqBus + Ps2Bus + PowerBus + A20Bus)) {
        self.last_was_command = port != self.io_base;
        if self.last_was_command {
            self.command(Command::decode(value), fx);
        } else {
            self.data(value, fx);
        }
        self.update(fx);
        self.poll(fx);
    }

    fn command(&mut self, command: Command, fx: &mut (impl IrqBus + PowerBus + A20Bus)) {
        self.parameter = Parameter::Keyboard;
        match command {
            Command::ReadRam(index) => {
                self.reply(self.ram.get(index).copied().unwrap_or(0));
            }
            Command::WriteRam(index) => self.parameter = Parameter::Ram(index),
            Command::DisableAux => self.change_mode(mode::AUX_DISABLED, 0),
            Command::EnableAux => self.change_mode(0, mode::AUX_DISABLED),
            Command::DisableKeyboard => self.change_mode(mode::KEYBOARD_DISABLED, 0),
            Command::EnableKeyboard => self.change_mode(0, mode::KEYBOARD_DISABLED),
            Command::TestKeyboard | Command::TestAux => self.reply(INTERFACE_TEST_PASSED),
            Command::SelfTest => {
                self.output = None;
                self.change_mode(mode::SYSTEM, 0);
                self.reply(SELF_TEST_PASSED);
            }
            Command::ReadInputPort => self.reply(INPUT_PORT),
            Command::ReadOutputPort => self.reply(self.output_port(fx)),
            Command::WriteOutputPort => self.parameter = Parameter::OutputPort,
            Command::WriteKeyboardOutput => self.parameter = Parameter::KeyboardOutput,
            Command::WriteAuxOutput => self.parameter = Parameter::AuxOutput,
            Command::WriteAux => self.parameter = Parameter::Aux,
            Command::SetA20(enabled) => fx.set_a20(enabled),
            Command::Pulse { reset } => {
                if reset {
                    fx.power(PowerEvent::Reset, PowerSource::KeyboardController);
                }
            }
            Command::Unknown => {}
        }
    }

    fn data(&mut self, value: u8, fx: &mut (impl Ps2Bus + PowerBus + A20Bus)) {
        match core::mem::replace(&mut self.parameter, Parameter::Keyboard) {
            Parameter::Keyboard => {
                self.change_mode(0, mode::KEYBOARD_DISABLED);
                self.send(Ps2Port::Keyboard, value, fx);
            }
            Parameter::Aux => {
                self.change_mode(0, mode::AUX_DISABLED);
                self.send(Ps2Port::Aux, value, fx);
            }
            Parameter::Ram(index) => {
                if let Some(byte) = self.ram.get_mut(index) {
                    *byte = value;
                }
            }
            Parameter::OutputPort => {
                fx.set_a20(value & output_port::A20 != 0);
                if value & output_port::NO_RESET == 0 {
                    fx.power(PowerEvent::Reset, PowerSource::KeyboardController);
                }
            }
            Parameter::KeyboardOutput => self.reply(value),
            Parameter::AuxOutput => {
                self.reply = Some(Output::new(Ps2Port::Aux, value));
            }
        }
    }

    fn send(&mut self, port: Ps2Port, byte: u8, fx: &mut impl Ps2Bus) {
        if !fx.ps2_send(port, byte) {
            self.reply = Some(Output { timeout: true, ..Output::new(port, NO_ANSWER) });
        }
    }

    const fn change_mode(&mut self, set: u8, clear: u8) {
        self.ram[0] = self.ram[0] & !clear | set;
    }

    const fn reply(&mut self, byte: u8) {
        self.reply = Some(Output::new(Ps2Port::Keyboard, byte));
    }

    fn output_port(&self, fx: &impl A20Bus) -> u8 {
        let a20 = if fx.a20() { output_port::A20 } else { 0 };
        let full = match self.output {
            None => 0,
            Some(output) if output.source == Ps2Port::Keyboard => output_port::KEYBOARD_FULL,
            Some(_) => output_port::AUX_FULL,
        };
        output_port::NO_RESET | a20 | full
    }
}

impl PortClaims for I8042 {
    const LANES: Lanes = Lanes::Byte;

    fn ports(&self) -> impl IntoIterator<Item = RangeInclusive<u16>> {
        let command = self.io_base.saturating_add(COMMAND_OFFSET);
        [self.io_base..=self.io_base, command..=command]
    }
}

#[cfg(test)]
mod tests;
