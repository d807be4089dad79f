//! Tables that the root task's spaces need sooner or later, made at the very start: so that what the checks use is returned exactly.

use crate::kit::{image, memory, object};
use crate::sys::context::{NEVER, SLOTS, slot_base, stack_at};
use abi::PAGE_SIZE;
use abi::cap::{Perms, Sel, root};

/// Capabilities that one table holds, at least.
const CAPS: u64 = 256;

/// Makes them.
pub fn fill() {
    for sel in (CAPS - 1..Sel::COUNT).step_by(CAPS as usize).map(Sel) {
        object::grant(root::OBJ, NEVER, sel, Perms::empty());
        object::remove(sel);
    }
    let page = memory::pages(1);
    let touch = |at: u64| {
        memory::map(root::MEM, page, at, 1, memory::RW);
        memory::unmap(root::MEM, at, 1);
    };
    for at in (stack_at(0)..slot_base(SLOTS)).step_by(memory::LARGE as usize) {
        touch(at);
    }
    touch(slot_base(SLOTS) - PAGE_SIZE);
    image::view();
    for at in memory::windows() {
        touch(at);
    }
}
