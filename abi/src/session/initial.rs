//! What a component finds at its start: selectors of its capabilities and the layout of its address space.

use crate::cap::Sel;
use crate::event::host;
use crate::{PAGE_SIZE, hip};

/// Its protection domain, with `PD_CREATE` only.
pub const PD: Sel = Sel(0);
/// Its object space, with `SPACE_GRANT` and `SPACE_TAKE`.
pub const OBJ: Sel = Sel(1);
/// Its [parent](super::parent).
pub const PARENT: Sel = Sel(2);
/// First of the portals for the [events](crate::event::host) of its threads and portal handlers. They lead to core.
pub const EVENT_BASE: Sel = Sel(16);
/// First selector that is free.
pub const FREE: Sel = EVENT_BASE.offset(host::COUNT.next_multiple_of(16));

/// Lowest address of the image. Below it nothing is ever mapped.
pub const IMAGE_BASE: u64 = 0x40_0000;
/// First address of the area from which addresses are chosen for attachments without a wish. It ends at [`STACK_BASE`].
pub const ATTACH_BASE: u64 = 0x1_0000_0000;
/// First address of the stack area, which is divided into slots. Everything above it up to the top of the user's part
/// is reserved for stacks and UTCBs.
pub const STACK_BASE: u64 = 0x7000_0000_0000;
/// Bytes of a slot: guard, stack growing down, and in its last page the UTCB of the execution context. So the
/// UTCB is found from the stack pointer.
pub const STACK_SLOT_SIZE: u64 = 4 << 20;
/// Number of slots.
pub const STACK_SLOTS: u64 = 1 << 12;
/// UTCB of the first thread, which runs on a stack of its image.
pub const UTCB: u64 = hip::ROOT_UTCB;

const _: () = assert!(STACK_BASE.is_multiple_of(STACK_SLOT_SIZE));
const _: () = assert!(STACK_BASE + STACK_SLOTS * STACK_SLOT_SIZE < UTCB);
const _: () = assert!(UTCB.is_multiple_of(PAGE_SIZE));

/// Ids of the environment's sessions in the id space of the component. They exist from the start, cannot be
/// closed, and their capabilities are asked for with `session_cap`.
pub mod session_id {
    /// Its [`pd`](super::super::pd) session.
    pub const PD: u64 = 1;
    /// Its [`cpu`](super::super::cpu) session.
    pub const CPU: u64 = 2;
    /// Its [`log`](super::super::log) session.
    pub const LOG: u64 = 3;
    /// [`rom`](super::super::rom) session of its binary.
    pub const BINARY: u64 = 4;
    /// First id for the component's own use.
    pub const FREE: u64 = 16;
}
