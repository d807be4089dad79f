//! The receiver FIFO.

/// A ring of 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fifo {
    bytes: [u8; Self::CAPACITY],
    first: usize,
    len: usize,
}

impl Fifo {
    pub(super) const CAPACITY: usize = 16;

    pub(super) const fn new() -> Self {
        Self { bytes: [0; Self::CAPACITY], first: 0, len: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Appends `byte`; the caller has checked that there is room.
    pub(super) fn push(&mut self, byte: u8) {
        let index = (self.first + self.len) % Self::CAPACITY;
        if let Some(slot) = self.bytes.get_mut(index) {
            *slot = byte;
            self.len = (self.len + 1).min(Self::CAPACITY);
        }
    }

    pub(super) fn pop(&mut self) -> Option<u8> {
        self.len = self.len.checked_sub(1)?;
        let byte = self.bytes.get(self.first).copied();
        self.first = (self.first + 1) % Self::CAPACITY;
        byte
    }
}
