//! Devices: as much of a UART and of an I/O APIC as the guest uses.

use std::io::{Write, stdout};

/// COM1: transmitter, line status with its value when the transmitter is empty, scratch register.
const TRANSMIT: u16 = 0x3f8;
const LINE_STATUS: u16 = 0x3fd;
const EMPTY: u8 = 0x60;
const SCRATCH: u16 = 0x3ff;
/// Select register of the I/O APIC.
const SELECT: u64 = 0xfec0_0000;
/// What nobody decodes reads as.
const FLOATING: u8 = 0xff;
/// The guest's last line.
const END: &[u8] = b"bench-end\n";

/// All devices.
#[derive(Default)]
pub struct Devices {
    scratch: u8,
    select: u8,
    /// Of the current line.
    output: Vec<u8>,
    is_finished: bool,
}

impl Devices {
    /// Whether the guest has printed its last line.
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// OUT.
    pub fn port_write(&mut self, port: u16, data: &[u8]) -> std::io::Result<()> {
        let byte = data.first().copied().unwrap_or(0);
        match port {
            TRANSMIT => self.transmit(byte)?,
            SCRATCH => self.scratch = byte,
            _ => {}
        }
        Ok(())
    }

    fn transmit(&mut self, byte: u8) -> std::io::Result<()> {
        self.output.push(byte);
        if byte == b'\n' {
            stdout().lock().write_all(&self.output)?;
            self.is_finished = self.output == END;
            self.output.clear();
        }
        Ok(())
    }

    /// IN.
    pub fn port_read(&self, port: u16, data: &mut [u8]) {
        data.fill(match port {
            LINE_STATUS => EMPTY,
            SCRATCH => self.scratch,
            _ => FLOATING,
        });
    }

    /// Read of device memory.
    pub fn mmio_read(&self, address: u64, data: &mut [u8]) {
        data.fill(if address == SELECT { 0 } else { FLOATING });
        if let (SELECT, Some(first)) = (address, data.first_mut()) {
            *first = self.select;
        }
    }

    /// Write to device memory.
    pub fn mmio_write(&mut self, address: u64, data: &[u8]) {
        if let (SELECT, Some(byte)) = (address, data.first()) {
            self.select = *byte;
        }
    }
}
