//! Remote procedure calls: what an interface is, and the [`rpc!`](crate::rpc) declaration of one.
//!
//! A call is a message whose label is the opcode (0, 1, ... in the order of declaration) and whose content is the
//! arguments. The label of the reply is 0 with the result as content, the [`Code`] of the server's typed error, or a
//! [`Refusal`] of the dispatcher.

mod declare;

use core::fmt;

use super::parent::Quota;
use super::wire::{Buffer, Kind, Malformed, Message, Reader, TooLong, Wire, Writer};
use crate::status::Status;

/// A way to call an RPC object.
pub trait Transport: Buffer<Cap: 'static> {
    /// Sends a message whose UTCB part is in the buffer; the reply's is there afterwards.
    ///
    /// # Errors
    /// The kernel could not deliver the message or the callee died.
    fn call(&self, message: Message) -> Result<Message, Status>;
}

/// An RPC interface: implemented by the marker type that [`rpc!`](crate::rpc) declares.
pub trait Interface: Kind {
    /// Name of the service whose sessions have this interface.
    const NAME: &'static str;
    /// Capabilities a session costs its server: what a client donates at least.
    const CAP_QUOTA: u64;
    /// Bytes of RAM a client donates at least.
    const RAM_QUOTA: u64;
    /// Both.
    const LEAST: Quota = Quota { ram: Self::RAM_QUOTA, caps: Self::CAP_QUOTA };
    /// The typed client.
    type Client<T: Transport>: From<T>;
}

/// An interface whose calls a server `S` handles.
pub trait ServedBy<S, B: Buffer>: Interface {
    /// The module's `dispatch`.
    fn dispatch(server: &mut S, buffer: &B, message: Message) -> Message;
}

/// A number in the label of a reply.
pub trait Code: Copy {
    /// The number, from 1.
    fn code(self) -> u32;
    /// The value of a number.
    fn from_code(code: u32) -> Option<Self>;
}

/// Error type of methods that cannot fail at the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Never {}

impl Code for Never {
    fn code(self) -> u32 {
        match self {}
    }
    fn from_code(_: u32) -> Option<Self> {
        None
    }
}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// Why a dispatcher refused a message: labels at the end of the range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Refusal {
    /// The interface has no such opcode.
    UnknownOpcode = 0xffff_ff00,
    /// The arguments are not those of the method.
    Malformed = 0xffff_ff01,
    /// The result does not fit into a message.
    ResultTooLong = 0xffff_ff02,
    /// The object is gone.
    NoObject = 0xffff_ff03,
}

impl Refusal {
    /// The reply that says so.
    #[must_use]
    pub const fn message(self) -> Message {
        Message { tag: crate::message::Tag::new(self as u32, 0, 0), words: [0; 4] }
    }

    const fn from_label(label: u32) -> Option<Self> {
        Some(match label {
            0xffff_ff00 => Self::UnknownOpcode,
            0xffff_ff01 => Self::Malformed,
            0xffff_ff02 => Self::ResultTooLong,
            0xffff_ff03 => Self::NoObject,
            _ => return None,
        })
    }
}

/// Why a call failed; `E` is the typed error of the method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error<E = Never> {
    /// The server's answer.
    Server(E),
    /// The kernel could not deliver the message, or the server died.
    Kernel(Status),
    /// The server's dispatcher did not accept the message.
    Refused(Refusal),
    /// An argument is longer than the interface allows; nothing was sent.
    TooLong,
    /// The reply is not what the interface says.
    BadReply,
}

impl<E> From<TooLong> for Error<E> {
    fn from(TooLong: TooLong) -> Self {
        Self::TooLong
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => write!(out, "{error}"),
            Self::Kernel(status) => write!(out, "call failed: {status:?}"),
            Self::Refused(refusal) => write!(out, "call refused: {refusal:?}"),
            Self::TooLong => out.write_str("argument too long"),
            Self::BadReply => out.write_str("malformed reply"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for Error<E> {}

/// Client half: sends `message` and decodes the reply as `R`, or as an error `E`.
///
/// # Errors
/// As [`Error`] says.
#[inline(always)]
pub fn call<T: Transport, R: Wire<T::Cap>, E: Code>(transport: &T, message: Message) -> Result<R::Value, Error<E>> {
    let reply = transport.call(message).map_err(Error::Kernel)?;
    let reader = Reader::new(transport, reply);
    let label = reply.tag.label();
    if label == 0 {
        return reader.all(R::get).map_err(|Malformed| Error::BadReply);
    }
    // An error has no content; what came nevertheless is dropped.
    reader.all(|_| Ok(())).map_err(|Malformed| Error::BadReply)?;
    Err(match (Refusal::from_label(label), E::from_code(label)) {
        (Some(refusal), _) => Error::Refused(refusal),
        (None, Some(error)) => Error::Server(error),
        (None, None) => Error::BadReply,
    })
}

/// Server half: the reply with a method's result.
#[inline(always)]
pub fn reply<B: Buffer<Cap: 'static>, R: Wire<B::Cap>, E: Code>(buffer: &B, result: &Result<R::Value, E>) -> Message {
    match result {
        Ok(value) => {
            let mut writer = Writer::new(buffer);
            match R::put(R::borrow(value), &mut writer) {
                Ok(()) => writer.finish(0),
                Err(TooLong) => Refusal::ResultTooLong.message(),
            }
        }
        Err(error) => Message { tag: crate::message::Tag::new(error.code(), 0, 0), words: [0; 4] },
    }
}
