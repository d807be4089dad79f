//! How values are laid out in a message.
//!
//! Words fill the four registers first and the UTCB after them. Texts and byte strings are a length word followed by
//! their bytes, packed into UTCB words. Capabilities are items of the UTCB. Both sides walk the same list of
//! types in the same order, so a message carries no description of itself.

mod capability;
mod reader;
mod values;
mod writer;

pub use capability::{AnyObject, Cap, InterruptSemaphore, Kind, Signal, Typed, VcpuContext};
pub use reader::Reader;
pub use writer::Writer;

use crate::cap::Perms;
use crate::message::{CapItem, REG_WORDS, Tag};
use crate::utcb::Utcb;

/// Text of at most `N` bytes.
pub type Text<const N: usize> = arrayvec::ArrayString<N>;
/// Byte string of at most `N` bytes.
pub type Bytes<const N: usize> = arrayvec::ArrayVec<u8, N>;

/// What is in the registers of a call or reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Message {
    /// RSI.
    pub tag: Tag,
    /// RDX, R8, R9, R10.
    pub words: [u64; REG_WORDS],
}

/// A value does not fit: a text is longer than its bound, or the message is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong;

/// A received message is not what the interface says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// The part of a message that is not in registers, and the naming of capabilities in it.
pub trait Buffer {
    /// How this side names a capability.
    type Cap;
    /// Accesses the UTCB. The closure must not send or receive messages.
    fn with<R>(&self, access: impl FnOnce(&mut Utcb) -> R) -> R;
    /// The item that passes `cap` on with at most `perms`.
    fn send(&self, cap: &Self::Cap, perms: Perms) -> CapItem;
    /// Takes over the received item at `index`; `None` if no capability arrived there.
    fn receive(&self, index: usize) -> Option<Self::Cap>;
}

/// A type that an interface can name as argument or result. `C` is how a side names capabilities.
pub trait Wire<C> {
    /// What the receiver gets, and what a server returns.
    type Value;
    /// What a client passes as argument.
    type Ref<'a>
    where
        C: 'a;
    /// A value seen as an argument.
    fn borrow(value: &Self::Value) -> Self::Ref<'_>
    where
        C: 'static;
    /// Appends a value.
    ///
    /// # Errors
    /// It exceeds its bound or the message is full.
    fn put<B: Buffer<Cap = C>>(value: Self::Ref<'_>, writer: &mut Writer<'_, B>) -> Result<(), TooLong>;
    /// Reads a value.
    ///
    /// # Errors
    /// The message holds no such value.
    fn get<B: Buffer<Cap = C>>(reader: &mut Reader<'_, B>) -> Result<Self::Value, Malformed>;
}
