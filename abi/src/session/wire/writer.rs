//! Writing messages.

use super::{Buffer, Message, TooLong};
use crate::cap::Perms;
use crate::message::{MAX_WORDS, REG_WORDS, Tag};

/// Writes a message.
#[derive(Debug)]
pub struct Writer<'a, B> {
    buffer: &'a B,
    registers: [u64; REG_WORDS],
    in_registers: usize,
    words: usize,
    caps: usize,
}

impl<'a, B: Buffer> Writer<'a, B> {
    /// An empty message. Its UTCB part is written into `buffer` as it comes.
    #[inline(always)]
    pub const fn new(buffer: &'a B) -> Self {
        Self { buffer, registers: [0; REG_WORDS], in_registers: 0, words: 0, caps: 0 }
    }

    /// Appends a word.
    ///
    /// # Errors
    /// The message is full.
    #[inline(always)]
    pub fn word(&mut self, word: u64) -> Result<(), TooLong> {
        if let Some(register) = self.registers.get_mut(self.in_registers) {
            *register = word;
            self.in_registers += 1;
            return Ok(());
        }
        self.words_in_utcb(1, |slots| slots.fill(word))
    }

    /// Appends a byte string: length, then bytes.
    ///
    /// # Errors
    /// There are more than `bound` bytes, or the message is full.
    pub fn bytes(&mut self, bytes: &[u8], bound: usize) -> Result<(), TooLong> {
        if bytes.len() > bound {
            return Err(TooLong);
        }
        self.word(bytes.len() as u64)?;
        self.words_in_utcb(bytes.len().div_ceil(8), |slots| {
            for (slot, chunk) in slots.iter_mut().zip(bytes.chunks(8)) {
                let mut packed = [0; 8];
                for (to, from) in packed.iter_mut().zip(chunk) {
                    *to = *from;
                }
                *slot = u64::from_le_bytes(packed);
            }
        })
    }

    /// Appends a capability.
    ///
    /// # Errors
    /// The message is full.
    pub fn cap(&mut self, cap: &B::Cap, perms: Perms) -> Result<(), TooLong> {
        let item = self.buffer.send(cap, perms);
        let index = self.caps;
        self.buffer.with(|utcb| utcb.caps.get_mut(index).map(|slot| *slot = item)).ok_or(TooLong)?;
        self.caps += 1;
        Ok(())
    }

    /// The register part of the finished message.
    #[inline(always)]
    pub const fn finish(self, label: u32) -> Message {
        Message { tag: Tag::new(label, self.words, self.caps), words: self.registers }
    }

    fn words_in_utcb(&mut self, count: usize, write: impl FnOnce(&mut [u64])) -> Result<(), TooLong> {
        let start = self.words;
        let end = start.checked_add(count).filter(|end| *end <= MAX_WORDS).ok_or(TooLong)?;
        self.buffer.with(|utcb| utcb.words.get_mut(start..end).map(write)).ok_or(TooLong)?;
        self.words = end;
        Ok(())
    }
}
