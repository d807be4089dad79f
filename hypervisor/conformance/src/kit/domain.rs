//! Protection domains in which parts of this program run.

use crate::kit::{image, memory, object};
use crate::sys::context::{NEVER, STACK_PAGES, stack_at};
use crate::sys::memory::{CELL_PAGES, CELLS_AT};
use abi::cap::{Perms, Sel, root};
use abi::hypercall::SpaceKind;

/// A domain: selectors in the root task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Domain {
    /// Its PD.
    pub pd: Sel,
    /// Its object space.
    pub obj: Sel,
    /// Its memory space.
    pub mem: Sel,
    /// Its ports.
    pub pio: Sel,
}

/// The root task's own.
pub const ROOT: Domain = Domain { pd: root::PD, obj: root::OBJ, mem: root::MEM, pio: root::PIO };

impl Domain {
    /// A domain with spaces, a copy of the image, the cells, and [`NEVER`].
    pub fn create(quota: u64) -> Self {
        Self::within(object::pd(quota))
    }

    /// The same without the image.
    pub fn bare(quota: u64) -> Self {
        Self::with_spaces(object::pd(quota))
    }

    fn with_spaces(pd: Sel) -> Self {
        let this = Self {
            pd,
            obj: object::space(pd, SpaceKind::Object),
            mem: object::space(pd, SpaceKind::Memory),
            pio: object::space(pd, SpaceKind::Pio),
        };
        memory::map(this.mem, memory::cells(), CELLS_AT, CELL_PAGES, memory::RW);
        this.grant(NEVER, NEVER, Perms::SM_DOWN);
        this
    }

    /// The same in a PD that exists.
    pub fn within(pd: Sel) -> Self {
        let this = Self::with_spaces(pd);
        image::map_copy(this.mem);
        this
    }

    /// Puts a capability of the root task at selector `dst` of the domain.
    pub fn grant(&self, sel: Sel, dst: Sel, perms: Perms) {
        object::grant(self.obj, sel, dst, perms);
    }

    /// Makes the stack of a slot accessible.
    pub fn map_stack(&self, slot: u64) {
        if *self != ROOT {
            memory::transfer(root::MEM, self.mem, stack_at(slot), stack_at(slot), STACK_PAGES, memory::RW);
        }
    }

    /// Destroys it with everything in it.
    pub fn destroy(self) {
        object::destroy(self.pd);
    }
}
