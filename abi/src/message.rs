//! Messages: what travels with a call and with its reply.
//!
//! A message is a tag, four words in registers, up to [`MAX_WORDS`] words in the UTCB and up to [`MAX_CAPS`]
//! capability items in the UTCB. Only the counted words and items are copied.

/// Words that travel in registers: RDX, R8, R9, R10.
pub const REG_WORDS: usize = 4;
/// Most words that travel through the UTCB.
pub const MAX_WORDS: usize = 448;
/// Most capabilities that travel with one message.
pub const MAX_CAPS: usize = 8;

/// Message tag (RSI).
///
/// | bits | meaning |
/// |---|---|
/// | 8:0 | UTCB words |
/// | 15:12 | capability items |
/// | 63:32 | label, opaque to the hypervisor (the opcode of an RPC) |
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tag(pub u64);

impl Tag {
    const WORDS_MASK: u64 = 0x1ff;
    const CAPS_SHIFT: u32 = 12;
    const CAPS_MASK: u64 = 0xf;
    const LABEL_SHIFT: u32 = 32;
    /// Bits that are non-zero exactly if something travels through the UTCB.
    pub const TRANSFER_MASK: u64 = Self::WORDS_MASK | Self::CAPS_MASK << Self::CAPS_SHIFT;

    /// A tag. Counts above their limits are cut to them.
    #[must_use]
    pub const fn new(label: u32, words: usize, caps: usize) -> Self {
        let words = if words > MAX_WORDS { MAX_WORDS } else { words };
        let caps = if caps > MAX_CAPS { MAX_CAPS } else { caps };
        Self((label as u64) << Self::LABEL_SHIFT | (caps as u64) << Self::CAPS_SHIFT | words as u64)
    }

    /// UTCB words, at most [`MAX_WORDS`] whatever the sender wrote.
    #[must_use]
    pub const fn words(self) -> usize {
        let words = (self.0 & Self::WORDS_MASK) as usize;
        if words > MAX_WORDS { MAX_WORDS } else { words }
    }

    /// Capability items, at most [`MAX_CAPS`] whatever the sender wrote.
    #[must_use]
    pub const fn caps(self) -> usize {
        let caps = (self.0 >> Self::CAPS_SHIFT & Self::CAPS_MASK) as usize;
        if caps > MAX_CAPS { MAX_CAPS } else { caps }
    }

    /// The label.
    #[must_use]
    pub const fn label(self) -> u32 {
        (self.0 >> Self::LABEL_SHIFT) as u32
    }

    /// Whether everything travels in registers.
    #[must_use]
    pub const fn is_short(self) -> bool {
        self.0 & Self::TRANSFER_MASK == 0
    }
}

/// A capability item in the UTCB.
///
/// Sent: `sel` is the sender's selector, `info` the permissions to pass on (masked by those it has).
/// Received: see [`CapItem::received`]. The identity is unique per object over the life of the system, so two
/// capabilities name the same object exactly if their identities are equal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct CapItem {
    /// Selector, or id of the receiver's own portal.
    pub sel: u64,
    /// Permissions in bits 7:0, object type in bits 15:8, [`CapItem::OWN`].
    pub info: u64,
    /// Identity of the object; 0 if nothing arrived.
    pub identity: u64,
}

/// What a received [`CapItem`] means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// The sender had no such capability, or the window was full.
    Nothing,
    /// A new capability at this selector inside the receive window.
    New(super::cap::Sel),
    /// A portal of the receiver's own domain came home: its id.
    Own(u64),
}

impl CapItem {
    /// Set in `info` of a received item that names a portal of the receiver's own domain.
    pub const OWN: u64 = 1 << 16;
    /// Shift of the object type in `info`.
    pub const TYPE_SHIFT: u32 = 8;

    /// An item to send.
    #[must_use]
    pub const fn send(sel: super::cap::Sel, perms: super::cap::Perms) -> Self {
        Self { sel: sel.0, info: perms.bits() as u64, identity: 0 }
    }

    /// What a received capability permits.
    #[must_use]
    pub const fn perms(self) -> super::cap::Perms {
        super::cap::Perms::from_bits_truncate(self.info as u8)
    }

    /// Decodes a received item.
    #[must_use]
    pub const fn received(self) -> Received {
        if self.identity == 0 {
            Received::Nothing
        } else if self.info & Self::OWN != 0 {
            Received::Own(self.sel)
        } else {
            Received::New(super::cap::Sel(self.sel))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tag_round_trips(label: u32, words in 0..=MAX_WORDS, caps in 0..=MAX_CAPS) {
            let tag = Tag::new(label, words, caps);
            prop_assert_eq!((tag.label(), tag.words(), tag.caps()), (label, words, caps));
            prop_assert_eq!(tag.is_short(), words == 0 && caps == 0);
        }

        #[test]
        fn a_hostile_tag_stays_in_bounds(raw: u64) {
            prop_assert!(Tag(raw).words() <= MAX_WORDS && Tag(raw).caps() <= MAX_CAPS);
        }
    }
}
