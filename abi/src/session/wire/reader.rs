//! Reading messages: everything in them is the sender's claim.

use super::{Buffer, Bytes, Malformed, Message, Text};
use crate::message::Tag;

/// Reads a message.
#[derive(Debug)]
pub struct Reader<'a, B> {
    buffer: &'a B,
    message: Message,
    in_registers: usize,
    words: usize,
    caps: usize,
}

impl<'a, B: Buffer> Reader<'a, B> {
    /// Reads `message`, whose UTCB part is in `buffer`.
    #[inline(always)]
    pub const fn new(buffer: &'a B, message: Message) -> Self {
        Self { buffer, message, in_registers: 0, words: 0, caps: 0 }
    }

    /// Next word.
    ///
    /// # Errors
    /// The message ends before it.
    #[inline(always)]
    pub fn word(&mut self) -> Result<u64, Malformed> {
        if let Some(word) = self.message.words.get(self.in_registers) {
            self.in_registers += 1;
            return Ok(*word);
        }
        self.words_in_utcb(1, |slots| slots.first().copied())?.ok_or(Malformed)
    }

    /// Next byte string.
    ///
    /// # Errors
    /// It has more than `N` bytes, or the message ends before it does.
    pub fn bytes<const N: usize>(&mut self) -> Result<Bytes<N>, Malformed> {
        let length = usize::try_from(self.word()?).map_err(|_| Malformed)?;
        if length > N {
            return Err(Malformed);
        }
        self.words_in_utcb(length.div_ceil(8), |slots| {
            slots.iter().flat_map(|slot| slot.to_le_bytes()).take(length).collect()
        })
    }

    /// Next text.
    ///
    /// # Errors
    /// As [`Reader::bytes`], or it is not UTF-8.
    pub fn text<const N: usize>(&mut self) -> Result<Text<N>, Malformed> {
        let bytes = self.bytes::<N>()?;
        let text = core::str::from_utf8(&bytes).map_err(|_| Malformed)?;
        Text::from(text).map_err(|_| Malformed)
    }

    /// Next capability.
    ///
    /// # Errors
    /// The message has no further one, or it did not arrive.
    pub fn cap(&mut self) -> Result<B::Cap, Malformed> {
        if self.caps >= self.message.tag.caps() {
            return Err(Malformed);
        }
        let cap = self.buffer.receive(self.caps);
        self.caps += 1;
        cap.ok_or(Malformed)
    }

    /// Reads the whole message as `read` does. Drops capabilities that it leaves, and insists that it leaves no word.
    ///
    /// # Errors
    /// `read` fails, or the message has more than it reads.
    #[inline(always)]
    pub fn all<V>(mut self, read: impl FnOnce(&mut Self) -> Result<V, Malformed>) -> Result<V, Malformed> {
        let value = read(&mut self);
        let read = Tag::new(0, self.words, self.caps);
        if self.message.tag.0 & Tag::TRANSFER_MASK == read.0 {
            return value;
        }
        discard(self.buffer, self.caps..self.message.tag.caps());
        Err(Malformed)
    }

    fn words_in_utcb<R>(&mut self, count: usize, read: impl FnOnce(&[u64]) -> R) -> Result<R, Malformed> {
        let start = self.words;
        let end = start.checked_add(count).filter(|end| *end <= self.message.tag.words()).ok_or(Malformed)?;
        let value = self.buffer.with(|utcb| utcb.words.get(start..end).map(read)).ok_or(Malformed)?;
        self.words = end;
        Ok(value)
    }
}

/// Drops capabilities that arrived without being wanted.
#[cold]
#[inline(never)]
fn discard<B: Buffer>(buffer: &B, unwanted: core::ops::Range<usize>) {
    unwanted.for_each(|index| drop(buffer.receive(index)));
}
