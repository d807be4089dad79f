//! Remote procedure calls: what an interface is, and the [`rpc!`](crate::rpc) declaration of one.
//!
//! A call is a message whose label is the opcode (0, 1, ... in the order of declaration) and whose content is the
//! arguments. The label of the reply is 0 with the result as content, the [`Code`] of the server's typed error, or a
//! [`Refusal`] of the dispatcher.

use core::fmt;

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
        Message {
            tag: crate::message::Tag::new(self as u32, 0, 0),
            words: [0; 4],
        }
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
pub fn call<T: Transport, R: Wire<T::Cap>, E: Code>(
    transport: &T,
    message: Message,
) -> Result<R::Value, Error<E>> {
    let reply = transport.call(message).map_err(Error::Kernel)?;
    let reader = Reader::new(transport, reply);
    let label = reply.tag.label();
    if label == 0 {
        return reader.all(R::get).map_err(|Malformed| Error::BadReply);
    }
    // An error has no content; what came nevertheless is dropped.
    reader
        .all(|_| Ok(()))
        .map_err(|Malformed| Error::BadReply)?;
    Err(match (Refusal::from_label(label), E::from_code(label)) {
        (Some(refusal), _) => Error::Refused(refusal),
        (None, Some(error)) => Error::Server(error),
        (None, None) => Error::BadReply,
    })
}

/// Server half: the reply with a method's result.
#[inline(always)]
pub fn reply<B: Buffer<Cap: 'static>, R: Wire<B::Cap>, E: Code>(
    buffer: &B,
    result: &Result<R::Value, E>,
) -> Message {
    match result {
        Ok(value) => {
            let mut writer = Writer::new(buffer);
            match R::put(R::borrow(value), &mut writer) {
                Ok(()) => writer.finish(0),
                Err(TooLong) => Refusal::ResultTooLong.message(),
            }
        }
        Err(error) => Message {
            tag: crate::message::Tag::new(error.code(), 0, 0),
            words: [0; 4],
        },
    }
}

/// Declares the RPC interface of a module.
///
/// ```
/// abi::rpc! {
///     /// Adds numbers.
///     pub interface Adder {
///         const NAME = "Adder";
///         const CAP_QUOTA = 2;
///         const RAM_QUOTA = 4096;
///         /// The sum.
///         fn add(a: u64, b: u64) -> u64;
///         /// The quotient.
///         fn divide(a: u64, b: u64) -> u64 | DivideError;
///     }
/// }
/// abi::wire_enum! {
///     /// Why a division failed.
///     pub enum DivideError {
///         /// The divisor is zero.
///         ByZero = 1,
///     }
/// }
/// # fn main() {}
/// ```
///
/// It makes, in the module of the declaration: the marker type (`Adder`), `Opcode`, `Client<T>` whose methods return
/// `Result<_, Error<_>>`, the trait `Server<C>` whose methods return the value or `Result<value, error>`, and
/// `dispatch`. Argument and result types are those that implement [`Wire`].
#[macro_export]
macro_rules! rpc {
    (
        $(#[$meta:meta])*
        pub interface $name:ident {
            const NAME = $service:literal;
            const CAP_QUOTA = $caps:expr;
            const RAM_QUOTA = $ram:expr;
            $(
                $(#[$fmeta:meta])*
                fn $method:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? $(| $error:ty)?;
            )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name;

        impl $crate::session::wire::Kind for $name {
            const PERMS: $crate::cap::Perms = $crate::cap::Perms::PT_CALL;
        }

        impl $crate::session::rpc::Interface for $name {
            const NAME: &'static str = $service;
            const CAP_QUOTA: u64 = $caps;
            const RAM_QUOTA: u64 = $ram;
            type Client<T: $crate::session::rpc::Transport> = Client<T>;
        }

        impl<S, B> $crate::session::rpc::ServedBy<S, B> for $name
        where
            B: $crate::session::wire::Buffer<Cap: 'static>,
            S: Server<B::Cap>,
        {
            #[inline(always)]
            fn dispatch(
                server: &mut S,
                buffer: &B,
                message: $crate::session::wire::Message,
            ) -> $crate::session::wire::Message {
                dispatch(server, buffer, message)
            }
        }

        /// Labels of the calls.
        #[allow(non_camel_case_types, reason = "they are named as the methods")]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum Opcode {
            $(
                #[doc = concat!("[`Server::", stringify!($method), "`].")]
                $method,
            )+
        }

        impl Opcode {
            /// The opcode of a label.
            #[inline(always)]
            #[must_use]
            pub const fn from_label(label: u32) -> Option<Self> {
                $(
                    if label == Self::$method as u32 {
                        return Some(Self::$method);
                    }
                )+
                None
            }
        }

        /// Calls an object of this interface.
        #[derive(Clone, Debug)]
        pub struct Client<T>(T);

        impl<T> From<T> for Client<T> {
            fn from(transport: T) -> Self {
                Self(transport)
            }
        }

        impl<T> Client<T> {
            /// How the object is reached.
            pub const fn transport(&self) -> &T {
                &self.0
            }
        }

        impl<T: $crate::session::rpc::Transport> Client<T> {
            $(
                $(#[$fmeta])*
                ///
                /// # Errors
                /// The server's typed error, or that the call itself failed.
                #[inline]
                pub fn $method(
                    &self,
                    $($arg: <$type as $crate::session::wire::Wire<T::Cap>>::Ref<'_>),*
                ) -> Result<
                    <$crate::rpc!(@value $($ret)?) as $crate::session::wire::Wire<T::Cap>>::Value,
                    $crate::session::rpc::Error<$crate::rpc!(@error $($error)?)>,
                > {
                    #[allow(unused_mut, reason = "methods without arguments write nothing")]
                    let mut writer = $crate::session::wire::Writer::new(&self.0);
                    $(<$type as $crate::session::wire::Wire<T::Cap>>::put($arg, &mut writer)?;)*
                    $crate::session::rpc::call::<T, $crate::rpc!(@value $($ret)?), _>(
                        &self.0,
                        writer.finish(Opcode::$method as u32),
                    )
                }
            )+
        }

        /// What a server of this interface implements. `C` is how it names capabilities.
        pub trait Server<C> {
            $(
                $crate::rpc!(@method [$(#[$fmeta])*] $method, ($($arg: $type),*), [$($ret)?], [$($error)?]);
            )+
        }

        /// Decodes a call, lets `server` handle it, and encodes the reply. The UTCB is not in use while it does.
        #[inline]
        pub fn dispatch<B, S>(
            server: &mut S,
            buffer: &B,
            message: $crate::session::wire::Message,
        ) -> $crate::session::wire::Message
        where
            B: $crate::session::wire::Buffer<Cap: 'static>,
            S: Server<B::Cap> + ?Sized,
        {
            let reader = $crate::session::wire::Reader::new(buffer, message);
            match Opcode::from_label(message.tag.label()) {
                $(
                    Some(Opcode::$method) => {
                        #[allow(unused_variables, reason = "methods without arguments read nothing")]
                        let arguments = reader.all(|reader| {
                            Ok(($(<$type as $crate::session::wire::Wire<B::Cap>>::get(reader)?,)*))
                        });
                        match arguments {
                            Ok(($($arg,)*)) => {
                                let result = $crate::rpc!(@invoke server, $method, ($($arg),*), [$($ret)?], [$($error)?]);
                                $crate::session::rpc::reply::<B, $crate::rpc!(@value $($ret)?), _>(buffer, &result)
                            }
                            Err(_) => $crate::session::rpc::Refusal::Malformed.message(),
                        }
                    }
                )+
                None => {
                    // Only for the capabilities that came along: they are dropped.
                    let _: Result<(), _> = reader.all(|_| Err($crate::session::wire::Malformed));
                    $crate::session::rpc::Refusal::UnknownOpcode.message()
                }
            }
        }
    };

    (@value) => { () };
    (@value $ret:ty) => { $ret };
    (@error) => { $crate::session::rpc::Never };
    (@error $error:ty) => { $error };

    (@method [$(#[$fmeta:meta])*] $method:ident, ($($arg:ident: $type:ty),*), [$($ret:ty)?], []) => {
        $(#[$fmeta])*
        fn $method(
            &mut self,
            $($arg: <$type as $crate::session::wire::Wire<C>>::Value),*
        ) -> <$crate::rpc!(@value $($ret)?) as $crate::session::wire::Wire<C>>::Value;
    };
    (@method [$(#[$fmeta:meta])*] $method:ident, ($($arg:ident: $type:ty),*), [$($ret:ty)?], [$error:ty]) => {
        $(#[$fmeta])*
        ///
        /// # Errors
        /// As the error type says.
        fn $method(
            &mut self,
            $($arg: <$type as $crate::session::wire::Wire<C>>::Value),*
        ) -> Result<<$crate::rpc!(@value $($ret)?) as $crate::session::wire::Wire<C>>::Value, $error>;
    };

    (@invoke $server:ident, $method:ident, ($($arg:ident),*), [$($ret:ty)?], []) => {
        Ok::<_, $crate::session::rpc::Never>($server.$method($($arg),*))
    };
    (@invoke $server:ident, $method:ident, ($($arg:ident),*), [$($ret:ty)?], [$error:ty]) => {
        $server.$method($($arg),*)
    };
}
