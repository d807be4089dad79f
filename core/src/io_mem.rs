//! `IO_MEM`: registers of devices. Each page is handed out once, and RAM never.

use crate::Core;
use crate::account::{AccountError, AccountId};
use crate::dataspace::{Content, Dataspace};
use crate::kernel::Machine;
use crate::object::{Handle, Key, Kind};
use crate::ranges::Range;
use abi::PAGE_SIZE;
use abi::cap::MemRights;
use abi::session::args::{Args, parse_truth};
use abi::session::dataspace::Dataspace as DataspaceInterface;
use abi::session::io_mem;
use abi::session::wire::Typed;

/// The session that a call is for.
pub(crate) struct Call<'a, 'm, M> {
    pub core: &'a mut Core<'m, M>,
    pub key: Key,
}

impl<M: Machine> io_mem::Server<Handle> for Call<'_, '_, M> {
    fn dataspace(&mut self) -> Typed<DataspaceInterface, Handle> {
        let dataspace = self.core.io_mems.get(&self.key).copied();
        Typed::new(dataspace.map_or(Handle::Nothing, Handle::Own))
    }
}

/// The whole pages that the arguments ask for.
fn pages(args: Args<'_>) -> Option<Range> {
    let (base, size) = (args.number("base")?, args.number("size")?);
    let wanted = Range::new(base, size)?;
    let first = wanted.base() - wanted.base() % PAGE_SIZE;
    Range::new(first, wanted.end().checked_next_multiple_of(PAGE_SIZE)? - first)
}

impl<M: Machine> Core<'_, M> {
    /// Opens a session, or `None` if the range is not to be had.
    pub(crate) fn open_io_mem(&mut self, args: Args<'_>, account: AccountId) -> Option<Result<Key, AccountError>> {
        let memory = pages(args)?;
        self.io_mem.take(memory).ok()?;
        let made = self.create_object(Kind::IoMem, account).and_then(|session| {
            let dataspace = self.create_object(Kind::Dataspace, account);
            dataspace.map(|dataspace| (session, dataspace)).inspect_err(|_| self.destroy_object(session))
        });
        Some(match made {
            Ok((session, dataspace)) => {
                let combined = args.get("wc").and_then(parse_truth).unwrap_or_default();
                let caching = if combined { MemRights::WRITE_COMBINED } else { MemRights::UNCACHED };
                let rights = MemRights::READ | MemRights::WRITE | caching;
                self.dataspaces.insert(dataspace, Dataspace::physical(memory, rights));
                self.io_mems.insert(session, dataspace);
                Ok(session)
            }
            Err(error) => {
                self.return_io_mem(memory);
                Err(error)
            }
        })
    }

    fn return_io_mem(&mut self, memory: Range) {
        let freed = self.io_mem.free(memory);
        debug_assert!(freed.is_ok(), "{memory:?} freed twice");
    }

    /// Closes a session.
    pub(crate) fn destroy_io_mem(&mut self, key: Key) {
        let dataspace = self.io_mems.remove(&key).and_then(|dataspace| self.destroy_dataspace(dataspace));
        if let Some(Dataspace { content: Content::Physical { memory, .. }, .. }) = dataspace {
            self.return_io_mem(memory);
        }
        self.destroy_object(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_widened_to_pages() {
        let range = |base, size| Range::new(base, size);
        assert_eq!(pages(Args("base=0xfed00010, size=0x10")), range(0xfed0_0000, 0x1000));
        assert_eq!(pages(Args("base=0xfff, size=2")), range(0, 0x2000));
        assert_eq!(pages(Args("base=0xffffffffffffffff, size=1")), None);
        assert_eq!(pages(Args("base=0xfffffffffffffffe, size=1")), None);
        assert_eq!(pages(Args("base=0, size=0")), None);
        assert_eq!(pages(Args("size=4096")), None);
    }
}
