//! The declaration of an interface.

#[cfg(doc)]
use crate::session::wire::Wire;

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
