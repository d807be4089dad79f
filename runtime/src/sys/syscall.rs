//! Hypercalls.
//!
//! Safe functions affect other domains, or kernel objects of this one, but cannot break this program's own memory; making
//! execution contexts of the own domain can, and is left to [`portal`](super::portal) and [`thread`](super::thread).
//! Without `kilonova`, each returns [`Status::BadHypercall`].

use abi::cap::Sel;
use abi::hypercall::{
    Args, AssignInt, CreateEc, CreatePd, CreatePt, CreateSc, CreateSm, CreateSpace, CtrlHw, CtrlPd, CtrlPt, Delegate,
    Number, Registers, SmDown, rdi,
};
use abi::message::Tag;
use abi::session::initial;
use abi::session::wire::Message;
use abi::status::Status;

/// RDX and R8 as a hypercall returns them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Values {
    /// RDX.
    pub rdx: u64,
    /// R8.
    pub r8: u64,
}

/// Enters the kernel.
///
/// # Safety
/// The hypercall must not change memory or start execution contexts in ways that Rust does not know of. The UTCB
/// counts as changed.
#[cfg(kilonova)]
#[inline(always)]
unsafe fn enter(args: Args) -> Registers {
    // SAFETY: passed on to the caller.
    unsafe { abi::syscall!(args) }
}

/// There is no kernel of ours below.
///
/// # Safety
/// None needed.
#[cfg(not(kilonova))]
unsafe fn enter(args: Args) -> Registers {
    Registers {
        rax: Status::BadHypercall as u64,
        rsi: args.rsi,
        rdx: args.rdx,
        r8: args.r8,
        r9: args.r9,
        r10: args.r10,
    }
}

#[inline(always)]
fn check(rax: u64) -> Result<(), Status> {
    if rax == Status::Success as u64 {
        return Ok(());
    }
    // An unknown status is as if the hypercall was unknown.
    Err(Status::from_raw(rax).unwrap_or(Status::BadHypercall))
}

/// Any hypercall without a message.
///
/// # Safety
/// As [`enter`].
#[inline(always)]
unsafe fn invoke(args: Args) -> Result<Values, Status> {
    // SAFETY: passed on to the caller.
    let registers = unsafe { enter(args) };
    check(registers.rax)?;
    Ok(Values { rdx: registers.rdx, r8: registers.r8 })
}

/// Sends a message to a portal and waits for the reply.
///
/// # Errors
/// See [`Status`].
#[inline(always)]
pub fn call(portal: Sel, message: Message) -> Result<Message, Status> {
    let [rdx, r8, r9, r10] = message.words;
    let args = Args { rdi: rdi(Number::Call, 0, portal), rsi: message.tag.0, rdx, r8, r9, r10 };
    // SAFETY: the kernel writes nothing but the UTCB.
    let registers = unsafe { enter(args) };
    check(registers.rax)?;
    let words = [registers.rdx, registers.r8, registers.r9, registers.r10];
    Ok(Message { tag: Tag(registers.rsi), words })
}

/// Replies to the caller of the current portal entry and ends the entry.
///
/// # Safety
/// The execution context is a portal handler, and nothing on its stack is needed any more: the next entry starts with
/// the stack pointer that the context was made with.
#[inline(always)]
pub unsafe fn reply(message: Message) -> ! {
    let [rdx, r8, r9, r10] = message.words;
    // SAFETY: the hypercall does not return here.
    unsafe {
        core::arch::asm!(
            "syscall",
            in("rdi") rdi(Number::Reply, 0, Sel(0)),
            in("rsi") message.tag.0,
            in("rdx") rdx,
            in("r8") r8,
            in("r9") r9,
            in("r10") r10,
            options(noreturn, nostack),
        );
    }
}

/// Ups a semaphore.
///
/// # Errors
/// See [`Status`].
#[inline]
pub fn sm_up(sm: Sel) -> Result<(), Status> {
    let args = Args { rdi: rdi(Number::SmUp, 0, sm), ..Args::default() };
    // SAFETY: no memory is involved.
    unsafe { invoke(args) }.map(|_| ())
}

/// Downs a semaphore. Of a receiver: id of the member, and its count.
///
/// # Errors
/// [`Status::Timeout`] if the deadline has passed; see [`Status`].
#[inline]
pub fn sm_down(down: SmDown) -> Result<Values, Status> {
    // SAFETY: no memory is involved.
    unsafe { invoke(down.encode()) }
}

/// Destroys the object at a selector.
///
/// # Errors
/// See [`Status`].
pub fn destroy(object: Sel) -> Result<(), Status> {
    let args = Args { rdi: rdi(Number::Destroy, 0, object), ..Args::default() };
    // A protection domain with many objects goes in steps: RDX says whether there are more.
    // SAFETY: objects whose destruction would take memory away from this program are not reachable for a component;
    // core, which reaches them, owns their lifetimes.
    while unsafe { invoke(args) }?.rdx != 0 {}
    Ok(())
}

/// Copies or removes capabilities, pages or ports. Returns the number of units done.
///
/// # Errors
/// See [`Status`]; `OutOfMemory` may come after a part was done, which the caller cannot tell.
pub fn delegate(delegate: Delegate) -> Result<u64, Status> {
    // SAFETY: a component has no memory space to name. Core, which has, maps only what its allocator says is free.
    unsafe { invoke(delegate.encode()) }.map(|values| values.rdx)
}

/// Removes the capability at a selector of the own object space.
pub fn remove(sel: Sel) {
    let removal = Delegate { from: initial::OBJ, to: initial::OBJ, src: sel.0, dst: sel.0, count: 1, rights: 0 };
    // The only failure is that nothing is there.
    let _nothing_there = delegate(removal);
}

/// Makes an execution context of another domain.
///
/// # Errors
/// `BadParameter` for the own domain; see [`Status`].
pub fn create_foreign_ec(create: CreateEc) -> Result<(), Status> {
    if create.pd == initial::PD {
        return Err(Status::BadParameter);
    }
    // SAFETY: it runs in another address space.
    unsafe { invoke(create.encode()) }.map(|_| ())
}

/// Makes an execution context of the own domain.
///
/// # Safety
/// Instruction and stack pointer are those of code and memory meant for it, and so is the UTCB's address.
///
/// # Errors
/// See [`Status`].
pub(super) unsafe fn create_own_ec(create: CreateEc) -> Result<(), Status> {
    // SAFETY: passed on to the caller.
    unsafe { invoke(create.encode()) }.map(|_| ())
}

/// Makes a portal.
///
/// # Safety
/// The instruction pointer is that of a portal entry for the handler, if that is of the own domain.
///
/// # Errors
/// See [`Status`].
pub(super) unsafe fn create_pt(create: CreatePt) -> Result<(), Status> {
    // SAFETY: passed on to the caller.
    unsafe { invoke(create.encode()) }.map(|_| ())
}

macro_rules! safe_calls {
    ($($(#[$meta:meta])* $name:ident($type:ty);)*) => {
        $(
            $(#[$meta])*
            ///
            /// # Errors
            /// See [`Status`].
            pub fn $name(arguments: $type) -> Result<Values, Status> {
                // SAFETY: it makes or changes kernel objects only.
                unsafe { invoke(arguments.encode()) }
            }
        )*
    };
}

safe_calls! {
    /// Makes a protection domain.
    create_pd(CreatePd);
    /// Makes a space.
    create_space(CreateSpace);
    /// Makes a scheduling context.
    create_sc(CreateSc);
    /// Makes a semaphore.
    create_sm(CreateSm);
    /// Moves or queries kernel-memory quota.
    ctrl_pd(CtrlPd);
    /// Sets a portal's id and state selection.
    ctrl_pt(CtrlPt);
    /// Routes an interrupt to a semaphore. Of an MSI, RDX is the address and R8 the data.
    assign_int(AssignInt);
    /// Power control.
    ctrl_hw(CtrlHw);
}

/// Sets the FS base of the running context.
///
/// # Safety
/// It is the thread pointer of a block of thread-local variables that no other context uses, and that stays until the
/// next call of this function.
///
/// # Errors
/// See [`Status`].
#[cfg(kilonova)]
pub(super) unsafe fn set_fs_base(base: u64) -> Result<(), Status> {
    // SAFETY: passed on to the caller.
    unsafe { invoke(abi::hypercall::CtrlEc::SetFsBase { base }.encode()) }.map(|_| ())
}

/// Recalls an execution context.
///
/// # Errors
/// See [`Status`].
pub fn recall(ec: Sel) -> Result<(), Status> {
    let args = Args { rdi: rdi(Number::CtrlEc, 0, ec), ..Args::default() };
    // SAFETY: no memory is involved.
    unsafe { invoke(args) }.map(|_| ())
}

/// TSC ticks that a scheduling context has consumed.
///
/// # Errors
/// See [`Status`].
pub fn consumed(sc: Sel) -> Result<u64, Status> {
    let args = Args { rdi: rdi(Number::CtrlSc, 0, sc), ..Args::default() };
    // SAFETY: no memory is involved.
    unsafe { invoke(args) }.map(|values| values.rdx)
}
