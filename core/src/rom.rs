//! ROM: the boot modules.

use crate::Core;
use crate::kernel::Machine;
use crate::object::{Handle, Key};
use abi::session::dataspace::Dataspace;
use abi::session::rom::{self, RomError};
use abi::session::wire::{Signal, Typed};

/// The session that a call is for.
pub(crate) struct Call<'a, 'm, M> {
    pub core: &'a mut Core<'m, M>,
    pub key: Key,
}

impl<M: Machine> rom::Server<Handle> for Call<'_, '_, M> {
    fn dataspace(&mut self) -> Result<Typed<Dataspace, Handle>, RomError> {
        let module = self.core.roms.get(&self.key).copied().ok_or(RomError::Empty)?;
        Ok(Typed::new(Handle::Own(module)))
    }

    /// Boot modules never change, so what the client has is up to date.
    fn update(&mut self) -> bool {
        true
    }

    /// Never submitted: boot modules never change.
    fn sigh(&mut self, _: Typed<Signal, Handle>) {}
}
