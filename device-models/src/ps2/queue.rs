//! A device's output buffer.

/// Bytes a PS/2 device holds for the host.
const CAPACITY: usize = 32;

/// A byte ring that takes a sequence whole or not at all.
#[derive(Debug)]
pub(super) struct Queue {
    bytes: [u8; CAPACITY],
    first: usize,
    len: usize,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; CAPACITY], first: 0, len: 0 }
    }

    /// Appends all of `bytes`; `false`, and nothing appended, where they do not fit.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        if CAPACITY - self.len < bytes.len() {
            return false;
        }
        for byte in bytes {
            let index = (self.first + self.len) % CAPACITY;
            if let Some(slot) = self.bytes.get_mut(index) {
                *slot = *byte;
                self.len += 1;
            }
        }
        true
    }

    pub(super) fn pop(&mut self) -> Option<u8> {
        self.len = self.len.checked_sub(1)?;
        let byte = self.bytes.get(self.first).copied();
        self.first = (self.first + 1) % CAPACITY;
        byte
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) const fn clear(&mut self) {
        self.len = 0;
    }
}
