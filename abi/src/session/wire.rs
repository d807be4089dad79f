//! How values are laid out in a message.
//!
//! Words fill the four registers first and the UTCB after them. Texts and byte strings are a length word followed by
//! their bytes, packed into UTCB words. Capabilities are items of the UTCB. Both sides walk the same list of
//! types in the same order, so a message carries no description of itself.

use core::marker::PhantomData;

use crate::cap::{MemRights, Perms};
use crate::message::{CapItem, MAX_CAPS, MAX_WORDS, REG_WORDS, Tag};
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

/// What a capability names: an interface, or one of the kernel's objects.
pub trait Kind: 'static {
    /// Permissions passed on when a capability of this kind travels.
    const PERMS: Perms;
}

/// A signal context: an up of its semaphore is a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal;
impl Kind for Signal {
    const PERMS: Perms = Perms::SM_UP;
}

/// A semaphore that core may bind to an interrupt (which needs the right to take from it).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterruptSemaphore;
impl Kind for InterruptSemaphore {
    const PERMS: Perms = Perms::SM_UP.union(Perms::SM_DOWN);
}

/// A virtual CPU, which its VMM may recall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VcpuContext;
impl Kind for VcpuContext {
    const PERMS: Perms = Perms::EC_CTRL;
}

/// Any RPC object: what a session request yields before the client gives it its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AnyObject;
impl Kind for AnyObject {
    const PERMS: Perms = Perms::PT_CALL;
}

/// A capability, named by `C`, of a stated kind. The kind of a received one is the sender's claim.
#[derive(Debug)]
pub struct Typed<K, C> {
    name: C,
    kind: PhantomData<fn() -> K>,
}

impl<K, C> Typed<K, C> {
    /// States the kind of a capability.
    pub const fn new(name: C) -> Self {
        Self {
            name,
            kind: PhantomData,
        }
    }

    /// The capability without its kind.
    pub const fn name(&self) -> &C {
        &self.name
    }

    /// The capability without its kind.
    pub fn into_name(self) -> C {
        self.name
    }

    /// States another kind.
    pub fn cast<J>(self) -> Typed<J, C> {
        Typed::new(self.name)
    }
}

impl<K, C: Clone> Clone for Typed<K, C> {
    fn clone(&self) -> Self {
        Self::new(self.name.clone())
    }
}

impl<K, C: PartialEq> PartialEq for Typed<K, C> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
impl<K, C: Eq> Eq for Typed<K, C> {}

/// In an interface: a capability of kind `K`. Both sides handle it as [`Typed`].
#[derive(Debug)]
pub struct Cap<K>(PhantomData<fn() -> K>);

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
        Self {
            buffer,
            registers: [0; REG_WORDS],
            in_registers: 0,
            words: 0,
            caps: 0,
        }
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
        self.buffer
            .with(|utcb| utcb.caps.get_mut(index).map(|slot| *slot = item))
            .ok_or(TooLong)?;
        self.caps += 1;
        Ok(())
    }

    /// The register part of the finished message.
    #[inline(always)]
    pub const fn finish(self, label: u32) -> Message {
        Message {
            tag: Tag::new(label, self.words, self.caps),
            words: self.registers,
        }
    }

    fn words_in_utcb(
        &mut self,
        count: usize,
        write: impl FnOnce(&mut [u64]),
    ) -> Result<(), TooLong> {
        let start = self.words;
        let end = start
            .checked_add(count)
            .filter(|end| *end <= MAX_WORDS)
            .ok_or(TooLong)?;
        self.buffer
            .with(|utcb| utcb.words.get_mut(start..end).map(write))
            .ok_or(TooLong)?;
        self.words = end;
        Ok(())
    }
}

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
        Self {
            buffer,
            message,
            in_registers: 0,
            words: 0,
            caps: 0,
        }
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
        self.words_in_utcb(1, |slots| slots.first().copied())?
            .ok_or(Malformed)
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
            slots
                .iter()
                .flat_map(|slot| slot.to_le_bytes())
                .take(length)
                .collect()
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
    pub fn all<V>(
        mut self,
        read: impl FnOnce(&mut Self) -> Result<V, Malformed>,
    ) -> Result<V, Malformed> {
        let value = read(&mut self);
        let read = Tag::new(0, self.words, self.caps);
        if self.message.tag.0 & Tag::TRANSFER_MASK == read.0 {
            return value;
        }
        discard(self.buffer, self.caps..self.message.tag.caps());
        Err(Malformed)
    }

    fn words_in_utcb<R>(
        &mut self,
        count: usize,
        read: impl FnOnce(&[u64]) -> R,
    ) -> Result<R, Malformed> {
        let start = self.words;
        let end = start
            .checked_add(count)
            .filter(|end| *end <= self.message.tag.words())
            .ok_or(Malformed)?;
        let value = self
            .buffer
            .with(|utcb| utcb.words.get(start..end).map(read))
            .ok_or(Malformed)?;
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
    fn put<B: Buffer<Cap = C>>(
        value: Self::Ref<'_>,
        writer: &mut Writer<'_, B>,
    ) -> Result<(), TooLong>;
    /// Reads a value.
    ///
    /// # Errors
    /// The message holds no such value.
    fn get<B: Buffer<Cap = C>>(reader: &mut Reader<'_, B>) -> Result<Self::Value, Malformed>;
}

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

impl<K: Kind, C> Wire<C> for Cap<K> {
    type Value = Typed<K, C>;
    type Ref<'a>
        = &'a Typed<K, C>
    where
        C: 'a;
    fn borrow(value: &Self::Value) -> Self::Ref<'_>
    where
        C: 'static,
    {
        value
    }
    fn put<B: Buffer<Cap = C>>(
        value: Self::Ref<'_>,
        writer: &mut Writer<'_, B>,
    ) -> Result<(), TooLong> {
        writer.cap(value.name(), K::PERMS)
    }
    fn get<B: Buffer<Cap = C>>(reader: &mut Reader<'_, B>) -> Result<Self::Value, Malformed> {
        reader.cap().map(Typed::new)
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
    fn put<B: Buffer<Cap = C>>(
        value: Self::Ref<'_>,
        writer: &mut Writer<'_, B>,
    ) -> Result<(), TooLong> {
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

const _: () = assert!(MAX_CAPS <= 15, "the tag counts capabilities in four bits");
