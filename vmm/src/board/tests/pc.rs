//! A board as a guest's drivers see it.

use device_models::ioapic::IOAPIC_GPA;
use device_models::lapic::LAPIC_GPA;
use device_models::ps2::keyboard::Key;
use device_models::ps2::mouse::Buttons;

use super::*;

/// 2.6 GHz and a bit.
pub(super) const TSC_HZ: u64 = 2_600_003_711;

/// A board with one CPU, and the time there.
pub(super) struct Pc {
    pub(super) board: Board,
    pub(super) now: Tsc,
    /// What an access costs the guest, in TSC ticks.
    pub(super) access_cost: u64,
    /// What was sent so far.
    sent: Vec<u8>,
}

impl Pc {
    pub(super) fn new() -> Self {
        Pc {
            board: build_with(&config(1, ""), TSC_HZ).unwrap(),
            now: Tsc(123_456_789),
            access_cost: 5_000,
            sent: Vec::new(),
        }
    }

    pub(super) fn input(&mut self, access: PortAccess) -> u32 {
        self.advance(self.access_cost);
        self.board.port_read(self.now, access)
    }

    pub(super) fn inb(&mut self, port: u16) -> u8 {
        self.input(PortAccess::byte(port)) as u8
    }

    pub(super) fn outb(&mut self, port: u16, value: u8) {
        self.advance(self.access_cost);
        self.board.port_write(self.now, PortAccess::byte(port), value.into());
    }

    pub(super) fn lapic_write(&mut self, offset: u64, value: u32) {
        self.board.mmio_write(self.now, 0, Gpa(LAPIC_GPA.0 + offset), MmioSize::Dword, value.into());
    }

    pub(super) fn lapic_read(&mut self, offset: u64) -> u32 {
        self.board.mmio_read(self.now, 0, Gpa(LAPIC_GPA.0 + offset), MmioSize::Dword) as u32
    }

    pub(super) fn ioapic_write(&mut self, register: u8, value: u32) {
        for (offset, value) in [(0x00, u32::from(register)), (0x10, value)] {
            self.board.mmio_write(self.now, 0, Gpa(IOAPIC_GPA.0 + offset), MmioSize::Dword, value.into());
        }
    }

    /// Lets `ticks` pass, expiring what is due on the way.
    pub(super) fn advance(&mut self, ticks: u64) {
        let end = self.now.after(ticks);
        while let Some(due) = self.board.deadline().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.board.expire(self.now);
        }
        self.now = end;
    }

    pub(super) fn interrupt_pending(&self) -> bool {
        self.board.interrupt_pending(0)
    }

    pub(super) fn take_interrupt(&mut self) -> Option<u8> {
        self.board.take_interrupt(0)
    }

    pub(super) fn serial(&mut self) -> &[u8] {
        let mut output = Vec::new();
        self.board.serial().take(HOST, &mut output);
        self.sent.append(&mut output);
        &self.sent
    }

    pub(super) fn key(&mut self, key: Key, pressed: bool) {
        self.board.models.keyboard.as_mut().unwrap().key(key, pressed);
        self.poll_kbc();
    }

    pub(super) fn motion(&mut self, x: i32, y: i32) {
        self.board.models.mouse.as_mut().unwrap().motion(x, y, 0, Buttons::default());
        self.poll_kbc();
    }

    /// Something arrived at a PS/2 device.
    fn poll_kbc(&mut self) {
        let (kbc, mut ends) = self.board.models.kbc(&mut self.board.wires).unwrap();
        kbc.poll(&mut ends);
        self.board.settle();
    }
}
