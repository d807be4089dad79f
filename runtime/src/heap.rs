//! Where the heap of a component gets its memory: RAM dataspaces of its PD session, attached to its address space.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::PAGE_SIZE;
use abi::cap::{MemRights, Sel};
use abi::session::pd::{self, Account};
use abi::session::region_map::{self, Attachment};

pub use crate::sys::talc_heap::{FreshMemory, Heap, Source, set_source};

use crate::rpc::Unnamed;
use crate::sys::{syscall, utcb};
use crate::{error, selector};

static PD: AtomicU64 = AtomicU64::new(Sel::NONE.0);
static ADDRESS_SPACE: AtomicU64 = AtomicU64::new(Sel::NONE.0);

/// Lets the heap grow by these sessions, whose names are kept elsewhere for good.
pub(crate) fn grow_from(pd: Sel, address_space: Sel) {
    PD.store(pd.0, Ordering::Relaxed);
    ADDRESS_SPACE.store(address_space.0, Ordering::Relaxed);
    set_source(grow);
}

/// Adds memory. May come in the middle of the making or reading of a message, hence the preserved UTCB.
fn grow(wish: usize, least: usize) -> Option<FreshMemory> {
    utcb::preserved(|| {
        let pd = pd::Client::from(Unnamed(Sel(PD.load(Ordering::Relaxed))));
        let fresh = add(&pd, wish).or_else(|| add(&pd, least));
        if fresh.is_none() {
            report(&pd, least);
        }
        fresh
    })
}

/// Allocates and attaches.
fn add(pd: &pd::Client<Unnamed>, size: usize) -> Option<FreshMemory> {
    let size = (size as u64).checked_next_multiple_of(PAGE_SIZE)?;
    let address_space = region_map::Client::from(Unnamed(Sel(ADDRESS_SPACE.load(Ordering::Relaxed))));
    let dataspace = pd.alloc_ram(size).ok()?;
    let rights = MemRights::READ.union(MemRights::WRITE);
    let attached = address_space.attach(&dataspace, Attachment::anywhere(rights));
    if attached.is_err() {
        // What was just allocated can be freed; if not, there is nothing to be done about it.
        let _freed = pd.free_ram(&dataspace);
    }
    // Heap memory is never given back, so its name is not needed any more.
    syscall::remove(*dataspace.name());
    selector::free(*dataspace.name());
    Some(FreshMemory::mapped(attached.ok()?, size as usize))
}

/// Says why an allocation is about to fail. Whoever wanted the memory may be unable to say anything without it.
fn report(pd: &pd::Client<Unnamed>, size: usize) {
    // Without an account there is no parent any more who could listen.
    if let Ok(Account { ram_quota, ram_used, cap_quota, cap_used }) = pd.account() {
        let (ram, caps) = (ram_quota.saturating_sub(ram_used), cap_quota.saturating_sub(cap_used));
        error!(
            "heap cannot grow by {size} bytes: {ram} of {ram_quota} bytes of RAM quota and {caps} of {cap_quota} caps are left"
        );
    }
}
