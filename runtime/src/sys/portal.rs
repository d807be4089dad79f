//! Portal handlers: local execution contexts and their entries.
//!
//! The kernel enters a portal with the context's stack pointer, RDI = portal id, RSI = tag, RDX, R8, R9, R10 = words. That is
//! a `sysv64` call of `entry(id, tag, word 0, word 3, word 1, word 2)` but for word 3, which the trampoline moves. An entry ends
//! with a reply, so it never returns.

use alloc::boxed::Box;

use abi::cap::Sel;
use abi::hypercall::{CpuId, CreateEc, CreatePt, EcBody};
use abi::message::Tag;
use abi::session::initial;
use abi::session::wire::Message;
use abi::state::Mtd;
use abi::status::Status;

use super::object::OBJECT_ID;
use super::stack::Slot;
use super::utcb::{USER_CONTEXT, current};
use super::{syscall, tls};
use crate::selector;

/// What a portal handler does with messages. Its context calls it, one message at a time.
pub trait Handler: 'static {
    /// Handles a message to the portal with this id. For an event the tag holds the state selection and the words are
    /// [`EventWords`](abi::event::EventWords); the state is in the UTCB.
    fn handle(&mut self, id: u64, message: Message) -> Message;
}

/// A local execution context. It lives as long as the component.
#[derive(Debug)]
pub struct LocalEc {
    ec: Sel,
    entry: u64,
}

/// Makes the handler on its own context, because it need not be `Send`.
type Make<H> = Box<dyn FnOnce(LocalEc) -> H + Send>;

/// What the first call brings to a new context.
struct FirstCall<H> {
    make: Make<H>,
    ec: LocalEc,
}

impl LocalEc {
    /// Makes a context on `cpu`, on the stack in `slot`, which its owner has provided with memory. `make` runs on the new
    /// context and returns the handler; only then is the first message handled.
    ///
    /// # Errors
    /// The kernel's refusal, or no selector is free.
    pub fn create<H: Handler>(
        cpu: CpuId,
        slot: Slot,
        make: impl FnOnce(LocalEc) -> H + Send + 'static,
    ) -> Result<Self, Status> {
        let ec = selector::allocate().ok_or(Status::OutOfMemory)?;
        let body = EcBody::Local { utcb: slot.utcb(), sp: slot.stack_pointer() };
        let create = CreateEc { dst: ec, pd: initial::PD, cpu, event_base: initial::EVENT_BASE, body };
        // SAFETY: the slot is this context's alone from now on.
        unsafe { syscall::create_own_ec(create) }?;
        // The context is never destroyed, so neither is the slot given back.
        core::mem::forget(slot);
        let entry = trampoline::<H> as *const () as u64;
        let first = Box::new(FirstCall { make: Box::new(make), ec: Self { ec, entry } });
        Self { ec, entry: first_trampoline::<H> as *const () as u64 }.first_call(Box::into_raw(first) as u64)?;
        Ok(Self { ec, entry })
    }

    /// Makes a portal of this context at `sel`. Ids with the highest bit are those of server objects.
    ///
    /// # Errors
    /// The id has it, or the kernel's refusal.
    pub fn create_portal(&self, sel: Sel, id: u64, mtd: Mtd) -> Result<(), Status> {
        if id & OBJECT_ID != 0 {
            return Err(Status::BadParameter);
        }
        // SAFETY: `entry` is the trampoline for the handler type of this context.
        unsafe { self.portal(sel, self.entry, id, mtd) }
    }

    /// Makes a portal with an entry of its own.
    ///
    /// # Safety
    /// `entry` is a portal entry that can handle this id on this context.
    pub(super) unsafe fn portal(&self, sel: Sel, entry: u64, id: u64, mtd: Mtd) -> Result<(), Status> {
        let create = CreatePt { dst: sel, pd: initial::PD, ec: self.ec, ip: entry, id, mtd };
        // SAFETY: passed on to the caller.
        unsafe { syscall::create_pt(create) }
    }

    /// Selector of the context.
    #[must_use]
    pub const fn sel(&self) -> Sel {
        self.ec
    }

    fn first_call(&self, argument: u64) -> Result<(), Status> {
        let portal = selector::allocate().ok_or(Status::OutOfMemory)?;
        // SAFETY: `entry` is the trampoline for the first call, and the argument what it expects.
        let created = unsafe { self.portal(portal, self.entry, argument, Mtd::empty()) };
        let result = created.and_then(|()| {
            syscall::call(portal, Message::default())?;
            syscall::destroy(portal)
        });
        selector::free(portal);
        result
    }
}

/// Entry of a portal: supplies the fourth argument of [`enter`].
#[unsafe(naked)]
unsafe extern "sysv64" fn trampoline<H: Handler>() -> ! {
    core::arch::naked_asm!("mov rcx, r10", "jmp {enter}", enter = sym enter::<H>)
}

/// Entry of the first portal.
#[unsafe(naked)]
unsafe extern "sysv64" fn first_trampoline<H: Handler>() -> ! {
    core::arch::naked_asm!("jmp {enter}", enter = sym enter_first::<H>)
}

extern "sysv64" fn enter<H: Handler>(id: u64, tag: u64, word0: u64, word3: u64, word1: u64, word2: u64) -> ! {
    let message = Message { tag: Tag(tag), words: [word0, word1, word2, word3] };
    // SAFETY: `enter_first` put a handler of this type there, which lives forever, before the first portal with
    // this entry could be entered. Only this context uses it, one entry at a time.
    let handler = unsafe { &mut *((*current()).user[USER_CONTEXT] as *mut H) };
    let reply = handler.handle(id, message);
    // SAFETY: nothing on the stack needs to be dropped.
    unsafe { syscall::reply(reply) }
}

extern "sysv64" fn enter_first<H: Handler>(argument: u64) -> ! {
    initialise_context();
    // SAFETY: `create` leaked this box for this one entry.
    let first = unsafe { Box::from_raw(argument as *mut FirstCall<H>) };
    let handler = Box::into_raw(Box::new((first.make)(first.ec)));
    // SAFETY: the page is the running context's, and nobody holds a reference into it.
    unsafe { (*current()).user[USER_CONTEXT] = handler as u64 };
    // SAFETY: everything on the stack has been moved or dropped.
    unsafe { syscall::reply(Message::default()) }
}

/// Prepares the running context, new, for Rust code: thread-local storage and a receive window.
pub(super) fn initialise_context() {
    tls::install();
    crate::capability::open_window();
}
