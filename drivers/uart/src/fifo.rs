//! A bounded queue of bytes.

use alloc::collections::VecDeque;

/// Takes bytes as long as there is room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fifo {
    bytes: VecDeque<u8>,
    capacity: usize,
}

impl Fifo {
    /// An empty queue for at most `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Self { bytes: VecDeque::with_capacity(capacity), capacity }
    }

    /// Appends the bytes that fit and says how many.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let fitting = bytes.len().min(self.room());
        self.bytes.extend(bytes.iter().take(fitting));
        fitting
    }

    /// Takes the oldest bytes, and says how many: all that are there or fit into `to`.
    pub fn pop(&mut self, to: &mut [u8]) -> usize {
        let count = to.len().min(self.bytes.len());
        for (to, from) in to.iter_mut().zip(self.bytes.drain(..count)) {
            *to = from;
        }
        count
    }

    /// How many bytes fit.
    pub fn room(&self) -> usize {
        self.capacity - self.bytes.len()
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_come_out_as_they_went_in(chunks in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), 0_usize..20), 0..50)) {
            let mut fifo = Fifo::new(32);
            let (mut sent, mut received) = (Vec::<u8>::new(), Vec::<u8>::new());
            for (chunk, take) in chunks {
                let room = fifo.room();
                let taken = fifo.push(&chunk);
                prop_assert_eq!(taken, chunk.len().min(room));
                sent.extend(&chunk[..taken]);
                let mut buffer = alloc::vec![0; take];
                let count = fifo.pop(&mut buffer);
                received.extend(&buffer[..count]);
                prop_assert_eq!(fifo.is_empty(), sent.len() == received.len());
            }
            let mut rest = [0; 32];
            let count = fifo.pop(&mut rest);
            received.extend(&rest[..count]);
            prop_assert_eq!(sent, received);
        }
    }
}
