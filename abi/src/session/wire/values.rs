//! Values in messages: words, texts, byte strings, options, records and enums.

use super::{Buffer, Bytes, Malformed, Reader, Text, TooLong, Wire, Writer};
use crate::cap::MemRights;

/// Implements [`Wire`] for a type that is one word: how to make the word, and how to check and take it.
#[macro_export]
macro_rules! wire_word {
    ($type:ty, $value:ident => $put:expr, $word:ident => $get:expr) => {
        impl<C> $crate::session::wire::Wire<C> for $type {
            type Value = Self;
            type Ref<'a>
                = Self
            where
                C: 'a;
            #[inline(always)]
            fn borrow(value: &Self) -> Self
            where
                C: 'static,
            {
                *value
            }
            #[inline(always)]
            fn put<B: $crate::session::wire::Buffer<Cap = C>>(
                $value: Self,
                writer: &mut $crate::session::wire::Writer<'_, B>,
            ) -> Result<(), $crate::session::wire::TooLong> {
                writer.word($put)
            }
            #[inline(always)]
            fn get<B: $crate::session::wire::Buffer<Cap = C>>(
                reader: &mut $crate::session::wire::Reader<'_, B>,
            ) -> Result<Self, $crate::session::wire::Malformed> {
                let $word = reader.word()?;
                $get.ok_or($crate::session::wire::Malformed)
            }
        }
    };
}

wire_word!(u64, value => value, word => Some(word));
wire_word!(i64, value => value as u64, word => Some(word as i64));
wire_word!(u32, value => u64::from(value), word => u32::try_from(word).ok());
wire_word!(u16, value => u64::from(value), word => u16::try_from(word).ok());
wire_word!(bool, value => u64::from(value), word => if word > 1 { None } else { Some(word == 1) });
wire_word!(MemRights, value => u64::from(value.bits()),
           word => u32::try_from(word).ok().and_then(MemRights::from_bits));

impl<C> Wire<C> for () {
    type Value = ();
    type Ref<'a>
        = ()
    where
        C: 'a;
    #[inline(always)]
    fn borrow((): &())
    where
        C: 'static,
    {
    }
    #[inline(always)]
    fn put<B: Buffer<Cap = C>>((): (), _: &mut Writer<'_, B>) -> Result<(), TooLong> {
        Ok(())
    }
    #[inline(always)]
    fn get<B: Buffer<Cap = C>>(_: &mut Reader<'_, B>) -> Result<(), Malformed> {
        Ok(())
    }
}

impl<C, const N: usize> Wire<C> for Text<N> {
    type Value = Self;
    type Ref<'a>
        = &'a str
    where
        C: 'a;
    fn borrow(value: &Self) -> &str
    where
        C: 'static,
    {
        value
    }
    fn put<B: Buffer<Cap = C>>(value: &str, writer: &mut Writer<'_, B>) -> Result<(), TooLong> {
        writer.bytes(value.as_bytes(), N)
    }
    fn get<B: Buffer<Cap = C>>(reader: &mut Reader<'_, B>) -> Result<Self, Malformed> {
        reader.text()
    }
}

impl<C, const N: usize> Wire<C> for Bytes<N> {
    type Value = Self;
    type Ref<'a>
        = &'a [u8]
    where
        C: 'a;
    fn borrow(value: &Self) -> &[u8]
    where
        C: 'static,
    {
        value
    }
    fn put<B: Buffer<Cap = C>>(value: &[u8], writer: &mut Writer<'_, B>) -> Result<(), TooLong> {
        writer.bytes(value, N)
    }
    fn get<B: Buffer<Cap = C>>(reader: &mut Reader<'_, B>) -> Result<Self, Malformed> {
        reader.bytes()
    }
}

impl<C, W: Wire<C>> Wire<C> for Option<W> {
    type Value = Option<W::Value>;
    type Ref<'a>
        = Option<W::Ref<'a>>
    where
        C: 'a;
    fn borrow(value: &Self::Value) -> Self::Ref<'_>
    where
        C: 'static,
    {
        value.as_ref().map(W::borrow)
    }
    fn put<B: Buffer<Cap = C>>(value: Self::Ref<'_>, writer: &mut Writer<'_, B>) -> Result<(), TooLong> {
        match value {
            None => writer.word(0),
            Some(inner) => {
                writer.word(1)?;
                W::put(inner, writer)
            }
        }
    }
    fn get<B: Buffer<Cap = C>>(reader: &mut Reader<'_, B>) -> Result<Self::Value, Malformed> {
        match reader.word()? {
            0 => Ok(None),
            1 => W::get(reader).map(Some),
            _ => Err(Malformed),
        }
    }
}

/// Declares a struct of copyable [`Wire`] fields that travel in the order of their declaration.
#[macro_export]
macro_rules! wire_record {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident: $type:ty),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $name {
            $($(#[$fmeta])* pub $field: $type,)+
        }

        impl<C> $crate::session::wire::Wire<C> for $name {
            type Value = Self;
            type Ref<'a> = Self where C: 'a;
            #[inline(always)]
            fn borrow(value: &Self) -> Self
            where
                C: 'static,
            {
                *value
            }
            #[inline(always)]
            fn put<B: $crate::session::wire::Buffer<Cap = C>>(
                value: Self,
                writer: &mut $crate::session::wire::Writer<'_, B>,
            ) -> Result<(), $crate::session::wire::TooLong> {
                $(<$type as $crate::session::wire::Wire<C>>::put(value.$field, writer)?;)+
                Ok(())
            }
            #[inline(always)]
            fn get<B: $crate::session::wire::Buffer<Cap = C>>(
                reader: &mut $crate::session::wire::Reader<'_, B>,
            ) -> Result<Self, $crate::session::wire::Malformed> {
                Ok(Self { $($field: <$type as $crate::session::wire::Wire<C>>::get(reader)?,)+ })
            }
        }
    };
}

/// Declares an enum without fields that travels as a number: an error in the label of a reply, or a word. Numbers start at 1.
#[macro_export]
macro_rules! wire_enum {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$vmeta:meta])* $variant:ident = $code:literal),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum $name {
            $($(#[$vmeta])* $variant = $code,)+
        }

        impl $crate::session::rpc::Code for $name {
            fn code(self) -> u32 {
                self as u32
            }
            fn from_code(code: u32) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                out.write_str(match self {
                    $(Self::$variant => stringify!($variant),)+
                })
            }
        }

        impl core::error::Error for $name {}

        $crate::wire_word!($name, value => u64::from($crate::session::rpc::Code::code(value)),
            word => u32::try_from(word).ok().and_then($crate::session::rpc::Code::from_code));
    };
}
